"""How results are shown: pictures that carry their words, and tables."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image


@dataclass(frozen=True)
class Picture:
    """A drawn figure with its alternative text; a notebook shows it as a cell's last value."""

    png: bytes
    alt: str

    def __repr__(self) -> str:
        return f"[figure: {self.alt}]"

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        text = {"image/png": base64.b64encode(self.png).decode(), "text/plain": repr(self)}
        return text, {"image/png": {"alt": self.alt}}


@dataclass(frozen=True)
class Table:
    """Rows under a header; text in a shell, a table in a notebook. Numbers are formatted by the caller."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __repr__(self) -> str:
        widths = [
            max(len(str(row[i])) for row in [self.header, *self.rows])
            for i in range(len(self.header))
        ]
        return "\n".join(
            "  ".join(
                str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)
            ).rstrip()
            for row in [self.header, *self.rows]
        )

    def _repr_html_(self) -> str:
        head = "".join(
            f"<th scope='col' style='text-align:left'>{html.escape(str(c))}</th>"
            for c in self.header
        )
        body = "".join(
            "<tr>"
            + "".join(f"<td style='text-align:left'>{html.escape(str(c))}</td>" for c in row)
            + "</tr>"
            for row in self.rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def enlarged(image: Image.Image, alt: str, *, times: int = 3) -> Picture:
    """A small picture, each pixel ``times`` as large on a side, with its alternative text."""
    buffer = io.BytesIO()
    image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST).save(
        buffer, format="png"
    )
    return Picture(buffer.getvalue(), alt)
