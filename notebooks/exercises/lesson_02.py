"""Exercises and quiz of notebook 02: what int4 takes, a block quantised, a fault's stage."""

from __future__ import annotations

from typing import Any

import numpy as np

from labkit.lessons.cards import read_quiz
from labkit.lessons.diagnosis import Diagnosis, describe, real_number, whole_number
from labkit.lessons.exercise import Attempt, Exercise, read_mistakes

MATRICES = ((192, 192, 64), (1536, 8960, 128), (96, 384, 32))
PAIR_BYTES = 8  # a float32 scale and a float32 minimum


def stored_bytes(rows: int, columns: int, block_size: int) -> int:
    """Bytes of an int4 matrix with a float32 scale and minimum for each block of a row."""
    return rows * columns // 2 + rows * columns // block_size * PAIR_BYTES


def examine_int4_bytes(attempt: Attempt) -> None:
    answers = [whole_number(attempt(*matrix), "the number of bytes") for matrix in MATRICES]
    for (rows, columns, block_size), answer, expected in attempt.misses(
        MATRICES, answers, [stored_bytes(*matrix) for matrix in MATRICES]
    ):
        weights, blocks = rows * columns, rows * columns // block_size
        values = {
            "codes": weights // 2,
            "weights": weights,
            "pairs": PAIR_BYTES * blocks,
            "blocks": blocks,
        }
        raise attempt.wrong(
            "other",
            matrix=f"{rows}×{columns}",
            block_size=block_size,
            answer=answer,
            expected=expected,
            **values,
        )


INT4_BYTES = Exercise(
    id="02.1",
    title="What does int4 save?",
    minutes=4,
    usage="int4_bytes(rows, columns, block_size)",
    examine=examine_int4_bytes,
    why_right=(
        "A block of B weights costs B / 2 bytes of codes and 8 bytes of scale and minimum, so "
        "a weight costs 4 + 64 / B bits: 6 bits in blocks of 32, 5 in blocks of 64, 4.5 in "
        "blocks of 128. Against float32 that is 5.3, 6.4 and 7.1 times smaller, never quite 8. "
        "Smaller blocks follow the weights more closely and cost more: block size is the dial "
        "between accuracy and size."
    ),
    hints=(
        (
            "Two things are stored: a code for each weight, and something for each block. Count "
            "them apart."
        ),
        (
            "Codes: `rows * columns` weights at half a byte. Blocks: how many are there in a row, "
            "and in all rows?"
        ),
        (
            "`rows * columns // 2` for the codes, and `rows * (columns // block_size)` blocks with "
            "two float32 numbers, 8 bytes, each."
        ),
    ),
    task="Bytes of an int4 weight matrix with a float32 scale and minimum for each block of a row.",
    solution_source="""\
def int4_bytes(rows, columns, block_size):
    codes = rows * columns // 2                # two 4-bit codes to a byte
    blocks = rows * (columns // block_size)
    return codes + blocks * (4 + 4)            # a float32 scale and a float32 minimum each
""",
    mistakes=read_mistakes("""
no_scales: return rows * columns // 2
    You count the codes only. Without its scale and its minimum a block of codes cannot become
    weights again: each block stores two float32 numbers besides.
byte_each: return rows * columns + rows * columns // block_size * 8
    You give each weight a whole byte. A code of 4 bits is half a byte: two weights share one.
no_minimum: return rows * columns // 2 + rows * columns // block_size * 4
    You store 4 bytes for each block. Asymmetric blocks have two float32 numbers, scale and minimum,
    so 8 bytes (4 would do for symmetric ones, which need no minimum).
one_byte_pair: return rows * columns // 2 + rows * columns // block_size * 2
    You give scale and minimum one byte each. They are float32: 4 bytes each.
bits: return rows * columns * 4 + rows * columns // block_size * 64
    Eight times too many: you count bits. 8 bits are a byte.
bits_codes: return rows * columns * 4 + rows * columns // block_size * 8
    You count the codes in bits and the scales in bytes. A code of 4 bits is half a byte.
bits_pair: return rows * columns // 2 + rows * columns // block_size * 64
    The codes are right, but you count scale and minimum in bits. A float32 has 32 bits, which are 4
    bytes.
per_row: return rows * columns // 2 + rows * 8
    You store one scale and minimum for each row. Here every row is cut into blocks, `columns //
    block_size` of them, and each block has its own pair.
per_matrix: return rows * columns // 2 + 8
    You store one scale and minimum for the whole matrix. Each block has its own pair: that is what
    keeps its steps small.
block_row: return rows * columns // 2 + columns // block_size * 8
    You count the blocks of one row. Every row has as many: multiply by `rows`.
only_scales: return rows * columns // block_size * 8
    You count scales and minima only. The codes take half a byte for each weight.
other: return rows * columns * block_size
    For {matrix} weights in blocks of {block_size} your function gives {answer} bytes. Expected
    {expected}: {codes} for the codes of {weights} weights, and {pairs} for {blocks} blocks.
float: return rows * columns / 2 + rows * columns / block_size * 8
type: return "half"
"""),
)

