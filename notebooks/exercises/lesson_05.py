"""Exercises and quiz of notebook 05: why KleidiAI does not run, smmla counted, a verdict."""

from __future__ import annotations

from labkit.lessons.cards import read_quiz
from labkit.lessons.diagnosis import describe, whole_number
from labkit.lessons.exercise import Attempt, Exercise, read_mistakes

PRODUCTS = ((48, 192, 192), (3, 64, 32), (1, 704, 192), (64, 512, 128))


def smmlas(rows: int, outputs: int, width: int) -> int:
    """SMMLA instructions of a product; each fills a tile of 2 rows by 2 outputs, 8 deep."""
    return (rows + 1) // 2 * (outputs // 2) * (width // 8)


def examine_smmla_count(attempt: Attempt) -> None:
    answers = [
        whole_number(attempt(*product), "the number of instructions") for product in PRODUCTS
    ]
    for (rows, outputs, width), answer, expected in attempt.misses(
        PRODUCTS, answers, [smmlas(*product) for product in PRODUCTS]
    ):
        raise attempt.wrong(
            "other", rows=rows, outputs=outputs, width=width, answer=answer, expected=expected
        )


SMMLA_COUNT = Exercise(
    id="05.2",
    title="How many smmla?",
    minutes=5,
    usage="smmla_count(rows, outputs, width)",
    examine=examine_smmla_count,
    why_right=(
        "Tiles of two rows by two outputs, eight deep: 32 multiply-adds each, if the tile is "
        "full. With an odd number of rows the last tile is half zeros, and with one row every "
        "tile is: 16 useful multiply-adds of 32, which is what one `sdot` does. So a kernel "
        "for one row, decode's, loses nothing by using `sdot`, and needs no second row to be "
        "made up."
    ),
    hints=(
        "How many rows, outputs and columns of the width does one instruction take in?",
        (
            "2 rows, 2 outputs, 8 columns. Outputs and width divide evenly here; rows may not, and "
            "a half-full tile costs a whole instruction."
        ),
        "`(rows + 1) // 2` tiles downwards, `outputs // 2` across, `width // 8` deep; multiply.",
    ),
    task="SMMLA instructions of an int8 product of (rows, width) by (width, outputs).",
    solution_source="""\
def smmla_count(rows, outputs, width):
    tiles_down = (rows + 1) // 2  # an odd row takes a tile of its own, half empty
    return tiles_down * (outputs // 2) * (width // 8)
""",
    mistakes=read_mistakes("""
rounded_down: return rows // 2 * (outputs // 2) * (width // 8)
    You round the rows down. With three rows the third needs instructions too, and one row alone
    needs more than none: a tile that is half empty costs as much as a full one.
macs: return rows * outputs * width
    You count multiply-adds. One smmla does 32 of them: 2 rows by 2 outputs by 8 deep.
divided: return rows * outputs * width // 32
    You divide the multiply-adds by 32. That is right when all tiles are full; an odd last row still
    takes whole instructions.
sdots: return rows * outputs * width // 16
    You count 16 multiply-adds for each: sdot's, or a tile of its own for every row. One smmla does
    2 rows by 2 outputs by 8 deep.
one_output: return (rows + 1) // 2 * outputs * (width // 8)
    You give each output a tile of its own. A tile holds two outputs.
deep: return (rows + 1) // 2 * (outputs // 2) * width
    You let an instruction go one column deep. It takes 8 columns of the width at once.
other: return (rows + 3) // 4 * (outputs // 2) * (width // 8)
    For {rows} rows, {outputs} outputs and a width of {width} your function gives {answer}. Expected
    {expected}.
float: return rows / 2 * outputs / 2 * width / 8
type: return "many"
"""),
)

INTERVALS = (
    *((1.10, 1.30, 0.02), (0.95, 1.20, 0.02), (0.70, 0.90, 0.02), (1.01, 1.05, 0.02)),
    *((0.97, 0.99, 0.02), (0.60, 1.90, 0.02), (1.03, 1.20, 0.1), (0.92, 0.97, 0.1)),
    (1.03, 1.08, 0.02),
)


def sentence(low: float, high: float, margin: float) -> str:
    """As `labkit.base.stats.Ratio.verdict`."""
    return "faster" if low > 1 + margin else "slower" if high < 1 - margin else "undecided"


def examine_verdict(attempt: Attempt) -> None:
    answers = [attempt(*interval) for interval in INTERVALS]
    for answer in answers:
        if not isinstance(answer, str) or answer not in {"faster", "slower", "undecided"}:
            raise attempt.wrong("type", received=describe(answer))
    for (low, high, margin), answer, expected in attempt.misses(
        INTERVALS, answers, [sentence(*interval) for interval in INTERVALS]
    ):
        raise attempt.wrong(
            "other", low=low, high=high, margin=margin, answer=answer, expected=expected
        )


