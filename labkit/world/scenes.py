"""Scenes: a background and one to four of 48 objects, in pixels from the top left; and how a scene
is drawn, with the objects' emoji from ``data/sprites``.
"""

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import cache
from operator import itemgetter
from pathlib import Path

import numpy as np
from PIL import Image

from labkit.base.data import frozen
from labkit.base.errors import SceneError

NAMES = tuple(
    (
        "cat dog pizza apple banana car house tree star fish ball umbrella "
        "bus rocket flower moon sun guitar book clock bird frog pig cake "
        "egg carrot mushroom crown heart key bell boat plane train robot ghost "
        "shoe hat camera cup gift drum penguin turtle butterfly bee donut cactus"
    ).split()
)
SIZES: tuple[tuple[int, int], ...] = (
    *((112, 112), (112, 140), (140, 112), (84, 168)),
    *((168, 84), (140, 140), (112, 168), (168, 112)),
)
"""(height, width) in pixels, multiples of 28."""
MIN_SIDE, MAX_SIDE = 32, 52
MOST = 4


def check_known(name: object, known: Collection[str], kind: str) -> None:
    """Raise a SceneError unless the world knows something of this kind and name."""
    if name not in known:
        raise SceneError(
            f"{name!r} is not one of the {len(known)} {kind} of this world. "
            f"Choose one of: {', '.join(known)}."
        )


@frozen
class Placed:
    """One object in a scene: its name and its square, in pixels from the top left."""

    name: str
    x: int
    y: int
    side: int

    @property
    def centre(self) -> tuple[float, float]:
        """Column and row of the middle, in pixels."""
        return self.x + self.side / 2, self.y + self.side / 2

    def room(self, other: "Placed", share: float = 1) -> float:
        """Pixels between the two squares, each shrunk to a share; negative when they overlap."""
        across, down = (abs(a - b) for a, b in zip(self.centre, other.centre, strict=True))
        return max(across, down) - share * (self.side + other.side) / 2

    def within(self, size: tuple[int, int]) -> "Placed":
        """The object on whole pixels, moved as little as can be to stand whole in a picture.

        Parameters
        ----------
        size
            Width and height of the picture.
        """
        corner = np.clip(np.rint((self.x, self.y)), 0, np.subtract(size, self.side))
        x, y = corner.astype(int).tolist()
        return replace(self, x=x, y=y)


@frozen
class Background:
    """How the ground is drawn: a colour, a second one, and a pattern between them."""

    colour: tuple[int, ...] = (236, 240, 241)
    second: tuple[int, ...] = (236, 240, 241)
    pattern: str = "plain"
    period: int = 16
    seed: int = 0


@frozen
class Scene:
    """A picture before it is drawn."""

    height: int
    width: int
    objects: tuple[Placed, ...] = ()
    background: Background = Background()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, in pixels."""
        return self.width, self.height

    def named(self, name: str | None) -> list[Placed]:
        """All objects of one kind."""
        return [o for o in self.objects if o.name == name]

    @property
    def columns(self) -> dict[str, float]:
        """The kinds in the scene from left to right, each with the middle of its leftmost copy."""
        right_to_left = sorted(self.objects, key=lambda o: -o.centre[0])
        leftmost = {o.name: o.centre[0] for o in right_to_left}
        return dict(sorted(leftmost.items(), key=itemgetter(1)))

    @property
    def kinds(self) -> list[str]:
        """The kinds in the scene, from left to right by the leftmost copy of each."""
        return list(self.columns)


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
