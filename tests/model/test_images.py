"""labkit.model.images: whatever a learner has, it becomes upright RGB, or an error that says what
to do.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from labkit.base.errors import ImageError
from labkit.model import images
from labkit.model.images import load_rgb, prepare

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def see(image: Any) -> np.ndarray:
    """As the embedded checkpoint looks at it."""
    return prepare(image, min_pixels=112 * 112, max_pixels=140 * 140)


def halves(width: int = 80, height: int = 60) -> Image.Image:
    """Red on the left, blue on the right."""
    picture = Image.new("RGB", (width, height), RED)
    picture.paste(BLUE, (width // 2, 0, width, height))
    return picture


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """The beginning of a PNG of any size, with no pixels behind it."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + b"\0\0\0\0IDAT"
    )


# ---- what becomes a picture


@pytest.mark.parametrize(
    ("orientation", "left", "right"),
    [(1, RED, BLUE), (2, BLUE, RED), (3, BLUE, RED)],
)
def test_exif_orientation_turns_a_picture_upright(
    tmp_path: Path, orientation: int, left: Any, right: Any
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    halves().save(tmp_path / "photo.png", exif=exif)
    upright = load_rgb(tmp_path / "photo.png")
    assert (upright.getpixel((5, 30)), upright.getpixel((75, 30))) == (left, right)


def test_a_photo_that_was_taken_upright_is_tall(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter to the right
    halves().save(tmp_path / "photo.png", exif=exif)
    upright = load_rgb(tmp_path / "photo.png")
    assert upright.size == (60, 80)
    assert (upright.getpixel((30, 5)), upright.getpixel((30, 75))) == (RED, BLUE)


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    clear = halves().convert("RGBA")
    clear.putalpha(Image.new("L", clear.size, 0))
    half = halves().convert("RGBA")
    half.putalpha(Image.new("L", half.size, 128))
    assert load_rgb(clear).getpixel((5, 5)) == WHITE
    red, green, blue = load_rgb(half).getpixel((5, 5))
    assert (red, green, blue) == (255, 127, 127)
    palette = halves().quantize(4)
    palette.info["transparency"] = palette.getpixel((5, 5))
    palette.save(tmp_path / "palette.png")
    seen = load_rgb(tmp_path / "palette.png")
    assert (seen.getpixel((5, 5)), seen.getpixel((75, 5))) == (WHITE, BLUE)


@pytest.mark.parametrize("mode", ["P", "CMYK", "YCbCr", "HSV", "RGBX", "PA"])
def test_other_kinds_of_colour_keep_their_colours(mode: str) -> None:
    picture = halves().quantize(4).convert("PA") if mode == "PA" else halves().convert(mode)
    rgb = load_rgb(picture)
    for place, colour in ((5, RED), (75, BLUE)):
        assert np.abs(np.subtract(rgb.getpixel((place, 5)), colour)).max() <= 2, (
            "YCbCr and HSV round"
        )


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_grey_stays_grey(mode: str) -> None:
    rgb = load_rgb(Image.new("L", (9, 9), 255).convert(mode))
    assert (rgb.mode, rgb.getpixel((4, 4))) == ("RGB", WHITE)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_keeps_its_brightness(tmp_path: Path, suffix: str) -> None:
    values = np.repeat(np.linspace(0, 65535, 256).astype(np.uint16)[None], 8, 0)
    Image.fromarray(values).save(tmp_path / f"deep.{suffix}")
    seen = np.asarray(load_rgb(tmp_path / f"deep.{suffix}"))
    assert np.array_equal(seen[0, :, 0], np.arange(256))


def test_float_grey_is_stretched_and_nan_is_refused(tmp_path: Path) -> None:
    values = np.array([[-3.0, 0.0, 5.0]], np.float32)
    Image.fromarray(values).save(tmp_path / "height.tif")
    assert np.asarray(load_rgb(tmp_path / "height.tif"))[0, :, 0].tolist() == [0, 96, 255]
    assert load_rgb(Image.fromarray(np.full((2, 2), 7.5, np.float32))).getpixel((0, 0)) == (0, 0, 0)
    with pytest.raises(ImageError, match="not numbers"):
        load_rgb(Image.fromarray(values * np.float32("nan")))


def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in (RED, BLUE)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert load_rgb(tmp_path / "moving.gif").getpixel((20, 20)) == RED


@pytest.mark.parametrize(
    ("size", "seen"),
    [((1, 1), (112, 112)), ((400, 2), (28, 1596)), ((2, 400), (1596, 28)), ((123, 77), (112, 168))],
)
def test_tiny_and_long_pictures_get_an_allowed_size(
    size: tuple[int, int], seen: tuple[int, int]
) -> None:
    pixels = see(Image.new("RGB", size, BLUE))
    assert pixels.shape == (*seen, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == BLUE).all()


def test_a_hundred_megapixels(tmp_path: Path) -> None:
    Image.new("1", (10_000, 10_000), 1).save(tmp_path / "huge.png")
    assert (see(tmp_path / "huge.png") == 255).all()


@pytest.mark.parametrize(
    "array",
    [
        np.full((30, 40), 255, np.uint8),
        np.full((30, 40, 1), 255, np.uint8),
        np.full((30, 40, 3), 255, np.uint8),
        np.full((30, 40, 4), 255, np.uint8),
        np.ones((30, 40, 3), np.float32),
        np.ones((30, 40), np.float16),
        np.full((60, 80, 3), 255, np.uint8)[::2, ::-2],
    ],
    ids=lambda a: f"{a.shape} {a.dtype}",
)
def test_arrays(array: np.ndarray) -> None:
    rgb = load_rgb(array)
    assert (rgb.mode, rgb.size, rgb.getpixel((3, 3))) == ("RGB", (40, 30), WHITE)


def test_path_picture_and_array_are_the_same_picture(tmp_path: Path) -> None:
    halves(150, 90).save(tmp_path / "scene.png")
    pictures = [
        see(tmp_path / "scene.png"),
        see(str(tmp_path / "scene.png")),
        see(halves(150, 90)),
        see(np.asarray(halves(150, 90))),
    ]
    assert all(np.array_equal(pictures[0], other) for other in pictures[1:])


def test_a_picture_of_the_callers_is_left_as_it_was() -> None:
    palette = halves().quantize(4)
    before = palette.tobytes()
    load_rgb(palette)
    assert (palette.mode, palette.tobytes()) == ("P", before)


# ---- what is refused, and how

BAD_FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "cut off.png": (lambda: encoded(halves(300, 300), "PNG")[:-60], "is damaged, cut off"),
    "cut off.jpg": (lambda: encoded(halves(300, 300), "JPEG")[:700], "is damaged, cut off"),
    "text.png": (lambda: b"What is left of the pizza?", "is none of these. Save it as PNG"),
    "empty.jpg": (lambda: b"", "is none of these. Save it as PNG"),
    "page.html": (lambda: b"<html><img src='x'></html>", "is none of these. Save it as PNG"),
    "far too large.png": (lambda: png_header(30_000, 30_000), "has far more"),
    "too large.png": (lambda: png_header(16_000, 10_000), "has 160 (16000×10000)"),
}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "ICO", "AVIF"])
def test_the_formats_that_are_promised_are_opened_whatever_the_name(
    tmp_path: Path, kind: str
) -> None:
    (tmp_path / "scene.eps").write_bytes(encoded(halves(), kind))
    assert load_rgb(tmp_path / "scene.eps").getpixel((5, 5))[0] > 200


