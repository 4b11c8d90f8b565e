"""labkit.model.vision against transformers 4.57: the same numbers, from NumPy alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from labkit.base.errors import ImageError
from labkit.inside.reference import Reference
from labkit.model.images import prepare
from labkit.model.vision import (
    FACTOR,
    attention_distance,
    attention_entropy,
    attention_pattern,
    attention_received,
    attention_rollout,
    merge_order,
    mrope_positions,
    patch_embedding,
    patch_positions,
    pixel_values,
    rope_2d,
    rotate,
    smart_resize,
    to_grid,
)

SIDES = st.integers(1, 4000)
BOUNDS = st.sampled_from(
    [(56 * 56, 14 * 14 * 4 * 1280), (112 * 112, 140 * 140), (28 * 28, 28 * 28), (3136, 12845056)]
)
EVEN = st.integers(1, 12).map(lambda half: 2 * half)


@given(height=SIDES, width=SIDES, bounds=BOUNDS)
@example(height=10, width=2000, bounds=(112 * 112, 140 * 140))  # a strip thinner than half a token
@example(height=42, width=70, bounds=(56 * 56, 12845056))  # halves: Python rounds them to even
def test_smart_resize_is_that_of_transformers(
    height: int, width: int, bounds: tuple[int, int]
) -> None:
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize as theirs

    assume(max(height, width) <= 200 * min(height, width))
    low, high = bounds
    mine = smart_resize(height, width, min_pixels=low, max_pixels=high)
    assert mine == theirs(height, width, min_pixels=low, max_pixels=high)


@given(height=SIDES, width=SIDES, bounds=BOUNDS)
def test_smart_resize_keeps_its_promise(height: int, width: int, bounds: tuple[int, int]) -> None:
    assume(max(height, width) <= 200 * min(height, width))
    low, high = bounds
    rows, cols = smart_resize(height, width, min_pixels=low, max_pixels=high)
    assert rows % FACTOR == cols % FACTOR == 0
    # Sides are rounded after the area is chosen, which may step over a bound, by less than one more token to each side.
    assert rows * cols <= high or (rows - FACTOR) * (cols - FACTOR) < low
    assert rows * cols >= low or (rows + FACTOR) * (cols + FACTOR) > high


@pytest.mark.parametrize(("height", "width"), [(1, 201), (4020, 20), (0, 5)])
def test_strips_and_nothing_are_refused(height: int, width: int) -> None:
    with pytest.raises(ImageError, match=rf"got {width}×{height}"):
        smart_resize(height, width, min_pixels=3136, max_pixels=12845056)


@settings(max_examples=25)
@given(height=st.integers(20, 300), width=st.integers(20, 300), seed=st.integers(0, 99))
def test_pixel_values_are_those_of_the_image_processor(
    mini_reference: Reference, height: int, width: int, seed: int
) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    theirs = mini_reference.inputs(picture, "?")
    mine = pixel_values(
        prepare(
            picture,
            min_pixels=mini_reference.checkpoint.min_pixels,
            max_pixels=mini_reference.checkpoint.max_pixels,
        )
    )
    assert mine.dtype == np.float32
    assert mine.shape == tuple(theirs["pixel_values"].shape)
    # Both work in float32; values reach 2.7, where neighbours are 2.4e-7 apart: two roundings at most.
    assert np.abs(mine - theirs["pixel_values"].numpy()).max() <= 5e-7


def test_pixel_values_want_whole_tokens_of_8_bit_rgb() -> None:
    for wrong in (
        np.zeros((28, 28), np.uint8),
        np.zeros((28, 28, 4), np.uint8),
        np.zeros((28, 28, 3), np.float32),
    ):
        with pytest.raises(ImageError, match="expected \\(height, width, 3\\) uint8"):
            pixel_values(wrong)
    with pytest.raises(ImageError, match="got 28×42"):
        pixel_values(np.zeros((42, 28, 3), np.uint8))


@given(rows=EVEN, cols=EVEN)
def test_merge_order_brings_a_sequence_back_into_picture_order(rows: int, cols: int) -> None:
    picture = np.empty((rows * 14, cols * 14, 3), np.uint8)
    numbers = np.arange(rows * cols).reshape(rows, cols)
    picture[:] = (
        np.repeat(np.repeat(numbers, 14, 0), 14, 1)[:, :, None] % 251
    )  # each patch in a colour of its own
    colours = pixel_values(picture)[:, 0]
    grid = np.empty_like(colours)
    grid[merge_order(rows, cols)] = colours
    expected = (numbers.ravel() % 251 / 255 - 0.48145466) / 0.26862954
    assert np.abs(grid - expected).max() < 1e-5
    assert sorted(merge_order(rows, cols)) == list(range(rows * cols))


def test_a_grid_with_an_odd_side_has_no_merge_order() -> None:
    with pytest.raises(ImageError, match="got 3×4 patches"):
        merge_order(3, 4)


@settings(max_examples=25)
@given(rows=EVEN, cols=EVEN)
def test_patch_positions_are_those_that_the_tower_rotates_by(
    mini_reference: Reference, rows: int, cols: int
) -> None:
    import torch

    tower = mini_reference.model.model.visual
    angles = tower.rot_pos_emb(torch.tensor([[1, rows, cols]])).numpy()
    frequencies = tower.rotary_pos_emb.inv_freq.numpy()
    row, col = patch_positions(rows, cols).astype(np.float32)
    assert np.array_equal(
        angles, np.concatenate([np.outer(row, frequencies), np.outer(col, frequencies)], axis=1)
    )


@settings(max_examples=40)
@given(
    before=st.integers(1, 30),
    rows=st.integers(1, 9),
    cols=st.integers(1, 9),
    after=st.integers(1, 30),
)
def test_mrope_positions_are_those_of_the_model(
    mini_reference: Reference, before: int, rows: int, cols: int, after: int
) -> None:
    import torch

    model, config = mini_reference.model.model, mini_reference.model.config
    ids = (
        [5] * (before - 1)
        + [config.vision_start_token_id]
        + [config.image_token_id] * (rows * cols)
        + [5] * after
    )
    theirs, delta = model.get_rope_index(
        torch.tensor([ids]), torch.tensor([[1, 2 * rows, 2 * cols]])
    )
    mine = mrope_positions(before, rows, cols, after)
    assert np.array_equal(mine, theirs[:, 0].numpy())
    assert mine.max() + 1 - len(ids) == int(delta)  # where the first new token goes


@given(rows=EVEN, cols=EVEN)
def test_to_grid_undoes_the_merge_order(rows: int, cols: int) -> None:
    sequence = np.arange(rows * cols) * 10
    assert np.array_equal(to_grid(sequence[merge_order(rows, cols)], rows, cols), sequence)
    twice = np.stack([sequence, -sequence])[:, merge_order(rows, cols)]
    assert np.array_equal(to_grid(twice, rows, cols, axis=1), [sequence, -sequence])


def test_to_grid_wants_the_grid_that_it_was_cut_from() -> None:
    with pytest.raises(ImageError, match="expected 24 patches for a grid of 4×6, received 20"):
        to_grid(np.zeros(20), 4, 6)


@settings(max_examples=10)
@given(count=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_patch_embedding_is_the_towers_convolution(
    mini_reference: Reference, count: int, seed: int
) -> None:
    import torch

    convolution = mini_reference.model.model.visual.patch_embed
    patches = np.random.default_rng(seed).standard_normal((count, 1176), np.float32)
    with torch.no_grad():
        theirs = convolution(torch.from_numpy(patches)).numpy()
    mine = patch_embedding(patches, convolution.proj.weight.detach().numpy())
    assert (
        np.abs(mine - theirs).max() < 2e-4 * np.abs(theirs).max()
    )  # sums of 1,176 float32 products, in another order


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
