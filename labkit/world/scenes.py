"""What a scene is: a background and one to four of 48 objects, in pixels from the top left."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from operator import itemgetter

import numpy as np

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

    def room(self, other: Placed, share: float = 1) -> float:
        """Pixels between the two squares, each shrunk to a share; negative when they overlap."""
        across, down = (abs(a - b) for a, b in zip(self.centre, other.centre, strict=True))
        return max(across, down) - share * (self.side + other.side) / 2

    def within(self, size: tuple[int, int]) -> Placed:
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