@pytest.mark.parametrize("name", ["scene.eps", "scene.jpg"])
def test_no_program_is_started_for_postscript(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Pillow would hand it to Ghostscript: a stand-in writes down that it ran."""
    ran, stand_in = tmp_path / "ran", tmp_path / "bin" / "gs"
    stand_in.parent.mkdir()
    stand_in.write_text(f"#!/bin/sh\ntouch '{ran}'\n")
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", str(stand_in.parent), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # it looks for Ghostscript once
    picture = tmp_path / name
    picture.write_bytes(encoded(halves(), "EPS"))
    with Image.open(picture) as opened, contextlib.suppress(OSError):
        opened.load()
    assert ran.exists(), "the stand-in is what Pillow would start"
    ran.unlink()
    with pytest.raises(ImageError, match=r"expected a picture as PNG, JPEG, .* is none of these"):
        load_rgb(picture)
    assert not ran.exists()


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_named(tmp_path: Path, name: str) -> None:
    make, expected = BAD_FILES[name]
    (tmp_path / name).write_bytes(make())
    with pytest.raises(ImageError) as failure:
        load_rgb(tmp_path / name)
    assert expected in str(failure.value)
    assert name in str(failure.value)


def test_a_mode_that_cannot_be_shown_is_refused() -> None:
    with pytest.raises(ImageError, match="of a kind that cannot be shown"):
        load_rgb(Image.new("La", (4, 4)))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    halves().save(tmp_path / "scene.png")
    for wrong, words in {
        tmp_path: "found a folder there",
        tmp_path / "nothing.png": "found nothing there",
        f"{tmp_path}/scene.png ": "a space at its end counts",
        "https://example.org/cat.png": "labkit loads nothing from the network",
        "": "found a folder there",
        "x" * 5000: "too long",
    }.items():
        with pytest.raises(ImageError) as failure:
            load_rgb(wrong)
        assert words in str(failure.value)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (np.zeros((4, 4), bool), "received bool"),
        (np.zeros((4, 4), np.int64), "received int64"),
        (np.zeros((4, 4, 3), np.uint16), "received uint16"),
        (np.full((4, 4), np.nan), r"received nan\.\.nan"),
        (np.full((4, 4, 3), 255.0), r"received 255\.\.255; divide by 255"),
        (np.full((4, 4, 3), -0.1), "received -0.1"),
        (np.zeros((3, 224, 224), np.uint8), r"channels last, received shape \(3, 224, 224\)"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"received shape \(1, 4, 4, 3\)"),
        (np.zeros((0, 4, 3), np.uint8), r"received shape \(0, 4, 3\)"),
        (np.zeros(5, np.uint8), r"received shape \(5,\)"),
        (np.array([["a"]]), "received <U1"),
        ([[0, 1]], "received list"),
        (None, "received NoneType"),
        (bytearray(b"\x89PNG"), "received bytearray"),
        (b"\x89PNG", "the file is none of these"),
    ],
)
def test_wrong_kinds_say_what_came(wrong: Any, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        load_rgb(wrong)


def test_a_strip_and_a_huge_array_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert see(np.zeros((10, 2000, 3), np.uint8)).shape == (28, 1596, 3)  # 1:200 is the longest
    with pytest.raises(ImageError, match="got 2010×10 pixels"):
        see(np.zeros((10, 2010, 3), np.uint8))
    monkeypatch.setattr(images, "MAX_MEGAPIXELS", 1)
    with pytest.raises(ImageError, match=r"at most 1 megapixels, the array has 1 \(1001×1000\)"):
        load_rgb(np.zeros((1000, 1001), np.uint8))


def test_a_closed_picture_is_refused(tmp_path: Path) -> None:
    halves().save(tmp_path / "scene.png")
    with Image.open(tmp_path / "scene.png") as picture:
        pass
    with pytest.raises(ImageError, match="the picture is damaged, cut off"):
        load_rgb(picture)


def test_hundreds_of_damaged_files_give_pictures_or_image_errors(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a scene"
    kinds = {
        "JPEG": {"exif": exif},
        "PNG": {"exif": exif},
        "GIF": {},
        "TIFF": {},
        "WEBP": {},
        "BMP": {},
        "ICO": {},
        "AVIF": {},
    }
    whole = [encoded(halves(24, 18), kind, **options) for kind, options in kinds.items()]
    chance, outcomes = random.Random(5), {"seen": 0, "refused": 0}
    for _ in range(600):
        data = bytearray(chance.choice(whole))
        for _ in range(chance.randint(0, 6)):
            data[chance.randrange(min(len(data), 300))] = chance.randrange(256)
        (tmp_path / "damaged").write_bytes(data[: chance.randint(1, 2 * len(data))])
        try:
            assert load_rgb(tmp_path / "damaged").mode == "RGB"
            outcomes["seen"] += 1
        except ImageError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 60, outcomes
