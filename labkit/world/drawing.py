"""Scenes as pictures: a patterned ground, and on it the objects' emoji from ``data/sprites``."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from labkit.world.scenes import NAMES, Background, Scene, check_known

SPRITES = Path(__file__).parents[2] / "data" / "sprites"
SIDE = 96

PATTERNS: dict[str, Callable[[Background, np.ndarray, np.ndarray], np.ndarray]] = {
    "plain": lambda _, rows, __: 0 * rows,
    "gradient": lambda _, rows, cols: (rows / len(rows) + cols / cols.shape[1]) / 2,
    "stripes": lambda b, rows, cols: (cols + rows) // b.period % 2,
    "checks": lambda b, rows, cols: (cols // b.period + rows // b.period) % 2,
    "dots": lambda b, rows, cols: (
        (cols % b.period - b.period / 2) ** 2 + (rows % b.period - b.period / 2) ** 2
        < (b.period / 3.5) ** 2
    ),
    "noise": lambda b, rows, _: np.random.default_rng(b.seed).random(rows.shape),
}
"""How much of its second colour a background has at each row and column: 0 none, 1 all."""


@cache
def sprite(name: str, side: int = SIDE) -> Image.Image:
    """The picture of one object, as RGBA, ``side`` × ``side`` pixels.

    Raises
    ------
    SceneError
        If ``name`` is not one of ``NAMES``.
    """
    check_known(name, NAMES, "objects")
    with Image.open(SPRITES / f"{name}.png") as picture:
        full: Image.Image = picture.convert("RGBA")
    return full if side == SIDE else full.resize((side, side), Image.Resampling.LANCZOS)


@cache
def _layers(name: str, side: int) -> tuple[np.ndarray, np.ndarray]:
    """An object's colours, and how much of the ground shows through: (side, side, 3 and 1)."""
    rgba = np.asarray(sprite(name, side), np.float32)
    alpha = rgba[:, :, 3:] / 255
    return rgba[:, :, :3] * alpha, 1 - alpha


def _ground(scene: Scene) -> np.ndarray:
    background = scene.background
    check_known(background.pattern, PATTERNS, "patterns")
    rows, cols = np.mgrid[: scene.height, : scene.width]
    mix = PATTERNS[background.pattern](background, rows, cols).astype(np.float32)
    first, second = np.array([background.colour, background.second], np.float32)
    return np.asarray(first + mix[:, :, None] * (second - first))


def render_array(scene: Scene) -> np.ndarray:
    """Draw a scene: (height, width, 3) uint8, RGB. Objects are cut at the border."""
    canvas = _ground(scene)
    for o in scene.objects:
        under = canvas[max(o.y, 0) : max(o.y + o.side, 0), max(o.x, 0) : max(o.x + o.side, 0)]
        top, left = max(-o.y, 0), max(-o.x, 0)
        seen = np.s_[top : top + under.shape[0], left : left + under.shape[1]]
        colours, through = _layers(o.name, o.side)
        under[:] = under * through[seen] + colours[seen]
    return np.asarray(np.clip(np.rint(canvas), 0, 255), np.uint8)


def render(scene: Scene) -> Image.Image:
    """Draw a scene as a picture."""
    return Image.fromarray(render_array(scene))
