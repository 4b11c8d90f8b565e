"""What a lesson shows reads well as text, in a live notebook and on a page without a kernel.

The folder `pages` has the texts and the HTML: plain, with inline styles that mean nothing by
themselves, for pages that show notebooks remove scripts, style sheets, SVG and widgets.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from jinja2 import Environment, FileSystemLoader, select_autoescape
from markupsafe import Markup, escape

from labkit.base.data import frozen


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
