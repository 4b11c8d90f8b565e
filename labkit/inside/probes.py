"""Look inside: patch embeddings, hidden states, Q, K and attention of a model at work.

`Probe` reads them from the *converted* model, with the weights that it answers with;
`labkit.inside.reference.ReferenceProbe` reads the same from the original in transformers. What
both return is in picture order, row by row, not in the model's 2×2 merge order.

>>> with labkit.open_model("mini") as model, Probe(model) as probe:     # doctest: +SKIP
...     look = probe.look("scene.png")
...     look.pattern(0, 3).shape                                        # L0H3
(96, 96)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from labkit.base.errors import ProbeError, QuestionError
from labkit.engine.client import EngineProcess
from labkit.inside import taps
from labkit.inside.attention import attention_pattern
from labkit.model import manifest
from labkit.model.chat import Model
from labkit.model.images import ImageLike
from labkit.model.parts import prompt_inputs, vision_inputs
from labkit.model.vision import (
    FACTOR,
    PATCH_SIZE,
    mrope_positions,
    pixel_values,
    to_grid,
)
from labkit.model.weights import embeddings

if TYPE_CHECKING:
    from typing_extensions import Self

MOST_BYTES = 2**30
"""Q, K and hidden states of one picture may take this much; beyond it, ask for some layers only."""


@dataclass(frozen=True, kw_only=True)
class Inside:
    """Q and K of the layers that were asked for, by layer number; patterns are computed when asked for, so that few are held at once."""

    name: str
    layers: int
    pixels: np.ndarray = field(repr=False)
    q: Mapping[int, np.ndarray] = field(repr=False)
    k: Mapping[int, np.ndarray] = field(repr=False)
    causal: ClassVar[bool] = False

    @property
    def rows(self) -> int:
        """Patches from top to bottom."""
        return int(self.pixels.shape[0]) // PATCH_SIZE

    @property
    def cols(self) -> int:
        """Patches from left to right."""
        return int(self.pixels.shape[1]) // PATCH_SIZE

    @property
    def heads(self) -> int:
        """Heads of each layer."""
        return len(next(iter(self.q.values())))

    def qk(self, layer: int) -> tuple[np.ndarray, np.ndarray]:
        """Rotated Q and K of one layer: two arrays (heads, n, d_head) float32.

        Raises
        ------
        ProbeError
            If the model has no such layer, or it was not asked for.
        """
        if layer not in self.q:
            held = ", ".join(map(str, self.q))
            raise ProbeError(
                f"expected one of the layers that were looked at ({held} of {self.layers}), received {layer}; pass layers=[{layer}]"
            )
        return self.q[layer], self.k[layer]

    def pattern(self, layer: int, head: int | None = None) -> np.ndarray:
        """Attention of one head (n, n), or of all heads of a layer (heads, n, n): rows are queries, columns keys."""
        q, k = self.qk(layer)
        mask = np.tri(q.shape[1], dtype=bool) if self.causal else None
        if head is None:
            return attention_pattern(q, k, mask=mask)
        if not 0 <= head < self.heads:
            raise ProbeError(f"expected a head from 0 to {self.heads - 1}, received {head}")
        return attention_pattern(q[head], k[head], mask=mask)

    def patterns(self) -> Iterator[np.ndarray]:
        """The patterns (heads, n, n) of all layers that were asked for, one layer at a time."""
        return (self.pattern(layer) for layer in self.q)


@dataclass(frozen=True, kw_only=True)
class Look(Inside):
    """What stands inside the vision tower for one picture, in picture order.

    Attributes
    ----------
    pixels
        (height, width, 3) uint8, as the model sees it.
    patch_embeddings
        (n_patches, d_vision) float32.
    hidden
        By layer number, what that layer reads: (n_patches, d_vision); number ``layers`` is what the last one leaves.
    image_embeds
        (n_visual_tokens, d_model) float32.
    q, k
        By layer number, (heads, n_patches, d_head) float32, after rotation.
    """

    patch_embeddings: np.ndarray = field(repr=False)
    hidden: Mapping[int, np.ndarray] = field(repr=False)
    image_embeds: np.ndarray = field(repr=False)

    @property
    def grid_thw(self) -> tuple[int, int, int]:
        """The grid in patches: time, height, width."""
        return 1, self.rows, self.cols


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """A prompt with one picture and its answer, token by token.

    Attributes
    ----------
    ids, pieces
        Token ids of the whole sequence, template and all, and the text of each.
    said
        How many of them, at the end, are the answer.
    pad, stop
        Ids of a visual token, and of the marks that end a turn.
    grid
        Visual tokens from top to bottom and from left to right.
    """

    ids: tuple[int, ...]
    pieces: tuple[str, ...]
    said: int
    pad: int
    stop: tuple[int, ...]
    grid: tuple[int, int]

    @property
    def first_visual(self) -> int:
        """Place of the first visual token; the others follow it."""
        count = self.grid[0] * self.grid[1]
        if self.ids.count(self.pad) != count:
            raise ProbeError(
                f"expected {count} visual tokens in the prompt, found {self.ids.count(self.pad)}"
            )
        return self.ids.index(self.pad)

    @property
    def positions(self) -> np.ndarray:
        """(3, n) int32: M-RoPE ids."""
        before, visual = self.first_visual, self.grid[0] * self.grid[1]
        return mrope_positions(before, *self.grid, len(self.ids) - before - visual).astype(np.int32)

    @property
    def places(self) -> np.ndarray:
        """(n_words,) int: where the words of the question and of the answer stand."""
        begin, end = (
            self.first_visual + self.grid[0] * self.grid[1] + 1,
            len(self.ids) - self.said,
        )  # 1: the mark that ends the picture
        stop = next((at for at in range(begin, end) if self.ids[at] in self.stop), end)
        return np.concatenate([np.arange(begin, stop), np.arange(end, len(self.ids))])


@dataclass(frozen=True, kw_only=True)
class Reading(Inside):
    """What stands inside the language model for one picture, question and answer.

    ``q`` and ``k`` are, by layer number, (heads, n, d_head) float32 over the whole sequence, after rotation; K is
    repeated for the heads that share it.
    """

    tokens: Tokens
    causal: ClassVar[bool] = True

    @property
    def words(self) -> tuple[str, ...]:
        """Text of each token of the question, then of the answer."""
        return tuple(self.tokens.pieces[at] for at in self.tokens.places)

    @property
    def answer(self) -> str:
        """The answer's text."""
        return "".join(self.tokens.pieces[len(self.tokens.ids) - self.tokens.said :])

    @property
    def queries(self) -> np.ndarray:
        """(n_words,) int: the place from which each word looks.

        A word of the question looks from its own place; a word of the answer from the place before it, where it is chosen.
        """
        places = self.tokens.places
        return places - (np.arange(len(places)) >= len(places) - self.tokens.said)

    def text_to_patch(self, layer: int) -> np.ndarray:
        """What each word takes from each visual token: (heads, n_words, n_visual_tokens), shares of the word's whole attention."""
        q, k = self.qk(layer)
        pattern = attention_pattern(
            q[:, self.queries], k, mask=np.arange(k.shape[1]) <= self.queries[:, None]
        )
        first, (rows, cols) = self.tokens.first_visual, self.tokens.grid
        return pattern[:, :, first : first + rows * cols]


