"""The pictures of the 48 objects: they ship in ``data/sprites``, beside what drew them."""

from functools import cache
from pathlib import Path

from PIL import Image

SPRITES = Path(__file__).parents[2] / "data" / "sprites"
SIDE = 96

NAMES = tuple(
    (
        "cat dog pizza apple banana car house tree star fish ball umbrella "
        "bus rocket flower moon sun guitar book clock bird frog pig cake "
        "egg carrot mushroom crown heart key bell boat plane train robot ghost "
        "shoe hat camera cup gift drum penguin turtle butterfly bee donut cactus"
    ).split()
)


@cache
def sprite(name: str, side: int = SIDE) -> Image.Image:
    """The picture of one object, as RGBA, ``side`` × ``side`` pixels.

    Raises
    ------
    KeyError
        If ``name`` is not one of ``NAMES``.
    """
    if name not in NAMES:
        raise KeyError(f"{name!r} is not one of the {len(NAMES)} objects: {', '.join(NAMES)}")
    with Image.open(SPRITES / f"{name}.png") as picture:
        full: Image.Image = picture.convert("RGBA")
    return full if side == SIDE else full.resize((side, side), Image.Resampling.LANCZOS)
