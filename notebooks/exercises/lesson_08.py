"""Exercises and quiz of notebook 08: which kernel runs, a range of speed-ups, a bound of decode."""

from __future__ import annotations

from typing import Any

from labkit.bench.predict import kernel
from labkit.lessons.cards import read_quiz
from labkit.lessons.diagnosis import describe, near, real_number
from labkit.lessons.exercise import Attempt, Exercise, read_mistakes

CPUS: tuple[set[str], ...] = (set(), {"dotprod"}, {"dotprod", "i8mm"}, {"i8mm"})
RUNS = tuple((has, hint, rows) for has in CPUS for hint in (True, False) for rows in (48, 1))
NAMES = ("MNN, NEON", "MNN, dotprod", "MNN, i8mm", "KleidiAI, dotprod", "KleidiAI, i8mm")


def runs(features: set[str], hint: bool, rows: int) -> str:
    """As `labkit.bench.predict.kernel`."""
    return kernel(sorted(features), "decode" if rows == 1 else "prefill", kleidiai=hint)


def examine_kernel(attempt: Attempt) -> None:
    answers = [attempt(set(has), hint, rows) for has, hint, rows in RUNS]
    for answer in answers:
        if not isinstance(answer, str) or answer not in NAMES:
            raise attempt.wrong("type", received=describe(answer))
    for (has, hint, rows), answer, expected in attempt.misses(
        RUNS, answers, [runs(*run) for run in RUNS]
    ):
        cpu = " and ".join(sorted(has)) or "neither dotprod nor i8mm"
        words = f"the hint {'set' if hint else 'not set'} and {rows} row{'s' * (rows > 1)}"
        raise attempt.wrong("other", cpu=cpu, words=words, answer=answer, expected=expected)


KERNEL = Exercise(
    id="08.1",
    title="Which kernel will run?",
    minutes=5,
    usage="which_kernel(features, hint, rows)",
    examine=examine_kernel,
    why_right=(
        "Two ladders, and the hint decides on which of them you stand. KleidiAI's asks for "
        "both instruction sets and then looks at the rows, because one row cannot fill a tile of "
        "`smmla`. MNN's own takes the best that the CPU has, whatever the rows. Nothing here is a "
        "number, and yet it is the most certain prediction of this lesson: where both sides name "
        "the same kernel, the gain is exactly 1, on any clock and any memory."
    ),
    hints=(
        "First ask whether KleidiAI runs at all: three conditions, all of them needed.",
        (
            'KleidiAI runs if `hint and {"dotprod", "i8mm"} <= features`. Then rows decide: one '
            "row goes to its dotprod kernel, more to its i8mm kernel."
        ),
        (
            "Else it is MNN's own, from the top of the ladder down: i8mm if it is there, else "
            "dotprod, else NEON. Rows do not matter there."
        ),
    ),
    task='One of "MNN, NEON", "MNN, dotprod", "MNN, i8mm", "KleidiAI, dotprod", "KleidiAI, i8mm".',
    solution_source="""\
def which_kernel(features, hint, rows):
    if hint and {"dotprod", "i8mm"} <= features:
        return "KleidiAI, dotprod" if rows == 1 else "KleidiAI, i8mm"
    if "i8mm" in features:
        return "MNN, i8mm"
    if "dotprod" in features:
        return "MNN, dotprod"
    return "MNN, NEON"
""",
    mistakes=read_mistakes("""
no_hint: own = "MNN, i8mm" if "i8mm" in features else "MNN, dotprod" if "dotprod" in features else \
"MNN, NEON"; return own if not {"dotprod", "i8mm"} <= features else "KleidiAI, dotprod" if rows == \
1 else "KleidiAI, i8mm"
    You leave the hint out. Built is not enabled: without the hint MNN takes its own kernels,
    whatever the CPU has.
dotprod_enough: own = "MNN, i8mm" if "i8mm" in features else "MNN, dotprod" if "dotprod" in \
features else "MNN, NEON"; return own if not hint or "dotprod" not in features else \
"KleidiAI, dotprod" if rows == 1 or "i8mm" not in features else "KleidiAI, i8mm"
    You let KleidiAI run with dotprod alone. Its kernel for one row uses no more, but MNN asks for
    i8mm as well before it takes any of them.
i8mm_enough: own = "MNN, i8mm" if "i8mm" in features else "MNN, dotprod" if "dotprod" in features \
else "MNN, NEON"; return own if not hint or "i8mm" not in features else "KleidiAI, dotprod" if \
rows == 1 else "KleidiAI, i8mm"
    You let KleidiAI run with i8mm alone. MNN asks for both, since one row takes dotprod.
always_i8mm: own = "MNN, i8mm" if "i8mm" in features else "MNN, dotprod" if "dotprod" in features \
else "MNN, NEON"; return "KleidiAI, i8mm" if hint and {"dotprod", "i8mm"} <= features else own
    You send one row to KleidiAI's i8mm kernel. Half of every tile would be zeros: it has a dotprod
    kernel for one row.
rows_swapped: own = "MNN, i8mm" if "i8mm" in features else "MNN, dotprod" if "dotprod" in features \
else "MNN, NEON"; return own if not (hint and {"dotprod", "i8mm"} <= features) else \
"KleidiAI, i8mm" if rows == 1 else "KleidiAI, dotprod"
    You have KleidiAI's two kernels the wrong way round: many rows fill the tiles of smmla, one row
    does not.
own_by_rows: own = "MNN, i8mm" if "i8mm" in features and (rows > 1 or "dotprod" not in features) \
else "MNN, dotprod" if "dotprod" in features else "MNN, NEON"; return own if not (hint and \
{"dotprod", "i8mm"} <= features) else "KleidiAI, dotprod" if rows == 1 else "KleidiAI, i8mm"
    You let rows decide in MNN's own kernels, too. There one function serves all numbers of rows:
    it takes the best instruction set that the CPU has.
no_dotprod: own = "MNN, i8mm" if "i8mm" in features else "MNN, NEON"; return own if not (hint and \
{"dotprod", "i8mm"} <= features) else "KleidiAI, dotprod" if rows == 1 else "KleidiAI, i8mm"
    You skip a rung: a CPU with dotprod and without i8mm gets MNN's dotprod kernel, not NEON.
never_kleidiai: return "MNN, i8mm" if "i8mm" in features else "MNN, dotprod" if "dotprod" in \
features else "MNN, NEON"
    You never name KleidiAI. With the hint, dotprod and i8mm it runs.
other: return "KleidiAI, i8mm"
    On a CPU with {cpu}, {words} your function says "{answer}". Expected "{expected}".
type: return True
    Expected one of the texts "MNN, NEON", "MNN, dotprod", "MNN, i8mm", "KleidiAI, dotprod",
    "KleidiAI, i8mm", received {received}.
"""),
)

