"""Exercise 03.1: one block of weights as sixteen codes, a scale and a minimum."""

from __future__ import annotations

from typing import Any

import numpy as np

from labkit.lessons.attempt import Attempt, describe, real_number
from labkit.lessons.exercise import Diagnosis, Exercise, judge

LEVELS = 15  # steps between the codes 0 and 15
Array = np.ndarray[Any, np.dtype[Any]]


def _block(size: int, step: int, low: int, unit: float) -> Array:
    """A block of well-mixed weights, the same on every machine; with an odd step all 64 places are different."""
    return ((np.arange(size) * step % 64 + low) * unit).astype(np.float32)


WEIGHT_BLOCK = _block(32, 37, -20, 1 / 128)
POSITIVE_BLOCK = _block(64, 29, 40, 1 / 256)
OUTLIER_BLOCK = np.where(np.arange(48) == 7, np.float32(4), _block(48, 23, -30, 1 / 64)).astype(np.float32)
CONSTANT_BLOCK = np.full(32, 0.25, np.float32)
BLOCKS = {
    "a block of weights": WEIGHT_BLOCK,
    "a block of positive weights": POSITIVE_BLOCK,
    "a block with one outlier": OUTLIER_BLOCK,
}


@judge
def judge_quantise_block(value: object) -> None:
    """Judge 03.1."""
    attempt = Attempt(value, "quantise_block(block)")
    for what, block in BLOCKS.items():
        codes, scale, minimum = _parts(attempt(block), block)
        _judge_numbers(what, block, codes, scale, minimum)
    try:
        codes, scale, minimum = _parts(attempt(CONSTANT_BLOCK), CONSTANT_BLOCK)
        seen = f"scale {scale:g}, minimum {minimum:g} and codes from {codes.min()} to {codes.max()}."
        # Written so that a NaN counts as wrong.
        held = bool(np.all((codes >= 0) & (codes <= LEVELS)) and np.all(np.abs(scale * codes + minimum - CONSTANT_BLOCK) < 1e-4))
        if any("invalid" in warning or "divide" in warning for warning in attempt.warnings):
            # The codes may look right all the same: what a NaN becomes as a whole number depends on the CPU.
            held, seen = False, f"NumPy warned of an {attempt.warnings[0]}, and codes made of `nan` differ from machine to machine."
    except Diagnosis as diagnosis:
        held, seen = False, diagnosis.text
    if not held:
        raise Diagnosis(
            "constant",
            "Right for ordinary blocks. A block whose values are all the same (such as all zeros) has a range of 0, and 0 / 0 "
            "is no number. Choose any scale but 0 then, 1 for example, so that every code becomes 0. "
            f"For 32 times 0.25 it came to this: {seen}",
        )


def _parts(answer: object, block: Array) -> tuple[Array, float, float]:
    """Codes, scale and minimum of an answer, or what is wrong with its form."""
    if not isinstance(answer, (tuple, list)) or len(answer) != 3:
        raise Diagnosis("form", f"Expected three things, `codes, scale, minimum`, received {describe(answer)}.")
    if all(part is ... or part is None for part in answer):
        raise Diagnosis("form", "Expected three things, `codes, scale, minimum`, received three blanks: fill them in.")
    codes = np.asarray(answer[0])
    if codes.size * 2 == block.size:
        raise Diagnosis(
            "packed",
            f"You return {codes.size} codes for {block.size} weights, two in each byte it seems. That is how they are stored; here "
            "return one code for each weight.",
        )
    if codes.shape != block.shape:
        raise Diagnosis("shape", f"Expected codes of shape {block.shape}, one for each weight, received {describe(codes)}.")
    scale, minimum = real_number(answer[1], "the scale"), real_number(answer[2], "the minimum")
    if codes.dtype.kind not in "iu":
        raise Diagnosis(
            "dtype",
            f"Expected codes as whole numbers (dtype uint8), received {describe(codes)}. Round them with `np.round` first, then "
            "`.astype(np.uint8)`.",
        )
    return codes.astype(np.int64), scale, minimum


