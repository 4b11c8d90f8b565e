"""An exercise as data, and the three things a check can say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Literal

Status = Literal["not tried", "right", "wrong"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a check found.

    Attributes
    ----------
    status
        "not tried", "right" or "wrong".
    kind
        A short name of the diagnosis, empty when right.
    text
        The diagnosis in words.
    """

    status: Status
    kind: str = ""
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """One exercise: how it is judged, how it is helped, and what tests need to prove it.

    Attributes
    ----------
    id
        Number of the notebook, a dot, number in the notebook: "03.2".
    title
        A line; a question reads best.
    minutes
        Time a learner needs, about.
    name
        The function that the learner writes.
    why_right
        Shown with *Right* and under the solution: what there is to learn.
    judge
        Takes what the learner passed to ``check`` and never raises.
    hints
        From a nudge to nearly the answer; two or more.
    stub_source, solution_source
        Python that defines `name`; the stub is what stands in the notebook.
    wrong_examples
        For each diagnosis by kind, the body of a wrong function that must receive it.
    """

    id: str
    title: str
    minutes: int
    name: str
    why_right: str
    judge: Callable[[object], Verdict]
    hints: tuple[str, ...]
    stub_source: str
    solution_source: str
    wrong_examples: Mapping[str, str]


class Untried(Exception):
    """Ends a judgement: there is no answer yet."""


class Diagnosis(Exception):
    """Ends a judgement: the answer is wrong, and this is what is wrong with it."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text


def judge(examine: Callable[[object], None]) -> Callable[[object], Verdict]:
    """Turn a function that raises `Untried` or `Diagnosis`, or returns when all is right, into a judge.

    Anything else that it raises comes from an answer so unusual that it could not
    even be looked at, and becomes a diagnosis too.
    """

    @wraps(examine)
    def judged(value: object) -> Verdict:
        try:
            examine(value)
        except Untried as nothing:
            return Verdict(status="not tried", kind="untried", text=str(nothing))
        except Diagnosis as diagnosis:
            return Verdict(status="wrong", kind=diagnosis.kind, text=diagnosis.text)
        except Exception as error:  # noqa: BLE001 - a learner's object may raise anything, anywhere it is touched
            text = f"Your answer, of type `{type(value).__name__}`, could not be examined: `{type(error).__name__}` came up on the way. "
            return Verdict(status="wrong", kind="unreadable", text=text + "Return plain numbers, strings or NumPy arrays.")
        return Verdict(status="right")

    return judged