LEVELS = 15  # steps between the codes 0 and 15
Array = np.ndarray[Any, np.dtype[Any]]


def _block(size: int, step: int, low: int, unit: float) -> Array:
    """A block of well-mixed weights, the same everywhere; an odd step makes all 64 differ."""
    return ((np.arange(size) * step % 64 + low) * unit).astype(np.float32)


WEIGHT_BLOCK = _block(32, 37, -20, 1 / 128)
POSITIVE_BLOCK = _block(64, 29, 40, 1 / 256)
OUTLIER_BLOCK = np.where(np.arange(48) == 7, np.float32(4), _block(48, 23, -30, 1 / 64)).astype(
    np.float32
)
CONSTANT_BLOCK = np.full(32, 0.25, np.float32)
BLOCKS = {
    "a block of weights": WEIGHT_BLOCK,
    "a block of positive weights": POSITIVE_BLOCK,
    "a block with one outlier": OUTLIER_BLOCK,
}


def examine_quantise_block(attempt: Attempt) -> None:
    for what, block in BLOCKS.items():
        _examine_numbers(attempt, what, block, _parts(attempt, block))
    try:
        codes, scale, minimum = _parts(attempt, CONSTANT_BLOCK)
        seen = (
            f"scale {scale:g}, minimum {minimum:g} and codes from {codes.min()} to {codes.max()}."
        )
        # Written so that a NaN counts as wrong.
        held = bool(
            np.all((codes >= 0) & (codes <= LEVELS))
            and np.all(np.abs(scale * codes + minimum - CONSTANT_BLOCK) < 1e-4)
        )
        if any("invalid" in warning or "divide" in warning for warning in attempt.warnings):
            # The codes may look right: what a NaN becomes as a whole number depends on the CPU.
            held = False
            seen = (
                f"NumPy warned of an {attempt.warnings[0]}, "
                "and codes made of `nan` differ from machine to machine."
            )
    except Diagnosis as diagnosis:
        held, seen = False, diagnosis.text
    if not held:
        raise attempt.wrong("constant", seen=seen)


def _parts(attempt: Attempt, block: Array) -> tuple[Array, float, float]:
    """Codes, scale and minimum of an answer, or what is wrong with its form."""
    answer = attempt(block)
    three = isinstance(answer, (tuple, list)) and len(answer) == 3
    if not three or all(part is ... or part is None for part in answer):
        raise attempt.wrong(
            "form", received="three blanks: fill them in." if three else f"{describe(answer)}."
        )
    codes = np.asarray(answer[0])
    if codes.size * 2 == block.size:
        raise attempt.wrong("packed", codes=codes.size, weights=block.size)
    if codes.shape != block.shape:
        raise attempt.wrong("shape", shape=block.shape, received=describe(codes))
    scale, minimum = real_number(answer[1], "the scale"), real_number(answer[2], "the minimum")
    if codes.dtype.kind not in "iu":
        raise attempt.wrong("dtype", received=describe(codes))
    return codes.astype(np.int64), scale, minimum


def _examine_numbers(
    attempt: Attempt, what: str, block: Array, parts: tuple[Array, float, float]
) -> None:
    codes, scale, minimum = parts
    low, high = float(block.min()), float(block.max())
    step, peak = (high - low) / LEVELS, max(abs(low), abs(high))
    position = (block - low) / step
    miss = np.abs(codes - position)
    worst = int(miss.argmax())

    def near(number: float, wanted: float) -> bool:
        return abs(number - wanted) <= 1e-3 * abs(wanted)

    diagnoses = {
        "swapped": near(scale, low) and near(minimum, step),
        "inverse": near(scale, 1 / step),
        "symmetric": any(near(scale, wanted) for wanted in (peak / 7, peak / 7.5, peak / 8)),
        "sixteen": near(scale, (high - low) / 16),
        "zero_point": near(minimum, float(np.round(-low / step))),
        "scale": not near(scale, step),
        "minimum": not near(minimum, low),
        "out_of_range": codes.min() < 0 or codes.max() > LEVELS,
        "truncated": any(
            np.array_equal(codes, np.floor(position + shift)) for shift in (1e-4, -1e-4)
        )
        and not np.all(miss <= 0.501),
        "codes": not np.all(miss <= 0.501),
    }
    for kind, applies in diagnoses.items():
        if applies:
            values = {
                "what": what,
                "low": low,
                "high": high,
                "step": step,
                "scale": scale,
                "minimum": minimum,
            }
            values |= {
                "first": codes.min(),
                "last": codes.max(),
                "miss": miss.max(),
                "code": codes[worst],
            }
            raise attempt.wrong(
                kind, worst=worst, weight=block[worst], position=position[worst], **values
            )


