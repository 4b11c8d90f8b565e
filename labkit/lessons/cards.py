"""What a lesson shows: cards and quizzes that read well as text, in a live notebook and on a page without a kernel.

Plain HTML, inline styles without meaning of their own: pages that show notebooks remove scripts, style sheets, SVG and widgets.
"""

from __future__ import annotations

import html
import re
import sys
import textwrap
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from labkit.lessons import store

TEXT_WIDTH = 96
COLOURS = {"right": "#21918c", "wrong": "#b5367a", "quiet": "#7a7a7a"}


class Shown:
    """Base of what a cell shows: ``str()`` gives its text, `_repr_html_` its page."""

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        raise NotImplementedError

    def _repr_mimebundle_(self, **_options: object) -> dict[str, Any]:
        return {"text/plain": str(self), "text/html": self._repr_html_()}


@dataclass(frozen=True, kw_only=True)
class Fold:
    """A part that opens on a click: a line, text, and code as it should be typed."""

    summary: str
    text: str = ""
    code: str = ""
    open: bool = False


@dataclass(frozen=True, kw_only=True, repr=False)
class Card(Shown):
    """A message: a title, paragraphs with `code` in backticks, folds; its tone ("right", "wrong", "quiet") colours the bar beside it."""

    title: str
    text: str = ""
    folds: tuple[Fold, ...] = ()
    tone: str = "quiet"

    def __str__(self) -> str:
        parts = [self.title, *(wrap(paragraph) for paragraph in paragraphs(self.text))]
        for fold in self.folds:
            parts += [
                fold.summary,
                *(wrap(paragraph, indent="    ") for paragraph in paragraphs(fold.text)),
            ]
            parts += [textwrap.indent(fold.code.strip("\n"), "    ")] * bool(fold.code)
        return "\n\n".join(parts)

    def _repr_html_(self) -> str:
        body = f"<p><strong>{inline(self.title)}</strong></p>" + markup(self.text)
        for fold in self.folds:
            code = f"<pre><code>{html.escape(fold.code.strip())}</code></pre>" if fold.code else ""
            opened = ' open="open"' if fold.open else ""
            body += f"<details{opened}><summary>{inline(fold.summary)}</summary>{code}{markup(fold.text)}</details>"
        return f'<div style="border-left: 4px solid {COLOURS[self.tone]}; padding: 2px 14px; margin: 4px 0">{body}</div>'


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

    def lines(self) -> tuple[list[str], list[str]]:
        """The options with their letters; and for each its letter, right or not, and why."""
        lettered = list(zip("abcdef", self.options, strict=False))
        whys = [
            f"{letter}) {'Right' if option.right else 'Not this one'}. {option.why}"
            for letter, option in lettered
        ]
        return [f"{letter}) {option.text}" for letter, option in lettered], whys


@dataclass(frozen=True, kw_only=True, repr=False)
class Quiz(Shown):
    """The questions of one notebook; `id` is its number. A live notebook shows a widget, all else questions with folded answers."""

    id: str
    title: str
    questions: tuple[Question, ...]

    def __str__(self) -> str:
        blocks, answers = [self.title], ["Answers, explained"]
        for number, question in enumerate(self.questions, 1):
            options, whys = question.lines()
            blocks.append(
                wrap(f"{number}. {question.text}", code="")
                + "\n"
                + wrap(*options, indent="   ", code="")
            )
            answers.append(wrap(*(f"{number}{why}" for why in whys), indent="   ", code=""))
        return "\n\n".join(blocks + answers)

    def _repr_html_(self) -> str:
        body = f"<p><strong>{inline(self.title)}</strong></p>"
        for number, question in enumerate(self.questions, 1):
            # Letters are written out: pages that show notebooks restyle lists, and the answers refer to the letters.
            options, whys = question.lines()
            body += f"<p><strong>{number}.</strong> {inline(question.text)}</p><p>{'<br/>'.join(map(inline, options))}</p>"
            answers = f"<summary>Answers to question {number}, explained</summary>" + markup(
                "\n\n".join(whys)
            )
            body += f'<details style="margin-bottom: 1em">{answers}</details>'
        return f"<div>{body}</div>"

    def _repr_mimebundle_(self, **_options: object) -> dict[str, Any]:
        bundle = super()._repr_mimebundle_()
        with suppress(
            ImportError
        ):  # installed without the notebook group: the folded answers serve
            if "IPython" in sys.modules and getattr(
                sys.modules["IPython"].get_ipython(), "kernel", None
            ):  # a terminal does not count
                view = {
                    "version_major": 2,
                    "version_minor": 0,
                    "model_id": make_widget(self).model_id,
                }
                bundle["application/vnd.jupyter.widget-view+json"] = view
        return bundle


