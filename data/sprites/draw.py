"""Draw the pictures of the 48 objects again: ``python data/sprites/draw.py``.

They come from Debian's ``fonts-noto-color-emoji`` (SIL Open Font License 1.1). Nobody needs to:
the result stands beside this file, with its licence.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from labkit.world.scenes import NAMES, SIDE, SPRITES

EMOJI = (
    "🐱 🐶 🍕 🍎 🍌 🚗 🏠 🌳 ⭐ 🐟 ⚽ ☂ 🚌 🚀 🌻 🌙 ☀ 🎸 📕 ⏰ 🐦 🐸 🐷 🎂 "
    "🥚 🥕 🍄 👑 ❤ 🔑 🔔 ⛵ ✈ 🚆 🤖 👻 👟 🎩 📷 ☕ 🎁 🥁 🐧 🐢 🦋 🐝 🍩 🌵"
).split()  # in the order of NAMES
FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")


def draw_all(font_file: Path = FONT, folder: Path = SPRITES) -> None:
    """Draw every object from the font into ``folder``, one square PNG each."""
    font = ImageFont.truetype(str(font_file), 109)  # the only size in the font's bitmap strike
    folder.mkdir(parents=True, exist_ok=True)
    for name, char in zip(NAMES, EMOJI, strict=True):
        canvas = Image.new("RGBA", (160, 160))
        ImageDraw.Draw(canvas).text((12, 12), char, font=font, embedded_color=True)
        glyph = canvas.crop(canvas.getbbox())
        square = Image.new("RGBA", (max(glyph.size), max(glyph.size)))
        square.paste(
            glyph, ((square.width - glyph.width) // 2, (square.height - glyph.height) // 2)
        )
        square.resize((SIDE, SIDE), Image.Resampling.LANCZOS).save(
            folder / f"{name}.png", optimize=True
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--font", type=Path, default=FONT, help=f"the font's file (default {FONT})")
    parser.add_argument("--out", type=Path, default=SPRITES, help="folder (default: this one)")
    args = parser.parse_args()
    draw_all(args.font, args.out)
    print(f"{len(NAMES)} sprites of {SIDE}x{SIDE} pixels in {args.out}")