VERDICT = Exercise(
    id="05.3",
    title="Faster, slower, or undecided?",
    minutes=4,
    usage="verdict(low, high, margin)",
    examine=examine_verdict,
    why_right=(
        "A verdict must hold at both ends of the interval. Where one end says faster and the "
        "other slower, the measurement has not decided, and more pairs or a quieter machine "
        "are needed. The margin keeps a difference that the harness itself could make, a few "
        "hundredths, from being called a gain. Undecided is a result, and an honest one."
    ),
    hints=(
        "The truth lies somewhere between `low` and `high`. When is it beyond 1 wherever it lies?",
        (
            "Faster: even the low end lies above `1 + margin`. Slower: even the high end lies "
            "below `1 - margin`."
        ),
        'Two `if`s that return, and `return "undecided"` after them.',
    ),
    task='One of "faster", "slower", "undecided", from the interval of the speed-up.',
    solution_source="""\
def verdict(low, high, margin):
    if low > 1 + margin:
        return "faster"
    if high < 1 - margin:
        return "slower"
    return "undecided"
""",
    mistakes=read_mistakes("""
middle: return "faster" if (low + high) / 2 > 1 + margin else "slower" if (low + high) / 2 < 1 - \
margin else "undecided"
    You judge by the middle of the interval. The truth may lie at either end: both have to agree.
no_margin: return "faster" if low > 1 else "slower" if high < 1 else "undecided"
    You leave the margin out. A gain of one hundredth is within what the harness itself can make.
ends: return "faster" if high > 1 + margin else "slower" if low < 1 - margin else "undecided"
    You ask the far ends: faster if `high` is. Then a very wide interval, which knows nothing, is
    called faster. Ask the near ends.
swapped: return "slower" if low > 1 + margin else "faster" if high < 1 - margin else "undecided"
    You have it the wrong way round. The speed-up is the baseline's time over the candidate's: above
    1 the candidate took less time.
never: return "undecided"
    You never decide. An interval from 1.10 to 1.30 lies above 1 with both its ends.
always: return "faster" if low > 1 + margin else "slower"
    You call everything slower that is not faster. An interval around 1 has decided nothing.
other: return "faster" if low > 1 + 2 * margin else "slower" if high < 1 - margin else "undecided"
    For an interval from {low} to {high} and a margin of {margin} your function says {answer}.
    Expected {expected}.
type: return "same"
    Expected one of the texts "faster", "slower", "undecided", received {received}.
"""),
)

ARM = {"dotprod", "i8mm"}
FINE = {"built": True, "hint": True, "features": ARM, "memory": "low", "bits": 4, "width": 192}
CASES = (
    FINE,
    FINE | {"hint": False},
    FINE | {"features": {"dotprod"}},
    FINE | {"features": {"i8mm"}},
    FINE | {"features": {"sme2"}},
    FINE | {"memory": "normal"},
    FINE | {"bits": 8},
    FINE | {"width": 80},
    FINE | {"built": False, "features": set()},
    FINE | {"hint": False, "features": set(), "memory": "normal", "bits": 8, "width": 20},
)


def obstacles(facts: dict[str, object]) -> list[str]:
    """Everything that is in the way, in order."""
    features = facts["features"]
    assert isinstance(features, set)
    able = features >= ARM or "sme2" in features
    obstacles_there = {
        "not built": not facts["built"],
        "hint": not facts["hint"],
        "cpu": bool(facts["built"]) and not able,
        "memory": facts["memory"] != "low",
        "bits": facts["bits"] != 4,
        "width": facts["width"] not in range(0, 1 << 20, 32),
    }
    return [name for name, there in obstacles_there.items() if there]


def examine_why_not(attempt: Attempt) -> None:
    answers = [attempt(facts) for facts in CASES]
    for answer in answers:
        if not isinstance(answer, (list, tuple)):
            raise attempt.wrong("type", received=describe(answer))
    lists = [list(answer) for answer in answers]
    for (facts,), answer, expected in attempt.misses(
        [(facts,) for facts in CASES], lists, [obstacles(facts) for facts in CASES]
    ):
        words = describe({**facts, "features": sorted(facts["features"])}, short=True)
        raise attempt.wrong("other", facts=words, answer=answer, expected=expected)


def _rules(cpu: str) -> str:
    """A body with all conditions, and this one for the CPU."""
    rules = f'"not built": not facts["built"], "hint": not facts["hint"], "cpu": {cpu}, '
    rules += '"memory": facts["memory"] != "low", "bits": facts["bits"] != 4, '
    rules += '"width": facts["width"] % 32 != 0'
    return f"return [name for name, there in {{{rules}}}.items() if there]"


