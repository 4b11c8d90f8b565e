"""How results are shown: pictures that carry their words, and tables."""

import base64
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image


def data_url(data: bytes, kind: str = "png") -> str:
    """An image's bytes as a URL that holds them."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def in_notebook() -> bool:
    """Whether a notebook's kernel runs this; IPython in a terminal does not count."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


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


TABLE = """\
<table>
{%- if caption %}<caption>{{ caption }}</caption>{% endif -%}
<thead><tr>
{%- for cell in header %}<th scope="col" style="text-align:left">{{ cell }}</th>{% endfor -%}
</tr></thead>
<tbody>
{%- for row in rows %}<tr>
{%- for cell in row %}<td style="text-align:left">{{ cell }}</td>{% endfor -%}
</tr>{% endfor -%}
</tbody>
</table>"""


@dataclass(frozen=True)
class Table:
    """Rows under a header; text in a shell, a table in a notebook or on a page.

    Numbers are formatted by the caller.
    """

    header: Sequence[object]
    rows: Sequence[Sequence[object]]

    def __repr__(self) -> str:
        lines = [[str(cell) for cell in row] for row in (self.header, *self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)

    def to_html(self, *, caption: str = "") -> str:
        """As HTML; cells are escaped, unless they are ``markupsafe.Markup``."""
        from jinja2 import Template

        page: str = Template(TABLE, autoescape=True).render(vars(self), caption=caption)
        return page

    def _repr_html_(self) -> str:
        return self.to_html()


def enlarged(image: Image.Image, alt: str, *, times: int = 3) -> Picture:
    """A small picture, each pixel ``times`` as large on a side, with its alternative text."""
    buffer = io.BytesIO()
    image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST).save(
        buffer, format="png"
    )
    return Picture(buffer.getvalue(), alt)
