"""Quantised weights: the rule, written out, and the very bytes that MNN reads.

llmexport 0.0.5 stores each linear layer of the language model in ``llm.mnn.weight`` as a
header, the codes, two float32 for each block, and the bias (its ``utils/mnn_converter.py``).
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from labkit.base.data import frozen
from labkit.base.errors import ModelError
from labkit.model.chat import Model
from labkit.model.checkpoints import WANTED, Checkpoint, tensors
from labkit.model.plan import dividing

WEIGHTS = "llm.mnn.weight"


@frozen
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
    size = dividing(block_size, columns)
    blocks = weight.reshape(rows, columns // size, size)
    low, high = blocks.min(-1, keepdims=True), blocks.max(-1, keepdims=True)
    step = (high - low) / blocks.dtype.type(2**bits - 1)
    steps = np.divide(blocks - low, step, out=np.zeros_like(blocks), where=step > 0)
    return QuantizedLinear(
        bits=bits,
        codes=np.rint(steps).astype(np.uint8).reshape(rows, columns),
        scale=step[:, :, 0].astype(np.float32),
        minimum=low[:, :, 0].astype(np.float32),
    )


def checkpoint_parts(checkpoint: Checkpoint) -> dict[str, int]:
    """Bytes of a checkpoint's weights by part: vision tower, language model, embeddings, and the
    files around them.
    """
    sizes = dict.fromkeys(("vision tower", "language model", "embeddings"), 0)
    for name, (kind, count) in tensors(checkpoint.folder).items():
        other = "embeddings" if "embed_tokens" in name else "language model"
        part = "vision tower" if "visual." in name else other
        sizes[part] += count * (4 if kind == "F32" else 2)
    around = [file for pattern in WANTED for file in checkpoint.folder.glob(pattern)]
    sizes["graphs, tokenizer"] = sum(
        file.stat().st_size for file in around if file.suffix != ".safetensors"
    )
    return sizes


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
    layers, file = linear_layers(model), model.folder / WEIGHTS
    if name not in layers:
        raise ModelError(
            f"expected one of the language model's linear layers, received {name!r}. "
            f"There are: {', '.join(list(layers)[:4])}, …"
        )
    offset, size, alpha_size = layers[name][:3]
    stored = np.fromfile(file, np.uint8, size + alpha_size, offset=offset)
    bits, packed = _packed(stored[:size])
    if not bits:
        raise ModelError(
            f"expected {name} as header, codes and scales in {file}, found another layout: "
            "not this exporter's."
        )
    kinds = 1 if model.manifest.options["symmetric"] else 2
    alpha = stored[size:].view(np.float32).reshape(len(packed), -1, kinds)
    return _linear(bits, packed, alpha)


def _packed(stored: np.ndarray) -> tuple[int, np.ndarray]:
    """Bits and packed codes, (rows, bytes of a row), of a layer; 0 bits if it is not one.

    It begins with its kind (2), its rows and columns (two bytes each, or four where one is over
    65,535), the number of levels (256 is written as 0) and the value of each level.
    """
    for width in ("<u2", "<u4"):
        header = np.dtype([("kind", "u1"), ("rows", width), ("columns", width), ("levels", "u1")])
        kind, rows, columns, levels = stored[: header.itemsize].view(header)[0].tolist()
        levels = levels or 256
        bits, codes = levels.bit_length() - 1, stored[header.itemsize + levels :]
        if kind == 2 and bits in (4, 8) and codes.size * 8 == rows * columns * bits:
            return bits, codes.reshape(rows, -1)
    return 0, stored


def _linear(bits: int, packed: np.ndarray, alpha: np.ndarray) -> QuantizedLinear:
    """A layer from what MNN keeps of it.

    Parameters
    ----------
    packed
        (rows, bytes) uint8; of two 4-bit codes in a byte, the upper half is the first.
    alpha
        (rows, blocks, 1 or 2) float32: last the scale, and before it, unless that is always zero,
        what the code in the middle, ``2 ** (bits - 1)``, stands for.
    """
    halves = np.stack([packed >> 4, packed & 15], -1).reshape(len(packed), -1)
    scale, middle = alpha[:, :, -1], alpha[:, :, 0] if alpha.shape[2] == 2 else np.float32(0)
    return QuantizedLinear(
        bits=bits,
        codes=packed if bits == 8 else halves,
        scale=scale,
        minimum=middle - scale * 2 ** (bits - 1),
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
    start, alpha_start, alpha_size, bits, block = config["tie_embeddings"][:5]
    stored = np.memmap(folder / WEIGHTS, np.uint8, "r")
    packed = stored[start:alpha_start].reshape(-1, width * bits // 8)
    alpha = stored[alpha_start : alpha_start + alpha_size].view(np.float32)
    alpha = alpha.reshape(len(packed), width // (block or width), -1)
    return _linear(bits, packed[ids], alpha[ids]).dequantized()