QUANTISE_BLOCK = Exercise(
    id="02.2",
    title="Quantise a block",
    minutes=6,
    usage="quantise_block(block)",
    examine=examine_quantise_block,
    why_right=(
        "Sixteen codes at equal distances from the smallest to the largest weight: no weight "
        "moves by more than half a step, and the step is the block's range divided by 15. So "
        "one outlier makes the step coarse for its whole block, and small blocks limit the "
        "harm. MNN's exporter does the same for every block (storing the codes two to a byte), "
        "with numbers found from the block alone: no training data is needed."
    ),
    hints=(
        (
            "Code 0 stands for the smallest weight, code 15 for the largest. How many steps lie "
            "between them, and how large is one?"
        ),
        (
            "`minimum = block.min()` and `scale = (block.max() - minimum) / 15`. How many "
            "steps above the minimum does each weight lie? Round to the nearest."
        ),
        (
            "`codes = np.round((block - minimum) / scale).astype(np.uint8)`. What happens if "
            "all weights are equal, so that scale is 0? Use another scale then, such as 1."
        ),
    ),
    task="Asymmetric int4: return (codes, scale, minimum) with block ≈ scale * codes + minimum.",
    solution_source="""\
import numpy as np


def quantise_block(block):
    minimum = block.min()
    scale = (block.max() - minimum) / 15
    if scale == 0:  # all weights equal: any scale will do
        scale = np.float32(1)
    codes = np.round((block - minimum) / scale).astype(np.uint8)
    return codes, scale, minimum
""",
    mistakes=read_mistakes(
        """
swapped: START return codes, low, scale
    Scale and minimum have changed places: return `codes, scale, minimum`.
inverse: START return codes, 1 / scale, low
    Your scale is the number of codes per unit of weight, {scale:.4g}. Expected its inverse, weight
    per code: {step:.4g}.
symmetric: scale = np.abs(block).max() / 7; return np.round(block / scale).astype(np.int8), scale, \
0.0
    For {what} your scale is {scale:.4g}: the largest absolute value divided by 7 or 8. That is
    symmetric quantisation, around zero. Asymmetric spreads the 16 codes from the smallest to the
    largest value, so nothing is wasted on a side where no weights are.
sixteen: START scale = (block.max() - low) / 16; return np.round((block - low) / scale)\
.astype(np.uint8), scale, low
    For {what} your scale is the range divided by 16, {scale:.4g}. There are 16 codes, 0 to 15, but
    only 15 steps between them: expected {step:.4g}.
zero_point: START return codes, scale, np.round(-low / scale)
    For {what} you return {minimum:g} as minimum: that is a zero point, the code at which weight 0
    lies. Expected the smallest weight itself, {low:.4g}.
scale: START return codes, 2 * scale, low
    For {what} (from {low:.4g} to {high:.4g}) expected the scale {step:.4g}, received {scale:.4g}.
minimum: START return codes, scale, block.mean()
    For {what} expected the minimum {low:.4g}, received {minimum:.4g}.
out_of_range: START return np.round(block / scale).astype(int), scale, low
    For {what} your codes go from {first} to {last}. Four bits hold 0 to 15. Did you subtract the
    minimum before dividing?
truncated: START return ((block - low) / scale).astype(np.uint8), scale, low
    For {what} the error reaches {miss:.2f} of a step, where half a step is enough: your codes are
    cut off, not rounded. `.astype` drops what stands behind the point; call `np.round` before it.
codes: START return 15 - codes, scale, low
    For {what} scale and minimum are right, but weight number {worst}, {weight:.4g}, lies at
    {position:.2f} steps above the minimum and has the code {code}. Expected the nearest whole
    number.
constant: START return codes, scale, low
    Right for ordinary blocks. A block whose values are all the same (such as all zeros) has a range
    of 0, and 0 / 0 is no number. Choose any scale but 0 then, 1 for example, so that every code
    becomes 0. For 32 times 0.25 it came to this: {seen}
form: START return codes
    Expected three things, `codes, scale, minimum`, received {received}
packed: START return codes[::2] + 16 * codes[1::2], scale, low
    You return {codes} codes for {weights} weights, two in each byte it seems. That is how they are
    stored; here return one code for each weight.
shape: START return codes[None], scale, low
    Expected codes of shape {shape}, one for each weight, received {received}.
dtype: START return np.round((block - low) / scale), scale, low
    Expected codes as whole numbers (dtype uint8), received {received}. Round them with `np.round`
    first, then `.astype(np.uint8)`.
type: START return codes, 'small', low
raised: return block / block.missing
""".replace(
            "START",
            (
                "low = block.min(); scale = (block.max() - low) / 15; codes = np.round((block - "
                "low) / scale).astype(np.uint8);"
            ),
        )
    ),
)

