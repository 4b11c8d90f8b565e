"""An exercise as data, and how it is judged: every failure becomes a diagnosis."""

import copy
import dis
import inspect
import operator
import signal
import textwrap
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from labkit.base.data import frozen
from labkit.lessons.cards import entries
from labkit.lessons.diagnosis import ADDRESS, Diagnosis, Untried, Verdict, describe, explain

EMPTY_BODY = {"RESUME", "NOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST"}
LIMIT_S = 20.0
Mistakes = Mapping[str, tuple[str, str]]
"""By kind: a function's body that makes it, and what to say of it."""


def read_mistakes(text: str) -> Mistakes:
    """Mistakes from a text: lines ``kind: body``, each with its words indented below."""
    mistakes = {}
    for head, words in entries(text):
        kind, _, body = head.partition(": ")
        mistakes[kind] = body, words
    return mistakes


class OutOfTime(BaseException):
    """A call took too long. Not an Exception: a learner's ``except Exception`` must not keep it."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `OutOfTime` in the block when it takes longer; only in the main thread of a Unix."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return

    def ring(*_: object) -> None:
        raise OutOfTime

    before, begun = signal.signal(signal.SIGALRM, ring), time.perf_counter()
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds, 1)  # again, if that was swallowed
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before or signal.SIG_DFL)
        if left:  # somebody else's alarm
            signal.setitimer(signal.ITIMER_REAL, max(0.001, left - time.perf_counter() + begun))


class Attempt:
    """A learner's function, safe to call.

    Raises
    ------
    Untried
        For a blank (``None``, ``...``).
    Diagnosis
        If it is no function.
    """

    def __init__(self, value: object, usage: str, mistakes: Mistakes | None = None) -> None:
        self.usage, self.name, self.mistakes = usage, usage.partition("(")[0], mistakes or {}
        self.answered = False
        self.warnings: tuple[str, ...] = ()  # what NumPy and others said during the latest call
        if value is None or value is ...:
            raise Untried("untried")
        if not callable(value):
            raise Diagnosis(
                "not_a_function",
                f"Expected the function itself, received {describe(value)}. "
                f"Pass its name alone, without brackets: `{self.name}`.",
            )
        self.function = value

    def __call__(self, *arguments: Any) -> Any:
        """The learner's answer for copies of these arguments.

        Raises
        ------
        Untried
            While there is none.
        Diagnosis
            If the call fails.
        """
        self._check_parameters(arguments)
        call = f"{self.name}({', '.join(describe(argument, short=True) for argument in arguments)})"
        begun = time.perf_counter()
        try:
            with (
                time_limit(LIMIT_S),
                warnings.catch_warnings(record=True) as caught,
                np.errstate(all="warn"),
            ):
                warnings.simplefilter("always")
                result = self.function(*copy.deepcopy(arguments))
        except (KeyboardInterrupt, OutOfTime) as error:
            stopped = "You stopped it: " if isinstance(error, KeyboardInterrupt) else ""
            raise Diagnosis(
                "endless",
                f"{stopped}`{call}` had not returned after {time.perf_counter() - begun:.0f} s. "
                "A loop ends when its condition becomes false, or at a `break` or `return`: "
                "does every round bring it nearer to that?",
            ) from None
        except BaseException as error:  # noqa: BLE001 - a stray exit() must not end the kernel either
            if isinstance(error, NotImplementedError) and not self.answered:
                raise Untried("untried") from None
            raise Diagnosis("raised", f"`{call}` stopped with {explain(error)}") from None
        if result is None or result is ...:
            raise self._nothing(call)
        self.answered = True
        self.warnings = tuple(str(warning.message) for warning in caught)
        return result

    def _check_parameters(self, arguments: tuple[Any, ...]) -> None:
        with suppress(ValueError):  # some built-in functions do not tell theirs
            signature = inspect.signature(self.function)
            try:
                signature.bind(*arguments)
            except TypeError:
                raise Diagnosis(
                    "parameters",
                    f"Expected a function that can be called as `{self.usage}`, "
                    f"received one with the parameters `{ADDRESS.sub('0x…', str(signature))}`.",
                ) from None

    def _nothing(self, call: str) -> Verdict:
        if self.answered:
            return Diagnosis(
                "nothing_returned",
                f"`{call}` returned nothing, though other calls did. "
                "Does every branch of it end in a `return`?",
            )
        forgotten = (
            "Your function has code in it but gives nothing back. "
            "If you think it is finished, a `return` is missing."
        )
        return Untried("untried", "" if is_empty(self.function) else forgotten)

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
        """The cases (tuples of arguments) with a wrong answer, each with answer and expected one.

        Raises
        ------
        Diagnosis
            If a usual mistake explains all answers: one whose text has no {places} for values.
        """
        rows = zip(cases, answers, expected, strict=True)
        missed = [row for row in rows if not same(row[1], row[2])]
        for kind, (body, text) in self.mistakes.items() if missed else ():
            if text and "{" not in text:
                mistaken = self._function(body)
                if all(map(same, (mistaken(*case) for case in cases), answers)):
                    raise self.wrong(kind)
        return missed

    def _function(self, body: str) -> Any:
        namespace: dict[str, Any] = {"np": np}
        exec(f"def {self.usage}:\n{textwrap.indent(body, '    ')}", namespace)  # noqa: S102 - the lesson's own text
        return namespace[self.name]


@frozen
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
    # For each diagnosis, a body that must receive it; no text for those that all exercises share.
    mistakes: Mistakes

    @property
    def heading(self) -> str:
        """Number and title."""
        return f"{self.id} {self.title}"

    @property
    def name(self) -> str:
        """The function's name."""
        return self.usage.partition("(")[0]

    @property
    def stub_source(self) -> str:
        """What stands in the notebook: the solution's imports, and a function without a body."""
        imports, _, _ = self.solution_source.partition("def ")
        return f'{imports}def {self.usage}:\n    """{self.task}"""\n    ...\n'

    def judge(self, value: object) -> Verdict:
        """Judge what was passed to ``check``; never raises."""
        try:
            self.examine(Attempt(value, self.usage, self.mistakes))
        except Verdict as verdict:
            return verdict
        except KeyboardInterrupt:  # while something of ours runs
            raise
        except BaseException as error:  # noqa: BLE001 - a learner's object may raise wherever it is touched
            return Diagnosis(
                "unreadable",
                f"Your answer, of type `{type(value).__name__}`, could not be examined: "
                f"`{type(error).__name__}` came up on the way. "
                "Return plain numbers, strings or NumPy arrays.",
            )
        return Verdict()


def is_empty(function: object) -> bool:
    """Whether a function's body is only ``...``, ``pass`` or a docstring."""
    code = getattr(function, "__code__", None)
    return code is not None and EMPTY_BODY.issuperset(i.opname for i in dis.get_instructions(code))
