"""Multiple-choice questions whose every option is explained: as a widget, and as text where no kernel runs."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import Any

from labkit.lessons.cards import inline, wrap

LETTERS = "abcdef"


@dataclass(frozen=True, kw_only=True)
class Option:
    """One answer to choose, whether it is right, and why."""

    text: str
    why: str
    right: bool = False


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question with one right option."""

    text: str
    options: tuple[Option, ...]


@dataclass(frozen=True, kw_only=True)
class Quiz:
    """The questions of one notebook; `id` is its number."""

    id: str
    title: str
    questions: tuple[Question, ...]


@dataclass(kw_only=True, repr=False)
class QuizView:
    """What ``lessons.quiz`` shows: in a live notebook a widget, everywhere else questions with folded answers."""

    quiz: Quiz
    widget: Any = field(default=None, init=False)

    def __str__(self) -> str:
        blocks = [self.quiz.title]
        for number, question in enumerate(self.quiz.questions, 1):
            options = [
                wrap(f"{letter}) {_plain(option.text)}", indent="   ") for letter, option in zip(LETTERS, question.options, strict=False)
            ]
            blocks.append("\n".join([wrap(f"{number}. {_plain(question.text)}"), *options]))
        blocks.append("Answers, explained")
        for number, question in enumerate(self.quiz.questions, 1):
            blocks.append("\n".join(wrap(f"{number}{line}", indent="   ") for line in map(_plain, explained(question))))
        return "\n\n".join(blocks)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        body = f"<p><strong>{inline(self.quiz.title)}</strong></p>"
        for number, question in enumerate(self.quiz.questions, 1):
            options = "".join(f"<li>{inline(option.text)}</li>" for option in question.options)
            answers = "".join(f"<p>{inline(line)}</p>" for line in explained(question))
            body += f'<p><strong>{number}.</strong> {inline(question.text)}</p><ol type="a">{options}</ol>'
            body += f"<details><summary>{html.escape(f'Answers to question {number}, explained')}</summary>{answers}</details>"
        return f"<div>{body}</div>"

    def _repr_mimebundle_(self, **_options: object) -> dict[str, Any]:
        bundle: dict[str, Any] = {"text/plain": str(self), "text/html": self._repr_html_()}
        if kernel_runs():
            try:
                from labkit.lessons.quiz_widget import make_widget
            except ImportError:  # installed without the notebook group: the folded answers serve
                return bundle
            self.widget = make_widget(self.quiz)
            bundle["application/vnd.jupyter.widget-view+json"] = {"version_major": 2, "version_minor": 0, "model_id": self.widget.model_id}
        return bundle


def explained(question: Question) -> list[str]:
    """One line for each option: its letter, right or not, and why."""
    options = zip(LETTERS, question.options, strict=False)
    return [f"{letter}) {'Right' if option.right else 'Not this one'}. {option.why}" for letter, option in options]


def kernel_runs() -> bool:
    """Whether a notebook's kernel shows what we return (a terminal does not count)."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return getattr(get_ipython(), "kernel", None) is not None


def _plain(text: str) -> str:
    return text.replace("`", "")
