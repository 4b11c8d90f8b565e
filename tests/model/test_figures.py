"""labkit.model.figures: the words of each figure tell what it shows."""

from __future__ import annotations

import re

import numpy as np
import pytest

from labkit.model.figures import block_levels, patches, sizes
from labkit.model.weights import quantize


def test_a_picture_is_counted_in_patches_and_in_visual_tokens() -> None:
    picture = patches(np.zeros((56, 84, 3), np.uint8))
    assert picture.png.startswith(b"\x89PNG")
    assert "its 4 by 6 patches" in picture.alt
    assert "its 2 by 3 visual tokens" in picture.alt


def test_every_part_of_every_version_has_its_size() -> None:
    bars = {"float16": {"tower": 3_000_000, "rest": 10_000}, "int4": {"tower": 750_000, "rest": 0}}
    alt = sizes(bars).alt
    assert "float16 3.01 MB (tower 3.00, rest 0.01)" in alt
    assert "int4 0.75 MB (tower 0.75, rest 0.00)" in alt


@pytest.mark.parametrize("bits", [4, 8])
def test_the_errors_of_a_block_are_within_half_a_step(bits: int) -> None:
    weights = np.random.default_rng(0).normal(size=64).astype(np.float32)
    alt = block_levels(weights, quantize(weights[None], bits=bits)).alt
    assert f"nearest of {2**bits} evenly spaced levels" in alt
    numbers = re.search(r"at most (\d\.\d+), within half a step of (\d\.\d+)", alt)
    assert numbers
    error, step = map(float, numbers.groups())
    assert 0 < error <= step / 2 + 1e-4