Rows = list[tuple[float, float, float]]
SIDES: tuple[tuple[Rows, Rows], ...] = (
    ([(130e6, 0.4, 0.5), (30e6, 0.4, 1.0)], [(145e6, 0.3, 0.4), (40e6, 0.4, 1.0)]),
    ([(12e6, 0.4, 0.5)], [(13.5e6, 0.5, 0.3)]),
    ([(100e6, 0.5, 0.5), (10e6, 1.0, 2.0)], [(100e6, 0.5, 0.5), (10e6, 1.0, 2.0)]),
    ([(80e6, 0.25, 0.75)], [(20e6, 1.0, 1.5), (20e6, 0.5, 1.25), (5e6, 0.5, 4.0)]),
)


def speedups(off: Rows, on: Rows) -> tuple[float, float]:
    """Least and most speed-up: each reading holds for both sides."""
    ratios = [
        sum(row[reading] * row[0] for row in off) / sum(row[reading] * row[0] for row in on)
        for reading in (1, 2)
    ]
    return min(ratios), max(ratios)


def _pair(attempt: Attempt, answer: object) -> tuple[float, float]:
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise attempt.wrong("type", received=describe(answer))
    low, high = (real_number(end, "each end of the range") for end in answer)
    return low, high


def examine_range(attempt: Attempt) -> None:
    answers = [_pair(attempt, attempt(list(off), list(on))) for off, on in SIDES]
    for (off, on), answer, expected in attempt.misses(
        SIDES, answers, [speedups(*sides) for sides in SIDES], same=near
    ):
        given = " to ".join(f"{end:.3g}" for end in answer)
        wanted = " to ".join(f"{end:.3g}" for end in expected)
        raise attempt.wrong("other", off=off, on=on, answer=given, expected=wanted)