STAGES = ("pixel_values", "patch_embeddings", "image_embeds", "first_logits")
THRESHOLD = 0.99


def _table(*cosines: float) -> dict[str, float]:
    return dict(zip(STAGES, cosines, strict=True))


# Made so that each usual mistake gives a row of answers of its own.
BROKEN = (
    _table(1, 0.93, 0.41, 0.62),
    _table(1, 0.98, 0.9999, 0.72),
    _table(1, 0.9999, 0.9971, 0.12),
    _table(0.31, 0.35, 0.22, 0.48),
)
HEALTHY = _table(1, 0.9999, 0.9962, 0.9981)
EXACT = _table(1, THRESHOLD, 0.95, 0.991)
UNDEFINED = _table(1, 0.9999, float("nan"), 0.12)


def below(cosines: dict[str, float]) -> list[str]:
    """The stages that do not hold, in order; a NaN does not hold."""
    return [stage for stage, cosine in cosines.items() if not cosine >= THRESHOLD]


def examine_first_broken(attempt: Attempt) -> None:
    cases = [(cosines, THRESHOLD) for cosines in BROKEN]
    answers = [_stage(attempt, cosines) for cosines in BROKEN]
    for (cosines, _), answer, _expected in attempt.misses(
        cases, answers, [below(cosines)[0] for cosines in BROKEN]
    ):
        _compare(attempt, cosines, answer)
    try:
        healthy = attempt(HEALTHY, THRESHOLD)
        seen = f"the answer was {describe(healthy)}."
    except Diagnosis as diagnosis:
        healthy, seen = None, diagnosis.text
    if healthy != "all good":
        raise attempt.wrong("healthy", seen=seen)
    for cosines, mistaken, kind in (
        (EXACT, "patch_embeddings", "equal"),
        (UNDEFINED, "first_logits", "nan"),
    ):
        answer = attempt(cosines, THRESHOLD)
        if answer == mistaken:
            raise attempt.wrong(kind)
        _compare(attempt, cosines, answer)


def _stage(attempt: Attempt, cosines: dict[str, float]) -> str:
    answer = attempt(cosines, THRESHOLD)
    if isinstance(answer, (list, tuple)) and list(answer) == below(cosines):
        raise attempt.wrong("all", answer=describe(answer, short=True))
    if isinstance(answer, (int, float)):
        raise attempt.wrong("not_a_name", received=describe(answer))
    if not isinstance(answer, str):
        raise attempt.wrong("type", received=describe(answer))
    return answer


def _compare(attempt: Attempt, cosines: dict[str, float], answer: object) -> None:
    expected = below(cosines)[0]
    if answer != expected:
        raise attempt.wrong(
            "other",
            table=describe(cosines, short=True),
            threshold=THRESHOLD,
            expected=expected,
            received=describe(answer),
        )


