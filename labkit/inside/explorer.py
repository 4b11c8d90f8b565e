"""Maps over a picture, to explore: choose a patch or a word, a layer and a head, and see what it looks at.

Queries and keys go to the browser, not the n×n patterns between them; the browser computes the one
row that it draws, so hovering needs no kernel. Without a kernel the static figure shows.
"""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets
from PIL import Image

from labkit.base.errors import ProbeError
from labkit.base.show import Picture
from labkit.inside import figures
from labkit.inside.attention import attention_pattern, rope_2d, rotate
from labkit.inside.looks import Inside, Look, Reading
from labkit.inside.probes import Probe
from labkit.model.chat import MAX_PIXELS
from labkit.model.images import ImageLike, load_rgb, prepare

Fetch = Callable[[int], tuple[np.ndarray, np.ndarray]]
MIN_PIXELS = 56 * 56  # Qwen2-VL's own least area
ALL_AT_ONCE_BYTES = 4_000_000  # beyond this a layer is sent when it is chosen
KINDS = ("softmax", "cosine", "given")


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One map over the picture, for each layer, head and query.

    Attributes
    ----------
    fetch
        From a layer to queries (heads, n_queries, d) and keys (heads, n_keys, d), float32. Called when the layer is needed.
    kind
        What the map is: ``"softmax"`` of q·k/√d, ``"cosine"`` of q and k, or ``"given"``: the queries are the maps
        (heads, n_queries, n_keys) themselves and the keys are not looked at.
    """

    name: str
    layers: int
    heads: int
    fetch: Fetch = field(repr=False)
    kind: str = "softmax"
    layer_names: tuple[str, ...] = ()  # what to call the layers, if not L0, L1, …

    def row(self, layer: int, head: int, query: int) -> np.ndarray:
        """The map of one query: (n_keys,) float32."""
        q, k = self.fetch(layer)
        if self.kind == "given":
            row: np.ndarray = q[head, query]
        elif self.kind == "softmax":
            row = attention_pattern(q[head, query : query + 1], k[head])[0]
        else:
            row = (
                k[head]
                @ q[head, query]
                / np.maximum(
                    np.linalg.norm(k[head], axis=-1) * np.linalg.norm(q[head, query]), 1e-12
                )
            )
        return row


class Explorer(anywidget.AnyWidget):
    """A picture with one map for each panel. ``query``, ``layer`` and ``head`` are what is chosen, here and in the browser.

    Parameters
    ----------
    pixels
        (height, width, 3) uint8.
    panels
        Drawn side by side with the same query, layer and head.
    grid
        Rows and columns of the keys over the picture.
    words
        What the queries are, if they are words; None if they are the places of the grid.
    difference
        Whether to draw the last panel minus the first as well.
    static
        What shows where no widget can.

    Raises
    ------
    ProbeError
        If panels, grid and words do not fit together.
    """

    _esm = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
    _css = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")

    spec = traitlets.Dict().tag(sync=True)
    query = traitlets.Int(0).tag(sync=True)
    layer = traitlets.Int(0).tag(sync=True)
    head = traitlets.Int(0).tag(sync=True)

    def __init__(
        self,
        pixels: np.ndarray,
        panels: Sequence[Panel],
        *,
        grid: tuple[int, int],
        words: Sequence[str] | None = None,
        difference: bool = False,
        static: Picture,
        query: int = 0,
        layer: int = 0,
        head: int = 0,
    ) -> None:
        self.pixels, self.grid, self.difference, self.static = pixels, grid, difference, static
        super().__init__(spec=self._take(panels, words), query=query, layer=layer, head=head)
        self.on_msg(self._on_message)

    def show(
        self, panels: Sequence[Panel], words: Sequence[str] | None = None, *, query: int = 0
    ) -> None:
        """Replace what is shown; for words that arrive one by one."""
        spec = self._take(panels, words)
        with self.hold_sync():
            self.spec, self.query = spec, query
        self._send_layers()

    def values(self, panel: int = 0) -> np.ndarray:
        """The map that is chosen, (rows, cols) float32, from the formula that the browser uses."""
        return self.panels[panel].row(self.layer, self.head, self.query).reshape(self.grid)

    @traitlets.validate("query", "layer", "head")
    def _within(self, proposal: Any) -> int:
        most = {
            "query": self._queries,
            "layer": self.panels[0].layers,
            "head": self.panels[0].heads,
        }[proposal["trait"].name]
        if not 0 <= proposal["value"] < most:
            raise ProbeError(
                f"expected a {proposal['trait'].name} from 0 to {most - 1}, received {proposal['value']}"
            )
        return int(proposal["value"])

    def _take(self, panels: Sequence[Panel], words: Sequence[str] | None) -> dict[str, Any]:
        """Check that all fits, keep it, and say it in the browser's terms."""
        if not panels or len({(p.layers, p.heads) for p in panels}) != 1:
            raise ProbeError("expected one panel or more, all with as many layers and heads")
        cells = self.grid[0] * self.grid[1]
        queries = cells if words is None else len(words)
        for panel in panels:
            q, k = panel.fetch(0)
            keys = q.shape[2] if panel.kind == "given" else k.shape[1]
            if panel.kind not in KINDS or q.shape[:2] != (panel.heads, queries) or keys != cells:
                raise ProbeError(
                    f"expected for {panel.name!r} {panel.heads} heads, {queries} queries and {cells} keys, "
                    f"received queries {q.shape} and keys {k.shape}"
                )
        self.panels, self._queries = tuple(panels), queries
        bytes_ = sum(a.nbytes for panel in panels for a in panel.fetch(0)) * panels[0].layers
        return {
            "image": _data_url(self.pixels), "size": list(self.pixels.shape[1::-1]), "grid": list(self.grid),
            "panels": [{"name": p.name, "kind": p.kind} for p in panels], "layers": panels[0].layers,
            "layerNames": list(panels[0].layer_names or (f"L{i}" for i in range(panels[0].layers))), "heads": panels[0].heads,
            "words": None if words is None else list(words), "difference": self.difference and len(panels) > 1,
            "alt": self.static.alt, "atOnce": bytes_ <= ALL_AT_ONCE_BYTES, "run": self.spec.get("run", 0) + 1,
        }  # fmt: skip

    def _on_message(self, _: object, content: dict[str, Any], __: object) -> None:
        self._send_layers([int(content["layer"])] if "layer" in content else None)

    def _send_layers(self, layers: Sequence[int] | None = None) -> None:
        wanted = layers or (range(self.spec["layers"]) if self.spec["atOnce"] else [self.layer])
        for layer in wanted:
            pairs = [
                tuple(np.ascontiguousarray(a, np.float32) for a in panel.fetch(layer))
                for panel in self.panels
            ]
            widths = [q.shape[-1] for q, _ in pairs]
            self.send(
                {"kind": "layer", "layer": layer, "run": self.spec["run"], "widths": widths},
                [a.tobytes() for pair in pairs for a in pair],
            )

    def __repr__(self) -> str:
        return f"Explorer of {', '.join(p.name for p in self.panels)}. {self.static.alt}"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The widget; where none can be shown, the static figure."""
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        shown, about = self.static._repr_mimebundle_()
        return {**bundle[0], **shown}, {**bundle[1], **about}


def _data_url(pixels: np.ndarray) -> str:
    data = io.BytesIO()
    kind = "PNG" if pixels.size < 1_000_000 else "JPEG"
    Image.fromarray(pixels).save(data, kind, quality=90)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data.getvalue()).decode()}"


def attention(
    *looks: Look, query: int | None = None, layer: int = 0, head: int = 0, difference: bool = False
) -> Explorer:
    """Where each patch looks, layer by layer and head by head; several looks at one picture stand side by side."""
    first = looks[0]
    query = _middle(first) if query is None else query
    static = (
        figures.heads(first, query) if len(looks) == 1 else figures.drift(looks, query, layer, head)
    )
    panels = [
        Panel(name=look.name, layers=look.layers, heads=look.heads, fetch=look.qk) for look in looks
    ]
    grid = first.rows, first.cols
    return Explorer(
        first.pixels,
        panels,
        grid=grid,
        difference=difference,
        static=static,
        query=query,
        layer=layer,
        head=head,
    )


def similarity(look: Look, *, query: int | None = None, layer: int = 0) -> Explorer:
    """How alike each patch is to the chosen one: cosine of hidden states; layer 0 is the patch embeddings."""

    def fetch(layer: int) -> tuple[np.ndarray, np.ndarray]:
        states = look.hidden[layer][None] - look.hidden[layer].mean(
            axis=0
        )  # what all patches share says nothing about one
        return states, states

    query = _middle(look) if query is None else query
    names = ("embeddings", *(f"after L{i}" for i in range(look.layers)))
    panel = Panel(
        name=f"similarity, {look.name}",
        layers=look.layers + 1,
        heads=1,
        fetch=fetch,
        kind="cosine",
        layer_names=names,
    )
    static = figures.similarity(look, query)
    return Explorer(
        look.pixels, [panel], grid=(look.rows, look.cols), static=static, query=query, layer=layer
    )


def positions(look: Look, *, query: int | None = None) -> Explorer:
    """How alike positions are to the rotation alone: the same vector everywhere, turned by each patch's row and column."""
    width = look.qk(next(iter(look.q)))[0].shape[2]
    turned = rotate(
        np.ones((1, look.rows * look.cols, width), np.float32), rope_2d(look.rows, look.cols, width)
    )
    query = _middle(look) if query is None else query
    panel = Panel(
        name="2-D RoPE", layers=1, heads=1, fetch=lambda _: (turned, turned), kind="cosine"
    )
    return Explorer(
        look.pixels,
        [panel],
        grid=(look.rows, look.cols),
        static=figures.rope(look, query),
        query=query,
    )


