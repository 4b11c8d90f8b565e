"""Quantised weights: the rule, written out, and the very bytes that MNN reads.

llmexport 0.0.5 stores each linear layer of the language model in ``llm.mnn.weight`` as a
header, the codes, two float32 for each block, and the bias (its ``utils/mnn_converter.py``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from labkit.base.errors import ModelError
from labkit.model.chat import Model
from labkit.model.checkpoints import WANTED, Checkpoint, tensors


@dataclass(frozen=True, kw_only=True)
class QuantizedLinear:
    """A linear layer's weights as codes: ``w ≈ scale * code + minimum``, block by block.

    Attributes
    ----------
    codes
        (rows, columns) uint8, 0..15 for 4 bits, 0..255 for 8.
    scale, minimum
        (rows, blocks) float32.
    """

    bits: int
    codes: np.ndarray
    scale: np.ndarray
    minimum: np.ndarray

    def dequantized(self) -> np.ndarray:
        """The weights that the kernels compute with: (rows, columns) float32."""
        rows, blocks = self.scale.shape
        codes = self.codes.reshape(rows, blocks, -1).astype(np.float32)
        weights: np.ndarray = codes * self.scale[:, :, None] + self.minimum[:, :, None]
        return weights.reshape(rows, -1)


def quantize(weight: np.ndarray, *, bits: int = 4, block_size: int = 64) -> QuantizedLinear:
    """Quantise a matrix as the exporter does by default: asymmetric, to the nearest code.

    Parameters
    ----------
    weight
        (rows, columns) floating. The rule is computed in its type, as the exporter does: a float16
        checkpoint's weights, given as they are, get the very codes that MNN reads; as float32, some
        fall on the other side of a tie.
    bits
        4 or 8.
    block_size
        Weights that share a scale and a minimum; 0 takes a whole row. Halved until it divides the
        columns.

    Examples
    --------
    >>> q = quantize(np.array([[0.0, 0.5, 1.0, 1.5]], np.float32), block_size=4)
    >>> q.codes.tolist(), round(float(q.scale[0, 0]), 3)
    ([[0, 5, 10, 15]], 0.1)
    """
    rows, columns = weight.shape
    size = block_size or columns
    while columns % size:
        size //= 2
    blocks = weight.reshape(rows, columns // size, size)
    low, high = blocks.min(-1), blocks.max(-1)
    scale = (high - low) / blocks.dtype.type(2**bits - 1)
    steps = np.divide(
        blocks - low[:, :, None],
        scale[:, :, None],
        out=np.zeros_like(blocks),
        where=scale[:, :, None] > 0,
    )
    return QuantizedLinear(
        bits=bits,
        codes=np.rint(steps).astype(np.uint8).reshape(rows, columns),
        scale=scale.astype(np.float32),
        minimum=low.astype(np.float32),
    )


def checkpoint_parts(checkpoint: Checkpoint) -> dict[str, int]:
    """Bytes of a checkpoint's weights by part: vision tower, language model, embeddings, and the
    files around them.
    """
    sizes = {"vision tower": 0, "language model": 0, "embeddings": 0}
    for name, (kind, count) in tensors(checkpoint.folder).items():
        part = (
            "vision tower"
            if "visual." in name
            else "embeddings"
            if "embed_tokens" in name
            else "language model"
        )
        sizes[part] += count * {"F32": 4}.get(kind, 2)
    around = sum(
        p.stat().st_size
        for pattern in WANTED
        for p in checkpoint.folder.glob(pattern)
        if p.suffix != ".safetensors"
    )
    return sizes | {"graphs, tokenizer": around}


def linear_layers(model: Model) -> dict[str, list[int]]:
    """The language model's linear layers by name, and where each one's bytes lie in
    ``llm.mnn.weight``.
    """
    return {
        op["name"]: op["external"]
        for op in model.graph("llm.mnn")
        if op["type"] == "Convolution" and op["external"]
    }


def read_linear(model: Model, name: str) -> QuantizedLinear:
    """Read one linear layer of the language model from the file that MNN reads.

    Raises
    ------
    ModelError
        If there is no such layer, or its bytes are not as the exporter writes them.
    """
    layers = linear_layers(model)
    if name not in layers:
        raise ModelError(
            f"expected one of the language model's linear layers, received {name!r}. There are: "
            f"{', '.join(list(layers)[:4])}, …"
        )
    offset, weight_bytes, alpha_bytes = layers[name][:3]
    with Path(model.folder / "llm.mnn.weight").open("rb") as file:
        file.seek(offset)
        raw, alpha = file.read(weight_bytes), np.frombuffer(file.read(alpha_bytes), np.float32)
    for wide in (
        np.uint16,
        np.int32,
    ):  # matrices of over 65,535 rows or columns have wider numbers in their header
        head = 1 + 2 * wide().itemsize
        rows, columns = (int(n) for n in np.frombuffer(raw[1:head], wide))
        levels = raw[head] or 256
        bits = levels.bit_length() - 1
        body = np.frombuffer(raw[head + 1 + levels :], np.uint8)
        if raw[0] == 2 and bits in (4, 8) and body.size * 8 == rows * columns * bits:
            break
    else:
        raise ModelError(
            f"expected {name} as header, codes and scales in {model.folder / 'llm.mnn.weight'}, "
            "found another layout: not this exporter's."
        )
    codes = body if bits == 8 else np.stack([body >> 4, body & 15], -1).reshape(-1)
    if model.manifest.options["symmetric"]:
        scale = alpha.reshape(rows, -1)
        return QuantizedLinear(
            bits=bits,
            codes=codes.reshape(rows, columns),
            scale=scale,
            minimum=-scale * (levels // 2),
        )
    zero, scale = alpha.reshape(rows, -1, 2).transpose(2, 0, 1)
    return QuantizedLinear(
        bits=bits,
        codes=codes.reshape(rows, columns),
        scale=scale,
        minimum=zero - scale * (levels // 2),
    )


def embeddings(folder: Path, tokens: Sequence[int]) -> np.ndarray:
    """The vectors that a converted model gives to its tokens.

    They lie in ``embeddings_bf16.bin``, or, where the checkpoint ties them to its language head, in
    ``llm.mnn.weight`` as that head's codes (MNN 3.6.1,
    ``transformers/llm/engine/src/diskembedding.cpp``).

    Returns
    -------
    numpy.ndarray
        (n_tokens, d_model) float32.
    """
    config = json.loads((folder / "llm_config.json").read_text(encoding="utf-8"))
    width, ids = int(config["hidden_size"]), np.asarray(tokens)
    if not config.get("tie_embeddings"):
        table = np.memmap(folder / "embeddings_bf16.bin", np.uint16, "r").reshape(-1, width)
        rows: np.ndarray = (table[ids].astype(np.uint32) << 16).view(np.float32)
        return rows
    start, alpha_start, alpha_bytes, bits, block = config["tie_embeddings"][:5]
    file = np.memmap(folder / "llm.mnn.weight", np.uint8, "r")
    body = file[start:alpha_start].reshape(-1, width * bits // 8)[ids]
    alpha = (
        file[alpha_start : alpha_start + alpha_bytes]
        .view(np.float32)
        .reshape((alpha_start - start) * 8 // bits // width, width // (block or width), -1)[ids]
    )
    codes = body if bits == 8 else np.stack([body >> 4, body & 15], -1).reshape(len(ids), width)
    scale = alpha[:, :, -1:]
    zero = alpha[:, :, :1] if alpha.shape[2] == 2 else np.zeros_like(scale)
    centred = codes.reshape(len(ids), alpha.shape[1], -1).astype(np.float32) - 2 ** (bits - 1)
    vectors: np.ndarray = (centred * scale + zero).reshape(len(ids), width)
    return vectors
