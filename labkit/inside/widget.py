"""The explorer's widget: maps over a picture, of the query that is pointed at.

Queries and keys go to the browser, not the n×n patterns between them; the browser computes the one
row that it draws, so hovering needs no kernel. Without a kernel the static figure shows, or a page
with all of it inside: `Explorer.save`.
"""

import base64
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import field
from itertools import chain
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets
from jinja2 import Template
from PIL import Image

from labkit.base.data import frozen
from labkit.base.errors import ProbeError
from labkit.base.files import write
from labkit.base.show import Picture, data_url
from labkit.inside.attention import attention_pattern, cosines
from labkit.inside.looks import Inside, chosen

ALL_AT_ONCE_BYTES = 4_000_000  # beyond this a layer is sent when it is chosen
IN_A_PAGE_BYTES = 48_000_000  # beyond this a saved page holds the chosen layer only
FORMULAS: dict[str, Callable[..., np.ndarray]] = {
    "softmax": lambda query, keys: attention_pattern(query[None], keys)[0],
    "cosine": cosines,
    "given": lambda query, _: query,
}


@frozen
class Panel:
    """One map over the picture, for each layer, head and query.

    Attributes
    ----------
    fetch
        From a layer to queries (heads, n_queries, d) and keys (heads, n_keys, d), float32. Called
        when the layer is needed.
    kind
        What the map is: ``"softmax"`` of q·k/√d, ``"cosine"`` of q and k, or ``"given"``: the
        queries are the maps (heads, n_queries, n_keys) themselves, and the keys are empty.
    """

    name: str
    fetch: Callable[[int], tuple[np.ndarray, np.ndarray]] = field(repr=False)
    kind: str = "softmax"

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of heads, queries and keys."""
        q, k = self.fetch(0)
        return q.shape if self.kind == "given" else (*q.shape[:2], k.shape[1])


class Explorer(anywidget.AnyWidget):
    """A picture with one map for each panel.

    ``query``, ``layer`` and ``head`` are what is chosen, here and in the browser.

    Parameters
    ----------
    inside
        What was looked into: its picture, and the grid of the keys over it.
    panels
        Drawn side by side with the same query, layer and head.
    layers
        What the layers are called; by default L0, L1 and so on.
    words
        What the queries are, if they are words; None if they are the places of the grid.
    difference
        Whether to draw the last panel minus the first as well.
    static
        What shows where no widget can.
    chosen
        The query, layer and head to begin with.

    Raises
    ------
    ProbeError
        If panels, grid and words do not fit together.
    """

    _esm = Path(__file__).with_suffix(".js")
    _css = Path(__file__).with_suffix(".css")

    spec = traitlets.Dict().tag(sync=True)
    query = traitlets.Int(0).tag(sync=True)
    layer = traitlets.Int(0).tag(sync=True)
    head = traitlets.Int(0).tag(sync=True)

    def __init__(
        self,
        inside: Inside,
        panels: Sequence[Panel],
        *,
        layers: Sequence[str] | None = None,
        words: Sequence[str] | None = None,
        difference: bool = False,
        static: Picture,
        **chosen: int,
    ) -> None:
        self.inside, self.difference, self.static = inside, difference, static
        self.layers = layers or [f"L{layer}" for layer in range(inside.layers)]
        super().__init__(spec=self._take(panels, words), **chosen)
        self.on_msg(self._on_message)

    def show(self, panels: Sequence[Panel], words: Sequence[str]) -> None:
        """Replace what is shown, and choose the last word; for words that arrive one by one."""
        spec = self._take(panels, words)
        with self.hold_sync():
            self.spec, self.query = spec, len(words) - 1
        self._send_layers()

    def values(self, panel: int = 0) -> np.ndarray:
        """The map that is chosen, (rows, cols) float32, from the formula that the browser uses."""
        chosen = self.panels[panel]
        q, k = chosen.fetch(self.layer)
        row = FORMULAS[chosen.kind](q[self.head, self.query], k[self.head])
        return row.reshape(self.inside.grid)

    def save(self, path: str | Path, *, layers: Sequence[int] | None = None) -> Path:
        """Write one HTML file that works like this, without a kernel and without a network.

        Parameters
        ----------
        layers
            Which the page holds. By default all; of a large picture, where they would take more
            than 48 MB, the chosen one. A page without some says so.

        Raises
        ------
        ProbeError
            If there is no such layer.
        """
        path = Path(path)
        write(path, self._page(layers))
        return path

    def _page(self, layers: Sequence[int] | None = None) -> str:
        count = self._counts["layer"]
        if layers is None:
            fits = count * sum(map(len, self._buffers(0))) <= IN_A_PAGE_BYTES
            layers = range(count) if fits else [self.layer]
        kept = chosen(layers, count)
        names = [self.layers[layer] for layer in kept]
        packed = [[base64.b64encode(b).decode() for b in self._buffers(layer)] for layer in kept]
        traits = {
            "spec": {**self.spec, "layers": names, "saved": True},
            "query": self.query,
            "layer": kept.index(self.layer) if self.layer in kept else 0,
            "head": self.head,
        }
        here = Path(__file__)
        sources = {name: here.with_suffix(f".{name}").read_text("utf-8") for name in ("js", "css")}
        template = Template(here.with_name("page.html").read_text("utf-8"), autoescape=True)
        page: str = template.render(
            sources,
            title=f"Explorer of {', '.join(panel.name for panel in self.panels)}",
            left_out=f"{', '.join(names)} of {count} layers" if len(kept) < count else "",
            static=self.static,
            picture=data_url(self.static.png),
            saved=json.dumps({"traits": traits, "layers": packed}).replace("</", r"<\/"),
        )
        return page

    @traitlets.validate("query", "layer", "head")
    def _within(self, proposal: Any) -> int:
        name, value = proposal["trait"].name, int(proposal["value"])
        if not 0 <= value < self._counts[name]:
            raise ProbeError(
                f"expected a {name} from 0 to {self._counts[name] - 1}, received {value}"
            )
        return value

    def _take(self, panels: Sequence[Panel], words: Sequence[str] | None) -> dict[str, Any]:
        """Check that all fits, keep it, and say it in the browser's terms."""
        rows, cols = self.inside.grid
        queries = rows * cols if words is None else len(words)
        sizes = {panel.sizes for panel in panels}
        kinds = {panel.kind for panel in panels}
        heads, *fitting = next(iter(sizes), (0,))
        if fitting != [queries, rows * cols] or len(sizes) > 1 or kinds - FORMULAS.keys():
            raise ProbeError(
                f"expected panels alike in heads, with {queries} queries and "
                f"{rows * cols} keys, of kinds among {', '.join(FORMULAS)}; received "
                f"{[(panel.name, panel.kind, panel.sizes) for panel in panels]}"
            )
        layers = len(self.layers)
        self.panels, self._counts = panels, {"query": queries, "layer": layers, "head": heads}
        size = layers * sum(map(len, self._buffers(0)))
        return {
            "image": _embedded(self.inside.pixels),
            "size": self.inside.pixels.shape[1::-1],
            "grid": (rows, cols),
            "panels": [{"name": panel.name, "kind": panel.kind} for panel in panels],
            "layers": self.layers,
            "heads": heads,
            "words": words,
            "difference": self.difference and len(panels) > 1,
            "atOnce": size <= ALL_AT_ONCE_BYTES,
            "run": self.spec.get("run", 0) + 1,
        }

    def _on_message(self, _: object, content: dict[str, Any], __: object) -> None:
        if content.get("do") == "save":
            self.send({"kind": "page"}, [self._page().encode()])
        else:
            self._send_layers(content.get("layers"))

    def _send_layers(self, layers: Sequence[int] | None = None) -> None:
        every = range(self._counts["layer"]) if self.spec["atOnce"] else [self.layer]
        for layer in layers or every:
            message = {"kind": "layer", "layer": layer, "run": self.spec["run"]}
            self.send(message, self._buffers(layer))

    def _buffers(self, layer: int) -> list[bytes]:
        """Queries and keys of each panel, as the browser takes them."""
        arrays = chain.from_iterable(panel.fetch(layer) for panel in self.panels)
        return [array.astype(np.float32).tobytes() for array in arrays]

    def __repr__(self) -> str:
        return f"Explorer of {', '.join(p.name for p in self.panels)}. {self.static.alt}"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The widget; where none can be shown, the static figure."""
        data, about = super()._repr_mimebundle_(**kwargs) or ({}, {})
        shown, described = self.static._repr_mimebundle_()
        return {**data, **shown}, {**about, **described}


def _embedded(pixels: np.ndarray) -> str:
    """A picture as a URL; large ones as JPEG."""
    data, kind = io.BytesIO(), "png" if pixels.size < 1_000_000 else "jpeg"
    Image.fromarray(pixels).save(data, kind, quality=90)
    return data_url(data.getvalue(), kind)