class Probe:
    """Looks into a converted model, in an engine process of its own beside the model's.

    Parameters
    ----------
    model
        Open. It keeps its settings (threads, precision, memory), so what is read is what it computes.

    Raises
    ------
    ProbeError
        From any look, if the model's graph is not as `labkit.inside.taps` expects.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.name = f"{manifest.kind(model.manifest.options['vision_bits'])} in MNN"
        self._engine: EngineProcess | None = None
        self._outputs: dict[str, tuple[int, ...]] = {}  # which layers each loaded file gives

    @cached_property
    def vision(self) -> taps.Taps:
        """Names of tensors in ``visual.mnn``."""
        return taps.find(self.model.graph("visual.mnn"), "visual.mnn")

    @cached_property
    def language(self) -> taps.Taps:
        """Names of tensors in ``llm.mnn``."""
        return taps.find(self.model.graph("llm.mnn"), "llm.mnn")

    def look(self, image: ImageLike, *, layers: Sequence[int] | None = None) -> Look:
        """Run the vision tower on a picture and keep what stands inside.

        Parameters
        ----------
        image
            As `labkit.model.chat.Model.ask`.
        layers
            Which layers to keep Q, K and hidden states of; None keeps all.

        Raises
        ------
        ProbeError
            If what is to be kept takes over `MOST_BYTES`; `cost` tells before.
        """
        pixels = self.model.prepare(image)
        kept = _chosen(layers, self.vision.layers)
        self._check(pixels, len(kept))
        return self.look_as_is(pixels, kept)

    def cost(self, image: ImageLike) -> str:
        """What a look at a picture takes, in words, before it is done."""
        rows, cols = (side // PATCH_SIZE for side in self.model.prepare(image).shape[:2])
        heads, d_head = self._shape
        n, layers = rows * cols, self.vision.layers
        one, kept = 4 * n * n, _kept_bytes(n, heads * d_head, layers)
        return (
            f"{rows}×{cols} = {n} patches, {layers} layers × {heads} heads. Q, K and hidden states: {_size(kept)}; "
            f"one head's pattern: {_size(one)}; all patterns together, never held at once: {_size(one * heads * layers)}."
        )

    def _check(self, pixels: np.ndarray, layers: int) -> None:
        heads, d_head = self._shape
        patches = pixels.shape[0] * pixels.shape[1] // PATCH_SIZE**2
        if (bytes_ := _kept_bytes(patches, heads * d_head, layers)) > MOST_BYTES:
            raise ProbeError(
                f"expected a look of at most {_size(MOST_BYTES)}; {layers} layers at {patches} patches take {_size(bytes_)}. "
                "Name some layers, as layers=[0, 1], or open the model with a smaller max_pixels."
            )

    @cached_property
    def _shape(self) -> tuple[int, int]:
        """Heads and width of a head, from the smallest picture."""
        q = self.look_as_is(np.zeros((FACTOR, FACTOR, 3), np.uint8), (0,)).q[0]
        return len(q), q.shape[2]

    def look_as_is(self, pixels: np.ndarray, layers: tuple[int, ...] = ()) -> Look:
        """As `look`, at the size that the pixels have: (height, width, 3) uint8, both sides multiples of 28."""
        rows, cols = pixels.shape[0] // PATCH_SIZE, pixels.shape[1] // PATCH_SIZE
        n, found = rows * cols, self.vision
        out = self._forward("visual.mnn", layers, vision_inputs(pixel_values(pixels), rows, cols))
        hidden = {
            layer: to_grid(out[found.hidden[layer]].reshape(n, -1), rows, cols)
            for layer in sorted({0, *layers, found.layers})
        }
        return Look(
            name=self.name,
            layers=found.layers,
            pixels=pixels,
            patch_embeddings=hidden[0],
            hidden=hidden,
            image_embeds=out["image_embeds"].reshape(n // 4, -1),
            q={
                layer: to_grid(_heads(out[found.queries[layer]], n, "Q"), rows, cols, axis=1)
                for layer in layers
            },
            k={
                layer: to_grid(_heads(out[found.keys[layer]], n, "K"), rows, cols, axis=1)
                for layer in layers
            },
        )

    def read(
        self,
        image: ImageLike,
        question: str,
        *,
        layers: Sequence[int] | None = None,
        max_new_tokens: int = 64,
        on_word: Callable[[Reading], None] | None = None,
    ) -> Reading:
        """Ask, and keep where each word of question and answer looked.

        Parameters
        ----------
        image, question, max_new_tokens
            As `labkit.model.chat.Model.ask`.
        layers
            Layers of the language model to keep; None keeps all.
        on_word
            Called while the answer streams, with the reading up to the newest word. Each call runs the language
            model over the whole sequence so far, without a KV cache.
        """
        if image is None:
            raise QuestionError(
                "expected a picture to look at, received None: without one no word can look anywhere."
            )
        pixels = self.model.prepare(image)
        kept, embeds = _chosen(layers, self.language.layers), self.look_as_is(pixels).image_embeds
        events: list[dict[str, Any]] = []

        def so_far() -> Reading:
            prompt, *said = events
            tokens = Tokens(
                ids=(*prompt["tokens"], *(piece["token"] for piece in said)),
                pieces=(*prompt["pieces"], *(piece["text"] for piece in said)),
                said=len(said), pad=self.model.manifest.image_pad, stop=tuple(self.model.manifest.stop),
                grid=(pixels.shape[0] // FACTOR, pixels.shape[1] // FACTOR),
            )  # fmt: skip
            return self._read(pixels, embeds, tokens, kept)

        def on_event(event: dict[str, Any]) -> None:
            if event["event"] == "prompt" or event["token"] is not None:
                events.append(event)
                if on_word and len(events) > 1:
                    on_word(so_far())

        self.model.ask(pixels, question, max_new_tokens=max_new_tokens, on_event=on_event)
        return so_far()

    def _read(
        self, pixels: np.ndarray, embeds: np.ndarray, tokens: Tokens, layers: tuple[int, ...]
    ) -> Reading:
        found, n = self.language, len(tokens.ids)
        vectors = embeddings(self.model.folder, tokens.ids)
        vectors[np.array(tokens.ids) == tokens.pad] = embeds
        out = self._forward("llm.mnn", layers, prompt_inputs(vectors, tokens.positions))
        q = {layer: _heads(out[found.queries[layer]], n, "Q") for layer in layers}
        k = {layer: _heads(out[found.keys[layer]], n, "K") for layer in layers}
        k = {layer: np.repeat(k[layer], len(q[layer]) // len(k[layer]), axis=0) for layer in layers}
        name = f"{manifest.kind(self.model.manifest.options['weight_bits'])} in MNN"
        return Reading(name=name, layers=found.layers, pixels=pixels, tokens=tokens, q=q, k=k)

    def _forward(
        self, file: str, layers: tuple[int, ...], given: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Run one file; it is loaded again when other layers are asked for, because what a module gives is fixed when it is loaded."""
        if self._engine is None or not self._engine.alive:
            self.close()
            self._engine = EngineProcess()
        if self._outputs.get(file) != layers:
            found, last = (
                (self.vision, "image_embeds") if file == "visual.mnn" else (self.language, "logits")
            )
            hidden = (
                [found.hidden[layer] for layer in sorted({0, *layers, found.layers})]
                if file == "visual.mnn"
                else []
            )
            names = [
                *hidden,
                *(found.queries[i] for i in layers),
                *(found.keys[i] for i in layers),
                last,
            ]
            self._engine.request(
                "load_module", file=str(self.model.folder / file), key=file, inputs=list(given), outputs=names, kleidiai=False,
                **self.model.options,
            )  # fmt: skip
            self._outputs[file] = layers
        return self._engine.request("forward", given, key=file, repeat=1)[1]

    def close(self) -> None:
        """End its engine; the model stays open."""
        if self._engine is not None:
            self._engine.close()
        self._engine = None
        self._outputs.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _chosen(layers: Sequence[int] | None, count: int) -> tuple[int, ...]:
    chosen = tuple(range(count)) if layers is None else tuple(sorted(set(layers)))
    if not all(0 <= layer < count for layer in chosen):
        raise ProbeError(
            f"expected layers from 0 to {count - 1}, received {', '.join(map(str, chosen))}"
        )
    return chosen


def _heads(tensor: np.ndarray, n: int, what: str) -> np.ndarray:
    """(1, n, heads, d_head) as the fused operator reads it, to (heads, n, d_head)."""
    if tensor.ndim != 4 or tensor.shape[:2] != (1, n):
        raise ProbeError(
            f"expected {what} of shape (1, {n}, heads, d_head), the model gives {tensor.shape}: it was exported in another way."
        )
    return np.ascontiguousarray(tensor[0].transpose(1, 0, 2))


def _kept_bytes(patches: int, d_model: int, layers: int) -> int:
    return 4 * patches * d_model * (3 * layers + 1)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
