"""Scenes as pictures: the same every time, and objects where they stand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.base.errors import SceneError
from labkit.world.chance import random_scene
from labkit.world.scenes import NAMES, PATTERNS, Background, Scene, render, render_array, sprite


def test_objects_differ_in_look() -> None:
    pictures = np.stack([np.asarray(sprite(name, 48), np.float32) for name in NAMES]).reshape(
        len(NAMES), -1
    )
    apart = np.abs(pictures[:, None] - pictures[None]).mean(-1)
    assert apart[~np.eye(len(NAMES), dtype=bool)].min() > 12, "of 255, in the mean over all pixels"


@given(seed=st.integers(0, 10**6))
def test_a_scene_is_drawn_the_same_every_time_and_objects_stand_where_they_are(seed: int) -> None:
    drawn = random_scene(np.random.default_rng(seed))
    pixels = render_array(drawn)
    assert (pixels.shape, pixels.dtype) == ((drawn.height, drawn.width, 3), np.uint8)
    assert np.array_equal(pixels, np.asarray(render(drawn)))
    empty = render_array(
        Scene(height=drawn.height, width=drawn.width, objects=(), background=drawn.background)
    )
    inside = np.zeros(pixels.shape[:2], bool)
    for o in drawn.objects:
        inside[o.y : o.y + o.side, o.x : o.x + o.side] = True
    changed = (pixels != empty).any(-1)
    assert not changed[~inside].any()
    assert changed[inside].mean() > 0.2


def test_patterns_differ_and_an_unknown_one_is_refused() -> None:
    grounds = [
        Background(colour=(10, 20, 30), second=(200, 180, 160), pattern=pattern, seed=1)
        for pattern in PATTERNS
    ]
    drawn = [
        render_array(Scene(height=56, width=84, objects=(), background=b)).tobytes()
        for b in grounds
    ]
    assert len(set(drawn)) == len(PATTERNS)
    with pytest.raises(SceneError, match="is not one of the 6 patterns"):
        render_array(
            Scene(height=28, width=28, objects=(), background=Background(pattern="tartan"))
        )
    with pytest.raises(SceneError, match="is not one of the 48 objects"):
        sprite("unicorn")