WHY_NOT = Exercise(
    id="05.1",
    title="Why does it not run?",
    minutes=6,
    usage="why_not(facts)",
    examine=examine_why_not,
    why_right=(
        "Built, enabled and running are different facts, and MNN falls back silently at each "
        "step. Whoever stops at the first obstacle mends that one, measures again, and still "
        "measures the baseline: so name them all. `labkit kleidiai` does, for every layer."
    ),
    hints=(
        (
            "Start with an empty list, and append a word for each condition that does not hold. "
            "One `if` for each, no `else`."
        ),
        (
            'The CPU will do with dotprod *and* i8mm, or with sme2 alone: `{"dotprod", "i8mm"} <= '
            'facts["features"]` tests for both.'
        ),
        (
            "A library that was not built with KleidiAI may well stand on a CPU of another kind: "
            'ask for "cpu" only when it is built.'
        ),
    ),
    task="All that keeps KleidiAI from running, in the order of the text above, or [].",
    solution_source="""\
def why_not(facts):
    reasons = []
    if not facts["built"]:
        reasons.append("not built")
    if not facts["hint"]:
        reasons.append("hint")
    able = {"dotprod", "i8mm"} <= facts["features"] or "sme2" in facts["features"]
    if facts["built"] and not able:
        reasons.append("cpu")
    if facts["memory"] != "low":
        reasons.append("memory")
    if facts["bits"] != 4:
        reasons.append("bits")
    if facts["width"] % 32:
        reasons.append("width")
    return reasons
""",
    mistakes={
        "first": (
            _rules(
                'facts["built"] and not ({"dotprod", "i8mm"} <= facts["features"] or "sme2" in '
                'facts["features"])'
            )
            + "[:1]",
            (
                "You stop at the first reason. Whoever mends that one alone still measures the "
                "baseline: name all of them."
            ),
        ),
        "i8mm_only": (
            _rules('facts["built"] and not ({"i8mm", "sme2"} & facts["features"])'),
            (
                "You ask for i8mm alone. MNN wants dotprod as well: prefill's kernels use i8mm, "
                "decode's use dotprod."
            ),
        ),
        "no_sme2": (
            _rules('facts["built"] and not {"dotprod", "i8mm"} <= facts["features"]'),
            (
                "You leave SME2 out. A CPU with sme2 runs KleidiAI's SME2 kernels, whatever else "
                "it has."
            ),
        ),
        "either": (
            _rules('facts["built"] and not ({"dotprod", "i8mm", "sme2"} & facts["features"])'),
            "You are content with one of dotprod and i8mm. It takes both, or sme2.",
        ),
        "cpu_always": (
            _rules('not ({"dotprod", "i8mm"} <= facts["features"] or "sme2" in facts["features"])'),
            (
                "You blame the CPU even where no kernel was built. Until one is, what the CPU has "
                "does not matter."
            ),
        ),
        "empty": (
            "return []",
            "You find nothing in the way, ever. Does each `if` append its word?",
        ),
        "other": (
            'return ["bits"] if facts["bits"] != 4 else []',
            "For {facts} your function gives {answer}. Expected {expected}.",
        ),
        "type": ('return "hint"', "Expected a list of words, received {received}."),
        "raised": ('return facts["kernel"]', ""),
    },
)

EXERCISES = (WHY_NOT, SMMLA_COUNT, VERDICT)

QUIZ = read_quiz(
    "05",
    "Quiz 05: what a number can say",
    """
You install the stock MNN wheel on an Arm server with i8mm and chat with an int4 model. Does \
KleidiAI run?
- Yes: the kernels are in the wheel and the CPU has what they need
    Built is not enabled. MNN-LLM sets no hint, and without it MNN's own kernels run.
+ No: it is built, but nothing enables it in a chat
    The hint CPU_ENABLE_KLEIDIAI is off unless a program sets it, or MNN was built with
    MNN_KLEIDIAI_DEFAULT_ON.
- No: the wheel has no KleidiAI in it
    It has: its symbols name some sixty micro-kernels.
A new kernel executes 8 % fewer instructions and takes the same time. How can that be?
- The count must be wrong
    It is exact. It only is no time.
+ Something else sets the pace: memory, or a port that all the multiplications wait for
    A CPU starts several instructions in a cycle. Those that were saved may have run beside others,
    for nothing.
- The emulator is too slow to show the gain
    Emulated seconds say nothing at all; this is about the real machine.
A page reports 5.76 s without and 2.91 s with acceleration, one run each. What may you repeat?
- Acceleration makes it 1.98 times as fast
    On that phone, in that minute, the two runs had this ratio. A second run of each would have
    given another.
- Nothing at all
    It is a measurement, of one run. Say so, and it may be repeated.
+ One run each had a ratio of 1.98; how much of it would come again is not known
    Without repetitions there is no interval. A ratio near 2 is unlikely to be chance alone, but
    nobody measured how unlikely.
Why does KleidiAI decode with `sdot`, though the CPU has `smmla`?
+ Decode has one row, and half of each smmla tile would be zeros
    One smmla does 32 multiply-adds of which 16 would count: as many as one sdot does.
- `sdot` is more exact
    Both add int8 products in int32, without any rounding.
- `smmla` cannot read 4-bit weights
    Neither can: weights are unpacked to int8 first, for both.
""",
)
