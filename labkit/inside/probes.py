"""Look inside: patch embeddings, hidden states, Q, K and attention of a model at work.

`Probe` reads them from the *converted* model, with the weights that it answers with;
`labkit.inside.reference.Reference` reads the same from the original in transformers.

>>> with labkit.open_model("mini") as model, Probe(model) as probe:     # doctest: +SKIP
...     look = probe.look("scene.png")
...     look.pattern(0, 3).shape                                        # L0H3
(96, 96)
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from labkit.base.data import frozen
from labkit.base.errors import ProbeError, QuestionError
from labkit.inside.looks import Look, Reading, chosen
from labkit.model.chat import Model
from labkit.model.images import ImageLike
from labkit.model.parts import Part, prompt_inputs, vision_inputs
from labkit.model.vision import FACTOR, grid
from labkit.model.weights import embeddings

OUTPUTS = {"visual.mnn": "image_embeds", "llm.mnn": "logits"}
MOST_BYTES = 2**30
"""Q, K and hidden states of one picture may take this much; beyond it, ask for some layers only."""


@frozen
class Taps:
    """Where to look into a converted model: names of tensors in one .mnn file.

    Exporters name tensors as they like, but both parts of Qwen2-VL are built alike: each layer is
    a norm, attention, a norm, an MLP, and one norm stands at the end. So hidden states are what
    every other norm reads, and Q and K, already rotated, are what each fused ``Attention`` reads.

    ``hidden`` has one name more than there are layers: what each layer reads, then what the last
    one leaves.
    """

    hidden: tuple[str, ...]
    queries: tuple[str, ...]
    keys: tuple[str, ...]


def find_taps(model: Model, file: str) -> Taps:
    """Find them in the graph of one of a model's files.

    Raises
    ------
    ProbeError
        If the graph is not built as above: attention that is not fused, another order of norms,
        another model.
    """
    graph = model.graph(file)
    attention, norms = (
        [op["inputs"] for op in graph if op["type"] == kind] for kind in ("Attention", "LayerNorm")
    )
    if (
        not attention
        or len(norms) != 2 * len(attention) + 1
        or any(len(inputs) < 2 for inputs in attention)
    ):
        raise ProbeError(
            f"expected {file} to hold fused Attention operators, each between two norms, and one "
            f"norm at the end; found {len(attention)} Attention and {len(norms)} LayerNorm "
            "operators. It was exported in another way, or is not of a Qwen2-VL. Convert it again "
            "with `labkit convert`."
        )
    queries, keys, *_ = zip(*attention, strict=False)
    return Taps(hidden=tuple(read for read, *_ in norms[::2]), queries=queries, keys=keys)


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
        From any look, if the model's graph is not as `Taps` says.
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
        kept = chosen(layers, self._layers("visual.mnn"))
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
        count = self._layers("visual.mnn")
        states = sorted({0, *layers, count})
        hidden, q, k, embeds = self._run("visual.mnn", vision_inputs(pixels), layers, states)
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
        count, about = self._layers("llm.mnn"), self.model.manifest
        kept = chosen(layers, count)
        embeds = self.look_as_is(pixels).image_embeds
        events: list[dict[str, Any]] = []

        def so_far() -> Reading:
            prompt, *said = events
            reading = Reading(
                name=self._name("weight_bits"),
                layers=count,
                pixels=pixels,
                q={},
                k={},
                ids=(*prompt["tokens"], *(piece["token"] for piece in said)),
                pieces=(*prompt["pieces"], *(piece["text"] for piece in said)),
                said=len(said),
                pad=about.image_pad,
                stop=tuple(about.stop),
            )
            vectors = embeddings(self.model.folder, reading.ids)
            vectors[reading.visual] = embeds
            given = prompt_inputs(vectors, reading.positions)
            _, q, k, _ = self._run("llm.mnn", given, kept)
            return replace(reading, q=q, k=k)

        def on_event(event: dict[str, Any]) -> None:
            if event["event"] == "prompt" or event.get("token") is not None:
                events.append(event)
                if on_word and len(events) > 1:
                    on_word(so_far())

        self.model.ask(pixels, question, max_new_tokens=max_new_tokens, on_event=on_event)
        return so_far()

    def _name(self, part: str) -> str:
        return f"{self.model.manifest.kind(part)} in MNN"

    def _layers(self, file: str) -> int:
        return len(find_taps(self.model, file).queries)

    def _run(
        self,
        file: str,
        given: dict[str, np.ndarray],
        layers: tuple[int, ...],
        states: Sequence[int] = (),
    ) -> tuple[Any, ...]:
        """Run one file: hidden states of ``states``, Q and K of ``layers``, and its output."""
        taps, n = find_taps(self.model, file), len(next(iter(given.values())))
        pair = taps.queries, taps.keys
        outputs = [taps.hidden[i] for i in states] + [names[i] for names in pair for i in layers]
        part = Part(
            name=file,
            file=self.model.folder / file,
            outputs=(*outputs, OUTPUTS[file]),
            arrays=given,
        )
        arrays = self.beside.forward(part)
        return (
            {i: arrays[taps.hidden[i]].reshape(n, -1) for i in states},
            *({i: _by_head(arrays[names[i]], n) for i in layers} for names in pair),
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
