"""Exercises and quiz of notebook 07: bytes of a point, KleidiAI's choice, a choice by intervals."""

from __future__ import annotations

from typing import Any

from labkit.lessons.cards import read_quiz
from labkit.lessons.diagnosis import describe, whole_number
from labkit.lessons.exercise import Attempt, Exercise, read_mistakes

LAYERS = (
    *((192, 448, 4, 64, False), (192, 448, 8, 0, True), (512, 128, 4, 32, True)),
    *((96, 384, 8, 128, False), (192, 192, 16, 0, False), (64, 192, 4, 0, False)),
)


def stored_bytes(rows: int, columns: int, bits: int, block: int, symmetric: bool) -> int:
    """Bytes of a matrix: codes, and for each block of a row a scale and, maybe, a minimum."""
    blocks = rows * (columns // block if block else 1)
    around = 0 if bits == 16 else blocks * (4 if symmetric else 8)
    return rows * columns * bits // 8 + around


def examine_layer_bytes(attempt: Attempt) -> None:
    answers = [whole_number(attempt(*layer), "the number of bytes") for layer in LAYERS]
    for layer, answer, expected in attempt.misses(
        LAYERS, answers, [stored_bytes(*layer) for layer in LAYERS]
    ):
        rows, columns, bits, block, symmetric = layer
        codes = rows * columns * bits // 8
        raise attempt.wrong(
            "other",
            matrix=f"{rows}×{columns}",
            how=f"{bits} bits, block {block}, {'symmetric' if symmetric else 'asymmetric'}",
            answer=answer,
            expected=expected,
            codes=codes,
            around=expected - codes,
        )


LAYER_BYTES = Exercise(
    id="07.1",
    title="What does a point weigh?",
    minutes=5,
    usage="layer_bytes(rows, columns, bits, block, symmetric)",
    examine=examine_layer_bytes,
    why_right=(
        "Bits set the codes, block and symmetry set what stands around them: 8 bytes for each "
        "block, or 4 without a minimum. In blocks of 32, int4 takes 6 bits a weight, symmetric 5; "
        "in rows of 192, 4.33 and 4.17. So leaving the minimum out saves a sixth in small blocks "
        "and next to nothing in whole rows, while 8 bits instead of 4 cost the same everywhere."
    ),
    hints=(
        "Three parts: the codes, how many blocks there are, and what each block stores besides.",
        (
            "Codes: `rows * columns * bits // 8`. Blocks: `columns // block` in each row, but one "
            "if `block` is 0. Watch the division."
        ),
        (
            "Around: 4 bytes for each block if `symmetric`, else 8; nothing at all with 16 bits, "
            "which are float16 and have no scales."
        ),
    ),
    task="Bytes of a layer's weights: codes (or float16), and float32 scales and minima.",
    solution_source="""\
def layer_bytes(rows, columns, bits, block, symmetric):
    codes = rows * columns * bits // 8
    if bits == 16:
        return codes  # float16: no codes, no scales
    blocks = rows * (columns // block if block else 1)
    return codes + blocks * (4 if symmetric else 8)
""",
    mistakes=read_mistakes("""
no_scales: return rows * columns * bits // 8
    You count the codes only. Each block of a row stores a float32 scale besides, and a minimum if
    it is asymmetric.
always_pair: return rows * columns * bits // 8 + (bits < 16) * rows * (columns // block if block \
else 1) * 8
    You store 8 bytes for each block whether it is symmetric or not. Symmetric blocks need no
    minimum: 4 bytes.
never_pair: return rows * columns * bits // 8 + (bits < 16) * rows * (columns // block if block \
else 1) * 4
    You store 4 bytes for each block whether it is symmetric or not. Asymmetric blocks have a
    minimum as well: 8 bytes.
swapped: return rows * columns * bits // 8 + (bits < 16) * rows * (columns // block if block else \
1) * (8 if symmetric else 4)
    You have it the wrong way round: symmetric blocks are those without a minimum, and take fewer
    bytes.
row_free: return rows * columns * bits // 8 + (bits < 16) * rows * (columns // block if block else \
0) * (4 if symmetric else 8)
    With block 0 you store no scales at all. 0 means one block for each row: every row has its
    scale.
row_once: return rows * columns * bits // 8 + (bits < 16) * (rows * (columns // block) if block \
else 1) * (4 if symmetric else 8)
    With block 0 you store one scale for the whole matrix. 0 means one for each row.
scaled_halves: return rows * columns * bits // 8 + rows * (columns // block if block else 1) * (4 \
if symmetric else 8)
    You store scales beside float16 weights. 16 bits quantise nothing, so there is nothing to scale.
always_four: return rows * columns // 2 + (bits < 16) * rows * (columns // block if block else 1) \
* (4 if symmetric else 8)
    Every weight takes half a byte in your function. That is right for 4 bits only: use `bits`.
small_scales: return rows * columns * bits // 8 + (bits < 16) * rows * (columns // block if block \
else 1) * (2 if symmetric else 4)
    You give scale and minimum two bytes each. They are float32, whatever the codes are: 4 bytes
    each.
in_bits: return rows * columns * bits + (bits < 16) * rows * (columns // block if block else 1) * \
(32 if symmetric else 64)
    Eight times too many: you count bits. 8 bits are a byte.
one_row: return rows * columns * bits // 8 + (bits < 16) * (columns // block if block else 1) * \
(4 if symmetric else 8)
    You count the blocks of one row. Every row has as many: multiply by `rows`.
other: return rows * columns * bits // 8 + 1
    For {matrix} weights with {how} your function gives {answer} bytes. Expected {expected}: {codes}
    for the weights themselves, {around} around them.
float: return rows * columns * bits / 8
type: return "small"
raised: return rows * columns * bits // 8 + rows * (columns // block) * 8
"""),
)

POINTS = (
    *(
        (bits, block, symmetric, 192)
        for bits in (16, 8, 4)
        for block in (64, 0)
        for symmetric in (False, True)
    ),
    *((4, 32, False, 448), (4, 32, True, 448), (4, 0, False, 588), (4, 0, True, 588)),
    *((8, 0, False, 588), (4, 4, True, 588), (4, 4, False, 588)),
)
WORDS = ("taken", "bits", "block", "width")


def in_the_way(bits: int, block: int, symmetric: bool, width: int) -> str:
    """As `labkit.arm.rules.obstacle` for a linear layer, in float32."""
    if bits != 4:
        return "bits"
    if symmetric and block:
        return "block"
    return "width" if width % 32 else "taken"


def examine_why_not(attempt: Attempt) -> None:
    answers = [attempt(*point) for point in POINTS]
    for answer in answers:
        if not isinstance(answer, str) or answer not in WORDS:
            raise attempt.wrong("type", received=describe(answer))
    for (bits, block, symmetric, width), answer, expected in attempt.misses(
        POINTS, answers, [in_the_way(*point) for point in POINTS]
    ):
        how = f"{bits} bits, block {block}, {'symmetric' if symmetric else 'asymmetric'}"
        raise attempt.wrong("other", how=how, width=width, answer=answer, expected=expected)


WHY_NOT = Exercise(
    id="07.2",
    title="Which points does KleidiAI take?",
    minutes=5,
    usage="kleidiai_says(bits, block, symmetric, width)",
    examine=examine_why_not,
    why_right=(
        "Five of the sixteen quantised points are left: int4, asymmetric in blocks of any size or "
        "in rows, symmetric in rows only. MNN has KleidiAI kernels for these layouts and for no "
        "others; all the rest runs, on MNN's own kernels, and says nothing. So a choice of "
        "symmetric blocks, made to save a few bytes, silently turns KleidiAI off."
    ),
    hints=(
        (
            "Three questions, in this order: are the weights 4 bits? Is there a kernel for this "
            "kind of block? Is the width a multiple of 32?"
        ),
        (
            "Only one kind of block has no kernel: symmetric *and* in blocks. Symmetric rows "
            "(block 0) have one."
        ),
        'Three `if`s that return "bits", "block" and "width", then `return "taken"`.',
    ),
    task='What is in the way first, "bits", "block" or "width"; "taken" if nothing is.',
    solution_source="""\
def kleidiai_says(bits, block, symmetric, width):
    if bits != 4:
        return "bits"
    if symmetric and block:
        return "block"
    if width % 32:
        return "width"
    return "taken"
""",
    mistakes=read_mistakes("""
eight_too: return "bits" if bits == 16 else "block" if symmetric and block else "width" if width % \
32 else "taken"
    You let 8 bits through. MNN's own kernels run those; its KleidiAI kernels are for 4 bits only.
four_is_all: return "bits" if bits != 4 else "taken"
    You ask for 4 bits and nothing else. A symmetric block has no kernel, and a width that is no
    multiple of 32 does not fit one.
never_symmetric: return "bits" if bits != 4 else "block" if symmetric else "width" if width % 32 \
else "taken"
    You refuse everything symmetric. For symmetric rows, one scale for each output, MNN has a
    KleidiAI kernel.
wrong_side: return "bits" if bits != 4 else "block" if not symmetric and block else "width" if \
width % 32 else "taken"
    You refuse asymmetric blocks and take symmetric ones. It is the other way round: the kernels
    for blocks want a minimum.
rows_refused: return "bits" if bits != 4 else "block" if not block else "width" if width % 32 else \
"taken"
    You refuse rows. A row is one long block, and there is a kernel for it; what has none are
    symmetric blocks.
any_width: return "bits" if bits != 4 else "block" if symmetric and block else "taken"
    You leave the width out. The kernels read 32 columns at a time: 588 columns are no multiple.
width_first: return "width" if width % 32 else "bits" if bits != 4 else "block" if symmetric and \
block else "taken"
    You ask for the width first. Where several things are in the way, name them in the order of the
    text: bits, block, width.
block_of_width: return "bits" if bits != 4 else "width" if width % 32 else "block" if symmetric \
and block else "taken"
    You ask for the width before the block. Where several things are in the way, name them in the
    order of the text: bits, block, width.
other: return "taken"
    With {how} and a width of {width} your function says "{answer}". Expected "{expected}".
type: return True
    Expected one of the texts "taken", "bits", "block", "width", received {received}.
"""),
)

Row = dict[str, Any]


def _row(name: str, size: int, low: float, high: float) -> Row:
    return {"name": name, "bytes": size, "low": low, "high": high}


TABLE = [
    _row("float16", 3000, 0.0, 0.0),
    _row("A", 1700, -0.4, 0.6),
    _row("B", 1400, -0.3, 1.1),
    _row("C", 1200, -1.6, 0.2),
    _row("D", 1000, -2.4, 2.2),
    _row("E", 900, -4.0, -1.2),
]
CHOICES = (
    *((TABLE, 2000, 1), (TABLE, 1300, 2), (TABLE, 1300, 1), (TABLE, 4000, 0.2)),
    *((TABLE[::-1], 2000, 2.5), (TABLE, 800, 5), (TABLE[:2], 2000, 0.5), (TABLE, 1500, 5)),
)


def chosen(points: list[Row], bound: int, loss: float) -> str:
    """The smallest that fits and surely loses no more than that."""
    safe = [p for p in points if p["bytes"] <= bound and p["low"] >= -loss]
    return str(min(safe, key=lambda p: p["bytes"])["name"]) if safe else "none"


def examine_choose(attempt: Attempt) -> None:
    answers = [attempt(*choice) for choice in CHOICES]
    for answer in answers:
        if not isinstance(answer, str):
            raise attempt.wrong("type", received=describe(answer))
    for (points, bound, loss), answer, expected in attempt.misses(
        CHOICES, answers, [chosen(*choice) for choice in CHOICES]
    ):
        row = next((p for p in points if p["name"] == expected), points[0])
        values = {"bound": bound, "loss": loss, "answer": answer, "expected": expected}
        raise attempt.wrong("other", low=row["low"], size=row["bytes"], name=row["name"], **values)


CHOOSE = Exercise(
    id="07.3",
    title="Choose by intervals",
    minutes=6,
    usage="choose(points, bound, loss)",
    examine=examine_choose,
    why_right=(
        "The interval says what the truth may be, so the low end decides what you may promise. A "
        "wide interval around 0 is no good news: it says that nobody asked enough. Whoever takes "
        "a point because it was *not shown* to be worse rewards small samples; whoever takes the "
        "best estimate follows the noise. Where nothing is good enough, ask about more scenes, or "
        'say "none".'
    ),
    hints=(
        "Which of `low`, the middle and `high` must hold for a promise?",
        (
            'A point is safe if `p["low"] >= -loss`: even the worst that the interval allows is '
            "within the loss. And it has to fit into `bound`."
        ),
        (
            'Collect the points that fit and are safe; of these `min(…, key=lambda p: p["bytes"])`,'
            ' and `"none"` if there are none.'
        ),
    ),
    task='Name of the smallest point within `bound` that surely loses at most `loss`, or "none".',
    solution_source="""\
def choose(points, bound, loss):
    safe = [p for p in points if p["bytes"] <= bound and p["low"] >= -loss]
    if not safe:
        return "none"
    return min(safe, key=lambda p: p["bytes"])["name"]
""",
    mistakes=read_mistakes("""
estimate: safe = [p for p in points if p["bytes"] <= bound and (p["low"] + p["high"]) / 2 >= \
-loss]; return min(safe, key=lambda p: p["bytes"])["name"] if safe else "none"
    You judge by the middle of the interval. The truth may as well lie at its low end, and then the
    promise is broken: ask `low`.
not_shown: safe = [p for p in points if p["bytes"] <= bound and p["high"] >= -loss]; return \
min(safe, key=lambda p: p["bytes"])["name"] if safe else "none"
    You take every point that was not shown to be worse, by its high end. A point that was tried on
    three scenes passes that: ask `low`.
no_bound: safe = [p for p in points if p["low"] >= -loss]; return min(safe, key=lambda p: \
p["bytes"])["name"] if safe else "none"
    You leave the bound out: where the smallest safe point does not fit, the answer is "none".
no_loss: safe = [p for p in points if p["bytes"] <= bound]; return min(safe, key=lambda p: \
p["bytes"])["name"] if safe else "none"
    You take the smallest that fits, whatever it loses. Its `low` must not lie below `-loss`.
largest: safe = [p for p in points if p["bytes"] <= bound and p["low"] >= -loss]; return max(safe, \
key=lambda p: p["bytes"])["name"] if safe else "none"
    You take the largest of the points that are safe and fit. Asked is the smallest.
surest: safe = [p for p in points if p["bytes"] <= bound and p["low"] >= -loss]; return max(safe, \
key=lambda p: p["low"])["name"] if safe else "none"
    You take the surest of the points that are safe and fit. All of them keep the promise: take the
    smallest.
sign: safe = [p for p in points if p["bytes"] <= bound and p["low"] >= loss]; return min(safe, \
key=lambda p: p["bytes"])["name"] if safe else "none"
    You ask for `low >= loss`, which is a gain. A loss of up to `loss` is a difference down to
    `-loss`.
first: return next((p["name"] for p in points if p["bytes"] <= bound and p["low"] >= -loss), "none")
    You return the first point that is safe and fits. The list need not be in order: take the
    smallest.
other: return "A"
    For a bound of {bound} and a loss of {loss} your function says "{answer}". Expected
    "{expected}" ({name} has {size} bytes and a low end of {low}).
type: return points[0]
    Expected a point's name, a text, received {received}.
"""),
)

EXERCISES = (LAYER_BYTES, WHY_NOT, CHOOSE)

QUIZ = read_quiz(
    "07",
    "Quiz 07: bits, blocks, symmetry",
    """
You change a model from int4 in blocks of 64 to symmetric int4 in blocks of 64. What happens on an \
Arm CPU with i8mm?
- It is smaller and faster: there is less to read
    Smaller it is. But for symmetric blocks MNN has no KleidiAI kernel: its own kernels run, and
    nothing says so.
+ It is a little smaller, and KleidiAI's kernels no longer take it
    They take asymmetric blocks, and rows of both kinds. MNN's own kernels step in silently.
- It can no longer be loaded
    MNN runs it with kernels of its own.
Two points differ by 1 right answer in 100; the paired interval goes from -3 to +1. What may you \
say?
- The first one is better, by one point
    That is the estimate. The interval holds 0, and gains as well as losses.
- They are equally good
    A loss of 3 is as possible as none. Undecided is not equal.
+ Nothing is decided: the loss is at most about 3 points, and may be a gain
    That is what the interval says, and it can be narrowed by asking about more scenes.
Why is the same scene asked of both models, rather than fresh scenes of each?
+ Scenes that both get right, or both wrong, say nothing; on the rest the difference shows
    How hard a scene is drops out, and the interval of the difference gets narrower.
- It saves drawing scenes
    Drawing one takes a millisecond.
- Because the models may have seen the others
    They have seen none of them: all are held out.
You ask for blocks of 128 in a layer that is 192 columns wide. What do you get?
- Two blocks in a row, one of 128 and one of 64
    All blocks of a layer have one size.
+ Three blocks of 64: the exporter halves the size until it divides the width
    So int4/128 and int4/64 are the same file here. Read what you got, not what you asked for.
- An error
    It would be kinder. The exporter says nothing.
""",
)
