"""An exercise as data, and how it is judged: every failure becomes a diagnosis that points at the learner's line."""

from __future__ import annotations

import copy
import dis
import inspect
import operator
import re
import textwrap
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from labkit.lessons.cards import entries

ADDRESS = re.compile("0x[0-9a-fA-F]+")  # in memory, and so another one in every run
EMPTY_BODY = {"RESUME", "NOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST"}
Mistakes = Mapping[
    str, tuple[str, str]
]  # by kind: a function's body that makes it, and what to say of it


class Verdict(Exception):
    """What a check found: a short name of the diagnosis and its words. The answer is right, unless one of the next two was raised."""

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


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """One exercise: how it is judged, how it is helped, and what tests need to prove it."""

    id: str  # number of the notebook, a dot, number in the notebook: "02.1"
    title: str
    minutes: int  # about
    usage: str  # the function that the learner writes, "int4_bytes(rows, columns, block_size)"
    examine: Callable[[Attempt], None]  # raises Untried or Diagnosis, or returns when all is right
    why_right: str  # shown with *Right* and under the solution: what there is to learn
    hints: tuple[str, ...]  # from a nudge to nearly the answer; two or more
    task: str  # what stands in the function's stub
    solution_source: str
    mistakes: Mistakes  # for each diagnosis, a body that must receive it; the text is empty for those that all exercises share

    @property
    def name(self) -> str:
        """The function's name."""
        return self.usage.partition("(")[0]

    @property
    def stub_source(self) -> str:
        """What stands in the notebook: the solution's imports, and a function with nothing but its task."""
        return f'{self.solution_source.partition("def ")[0]}def {self.usage}:\n    """{self.task}"""\n    ...\n'

    def judge(self, value: object) -> Verdict:
        """Judge what was passed to ``check``; never raises."""
        try:
            self.examine(Attempt(value, self.usage, self.mistakes))
        except Verdict as verdict:
            return verdict
        except Exception as error:  # noqa: BLE001 - a learner's object may raise anything, anywhere it is touched
            text = f"Your answer, of type `{type(value).__name__}`, could not be examined: `{type(error).__name__}` came up on the way. "
            return Diagnosis("unreadable", text + "Return plain numbers, strings or NumPy arrays.")
        return Verdict()


def read_mistakes(text: str) -> Mistakes:
    """Mistakes from a text: lines ``kind: body``, each with its words indented below."""
    return {
        kind: (body, words)
        for head, words in entries(text)
        for kind, _, body in [head.partition(": ")]
    }


class Attempt:
    """A learner's function, safe to call. Raises `Untried` for a blank (``None``, ``...``), `Diagnosis` if it is no function."""

    def __init__(self, value: object, usage: str, mistakes: Mistakes | None = None) -> None:
        self.usage, self.name, self.mistakes = usage, usage.partition("(")[0], mistakes or {}
        self.answered = False
        self.warnings: tuple[str, ...] = ()  # what NumPy and others said during the latest call
        if value is None or value is ...:
            raise Untried("untried")
        if not callable(value):
            advice = f"Pass its name alone, without brackets: `{self.name}`."
            raise Diagnosis(
                "not_a_function",
                f"Expected the function itself, received {describe(value)}. {advice}",
            )
        self.function = value

    def __call__(self, *arguments: Any) -> Any:
        """The learner's answer for copies of these arguments. Raises `Untried` while there is none, `Diagnosis` if the call fails."""
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
                raise Untried("untried") from None
            raise Diagnosis("raised", f"`{call}` stopped with {explain(error)}") from None
        if result is None or result is ...:
            if self.answered:
                text = f"`{call}` returned nothing, though other calls did. Does every branch of it end in a `return`?"
                raise Diagnosis("nothing_returned", text)
            forgotten = "Your function has code in it but gives nothing back. If you think it is finished, a `return` is missing."
            raise Untried("untried", "" if is_empty(self.function) else forgotten)
        self.answered = True
        self.warnings = tuple(str(warning.message) for warning in caught)
        return result

    def _check_parameters(self, arguments: tuple[Any, ...]) -> None:
        signature = None
        try:
            signature = inspect.signature(self.function)
            signature.bind(*arguments)
        except (TypeError, ValueError):
            if signature:  # some built-in functions do not tell theirs
                received = (
                    f"received one with the parameters `{ADDRESS.sub('0x…', str(signature))}`."
                )
                raise Diagnosis(
                    "parameters",
                    f"Expected a function that can be called as `{self.usage}`, {received}",
                ) from None

    def wrong(self, kind: str, **values: object) -> Diagnosis:
        """The diagnosis of this kind, to be raised, with values in the {places} of its text."""
        return Diagnosis(kind, self.mistakes[kind][1].format(**values))

    def misses(
        self,
        cases: Sequence[Any],
        answers: Sequence[Any],
        expected: Sequence[Any],
        *,
        same: Callable[[Any, Any], bool] = operator.eq,
    ) -> list[tuple[Any, Any, Any]]:
        """The cases (tuples of arguments) with a wrong answer, each with answer and expected answer.
        Raises `Diagnosis` if a usual mistake explains all answers: one whose text has no {places} for values.
        """
        missed = [
            row for row in zip(cases, answers, expected, strict=True) if not same(row[1], row[2])
        ]
        for kind, (body, text) in self.mistakes.items() if missed else ():
            if text and "{" not in text:
                namespace: dict[str, Any] = {"np": np}
                exec(f"def {self.usage}:\n{textwrap.indent(body, '    ')}", namespace)  # noqa: S102 - the lesson's own text
                if all(
                    same(namespace[self.name](*case), answer)
                    for case, answer in zip(cases, answers, strict=True)
                ):
                    raise self.wrong(kind)
        return missed