def text(reading: Reading, *, query: int = 0, layer: int = 0, head: int = 0) -> Explorer:
    """Where each word of question and answer looks."""
    static = figures.words(reading, layer, head)
    panels = [_words_panel(reading)]
    return Explorer(
        reading.pixels,
        panels,
        grid=reading.tokens.grid,
        words=reading.words,
        static=static,
        query=query,
        layer=layer,
        head=head,
    )


def ask(
    probe: Probe,
    image: ImageLike,
    question: str,
    *,
    show: Callable[[Explorer], object],
    layer: int = 0,
    head: int = 0,
) -> Explorer:
    """Ask, and draw where each word looks while the answer streams.

    Parameters
    ----------
    probe, image, question
        As `labkit.inside.probes.Probe.read`.
    show
        Called once, with the explorer, when the first word is there; in a notebook ``IPython.display.display``.
    layer, head
        What to begin with.
    """
    found: list[Explorer] = []

    def on_word(reading: Reading) -> None:
        if found:
            found[0].show([_words_panel(reading)], reading.words, query=len(reading.words) - 1)
        else:
            found.append(text(reading, query=len(reading.words) - 1, layer=layer, head=head))
            show(found[0])

    reading = probe.read(image, question, on_word=on_word)
    if not found:  # it had nothing to say
        on_word(reading)
    found[0].static = figures.words(reading, layer, head)
    return found[0]


