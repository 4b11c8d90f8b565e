"""labkit.model.weights: the rule of quantisation, and the bytes that MNN reads, are the same."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from labkit import Model
from labkit.base.errors import ModelError
from labkit.model.checkpoints import Checkpoint, resolve
from labkit.model.weights import (
    QuantizedLinear,
    checkpoint_parts,
    linear_layers,
    quantize,
    read_linear,
)

MATRICES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.sampled_from([32, 64, 96, 192])),
    elements=st.floats(-8, 8, width=16),
)


@pytest.fixture(scope="module")
def originals() -> dict[str, np.ndarray]:
    """The checkpoint's own linear layers, float16, by the names that the exporter gives them."""
    from safetensors.numpy import load_file

    content = load_file(resolve("mini").folder / "model.safetensors")
    names = {
        name: re.sub(r"\.(?=\D)", "/", name.removeprefix("model.").removesuffix(".weight"))
        for name in content
        if "_proj." in name
    }
    layers = {
        f"/{short}/Linear": content[name]
        for name, short in names.items()
        if "visual" not in name and name.endswith("weight")
    }
    return layers | {"/lm/lm_head/Linear": content["lm_head.weight"]}


def test_every_linear_layer_is_found_in_the_converted_model(
    mini_model: Model, originals: dict[str, np.ndarray]
) -> None:
    assert set(linear_layers(mini_model)) == set(originals)
    assert len(originals) == 4 * 7 + 1


@pytest.mark.parametrize(
    "name",
    ["/layers.0/self_attn/q_proj/Linear", "/layers.3/mlp/down_proj/Linear", "/lm/lm_head/Linear"],
)
def test_mnn_reads_what_the_rule_gives(
    mini_model: Model, originals: dict[str, np.ndarray], name: str
) -> None:
    stored, original = read_linear(mini_model, name), originals[name]
    exact = quantize(original)
    assert original.dtype == np.float16
    # In the checkpoint's own float16 every code is the same.
    assert np.array_equal(stored.codes, exact.codes)
    assert np.array_equal(stored.scale, exact.scale)
    # MNN keeps minimum + 8 steps, rounded to float16, and not the minimum: a float16 rounding
    # apart.
    assert np.abs(stored.minimum - exact.minimum).max() <= 2.0**-10 * np.abs(exact.minimum).max()
    # In float32 the steps are a rounding wider or narrower, which moves only weights that lie near
    # the middle between two codes.
    rounded = quantize(original.astype(np.float32))
    moved = stored.codes.astype(int) - rounded.codes
    assert np.abs(moved).max() <= 1
    assert np.count_nonzero(moved) < 0.01 * moved.size
    steps = (original.astype(np.float32) - np.repeat(rounded.minimum, 64, 1)) / np.repeat(
        rounded.scale, 64, 1
    )
    assert (np.abs(steps % 1 - 0.5)[moved != 0] < 0.02).all(), (
        "ties, but for float16's rounding of up to 2^-10 of 15 steps"
    )


@pytest.mark.parametrize(
    "name", ["/layers.1/self_attn/k_proj/Linear", "/layers.2/mlp/gate_proj/Linear"]
)
def test_dequantised_weights_are_within_half_a_step(
    mini_model: Model, originals: dict[str, np.ndarray], name: str
) -> None:
    stored, original = read_linear(mini_model, name), originals[name].astype(np.float32)
    steps = np.abs(stored.dequantized() - original) / np.repeat(stored.scale, 64, 1)
    assert steps.max() <= 0.5 + 15 * 2.0**-10, (
        "half a step, and float16's rounding over at most 15 steps"
    )
    assert steps.max() > 0.4


@given(weight=MATRICES, bits=st.sampled_from([4, 8]), block_size=st.sampled_from([0, 32, 64, 128]))
def test_the_rule(weight: np.ndarray, bits: int, block_size: int) -> None:
    q = quantize(weight, bits=bits, block_size=block_size)
    rows, columns = weight.shape
    size = columns // q.scale.shape[1]
    assert size == (block_size or columns) or columns % block_size
    assert q.codes.max() < 2**bits
    step = np.repeat(q.scale, size, 1)
    assert (np.abs(q.dequantized() - weight) <= 0.5 * step + 1e-5).all()
    blocks, codes = weight.reshape(rows, -1, size), q.codes.reshape(rows, -1, size)
    uneven = q.scale > 0
    assert np.array_equal(uneven, blocks.min(-1) < blocks.max(-1))
    assert (codes.min(-1) == 0).all()
    assert (codes.max(-1)[uneven] == 2**bits - 1).all()


def test_a_layer_that_is_not_there(mini_model: Model) -> None:
    with pytest.raises(ModelError, match=r"received '/lm/nothing'. There are: /layers"):
        read_linear(mini_model, "/lm/nothing")


def model_of(folder: Path, content: bytes, external: list[int], *, symmetric: bool) -> Any:
    (folder / "llm.mnn.weight").write_bytes(content)
    ops = [{"type": "Convolution", "name": "layer", "external": external}]
    return SimpleNamespace(
        folder=folder,
        graph=lambda _: ops,
        manifest=SimpleNamespace(options={"symmetric": symmetric}),
    )


def packed(q: QuantizedLinear, *, symmetric: bool) -> tuple[bytes, list[int]]:
    """As the exporter writes a layer: kind, shape, the codes' values, the codes, then scales."""
    levels = 2**q.bits
    codes = q.codes.reshape(-1)
    body = codes.tobytes() if q.bits == 8 else (codes[0::2] << 4 | codes[1::2]).tobytes()
    head = (
        b"\x02"
        + np.array(q.codes.shape, np.int16).tobytes()
        + bytes([levels % 256])
        + bytes(levels)
    )
    alpha = q.scale if symmetric else np.stack([q.minimum + q.scale * (levels // 2), q.scale], -1)
    content = b"pad!" + head + body + alpha.astype(np.float32).tobytes()
    return content, [4, len(head + body), alpha.size * 4, 0, 0]


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
def test_both_widths_and_both_kinds_are_read(tmp_path: Path, bits: int, symmetric: bool) -> None:
    q = quantize(
        np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32), bits=bits, block_size=32
    )
    linear = read_linear(
        model_of(tmp_path, *packed(q, symmetric=symmetric), symmetric=symmetric), "layer"
    )
    assert (linear.bits, linear.codes.tolist(), linear.scale.tolist()) == (
        bits,
        q.codes.tolist(),
        q.scale.tolist(),
    )
    expected = -q.scale * 2 ** (bits - 1) if symmetric else q.minimum
    assert np.abs(linear.minimum - expected).max() < 1e-5


def test_bytes_of_another_exporter_are_refused(tmp_path: Path) -> None:
    content, external = packed(quantize(np.eye(4, 64, dtype=np.float32)), symmetric=False)
    for damaged in (content[:4] + b"\x01" + content[5:], content[:5] + b"\x09" + content[6:]):
        with pytest.raises(ModelError, match="another layout"):
            read_linear(model_of(tmp_path, damaged, external, symmetric=False), "layer")


def test_the_parts_of_a_checkpoint_add_up(mini: Checkpoint) -> None:
    parts = checkpoint_parts(mini)
    assert list(parts) == ["vision tower", "language model", "embeddings", "graphs, tokenizer"]
    assert sum(parts.values()) - parts["graphs, tokenizer"] == 2 * mini.parameters
    assert (
        parts["embeddings"]
        == 2 * mini.config["text_config"]["vocab_size"] * mini.config["text_config"]["hidden_size"]
    )