RANGE = Exercise(
    id="08.2",
    title="A range of speed-ups",
    minutes=6,
    usage="speedup_range(off, on)",
    examine=examine_range,
    why_right=(
        "Cycles add up, speed-ups do not: so first the cycles of each side, then one quotient. And "
        "whatever an instruction costs, it costs the same core the same on both sides: a reading "
        "holds for both, or for neither. Mixing the best of one side with the worst of the other "
        "gives a range that nobody believes in, so wide that it is never wrong; and a prediction "
        "that cannot be wrong predicts nothing."
    ),
    hints=(
        "Cycles of a side under one reading: instructions times cycles an instruction, added up.",
        (
            "The speed-up under one reading is the cycles of `off` over those of `on`, both under "
            "*that* reading. There are two readings, so two quotients."
        ),
        "Return the smaller quotient first: which reading gives it differs from case to case.",
    ),
    task="Least and most speed-up; rows are (instructions, cycles each under reading 1, under 2).",
    solution_source="""\
def speedup_range(off, on):
    ratios = []
    for reading in (1, 2):  # what an instruction costs, it costs on both sides
        before = sum(row[0] * row[reading] for row in off)
        after = sum(row[0] * row[reading] for row in on)
        ratios.append(before / after)
    return min(ratios), max(ratios)
""",
    mistakes=read_mistakes("""
mixed: cycles = [[sum(n * (a, b)[k] for n, a, b in side) for k in (0, 1)] for side in (off, on)]; \
return min(cycles[0]) / max(cycles[1]), max(cycles[0]) / min(cycles[1])
    You set the best of one side against the worst of the other. A reading says what instructions
    cost on this core, and the core is the same on both sides.
inverted: r = [sum(row[k] * row[0] for row in on) / sum(row[k] * row[0] for row in off) for k in \
(1, 2)]; return min(r), max(r)
    You have it upside down. A speed-up is the time without KleidiAI over the time with it: above 1,
    KleidiAI is faster.
unsorted: r = [sum(row[k] * row[0] for row in off) / sum(row[k] * row[0] for row in on) for k in \
(1, 2)]; return r[0], r[1]
    You return the first reading's speed-up first. A range begins with its smaller end, and that is
    not always the first reading's.
counts: r = sum(row[0] for row in off) / sum(row[0] for row in on); return r, r
    You divide instructions, and leave out what each costs. Instructions are not cycles.
costs: r = [sum(row[k] for row in off) / sum(row[k] for row in on) for k in (1, 2)]; return \
min(r), max(r)
    You add up the costs of one instruction each. A function that executes a hundred million of
    them weighs more than one that executes ten: multiply before you add.
hot_only: r = [off[0][k] * off[0][0] / (on[0][k] * on[0][0]) for k in (1, 2)]; return min(r), max(r)
    You compare the first rows only. The hot kernel is not all that runs: add up every row.
descending: r = [sum(row[k] * row[0] for row in off) / sum(row[k] * row[0] for row in on) for k in \
(1, 2)]; return max(r), min(r)
    You return the larger end first. A range is written from its smaller end to its larger one.
other: return 0.9, 1.1
    For off = {off} and on = {on} your function gives {answer}. Expected {expected}.
type: return 1.5
    Expected two numbers, the least and the most speed-up, received {received}.
"""),
)

Core = tuple[int, float, float]
BOUNDS: tuple[tuple[float, float, list[Core], float], ...] = (
    (0.8e9, 1.5e9, [(1, 3.0, 32.0), (3, 2.5, 32.0)], 50.0),
    (0.8e9, 1.5e9, [(4, 2.4, 16.0)], 17.0),
    (0.8e9, 1.5e9, [(4, 1.0, 4.0)], 300.0),
    (1.6e9, 1.5e9, [(2, 2.0, 2.0), (1, 3.0, 1.0)], 60.0),
    (0.1e9, 3.0e9, [(1, 2.0, 64.0)], 20.0),
)


def bound(weight_bytes: float, macs: float, cores: list[Core], gb_s: float) -> float:
    """Tokens a second, at most: by memory or by arithmetic, whichever is less."""
    rate = sum(count * ghz * 1e9 * each for count, ghz, each in cores)
    return min(gb_s * 1e9 / weight_bytes, rate / macs)


def examine_bound(attempt: Attempt) -> None:
    answers = [
        real_number(attempt(size, macs, list(cores), gb_s), "tokens a second")
        for size, macs, cores, gb_s in BOUNDS
    ]
    for case, answer, expected in attempt.misses(
        BOUNDS, answers, [bound(*case) for case in BOUNDS], same=near
    ):
        size, macs, cores, gb_s = case
        values: dict[str, Any] = {"size": size / 1e9, "macs": macs / 1e9, "cores": cores}
        ends = {"answer": f"{answer:.4g}", "expected": f"{expected:.4g}"}
        raise attempt.wrong("other", gb_s=gb_s, **values, **ends)