def read_quiz(number: str, title: str, text: str) -> Quiz:
    """A quiz from a text: questions, below each its options, "+" the right one and "-" the others, with the why indented below."""
    questions: list[tuple[str, list[Option]]] = []
    for head, rest in entries(text):
        if head.startswith(("+ ", "- ")):
            questions[-1][1].append(Option(text=head[2:], why=rest, right=head[0] == "+"))
        else:
            questions.append((f"{head} {rest}".strip(), []))
    return Quiz(
        id=number,
        title=title,
        questions=tuple(
            Question(text=asked, options=tuple(options)) for asked, options in questions
        ),
    )


def make_widget(quiz: Quiz) -> Any:
    """A widget that records the quiz as done once every question was answered right."""
    import anywidget
    import traitlets

    def page(fields: list[tuple[str, Any]]) -> dict[str, Any]:
        return {name: inline(value) if isinstance(value, str) else value for name, value in fields}

    class QuizWidget(anywidget.AnyWidget):
        """Questions as radio groups; `chosen` holds what was checked last, `solved` what was ever right."""

        _esm = Path(__file__).with_name("quiz.js")
        content = traitlets.Dict(asdict(quiz, dict_factory=page)).tag(sync=True)
        chosen: traitlets.List[Any] = traitlets.List([None] * len(quiz.questions)).tag(sync=True)
        solved: traitlets.List[Any] = traitlets.List([False] * len(quiz.questions)).tag(sync=True)
        message = traitlets.Unicode().tag(sync=True)

        @traitlets.observe("chosen")
        def _judge(self, change: Any) -> None:
            self.solved = [
                before
                or (
                    isinstance(choice, int)
                    and 0 <= choice < len(question.options)
                    and question.options[choice].right
                )
                for before, choice, question in zip(
                    self.solved, change["new"], quiz.questions, strict=False
                )
            ]
            if all(self.solved):
                note = store.record(quizzes=[quiz.id]).note
                self.message = f"All {len(self.solved)} questions answered right: this quiz is done. {note}".strip()

    return QuizWidget(
        message="You have finished this quiz before; it stays counted."
        if quiz.id in store.load().quizzes
        else ""
    )


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a text, each on one line."""
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]


def entries(text: str) -> list[tuple[str, str]]:
    """The entries of a text: a line that is not indented, and the indented lines below it as one."""
    parts = (part.partition("\n") for part in re.split(r"\n(?=\S)", text.strip("\n")))
    return [(head, " ".join(rest.split())) for head, _, rest in parts]


def wrap(*texts: str, indent: str = "", code: str = "`") -> str:
    """Texts in lines that fit an output cell; `code` stands where code begins and ends."""
    wrapper = textwrap.TextWrapper(
        TEXT_WIDTH, indent, indent, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(wrapper.fill(text.replace("`", code)) for text in texts)


def inline(text: str) -> str:
    """HTML of one line of text: escaped, with `code` in backticks."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))


def markup(text: str) -> str:
    """HTML of a text of several paragraphs."""
    return "".join(f"<p>{inline(paragraph)}</p>" for paragraph in paragraphs(text))
