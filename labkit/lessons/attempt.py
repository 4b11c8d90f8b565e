"""Call what a learner wrote: every failure becomes a diagnosis that points at their line."""

from __future__ import annotations

import copy
import dis
import inspect
import re
import traceback
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from labkit.lessons.exercise import Diagnosis, Untried

FORGOTTEN_RETURN = "Your function has code in it but gives nothing back. If you think it is finished, a `return` is missing."
EMPTY_BODY = {"RESUME", "NOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST"}


class Attempt:
    """A learner's function, safe to call.

    Parameters
    ----------
    value
        What was passed to ``check``.
    usage
        The call as the exercise words it, ``"visual_tokens(height, width)"``.

    Raises
    ------
    Untried
        If there is nothing yet: ``None``, ``...``.
    Diagnosis
        If it is no function.
    """

    def __init__(self, value: object, usage: str) -> None:
        self.usage = usage
        self.name = usage.partition("(")[0]
        self.answered = False
        self.warnings: tuple[str, ...] = ()  # what NumPy and others said during the latest call
        if value is None or value is ...:
            raise Untried
        if not callable(value):
            raise Diagnosis(
                "not_a_function",
                f"Expected the function itself, received {describe(value)}. Pass its name alone, without brackets: `{self.name}`.",
            )
        self.function = value

    def __call__(self, *arguments: Any) -> Any:
        """The learner's answer for these arguments (copies of them, so that nothing of ours is changed).

        Raises
        ------
        Untried
            If the first call returns nothing or raises NotImplementedError.
        Diagnosis
            If the call fails, or only some calls return something.
        """
        self._check_parameters(arguments)
        call = f"{self.name}({', '.join(describe(argument, short=True) for argument in arguments)})"
        try:
            with warnings.catch_warnings(record=True) as caught, np.errstate(all="warn"):
                warnings.simplefilter("always")
                result = self.function(*copy.deepcopy(arguments))
        except KeyboardInterrupt:  # the stop button is the learner's
            raise
        except BaseException as error:  # noqa: BLE001 - SystemExit from a stray exit() must not end the kernel either
            if isinstance(error, NotImplementedError) and not self.answered:
                raise Untried from None
            raise Diagnosis("raised", f"`{call}` stopped with {explain(error)}") from None
        if result is None or result is ...:
            if not self.answered:
                raise Untried("" if is_empty(self.function) else FORGOTTEN_RETURN)
            raise Diagnosis(
                "nothing_returned", f"`{call}` returned nothing, though other calls did. Does every branch of it end in a `return`?"
            )
        self.answered = True
        self.warnings = tuple(str(warning.message) for warning in caught)
        return result

    def _check_parameters(self, arguments: tuple[Any, ...]) -> None:
        try:
            signature = inspect.signature(self.function)
        except (TypeError, ValueError):  # some built-in functions do not tell
            return
        try:
            signature.bind(*arguments)
        except TypeError:
            raise Diagnosis(
                "parameters",
                f"Expected a function that can be called as `{self.usage}`, received one with the parameters `{scrub(str(signature))}`.",
            ) from None


def is_empty(function: object) -> bool:
    """Whether a function's body is only ``...``, ``pass`` or a docstring."""
    code = getattr(function, "__code__", None)
    return code is not None and all(instruction.opname in EMPTY_BODY for instruction in dis.get_instructions(code))


def explain(error: BaseException) -> str:
    """Name an exception and the learner's line it came from, without file names or addresses."""
    lines = str(error).strip().splitlines()
    message = scrub(lines[0])[:160] if lines else ""
    named = f"`{type(error).__name__}`" + (f": {message.rstrip('.')}" if message else "")
    # The first frame is ours; the file of the second is the learner's cell. What they call in
    # turn (NumPy, say) is of less use to them than their own deepest line.
    frames = traceback.extract_tb(error.__traceback__)[1:]
    own = [frame for frame in frames if frame.filename == frames[0].filename]
    if not own:
        return f"{named}."
    return f"{named}, in line {own[-1].lineno} of your cell" + (f": `{own[-1].line}`" if own[-1].line else "") + "."


def scrub(text: str) -> str:
    """Text without memory addresses, which differ from run to run."""
    return re.sub(r"0x[0-9a-fA-F]+", "0x…", text)


def describe(value: object, *, short: bool = False) -> str:
    """A value in a few words: its type, and its shape and dtype or its text.

    Examples
    --------
    >>> describe(np.zeros((2, 3), np.float32))
    'an array of shape (2, 3), float32'
    >>> describe(12.5)
    'the float `12.5`'
    >>> describe(12.5, short=True)
    '12.5'
    """
    if isinstance(value, np.ndarray):
        return f"{value.size} numbers" if short else f"an array of shape {value.shape}, {value.dtype}"
    if isinstance(value, np.generic):
        return str(value.item()) if short else f"the {value.dtype} `{value.item()}`"
    if isinstance(value, (tuple, list)) and not short:
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, (bool, int, float, str, tuple, list, dict)):
        text = scrub(repr(value))
        text = text if len(text) <= 90 else text[:89] + "…"
        return text if short else f"the {type(value).__name__} `{text}`"
    return f"a value of type `{type(value).__name__}`"


def whole_number(value: object, what: str) -> int:
    """A count, or the diagnosis of what stands in its place."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, (float, np.floating)):
        raise Diagnosis(
            "float",
            f"Expected {what} as a whole number (int), received {describe(value)}. A count has no decimal places: divide with `//`, "
            "not with `/`.",
        )
    raise Diagnosis("type", f"Expected {what} as a whole number (int), received {describe(value)}.")


def real_number(value: object, what: str) -> float:
    """A single number, or the diagnosis of what stands in its place; NaN and infinity pass."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(())[()]
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        return float(value)
    raise Diagnosis("type", f"Expected {what} as one number (float), received {describe(value)}.")


def recognise(answers: Sequence[object], mistaken: Sequence[Mapping[str, object]], texts: Mapping[str, str]) -> None:
    """Raise the diagnosis of a usual mistake if it explains every answer.

    Parameters
    ----------
    answers
        The learner's answer for each case.
    mistaken
        For each case, what each mistake would give, by its kind.
    texts
        The diagnosis for each kind; the first that fits is taken.
    """
    for kind, text in texts.items():
        if all(answer == case[kind] for answer, case in zip(answers, mistaken, strict=True)):
            raise Diagnosis(kind, text)
