"""The pictures of the 48 objects: drawn once from the emoji font, shipped as PNG.

``python -m labkit.mini.sprites`` draws them again from Debian's
``fonts-noto-color-emoji`` (SIL Open Font License 1.1); nobody needs to, because
the result stands in ``data/sprites`` with its licence.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
SPRITES = Path(__file__).parents[2] / "data" / "sprites"
SIDE = 96

EMOJI: dict[str, str] = dict(
    pair.split(":")
    for pair in (
        "cat:🐱 dog:🐶 pizza:🍕 apple:🍎 banana:🍌 car:🚗 house:🏠 tree:🌳 star:⭐ fish:🐟 ball:⚽ umbrella:☂ "
        "bus:🚌 rocket:🚀 flower:🌻 moon:🌙 sun:☀ guitar:🎸 book:📕 clock:⏰ bird:🐦 frog:🐸 pig:🐷 cake:🎂 "
        "egg:🥚 carrot:🥕 mushroom:🍄 crown:👑 heart:❤ key:🔑 bell:🔔 boat:⛵ plane:✈ train:🚆 robot:🤖 ghost:👻 "
        "shoe:👟 hat:🎩 camera:📷 cup:☕ gift:🎁 drum:🥁 penguin:🐧 turtle:🐢 butterfly:🦋 bee:🐝 donut:🍩 cactus:🌵"
    ).split()
)
NAMES: tuple[str, ...] = tuple(EMOJI)


@cache
def sprite(name: str, side: int = SIDE) -> Image.Image:
    """The picture of one object, as RGBA, ``side`` × ``side`` pixels.

    Raises
    ------
    KeyError
        If ``name`` is not one of ``NAMES``.
    """
    if name not in EMOJI:
        raise KeyError(f"{name!r} is not one of the {len(NAMES)} objects: {', '.join(NAMES)}")
    with Image.open(SPRITES / f"{name}.png") as picture:
        full: Image.Image = picture.convert("RGBA")
    return full if side == SIDE else full.resize((side, side), Image.Resampling.LANCZOS)


def draw_all(font_file: Path = FONT, folder: Path = SPRITES) -> None:
    """Draw every object from the font into ``folder``, one square PNG each."""
    font = ImageFont.truetype(str(font_file), 109)  # the only size in the font's bitmap strike
    folder.mkdir(parents=True, exist_ok=True)
    for name, char in EMOJI.items():
        canvas = Image.new("RGBA", (160, 160))
        ImageDraw.Draw(canvas).text((12, 12), char, font=font, embedded_color=True)
        glyph = canvas.crop(canvas.getbbox())
        square = Image.new("RGBA", (max(glyph.size), max(glyph.size)))
        square.paste(glyph, ((square.width - glyph.width) // 2, (square.height - glyph.height) // 2))
        square.resize((SIDE, SIDE), Image.Resampling.LANCZOS).save(folder / f"{name}.png", optimize=True)


if __name__ == "__main__":
    draw_all()
    print(f"{len(NAMES)} sprites of {SIDE}x{SIDE} pixels in {SPRITES}")