def is_empty(function: object) -> bool:
    """Whether a function's body is only ``...``, ``pass`` or a docstring."""
    code = getattr(function, "__code__", None)
    return code is not None and all(
        instruction.opname in EMPTY_BODY for instruction in dis.get_instructions(code)
    )


def explain(error: BaseException) -> str:
    """Name an exception and the learner's line it came from, without file names or addresses."""
    lines = str(error).strip().splitlines()
    message = ADDRESS.sub("0x…", lines[0])[:160] if lines else ""
    named = f"`{type(error).__name__}`" + (f": {message.rstrip('.')}" if message else "")
    # The first frame is ours, the second lies in the learner's cell; their deepest line tells them more than one in NumPy, say.
    frames = traceback.extract_tb(error.__traceback__)[1:]
    for frame in reversed(frames):
        if frame.filename == frames[0].filename:
            return (
                f"{named}, in line {frame.lineno} of your cell"
                + (f": `{frame.line}`" if frame.line else "")
                + "."
            )
    return f"{named}."


def describe(value: object, *, short: bool = False) -> str:
    """A value in a few words: its type, and its shape and dtype or its text."""
    if isinstance(value, np.ndarray):
        return (
            f"{value.size} numbers" if short else f"an array of shape {value.shape}, {value.dtype}"
        )
    if isinstance(value, np.generic):
        return str(value.item()) if short else f"the {value.dtype} `{value.item()}`"
    if isinstance(value, (tuple, list)) and not short:
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, (bool, int, float, str, tuple, list, dict)):
        text = ADDRESS.sub("0x…", repr(value))
        text = text if len(text) <= 90 else text[:89] + "…"
        return text if short else f"the {type(value).__name__} `{text}`"
    return f"a value of type `{type(value).__name__}`"


def whole_number(value: object, what: str) -> int:
    """A count, or the diagnosis of what stands in its place."""
    value = value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return int(value)
    text = f"Expected {what} as a whole number (int), received {describe(value)}."
    if isinstance(value, (float, np.floating)):
        raise Diagnosis(
            "float", f"{text} A count has no decimal places: divide with `//`, not with `/`."
        )
    raise Diagnosis("type", text)


def real_number(value: object, what: str) -> float:
    """A single number, or the diagnosis of what stands in its place; NaN and infinity pass."""
    value = value.reshape(())[()] if isinstance(value, np.ndarray) and value.size == 1 else value
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        return float(value)
    raise Diagnosis("type", f"Expected {what} as one number (float), received {describe(value)}.")


def array_of(value: object, what: str, shape: tuple[int, ...]) -> np.ndarray:
    """An array of numbers of this shape, or the diagnosis of what stands in its place."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        raise Diagnosis(
            "type", f"Expected {what} as a NumPy array of numbers, received {describe(value)}."
        )
    if value.shape != shape:
        raise Diagnosis("shape", f"Expected {what} of shape {shape}, received {describe(value)}.")
    if not np.isfinite(value).all():
        raise Diagnosis(
            "not_finite",
            f"Expected {what} as ordinary numbers, received some that are infinite or not a number (NaN).",
        )
    return value


def near(a: Any, b: Any) -> bool:
    """Whether two arrays have one shape and nearly the same numbers."""
    return np.shape(a) == np.shape(b) and bool(np.allclose(a, b, rtol=1e-3, atol=1e-5))
