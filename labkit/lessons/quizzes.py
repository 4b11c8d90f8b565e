"""Multiple-choice questions whose every option is explained: as a widget, and as text where no kernel runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.lessons import store
from labkit.lessons.cards import Shown, entries, inline, wrap

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

    def lettered(self) -> list[str]:
        """The options with their letters."""
        return [f"{letter}) {option.text}" for letter, option in zip(LETTERS, self.options, strict=False)]

    def explained(self) -> list[str]:
        """One line for each option: its letter, right or not, and why."""
        options = zip(LETTERS, self.options, strict=False)
        return [f"{letter}) {'Right' if option.right else 'Not this one'}. {option.why}" for letter, option in options]


@dataclass(frozen=True, kw_only=True, repr=False)
class Quiz(Shown):
    """The questions of one notebook; `id` is its number. A live notebook shows a widget, all else questions with folded answers."""

    id: str
    title: str
    questions: tuple[Question, ...]

    def __str__(self) -> str:
        blocks, answers = [self.title], ["Answers, explained"]
        for number, question in enumerate(self.questions, 1):
            asked = [f"{number}. {question.text}", *(f"   {line}" for line in question.lettered())]
            blocks.append("\n".join(_plain(line) for line in asked))
            answers.append("\n".join(_plain(f"   {number}{line}") for line in question.explained()))
        return "\n\n".join(blocks + answers)

    def _repr_html_(self) -> str:
        body = f"<p><strong>{inline(self.title)}</strong></p>"
        for number, question in enumerate(self.questions, 1):
            # Letters are written out: pages that show notebooks restyle lists, and the answers refer to the letters.
            options = "<br/>".join(map(inline, question.lettered()))
            answers = "".join(f"<p>{inline(line)}</p>" for line in question.explained())
            body += f"<p><strong>{number}.</strong> {inline(question.text)}</p><p>{options}</p>"
            body += f'<details style="margin-bottom: 1em"><summary>Answers to question {number}, explained</summary>{answers}</details>'
        return f"<div>{body}</div>"

    def _repr_mimebundle_(self, **_options: object) -> dict[str, Any]:
        bundle = super()._repr_mimebundle_()
        try:
            from IPython import get_ipython

            if getattr(get_ipython(), "kernel", None) is not None:  # a terminal does not count
                view = {"version_major": 2, "version_minor": 0, "model_id": make_widget(self).model_id}
                bundle["application/vnd.jupyter.widget-view+json"] = view
        except ImportError:  # installed without the notebook group: the folded answers serve
            pass
        return bundle


def read_quiz(number: str, title: str, text: str) -> Quiz:
    """A quiz from a text: questions, below each its options, "+" the right one and "-" the others, with the why indented below."""
    questions: list[tuple[str, list[Option]]] = []
    for head, rest in entries(text):
        if head.startswith(("+ ", "- ")):
            questions[-1][1].append(Option(text=head[2:], why=rest, right=head[0] == "+"))
        else:
            questions.append((f"{head} {rest}".strip(), []))
    return Quiz(id=number, title=title, questions=tuple(Question(text=asked, options=tuple(options)) for asked, options in questions))


def make_widget(quiz: Quiz) -> Any:
    """A widget that records the quiz as done once every question was answered right."""
    import anywidget  # only where a kernel runs
    import traitlets

    def options(question: Question) -> list[dict[str, Any]]:
        return [{"text": inline(option.text), "why": inline(option.why), "right": option.right} for option in question.options]

    page = {"title": inline(quiz.title), "questions": [{"text": inline(each.text), "options": options(each)} for each in quiz.questions]}

    class QuizWidget(anywidget.AnyWidget):
        """Questions as radio groups; `chosen` holds what was checked last, `solved` what was ever right."""

        _esm = Path(__file__).with_name("quiz.js")
        content = traitlets.Dict(page).tag(sync=True)
        chosen: traitlets.List[Any] = traitlets.List([None] * len(quiz.questions)).tag(sync=True)
        solved: traitlets.List[Any] = traitlets.List([False] * len(quiz.questions)).tag(sync=True)
        message = traitlets.Unicode().tag(sync=True)

        @traitlets.observe("chosen")
        def _judge(self, change: Any) -> None:
            self.solved = [
                before or (isinstance(choice, int) and 0 <= choice < len(question.options) and question.options[choice].right)
                for before, choice, question in zip(self.solved, change["new"], quiz.questions, strict=False)
            ]
            if all(self.solved):
                note = store.record(quizzes=[quiz.id]).note
                self.message = f"All {len(self.solved)} questions answered right: this quiz is done. {note}".strip()

    finished = quiz.id in store.load().quizzes
    return QuizWidget(message="You have finished this quiz before; it stays counted." if finished else "")


def _plain(line: str) -> str:
    return wrap(line.strip().replace("`", ""), indent=line[: len(line) - len(line.lstrip())])