FIRST_BROKEN = Exercise(
    id="02.3",
    title="Which stage broke?",
    minutes=4,
    usage="first_broken(cosines, threshold)",
    examine=examine_first_broken,
    why_right=(
        "A model computes stage after stage, so what is wrong at the first one is wrong, and "
        "often worse, in all that follow. The first that departs is where to look: pixel "
        "values point at resizing or the order of colours, patch embeddings at the order "
        "inside a patch or the first weights, image embeddings at the tower and its "
        "quantisation, logits alone at the language model. A converted model that talks well "
        "and sees garbage is found out this way in a minute. And a check that lets `nan` pass "
        "is none."
    ),
    hints=(
        (
            "Dictionaries keep their order: `for stage, cosine in cosines.items()` walks through "
            "the model from the front."
        ),
        (
            "Return from inside the loop as soon as a stage does not hold; after the loop, return "
            '`"all good"`.'
        ),
        "`nan < 0.99` is False, and so is `nan >= 0.99`. So test `if not (cosine >= threshold)`.",
    ),
    task='Name of the first stage whose cosine does not reach the threshold, or "all good".',
    solution_source="""\
def first_broken(cosines, threshold):
    for stage, cosine in cosines.items():
        if not (cosine >= threshold):  # true for nan as well
            return stage
    return "all good"
""",
    mistakes=read_mistakes("""
worst: return min(cosines, key=cosines.get)
    You return the stage with the lowest cosine. An error grows on its way through the layers, so
    the worst stage is often an innocent one behind the broken one. Return the first in order.
last: return [stage for stage, cosine in cosines.items() if cosine < threshold][-1]
    You return the last stage below the threshold. Each stage works on what the one before hands
    over: the first that departs is where to look. Leave the loop (`return`) at the first one.
inverted: return next((stage for stage, cosine in cosines.items() if cosine > threshold), "all \
good")
    You return the first stage that is still good. A cosine near 1 means “same direction”, so broken
    is what lies below the threshold.
before: return ["all good", *cosines][[cosine < threshold for cosine in \
cosines.values()].index(True)]
    You return the stage before the first broken one: the last that holds. It is the next one that
    departs.
blind: return "all good"
    You say that all is well for every table, but each of these has a broken stage. Does your loop
    get to the comparison?
all: return [stage for stage, cosine in cosines.items() if cosine < threshold]
    You return every stage below the threshold, {answer}. Return the first alone: the others come
    after it and may only suffer from it.
healthy: return next((stage for stage, cosine in cosines.items() if cosine < threshold), None)
    Right for broken models. When no stage lies below the threshold, expected the text `"all good"`.
    For a healthy model {seen}
equal: return next((stage for stage in cosines if not cosines[stage] > threshold), "all good")
    Right, but for one case: a stage that lies exactly at the threshold still holds. Only below it
    is broken.
nan: return next((stage for stage in cosines if cosines[stage] < threshold), "all good")
    Right, but for one trap: a cosine of `nan` (a stage that came out as all zeros, or with
    infinities) is neither below nor above any number, so `cosine < threshold` is False and the
    worst damage of all goes unnoticed. Ask the other way round: `not (cosine >= threshold)`.
not_a_name: return min(cosines.values())
    Expected the name of a stage (str), received {received}. Loop over `cosines.items()` to have
    each name with its cosine.
type: return {stage for stage in cosines if cosines[stage] < threshold}
    Expected the name of a stage (str), received {received}.
other: return 'the second'
    For `{table}` and threshold {threshold} expected `{expected}`, received {received}.
raised: return cosines['logits']
"""),
)

EXERCISES = (INT4_BYTES, QUANTISE_BLOCK, FIRST_BROKEN)

QUIZ = read_quiz(
    "02",
    "Quiz 02: what a conversion does",
    """
Between checkpoint and MNN model stands an ONNX file. What is it for?
- It makes the model smaller
    Export does not round weights. The size falls when MNN's weights are written with 4 or 8 bits.
+ It is the computation as a graph, free of PyTorch, which MNN's converter can read
    The checkpoint holds weights without a program. Export runs the PyTorch model once and writes
    down its operations; MNN turns these into its own.
- The engine runs it when int4 is not exact enough
    The engine reads only the `.mnn` files and their weights. ONNX is a step on the way and can be
    thrown away.
You convert with blocks of 32 rather than 128 weights. What changes?
- Fewer bytes, since blocks are smaller
    There are four times as many of them, and each brings 8 bytes of scale and minimum.
- Nothing but the file's layout
    Each block has a scale of its own, so the rounded weights themselves are different.
+ More bytes, and steps that fit the weights better
    Four times as many scales and minima: 6 bits a weight against 4.5. A smaller block never has a
    larger range than the block around it, so its steps are as fine or finer.
A converted model chats fluently, but describes every picture wrongly. Where do you look first?
+ At the parity table, for the first stage on the picture's way that departs from the original
    Fluent text says that the language model is well. Pixel values, patch embeddings and image
    embeddings show where the picture got lost.
- At the language model's weight bits: 8 instead of 4
    They may matter for fine points, but the text is fluent: the fault most likely lies before the
    language model.
- At the wording of the question
    Wording can help a model that sees poorly. Here every picture is wrong, so the model is likely
    not seeing it at all.
One weight in an int4 block is fifty times larger than all others. What becomes of the others?
- Nothing: each weight has a code of its own
    Each has a code, but all codes of a block share one scale and one minimum.
+ They fall onto one or two codes, and nearly lose their differences
    The step is the range divided by 15, and the outlier alone sets the range. The others lie within
    a fraction of one step.
- They are stored in 8 bits instead
    There is no such exception in this format. Smaller blocks limit the harm to fewer weights.
""",
)
