"""Look inside: patch embeddings, hidden states, Q, K and attention of a model at work.

`Probe` reads them from the *converted* model, with the weights that it answers with;
`labkit.inside.reference.Reference` reads the same from the original in transformers.

>>> with labkit.open_model("mini") as model, Probe(model) as probe:     # doctest: +SKIP
...     look = probe.look("scene.png")
...     look.pattern(0, 3).shape                                        # L0H3
(96, 96)
"""

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from labkit.base.errors import ProbeError, QuestionError
from labkit.inside import taps
from labkit.inside.looks import Look, Reading, chosen
from labkit.model.chat import Model
from labkit.model.images import ImageLike
from labkit.model.parts import Part, prompt_inputs, vision_inputs
from labkit.model.vision import FACTOR, grid
from labkit.model.weights import embeddings

OUTPUTS = {"visual.mnn": "image_embeds", "llm.mnn": "logits"}
MOST_BYTES = 2**30
"""Q, K and hidden states of one picture may take this much; beyond it, ask for some layers only."""


class Probe(AbstractContextManager["Probe"]):
    """Looks into a converted model, in an engine process of its own.

    Parameters
    ----------
    model
        Open. It keeps its settings (threads, precision, memory): what is read is what it computes.

    Attributes
    ----------
    beside
        The same model in the engine that runs what is looked into, while the first one answers.

    Raises
    ------
    ProbeError
        From any look, if the model's graph is not as `labkit.inside.taps` expects.
    """

    def __init__(self, model: Model) -> None:
        self.model, self.beside = model, Model(model.folder, **model.options)

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
        kept = chosen(layers, self._taps("visual.mnn").layers)
        patches = math.prod(grid(pixels))
        if (size := self._bytes(patches, len(kept))) > MOST_BYTES:
            raise ProbeError(
                f"expected a look of at most {_size(MOST_BYTES)}; {len(kept)} layers at "
                f"{patches} patches take {_size(size)}. Name some layers, as layers=[0, 1], "
                "or open the model with a smaller max_pixels."
            )
        return self.look_as_is(pixels, kept)

    def cost(self, image: ImageLike) -> str:
        """What a look at a picture takes, in words, before it is done."""
        rows, cols = grid(self.model.prepare(image))
        n, layers, heads = rows * cols, self._smallest.layers, self._smallest.heads
        one = 4 * n * n
        return (
            f"{rows}×{cols} = {n} patches, {layers} layers × {heads} heads. "
            f"Q, K and hidden states: {_size(self._bytes(n, layers))}; "
            f"one head's pattern: {_size(one)}; "
            f"all patterns together, never held at once: {_size(one * heads * layers)}."
        )

    @cached_property
    def _smallest(self) -> Look:
        """A look at the smallest picture: it tells heads and widths."""
        return self.look_as_is(np.zeros((FACTOR, FACTOR, 3), np.uint8), (0,))

    def _bytes(self, patches: int, layers: int) -> int:
        """What Q, K and hidden states of some layers take."""
        return int(self._smallest.patch_embeddings[0].nbytes) * patches * (3 * layers + 1)

    def look_as_is(self, pixels: np.ndarray, layers: tuple[int, ...] = ()) -> Look:
        """As `look`, at the size that the pixels have.

        Parameters
        ----------
        pixels
            (height, width, 3) uint8, both sides multiples of 28.
        """
        count = self._taps("visual.mnn").layers
        given = vision_inputs(pixels)
        hidden, q, k, embeds = self._run("visual.mnn", given, layers, {0, *layers, count})
        return Look.from_sequence(
            name=self._name("vision_bits"),
            layers=count,
            pixels=pixels,
            hidden=hidden,
            q=q,
            k=k,
            image_embeds=embeds.reshape(-1, embeds.shape[-1]),
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
            Called while the answer streams, with the reading up to the newest word. Each call runs
            the language model over the whole sequence so far, without a KV cache.
        """
        if image is None:
            raise QuestionError(
                "expected a picture to look at, received None: without one no word can look "
                "anywhere."
            )
        pixels = self.model.prepare(image)
        kept = chosen(layers, self._taps("llm.mnn").layers)
        embeds = self.look_as_is(pixels).image_embeds
        events: list[dict[str, Any]] = []

        def so_far() -> Reading:
            prompt, *said = events
            reading = Reading(
                name=self._name("weight_bits"),
                layers=self._taps("llm.mnn").layers,
                pixels=pixels,
                q={},
                k={},
                ids=(*prompt["tokens"], *(piece["token"] for piece in said)),
                pieces=(*prompt["pieces"], *(piece["text"] for piece in said)),
                said=len(said),
                pad=self.model.manifest.image_pad,
                stop=tuple(self.model.manifest.stop),
            )
            vectors = embeddings(self.model.folder, reading.ids)
            vectors[reading.visual] = embeds
            given = prompt_inputs(vectors, reading.positions)
            _, q, k, _ = self._run("llm.mnn", given, kept)
            return replace(reading, q=q, k=k)

        def on_event(event: dict[str, Any]) -> None:
            if event["event"] == "prompt" or event["token"] is not None:
                events.append(event)
                if on_word and len(events) > 1:
                    on_word(so_far())

        self.model.ask(pixels, question, max_new_tokens=max_new_tokens, on_event=on_event)
        return so_far()

    def _name(self, part: str) -> str:
        return f"{self.model.manifest.kind(part)} in MNN"

    def _taps(self, file: str) -> taps.Taps:
        return taps.find(self.model.graph(file), file)

    def _run(
        self,
        file: str,
        given: dict[str, np.ndarray],
        layers: tuple[int, ...],
        states: Iterable[int] = (),
    ) -> tuple[Any, ...]:
        """Run one file: hidden states of ``states``, Q and K of ``layers``, and its output."""
        named, n = self._taps(file), len(next(iter(given.values())))
        hidden = {i: named.hidden[i] for i in sorted(states)}
        q, k = ({i: names[i] for i in layers} for names in (named.queries, named.keys))
        outputs = (*hidden.values(), *q.values(), *k.values(), OUTPUTS[file])
        part = Part(name=file, file=self.model.folder / file, outputs=outputs, arrays=given)
        arrays = self.beside.forward(part)
        return (
            {i: arrays[name].reshape(n, -1) for i, name in hidden.items()},
            *({i: _by_head(arrays[name], n) for i, name in names.items()} for names in (q, k)),
            arrays[OUTPUTS[file]],
        )

    def close(self) -> None:
        """End its engine; the model stays open."""
        self.beside.close()

    def __exit__(self, *_: object) -> None:
        self.close()


def _by_head(tensor: np.ndarray, n: int) -> np.ndarray:
    """(1, n, heads, d_head), as the fused operator reads it, to (heads, n, d_head)."""
    if tensor.ndim != 4 or tensor.shape[:2] != (1, n):
        raise ProbeError(
            f"expected Q and K of shape (1, {n}, heads, d_head), the model gives {tensor.shape}: "
            "it was exported in another way."
        )
    return np.ascontiguousarray(tensor[0].transpose(1, 0, 2))


def _size(count: float) -> str:
    power = min(int(math.log10(max(count, 1)) // 3), 3)
    return f"{count / 1000**power:.3g} {('B', 'kB', 'MB', 'GB')[power]}"
