"""What a lesson shows, cards and quizzes, reads well as text, in a live notebook and on a page
without a kernel.

The folder `pages` has the texts and the HTML: plain, with inline styles that mean nothing by
themselves, for pages that show notebooks remove scripts, style sheets, SVG and widgets.
"""

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from jinja2 import Environment, FileSystemLoader, select_autoescape
from markupsafe import Markup, escape

from labkit.base.data import frozen
from labkit.base.show import in_notebook
from labkit.lessons import store


class Shown:
    """Base of what a cell shows: two files of `pages` give its text and its HTML."""

    page: ClassVar[str]

    def __repr__(self) -> str:
        return self._drawn("txt")

    def _repr_html_(self) -> str:
        return self._drawn("html")

    def _drawn(self, kind: str) -> str:
        return PAGES.get_template(f"{self.page}.{kind}").render(it=self).strip("\n")

    def _repr_mimebundle_(self, **_options: object) -> dict[str, Any]:
        return {"text/plain": repr(self), "text/html": self._repr_html_()}


@frozen
class Fold:
    """A part that opens on a click: a line, text, and code as it should be typed."""

    summary: str
    text: str = ""
    code: str = ""
    open: bool = False


@dataclass(frozen=True, kw_only=True, repr=False)
class Card(Shown):
    """A message: a title, paragraphs with `code` in backticks, folds.

    Its tone ("right", "wrong", else quiet) colours the bar beside it.
    """

    page: ClassVar = "card"
    title: str
    text: str = ""
    folds: tuple[Fold, ...] = ()
    tone: str = ""


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a text, each on one line."""
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]


def inline(text: str) -> Markup:
    """HTML of one line of text: escaped, with `code` in backticks."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped


PAGES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("pages"), encoding="utf-8"),
    autoescape=select_autoescape(["html", "svg"]),
    trim_blocks=True,
    lstrip_blocks=True,
)
PAGES.filters.update(inline=inline, paragraphs=paragraphs)


@frozen
class Option:
    """One answer to choose, whether it is right, and why."""

    text: str
    why: str
    right: bool = False

    @property
    def verdict(self) -> str:
        """Right or not, and why."""
        return f"{'Right' if self.right else 'Not this one'}. {self.why}"


@frozen
class Question:
    """A question with one right option."""

    text: str
    options: list[Option] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, repr=False)
class Quiz(Shown):
    """The questions of one notebook; `id` is its number.

    A live notebook shows a widget, all else questions with folded answers.
    """

    page: ClassVar = "quiz"
    id: str
    title: str
    questions: tuple[Question, ...]

    def _repr_mimebundle_(self, **options: object) -> dict[str, Any]:
        bundle = super()._repr_mimebundle_(**options)
        if in_notebook():
            bundle = make_widget(self)._repr_mimebundle_()[0] | bundle
        return bundle


def read_quiz(number: str, title: str, text: str) -> Quiz:
    """A quiz from a text.

    Questions, below each its options, "+" the right one and "-" the others, with the why
    indented below.
    """
    questions: list[Question] = []
    for head, below in entries(text):
        sign, _, words = head.partition(" ")
        if sign in ("+", "-"):
            questions[-1].options.append(Option(text=words, why=below, right=sign == "+"))
        else:
            questions.append(Question(text=f"{head} {below}".strip()))
    return Quiz(id=number, title=title, questions=tuple(questions))


def entries(text: str) -> list[tuple[str, str]]:
    """The entries of a text: a line that is not indented, and the indented lines below as one."""
    parts = (part.partition("\n") for part in re.split(r"\n(?=\S)", text.strip("\n")))
    return [(head, " ".join(below.split())) for head, _, below in parts]


def make_widget(quiz: Quiz) -> Any:
    """A widget that records the quiz as done once every question was answered right."""
    import anywidget
    import traitlets

    def page(fields: list[tuple[str, Any]]) -> dict[str, Any]:
        return {name: inline(value) if isinstance(value, str) else value for name, value in fields}

    class QuizWidget(anywidget.AnyWidget):
        """Questions as radio groups; `solved` says which were ever answered right."""

        _esm = Path(__file__).with_name("quiz.js")
        content = traitlets.Dict(asdict(quiz, dict_factory=page)).tag(sync=True)
        solved = traitlets.List([False] * len(quiz.questions)).tag(sync=True)
        message = traitlets.Unicode().tag(sync=True)

        @traitlets.observe("solved")
        def _record(self, change: Any) -> None:
            if all(change["new"]):
                done = f"All {len(self.solved)} questions answered right: this quiz is done."
                self.message = f"{done} {store.record(quiz.id).note}".strip()

    before = "You have finished this quiz before; it stays counted."
    return QuizWidget(message=before if quiz.id in store.load().done else "")
