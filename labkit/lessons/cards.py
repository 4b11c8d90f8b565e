"""What a lesson shows reads well as text, in a live notebook and on a page without a kernel.

The folder `pages` has the HTML: plain, with inline styles that mean nothing by themselves, for
pages that show notebooks remove scripts, style sheets, SVG and widgets.
"""

import re
import textwrap
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from markupsafe import Markup, escape

TEXT_WIDTH = 96


class Shown:
    """Base of what a cell shows: ``str()`` gives its text, and a file of `pages` its HTML."""

    page: ClassVar[str]

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        html: str = pages().get_template(self.page).render(it=self)
        return html

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
    """A message: a title, paragraphs with `code` in backticks, folds.

    Its tone ("right", "wrong", else quiet) colours the bar beside it.
    """

    page: ClassVar = "card.html"
    title: str
    text: str = ""
    folds: tuple[Fold, ...] = ()
    tone: str = ""

    def __str__(self) -> str:
        parts = [self.title, *map(wrap, paragraphs(self.text))]
        for fold in self.folds:
            words = [wrap(part, indent="    ") for part in paragraphs(fold.text)]
            code = textwrap.indent(fold.code.strip("\n"), "    ")
            parts += [fold.summary, *words, *filter(None, [code])]
        return "\n\n".join(parts)


@cache
def pages() -> Any:
    """The HTML of all that lessons show, as jinja2 templates."""
    from jinja2 import Environment, FileSystemLoader

    templates = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("pages"), encoding="utf-8"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(inline=inline, paragraphs=paragraphs)
    return templates


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a text, each on one line."""
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]


def wrap(text: str, *, indent: str = "") -> str:
    """A text in lines that fit an output cell."""
    return textwrap.fill(
        text,
        TEXT_WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def inline(text: str) -> Markup:
    """HTML of one line of text: escaped, with `code` in backticks."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped
