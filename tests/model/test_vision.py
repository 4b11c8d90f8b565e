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
    merge_order,
    mrope_positions,
    patch_positions,
    pixel_values,
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
    # Sides are rounded after the area is chosen, which may step over a bound, by less than one more
    # token to each side.
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
    mine = pixel_values(prepare(picture, **mini_reference.checkpoint.image))
    assert mine.dtype == np.float32
    assert mine.shape == tuple(theirs["pixel_values"].shape)
    # Both work in float32; values reach 2.7, where neighbours are 2.4e-7 apart: two roundings at
    # most.
    assert np.abs(mine - theirs["pixel_values"].numpy()).max() <= 5e-7


def test_pixel_values_want_whole_tokens_of_8_bit_rgb() -> None:
    for wrong in (
        np.zeros((28, 28), np.uint8),
        np.zeros((28, 28, 4), np.uint8),
        np.zeros((28, 28, 3), np.float32),
    ):
        with pytest.raises(ImageError, match="expected \\(height, width, 3\\) uint8"):
            pixel_values(wrong)
    with pytest.raises(ImageError, match="received height 42, width 28"):
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
