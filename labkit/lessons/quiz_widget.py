"""The quiz as a widget. Imports anywidget, so it is imported only where a kernel runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import traitlets

from labkit.lessons import store
from labkit.lessons.cards import inline
from labkit.lessons.quizzes import Quiz


class QuizWidget(anywidget.AnyWidget):
    """Questions as radio groups; `chosen` holds what was checked last, `solved` what was ever right."""

    _esm = Path(__file__).with_name("quiz.js")
    content = traitlets.Dict().tag(sync=True)
    chosen: traitlets.List[Any] = traitlets.List().tag(sync=True)
    solved: traitlets.List[Any] = traitlets.List().tag(sync=True)
    message = traitlets.Unicode().tag(sync=True)


def make_widget(quiz: Quiz) -> QuizWidget:
    """A widget that records the quiz as done once every question was answered right."""
    widget = QuizWidget(content=to_json(quiz), chosen=[None] * len(quiz.questions), solved=[False] * len(quiz.questions))
    if quiz.id in store.load().quizzes:
        widget.message = "You have finished this quiz before; it stays counted."

    def judge(change: Any) -> None:
        right = [
            isinstance(choice, int) and 0 <= choice < len(question.options) and question.options[choice].right
            for choice, question in zip(change["new"], quiz.questions, strict=False)
        ]
        widget.solved = [before or now for before, now in zip(widget.solved, right, strict=False)]
        if all(widget.solved):
            note = store.record(quizzes=(quiz.id,)).note
            widget.message = f"All {len(quiz.questions)} questions answered right: this quiz is done. {note}".strip()

    widget.observe(judge, names="chosen")
    return widget


def to_json(quiz: Quiz) -> dict[str, Any]:
    """The quiz as the browser needs it: every text already HTML."""
    questions = [
        {
            "text": inline(question.text),
            "options": [{"text": inline(option.text), "why": inline(option.why), "right": option.right} for option in question.options],
        }
        for question in quiz.questions
    ]
    return {"title": inline(quiz.title), "questions": questions}
