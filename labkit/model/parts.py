"""The parts of an answer as plain modules, so that each can be run, timed and counted by itself.

Vision is ``visual.mnn`` on a picture; prefill is ``llm.mnn`` on a whole prompt; decode is
``llm.mnn`` on one token, which is decode's matrix-vector work without its KV cache.
"""

import json
from dataclasses import field, replace
from pathlib import Path
from typing import Any

import numpy as np

from labkit.base.data import frozen
from labkit.base.errors import ModelError
from labkit.engine.client import EngineProcess
from labkit.model.vision import grid, patch_positions, pixel_values

NAMES = ("vision", "prefill", "decode")


def vision_inputs(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """What ``visual.mnn`` is given for one picture, by the graph's names.

    Parameters
    ----------
    pixels
        (height, width, 3) uint8, both sides multiples of 28.

    Returns
    -------
    dict of numpy.ndarray
        ``patches`` (n, 1176) float32; ``position_ids`` (2, n) int32; ``attention_mask`` (1, n, n)
        float32, all zero: every patch sees every other.
    """
    patches = pixel_values(pixels)
    return {
        "patches": patches,
        "position_ids": patch_positions(*grid(pixels)),
        "attention_mask": np.zeros((1, len(patches), len(patches)), np.float32),
    }


def prompt_inputs(embeddings: np.ndarray, position_ids: np.ndarray) -> dict[str, np.ndarray]:
    """What ``llm.mnn`` is given for one prompt, by the graph's names.

    Parameters
    ----------
    embeddings
        (n_tokens, d_model) float32; those of visual tokens are the tower's.
    position_ids
        (3, n_tokens) int32: M-RoPE ids.

    Returns
    -------
    dict of numpy.ndarray
        ``input_ids`` (n, 1, d_model) float32; ``attention_mask`` (1, 1, n, n) float32, which hides
        what comes later; ``position_ids``; ``logits_index`` (1,) int32: logits of the last token
        alone.
    """
    n = len(embeddings)
    hidden = np.full((n, n), np.finfo(np.float32).min, np.float32)
    return {
        "input_ids": embeddings[:, None],
        "attention_mask": np.triu(hidden, 1)[None, None],
        "position_ids": position_ids,
        "logits_index": np.array([-1], np.int32),
    }


@frozen
class Part:
    """One module with what goes in: enough to load it into an engine and to run it."""

    name: str
    file: Path
    outputs: tuple[str, ...]
    arrays: dict[str, np.ndarray] = field(repr=False)
    size: str = ""  # in words, for tables

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the graph's inputs."""
        return tuple(self.arrays)

    def load(self, engine: EngineProcess, *, kleidiai: bool, **options: Any) -> float:
        """Load the module under the part's name; returns seconds. MNN packs the weights later, in
        the first forward pass.

        Parameters
        ----------
        engine
            Where.
        kleidiai
            The runtime hint that turns KleidiAI's kernels on, where there are any.
        **options
            ``memory``, ``precision`` and ``threads`` as `labkit.model.chat.Model`; by default low,
            normal and one.
        """
        reply = engine.request(
            "load_module",
            file=self.file,
            key=self.name,
            inputs=self.inputs,
            outputs=self.outputs,
            kleidiai=kleidiai,
            **options,
        )
        return float(reply["load_s"])

    def forward(
        self, engine: EngineProcess, *, repeat: int = 1
    ) -> tuple[list[float], dict[str, np.ndarray]]:
        """Run it: seconds of each repetition, and the outputs by name."""
        outputs = engine.request("forward", self.arrays, key=self.name, repeat=repeat)
        return outputs.pop("elapsed_s"), outputs


def vision(model: Path, height: int = 112, width: int = 112) -> Part:
    """The vision tower on a picture of noise, ``height`` by ``width`` pixels, both multiples of 28.

    Noise, because neither time nor instructions of this tower depend on what the picture shows.
    """
    pixels = np.random.default_rng(0).integers(256, size=(height, width, 3), dtype=np.uint8)
    arrays = vision_inputs(pixels)
    return Part(
        name="vision",
        file=_file(model, "visual.mnn"),
        outputs=("image_embeds",),
        arrays=arrays,
        size=f"{height}×{width} pixels, {len(arrays['patches'])} patches",
    )


def prefill(model: Path, *, tokens: int = 48) -> Part:
    """The language model on a whole prompt of random embeddings: matrix times matrix."""
    if tokens < 1:
        raise ModelError(f"expected a prompt of at least one token, received {tokens}")
    width = json.loads(_file(model, "llm_config.json").read_text(encoding="utf-8"))["hidden_size"]
    noise = np.random.default_rng(0).standard_normal((tokens, width), np.float32)
    positions = np.tile(np.arange(tokens, dtype=np.int32), (3, 1))
    return Part(
        name="prefill",
        file=_file(model, "llm.mnn"),
        outputs=("logits",),
        arrays=prompt_inputs(0.05 * noise, positions),
        size=f"{tokens} token{'s' if tokens > 1 else ''}",
    )


def decode(model: Path) -> Part:
    """The language model on one token: matrix times vector."""
    return replace(prefill(model, tokens=1), name="decode")


def all_parts(
    model: Path, *, image: tuple[int, int] = (112, 112), prompt_tokens: int = 48
) -> tuple[Part, ...]:
    """Vision, prefill and decode of one converted model."""
    return vision(model, *image), prefill(model, tokens=prompt_tokens), decode(model)


def _file(model: Path, name: str) -> Path:
    path = model / name
    if not path.is_file():
        raise ModelError(
            f"expected {name} in {model}, found none. Make a model: labkit convert mini --out DIR"
        )
    return path
