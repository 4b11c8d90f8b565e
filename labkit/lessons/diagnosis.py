"""What is wrong with an answer, in words that point at the learner's own line and value."""

import re
import traceback
from typing import Any, Literal

import numpy as np

ADDRESS = re.compile("0x[0-9a-fA-F]+")  # in memory, and so another one in every run


class Verdict(Exception):
    """What a check says: a short name of the diagnosis and its words.

    The answer is right, unless one of the next two was raised.
    """

    status: Literal["not tried", "right", "wrong"] = "right"

    def __init__(self, kind: str = "", text: str = "") -> None:
        super().__init__(text)
        self.kind, self.text = kind, text


class Untried(Verdict):
    """There is no answer yet."""

    status = "not tried"


class Diagnosis(Verdict):
    """The answer is wrong, and this is what is wrong with it."""

    status = "wrong"


def explain(error: BaseException) -> str:
    """Name an exception and the learner's line it came from, without file names or addresses."""
    first, *_ = str(error).strip().splitlines() or [""]
    message = ADDRESS.sub("0x…", first)[:160].rstrip(".")
    words = f"`{type(error).__name__}`" + (message and f": {message}")
    # The first frame is ours, the second lies in the learner's cell; their deepest line tells
    # them more than one in NumPy, say.
    frames = traceback.extract_tb(error.__traceback__)[1:]
    for frame in reversed(frames):
        if frame.filename == frames[0].filename:
            words += f", in line {frame.lineno} of your cell"
            words += f": `{frame.line}`" if frame.line else ""
            break
    return f"{words}."


def describe(value: object, *, short: bool = False) -> str:
    """A value in a few words: its type, and its shape and dtype or its text."""
    kind = type(value).__name__
    if isinstance(value, np.ndarray):
        full = f"an array of shape {value.shape}, {value.dtype}"
        return f"{value.size} numbers" if short else full
    if isinstance(value, (tuple, list)) and not short:
        return f"a {kind} of {len(value)}"
    if not isinstance(value, (bool, int, float, str, tuple, list, dict, np.generic)):
        return f"a value of type `{kind}`"
    text = str(value.item()) if isinstance(value, np.generic) else ADDRESS.sub("0x…", repr(value))
    text = text if len(text) <= 90 else text[:89] + "…"
    return text if short else f"the {kind} `{text}`"


def whole_number(value: object, what: str) -> int:
    """A count, or the diagnosis of what stands in its place."""
    number = _number(value)
    if isinstance(number, (int, np.integer)):
        return int(number)
    text = f"Expected {what} as a whole number (int), received {describe(value)}."
    if number is None:
        raise Diagnosis("type", text)
    advice = "A count has no decimal places: divide with `//`, not with `/`."
    raise Diagnosis("float", f"{text} {advice}")


def real_number(value: object, what: str) -> float:
    """A single number, or the diagnosis of what stands in its place; NaN and infinity pass."""
    number = _number(value)
    if number is None:
        text = f"Expected {what} as one number (float), received {describe(value)}."
        raise Diagnosis("type", text)
    return float(number)


def _number(value: Any) -> Any:
    """A single number, out of its array where it is the only one; None for all else."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(())[()]
    known = isinstance(value, (int, float, np.integer, np.floating))
    return value if known and not isinstance(value, bool) else None


def array_of(value: object, what: str, shape: tuple[int, ...]) -> np.ndarray:
    """An array of numbers of this shape, or the diagnosis of what stands in its place."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        text = f"Expected {what} as a NumPy array of numbers, received {describe(value)}."
        raise Diagnosis("type", text)
    if value.shape != shape:
        raise Diagnosis("shape", f"Expected {what} of shape {shape}, received {describe(value)}.")
    if not np.isfinite(value).all():
        text = "received some that are infinite or not a number (NaN)."
        raise Diagnosis("not_finite", f"Expected {what} as ordinary numbers, {text}")
    return value


def near(a: Any, b: Any) -> bool:
    """Whether two arrays have one shape and nearly the same numbers."""
    return np.shape(a) == np.shape(b) and bool(np.allclose(a, b, rtol=1e-3, atol=1e-5))
