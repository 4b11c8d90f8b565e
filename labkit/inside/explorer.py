"""Explorers: choose a patch or a word, a layer and a head, and see where it looks."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import ImageOps

from labkit.inside import attention_figures, patch_figures
from labkit.inside.attention import turned_ones
from labkit.inside.looks import Look, Reading
from labkit.inside.probes import Probe
from labkit.inside.widget import Explorer, Panel
from labkit.model.budget import MAX_PIXELS
from labkit.model.images import ImageLike, load_rgb, prepare
from labkit.model.vision import grid

MIN_PIXELS = 56 * 56  # Qwen2-VL's own least area


def attention(
    *looks: Look, query: int | None = None, layer: int = 0, head: int = 0, difference: bool = False
) -> Explorer:
    """Where each patch looks, layer by layer and head by head.

    Several looks at one picture stand side by side.
    """
    first = looks[0]
    query = first.middle if query is None else query
    static = (
        attention_figures.heads(first, query)
        if len(looks) == 1
        else attention_figures.drift(looks, query, layer, head)
    )
    panels = [Panel(name=look.name, fetch=look.qk) for look in looks]
    return Explorer(
        first, panels, difference=difference, static=static, query=query, layer=layer, head=head
    )


def similarity(look: Look, *, query: int | None = None, layer: int = 0) -> Explorer:
    """How alike each patch is to the chosen one: cosine of hidden states.

    Layer 0 is the patch embeddings.
    """
    query = look.middle if query is None else query
    layers = ["embeddings", *(f"after L{layer}" for layer in range(look.layers))]
    panel = Panel(
        name=f"similarity, {look.name}",
        fetch=lambda layer: (look.states(layer)[None],) * 2,
        kind="cosine",
    )
    static = patch_figures.similarity(look, query)
    return Explorer(look, [panel], layers=layers, static=static, query=query, layer=layer)


def positions(look: Look, *, query: int | None = None) -> Explorer:
    """How alike positions are to the rotation alone.

    The same vector everywhere, turned by each patch's row and column.
    """
    query = look.middle if query is None else query
    turned = turned_ones(*look.grid, look.d_head)[None]
    panel = Panel(name="2-D RoPE", fetch=lambda _: (turned, turned), kind="cosine")
    static = patch_figures.rope(look, query)
    return Explorer(look, [panel], layers=["L0"], static=static, query=query)


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
        Called once, with the explorer, when the first word is there; in a notebook
        ``IPython.display.display``.
    layer, head
        What to begin with.
    """
    shown: list[Explorer] = []

    def on_word(reading: Reading) -> None:
        if shown:
            shown[0].show([_words(reading)], reading.words)
        else:
            newest = len(reading.words) - 1
            shown.append(text(reading, query=newest, layer=layer, head=head))
            show(shown[0])

    reading = probe.read(image, question, on_word=on_word)
    if not shown:  # it had nothing to say
        on_word(reading)
    shown[0].static = attention_figures.words(reading, layer, head)
    return shown[0]


def text(reading: Reading, *, query: int = 0, layer: int = 0, head: int = 0) -> Explorer:
    """Where each word of question and answer looks."""
    words, static = reading.words, attention_figures.words(reading, layer, head)
    return Explorer(
        reading, [_words(reading)], words=words, static=static, query=query, layer=layer, head=head
    )


def _words(reading: Reading) -> Panel:
    return Panel(
        name=reading.name,
        fetch=lambda layer: (reading.text_to_patch(layer), np.empty((reading.heads, 0))),
        kind="given",
    )


def sizes(probe: Probe, image: ImageLike) -> Any:
    """A slider for a picture's size: its grid, its visual tokens, and what they cost.

    The bounds are those of Qwen2-VL, not of the embedded checkpoint, which was trained on small
    pictures only. Returns an ipywidgets box.
    """
    import ipywidgets

    whole = load_rgb(image)
    side = ipywidgets.IntSlider(
        value=168, min=56, max=560, step=28, description="longer side", continuous_update=False
    )
    drawn, cost = ipywidgets.Image(format="png"), ipywidgets.HTML()
    drawn.layout.max_width = "420px"

    def draw(_: object = None) -> None:
        small = ImageOps.contain(whole, (side.value, side.value))
        pixels = prepare(small, min_pixels=MIN_PIXELS, max_pixels=MAX_PIXELS)
        start = time.perf_counter()
        probe.look_as_is(pixels)
        elapsed_s = time.perf_counter() - start
        rows, cols = grid(pixels)
        n = rows * cols
        drawn.value = patch_figures.grid(pixels).png
        cost.value = (
            f"<b>{pixels.shape[1]}×{pixels.shape[0]} pixels</b>: {rows}×{cols} = {n} patches, "
            f"{n // 4} visual tokens. Each head of the tower compares {n**2:,} pairs; the prompt "
            f"grows by {n // 4} tokens. One pass of the tower took {1000 * elapsed_s:.0f} ms here, "
            "once."
        )

    side.observe(draw, "value")
    draw()
    return ipywidgets.VBox([side, drawn, cost])