def _judge_numbers(what: str, block: Array, codes: Array, scale: float, minimum: float) -> None:
    low, high = float(block.min()), float(block.max())
    step = (high - low) / LEVELS

    def near(number: float, wanted: float) -> bool:
        return abs(number - wanted) <= 1e-3 * abs(wanted)

    if near(scale, low) and near(minimum, step):
        raise Diagnosis("swapped", "Scale and minimum have changed places: return `codes, scale, minimum`.")
    if near(scale, 1 / step):
        raise Diagnosis(
            "inverse",
            f"Your scale is the number of codes per unit of weight, {scale:.4g}. Expected its inverse, weight per code: {step:.4g}.",
        )
    peak = max(abs(low), abs(high))
    if any(near(scale, wanted) for wanted in (peak / 7, peak / 7.5, peak / 8)):
        raise Diagnosis(
            "symmetric",
            f"For {what} your scale is {scale:.4g}: the largest absolute value divided by 7 or 8. That is symmetric quantisation, "
            "around zero. Asymmetric spreads the 16 codes from the smallest to the largest value, so nothing is wasted on a side "
            "where no weights are.",
        )
    if near(scale, (high - low) / 16):
        raise Diagnosis(
            "sixteen",
            f"For {what} your scale is the range divided by 16, {scale:.4g}. There are 16 codes, 0 to 15, but only 15 steps between "
            f"them: expected {step:.4g}.",
        )
    if near(minimum, float(np.round(-low / step))):
        raise Diagnosis(
            "zero_point",
            f"For {what} you return {minimum:g} as minimum: that is a zero point, the code at which weight 0 lies. Expected the "
            f"smallest weight itself, {low:.4g}.",
        )
    if not near(scale, step):
        raise Diagnosis("scale", f"For {what} (from {low:.4g} to {high:.4g}) expected the scale {step:.4g}, received {scale:.4g}.")
    if not near(minimum, low):
        raise Diagnosis("minimum", f"For {what} expected the minimum {low:.4g}, received {minimum:.4g}.")
    if codes.min() < 0 or codes.max() > LEVELS:
        raise Diagnosis(
            "out_of_range",
            f"For {what} your codes go from {codes.min()} to {codes.max()}. Four bits hold 0 to 15. Did you subtract the minimum "
            "before dividing?",
        )
    position = (block - low) / step
    miss = np.abs(codes - position)
    if np.all(miss <= 0.501):
        return
    if np.array_equal(codes, np.floor(position + 1e-4)) or np.array_equal(codes, np.floor(position - 1e-4)):
        raise Diagnosis(
            "truncated",
            f"For {what} the error reaches {miss.max():.2f} of a step, where half a step is enough: your codes are cut off, not "
            "rounded. `.astype` drops what stands behind the point; call `np.round` before it.",
        )
    worst = int(miss.argmax())
    raise Diagnosis(
        "codes",
        f"For {what} scale and minimum are right, but weight number {worst}, {block[worst]:.4g}, lies at {position[worst]:.2f} steps "
        f"above the minimum and has the code {codes[worst]}. Expected the nearest whole number.",
    )


# What most wrong examples begin with.
_START = "low = block.min()\nscale = (block.max() - low) / 15\ncodes = np.round((block - low) / scale).astype(np.uint8)\n"

QUANTISE_BLOCK = Exercise(
    id="03.1",
    title="Quantise a block",
    minutes=6,
    name="quantise_block",
    judge=judge_quantise_block,
    why_right=(
        "Sixteen codes at equal distances from the smallest to the largest weight: no weight moves by more than half a step, and the "
        "step is the block's range divided by 15. So one outlier makes the step coarse for its whole block, and small blocks limit "
        "the harm. MNN's exporter does the same for every block (storing the codes two to a byte), with numbers found from the block "
        "alone: no training data is needed."
    ),
    hints=(
        "Code 0 stands for the smallest weight, code 15 for the largest. How many steps lie between them, and how large is one?",
        (
            "`minimum = block.min()` and `scale = (block.max() - minimum) / 15`. How many steps above the minimum does each weight "
            "lie? Round to the nearest."
        ),
        (
            "`codes = np.round((block - minimum) / scale).astype(np.uint8)`. What happens if all weights are equal, so that scale is "
            "0? Use another scale then, such as 1."
        ),
    ),
    stub_source='''\
import numpy as np


def quantise_block(block):
    """Asymmetric int4: return (codes, scale, minimum) with block ≈ scale * codes + minimum."""
    ...
''',
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
    wrong_examples={
        "sixteen": (
            "low = block.min()\nscale = (block.max() - low) / 16\nreturn np.round((block - low) / scale).astype(np.uint8), scale, low"
        ),
        "truncated": _START + "return ((block - low) / scale).astype(np.uint8), scale, low",
        "symmetric": "scale = np.abs(block).max() / 7\nreturn np.round(block / scale).astype(np.int8), scale, 0.0",
        "out_of_range": _START + "return np.round(block / scale).astype(int), scale, low",
        "constant": _START + "return codes, scale, low",
        "zero_point": _START + "return codes, scale, np.round(-low / scale)",
        "inverse": _START + "return codes, 1 / scale, low",
        "swapped": _START + "return codes, low, scale",
        "dtype": _START + "return np.round((block - low) / scale), scale, low",
        "packed": _START + "return codes[::2] + 16 * codes[1::2], scale, low",
        "shape": _START + "return codes[None], scale, low",
        "scale": _START + "return codes, 2 * scale, low",
        "minimum": _START + "return codes, scale, block.mean()",
        "codes": _START + "return 15 - codes, scale, low",
        "form": _START + "return codes",
        "type": _START + "return codes, 'small', low",
        "raised": "return block / block.missing",
    },
)
