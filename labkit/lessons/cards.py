"""What a lesson shows: objects that read well as text, in a live notebook and on a page without a kernel.

They use plain HTML and inline styles that carry no meaning of their own: pages that show notebooks
remove scripts, style sheets, SVG elements and widgets. Marks are words and signs, never colour alone.
"""

from __future__ import annotations

import html
import re
import textwrap
from dataclasses import dataclass
from typing import Any

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
            parts += [fold.summary, *(wrap(paragraph, indent="    ") for paragraph in paragraphs(fold.text))]
            if fold.code:
                parts.append(textwrap.indent(fold.code.strip("\n"), "    "))
        return "\n\n".join(parts)

    def _repr_html_(self) -> str:
        body = f"<p><strong>{inline(self.title)}</strong></p>" + markup(self.text)
        for fold in self.folds:
            code = f"<pre><code>{html.escape(fold.code.strip())}</code></pre>" if fold.code else ""
            opened = ' open="open"' if fold.open else ""
            body += f"<details{opened}><summary>{inline(fold.summary)}</summary>{code}{markup(fold.text)}</details>"
        return f'<div style="border-left: 4px solid {COLOURS[self.tone]}; padding: 2px 14px; margin: 4px 0">{body}</div>'


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a text, each on one line."""
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]


def entries(text: str) -> list[tuple[str, str]]:
    """The entries of a text: a line that is not indented, and the indented lines below it as one."""
    parts = (part.partition("\n") for part in re.split(r"\n(?=\S)", text.strip("\n")))
    return [(head, " ".join(rest.split())) for head, _, rest in parts]


def wrap(paragraph: str, *, indent: str = "") -> str:
    """A paragraph in lines that fit an output cell."""
    options: dict[str, Any] = {"initial_indent": indent, "subsequent_indent": indent, "break_long_words": False, "break_on_hyphens": False}
    return textwrap.fill(paragraph, TEXT_WIDTH, **options)


def inline(text: str) -> str:
    """HTML of one line of text: escaped, with `code` in backticks."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))


def markup(text: str) -> str:
    """HTML of a text of several paragraphs."""
    return "".join(f"<p>{inline(paragraph)}</p>" for paragraph in paragraphs(text))
