"""labkit.inside.attention against transformers 4.57 and torch: the same numbers, NumPy alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.base.errors import ImageError
from labkit.inside.attention import (
    attention_distance,
    attention_entropy,
    attention_pattern,
    attention_received,
    attention_rollout,
    rope_2d,
    rotate,
)
from labkit.inside.reference import Reference
from labkit.model.vision import merge_order, to_grid

EVEN = st.integers(1, 12).map(lambda half: 2 * half)


@settings(max_examples=25)
@given(rows=EVEN, cols=EVEN, heads=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
def test_rotation_is_that_of_the_tower(
    mini_reference: Reference, rows: int, cols: int, heads: int, seed: int
) -> None:
    import torch
    from transformers.models.qwen2_vl.modeling_qwen2_vl import apply_rotary_pos_emb_vision

    tower, n = mini_reference.model.model.visual, rows * cols
    angles = tower.rot_pos_emb(torch.tensor([[1, rows, cols]]))
    mine = rope_2d(rows, cols, 32)
    assert np.abs(mine - to_grid(angles.numpy(), rows, cols)).max() < 1e-5
    x = np.random.default_rng(seed).standard_normal((heads, n, 32), np.float32)
    both = torch.cat([angles, angles], -1)
    given_x = torch.from_numpy(x[:, merge_order(rows, cols)].transpose(1, 0, 2).copy())
    theirs, _ = apply_rotary_pos_emb_vision(given_x, given_x, both.cos(), both.sin())
    assert (
        np.abs(
            rotate(x, mine) - to_grid(theirs.numpy().transpose(1, 0, 2), rows, cols, axis=1)
        ).max()
        < 1e-5
    )


@settings(max_examples=40)
@given(
    shape=st.tuples(
        st.integers(1, 4), st.integers(1, 20), st.integers(1, 30), st.sampled_from([4, 32, 80])
    ),
    scale=st.sampled_from([0.1, 1.0, 30.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_attention_pattern_is_that_of_torch(
    shape: tuple[int, int, int, int], scale: float, seed: int
) -> None:
    import torch

    heads, queries, keys, width = shape
    rng = np.random.default_rng(seed)
    q, k = (scale * rng.standard_normal((heads, n, width), np.float32) for n in (queries, keys))
    mine = attention_pattern(q, k)
    theirs = torch.softmax(
        torch.from_numpy(q).double() @ torch.from_numpy(k).double().mT / width**0.5, -1
    ).numpy()
    assert np.abs(mine - theirs).max() < (1e-3 if scale > 1 else 1e-5)
    assert np.abs(mine.sum(-1) - 1).max() < 1e-5


def test_a_mask_hides_what_comes_later() -> None:
    q = np.random.default_rng(0).standard_normal((2, 5, 8)).astype(np.float32)
    pattern = attention_pattern(q, q, mask=np.tri(5, dtype=bool))
    assert np.all(pattern[:, ~np.tri(5, dtype=bool)] == 0)
    assert np.allclose(pattern[:, 2, :3], attention_pattern(q[:, 2:3], q[:, :3])[:, 0], atol=1e-6)
    with pytest.raises(ImageError, match="Q and K of one width"):
        attention_pattern(q, q[..., :4])


@settings(max_examples=25)
@given(
    rows=EVEN,
    cols=EVEN,
    layers=st.integers(1, 5),
    residual=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_rollout_keeps_shares_whatever_the_grid(
    rows: int, cols: int, layers: int, residual: float, seed: int
) -> None:
    n, rng = rows * cols, np.random.default_rng(seed)
    patterns = [
        attention_pattern(*rng.standard_normal((2, 3, n, 8)).astype(np.float32))
        for _ in range(layers)
    ]
    rolled = attention_rollout(iter(patterns), residual=residual)
    assert rolled.shape == (n, n)
    assert np.abs(rolled.sum(-1) - 1).max() < 1e-4
    by_hand = np.eye(n)
    for pattern in patterns:
        by_hand = (residual * np.eye(n) + (1 - residual) * pattern.mean(0)) @ by_hand
    assert np.abs(rolled - by_hand).max() < 1e-4


def test_rollout_of_one_path_alone_is_the_identity() -> None:
    pattern = np.full((2, 6, 6), 1 / 6, np.float32)
    assert np.array_equal(attention_rollout([pattern], residual=1), np.eye(6, dtype=np.float32))
    with pytest.raises(ImageError, match="at least one layer"):
        attention_rollout([])


@given(rows=EVEN, cols=EVEN)
def test_what_is_read_from_a_pattern_has_the_values_it_must_have(rows: int, cols: int) -> None:
    n = rows * cols
    even, own = (
        np.full((2, n, n), 1 / n, np.float32),
        np.tile(np.eye(n, dtype=np.float32), (2, 1, 1)),
    )
    assert np.allclose(attention_entropy(even), np.log2(n), atol=1e-3)
    assert np.allclose(attention_entropy(own), 0)
    assert np.allclose(attention_distance(own, rows, cols), 0)
    place = [divmod(i, cols) for i in range(n)]
    apart = np.mean([np.hypot(a[0] - b[0], a[1] - b[1]) for a in place for b in place])
    assert np.allclose(attention_distance(even, rows, cols), apart, rtol=1e-4)
    assert np.allclose(attention_received(even), 1)
    first = np.zeros((1, n, n), np.float32)
    first[..., 0] = 1
    assert attention_received(first)[0].tolist() == [n, *[0] * (n - 1)]