def _words_panel(reading: Reading) -> Panel:
    layers = {layer: reading.text_to_patch(layer) for layer in reading.q}
    nothing = np.zeros((reading.heads, 0, 0), np.float32)
    return Panel(
        name=reading.name,
        layers=reading.layers,
        heads=reading.heads,
        kind="given",
        fetch=lambda layer: (layers[layer], nothing),
    )


def _middle(inside: Inside) -> int:
    return inside.rows // 2 * inside.cols + inside.cols // 2


def sizes(probe: Probe, image: ImageLike) -> Any:
    """A slider for a picture's size: its grid, its visual tokens, and what they cost. Returns an ipywidgets box.

    The bounds are those of Qwen2-VL, not of the embedded checkpoint, which was trained on small pictures only.
    """
    import ipywidgets

    whole = load_rgb(image)
    side = ipywidgets.IntSlider(
        value=168, min=56, max=560, step=28, description="longer side", continuous_update=False
    )
    shown, told = ipywidgets.Image(format="png"), ipywidgets.HTML()
    shown.layout.max_width = "420px"

    def draw(_: object = None) -> None:
        scale = side.value / max(whole.size)
        small = whole.resize(
            (max(1, round(whole.width * scale)), max(1, round(whole.height * scale)))
        )
        pixels = prepare(small, min_pixels=MIN_PIXELS, max_pixels=MAX_PIXELS)
        start = time.perf_counter()
        look = probe.look_as_is(pixels)
        elapsed_ms = 1000 * (time.perf_counter() - start)
        patches = look.rows * look.cols
        shown.value = figures.grid(pixels).png
        told.value = (
            f"<b>{pixels.shape[1]}×{pixels.shape[0]} pixels</b>: {look.rows}×{look.cols} = {patches} patches, "
            f"{patches // 4} visual tokens. Each head of the tower compares {patches**2:,} pairs; the prompt grows by "
            f"{patches // 4} tokens. One pass of the tower took {elapsed_ms:.0f} ms here, once."
        )

    side.observe(draw, "value")
    draw()
    return ipywidgets.VBox([side, shown, told])