BOUND = Exercise(
    id="08.3",
    title="At most how many tokens a second?",
    minutes=5,
    usage="at_most(weight_bytes, macs, cores, gb_s)",
    examine=examine_bound,
    why_right=(
        "Two things have to be done for a token, at best at the same time, and the slower one "
        "sets the pace. A bound is a prediction of its own kind: no kernel, no layout and no "
        "compiler beats it. A measured number above it means that something was measured wrong, or "
        "that the data sheet is of another device; one far below says that there is room. And "
        "where memory is the slower one on both sides, the gain of a better kernel is 1."
    ),
    hints=(
        "How many tokens a second would memory alone allow? How many would arithmetic alone?",
        (
            "Memory: `gb_s * 1e9` bytes a second, `weight_bytes` for each token. Arithmetic: every "
            "core does `ghz * 1e9` cycles a second with `macs_per_cycle` in each."
        ),
        "Add up `count * ghz * 1e9 * macs_per_cycle` over the cores, and return the smaller rate.",
    ),
    task="Tokens a second at most; cores are (count, GHz, multiply-adds a cycle).",
    solution_source="""\
def at_most(weight_bytes, macs, cores, gb_s):
    by_memory = gb_s * 1e9 / weight_bytes
    macs_per_s = sum(count * ghz * 1e9 * per_cycle for count, ghz, per_cycle in cores)
    return min(by_memory, macs_per_s / macs)
""",
    mistakes=read_mistakes("""
memory_only: return gb_s * 1e9 / weight_bytes
    You ask memory only. On a device with few or slow cores arithmetic is what takes the time.
cores_only: return sum(n * ghz * 1e9 * each for n, ghz, each in cores) / macs
    You ask arithmetic only. The weights have to come from memory, every one of them for every
    token.
most: return max(gb_s * 1e9 / weight_bytes, sum(n * ghz * 1e9 * each for n, ghz, each in cores) / \
macs)
    You return the larger rate. Both have to be done for each token, so the slower one sets the
    pace.
added: return 1 / (weight_bytes / (gb_s * 1e9) + macs / sum(n * ghz * 1e9 * each for n, ghz, each \
in cores))
    You let one wait for the other. A core multiplies what it has while the next weights come: at
    best the two overlap, and a bound is about the best.
one_each: return min(gb_s * 1e9 / weight_bytes, sum(ghz * 1e9 * each for n, ghz, each in cores) / \
macs)
    You take one core of each kind. A device has count of them.
first_kind: return min(gb_s * 1e9 / weight_bytes, cores[0][0] * cores[0][1] * 1e9 * cores[0][2] / \
macs)
    You take the first kind of cores only. They all work: add up the kinds.
operations: return min(gb_s * 1e9 / weight_bytes, sum(n * ghz * 1e9 * each for n, ghz, each in \
cores) / macs / 2)
    You count a multiply-add as two on one side only. Both macs and the rate of the cores are in
    multiply-adds here.
bits: return min(gb_s * 1e9 / 8 / weight_bytes, sum(n * ghz * 1e9 * each for n, ghz, each in \
cores) / macs)
    You divide the bandwidth by 8, as if it were in bits. GB are bytes already.
seconds: return max(weight_bytes / (gb_s * 1e9), macs / sum(n * ghz * 1e9 * each for n, ghz, each \
in cores))
    That is the seconds of a token. Asked are tokens a second.
giga: return min(gb_s / weight_bytes, sum(n * ghz * each for n, ghz, each in cores) / macs)
    A factor of a thousand million is missing: GB/s are 1e9 bytes, GHz are 1e9 cycles a second.
other: return 10.0
    For {size:g} GB of weights, {macs:g} thousand million multiply-adds, cores {cores} and
    {gb_s:g} GB/s your function gives {answer}. Expected {expected}.
type: return "many"
"""),
)

EXERCISES = (KERNEL, RANGE, BOUND)

QUIZ = read_quiz(
    "08",
    "Quiz 08: a device of your own",
    """
Your board has four Cortex-A76: dotprod, no i8mm. What is KleidiAI worth there, in MNN?
- A little: its dotprod kernels run
    They would suit that CPU, but MNN asks for i8mm too before it takes any of them.
+ Exactly nothing: both sides run the same code
    The rule decides, and no measurement can add to it. What differs between two runs is noise.
- That has to be measured
    You may, as a check of your harness: an honest one says 1, or undecided.
KleidiAI executes more instructions than MNN's kernels for the same work. So it is slower?
- Yes: more work takes longer
    If all instructions took equally long. A load beside a multiplication can be free.
+ The count alone does not say
    It depends on which ports they wait for, and on memory. That is what the other evidence is for.
- No: the count must be wrong
    It is exact. What it counts is not time.
Under emulation KleidiAI took half the time. What does this say about a phone?
- It will be about twice as fast there, too
    The emulator translates instructions into others, at prices of its own.
- At least that it will be faster
    Not even that: it may as well be slower.
+ Nothing
    Even where the number happens to be the same as a phone's.
Your prediction was 0.9 to 1.15, and one careful measurement says 1.4 (1.3 to 1.5). What now?
- Widen the range until it fits
    Then it says what you know already, and nothing of the next device.
- The measurement is wrong
    It has an interval, and was careful. The prediction has assumptions.
+ Some assumption does not hold there: find out which, and say so
    A miss is the most useful thing that a prediction can give. Something
    ran that you did not model.
""",
)
