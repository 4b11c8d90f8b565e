"""Any picture a learner may have, as the pixels the model looks at."""

import io
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from labkit.base.errors import ImageError
from labkit.model.vision import smart_resize

MAX_MEGAPIXELS = 150
CHANNELS = ((), (1,), (3,), (4,))
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "ICO", "AVIF", "HEIF")
"""Those that are opened, the last two where Pillow has them. It knows more, and starts other
programs for some: Ghostscript for EPS.
"""
ImageLike: TypeAlias = str | Path | bytes | Image.Image | np.ndarray


def load_rgb(image: ImageLike) -> Image.Image:
    """A picture as upright 8-bit RGB.

    EXIF rotation is applied; transparency is laid on white; palette, grey, CMYK and
    16-bit pictures are converted; of an animation the first frame is taken.

    Parameters
    ----------
    image
        A path, a file's bytes, a PIL image, or an array: (height, width), or with 1, 3 or 4
        channels, uint8 or float in 0..1, RGB.

    Raises
    ------
    ImageError
        If it is missing, damaged, too large, or not a picture.
    """
    if isinstance(image, np.ndarray):
        return _from_array(image)
    if isinstance(image, Image.Image):
        return _upright_rgb(image, "the picture")
    if not isinstance(image, (str, Path, bytes)):
        raise ImageError(
            f"expected a path, a PIL image or a NumPy array, received {type(image).__name__}"
        )
    name = "the file" if isinstance(image, bytes) else str(image)
    if name.startswith(("http://", "https://")):
        raise ImageError(
            f"expected a file, received a web address: {name}. labkit loads nothing from the "
            "network; save the picture first."
        )
    try:
        return _from_file(io.BytesIO(image) if isinstance(image, bytes) else Path(image), name)
    except UnidentifiedImageError as error:
        raise ImageError(
            f"expected a picture as {', '.join(_known())}, but {name} is none of these. Save "
            "it as PNG."
        ) from error
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"expected at most {MAX_MEGAPIXELS} megapixels, {name} has far more. Shrink it first."
        ) from error
    except ImageError:
        raise
    except Exception as error:  # readers of damaged files raise whatever they trip over
        raise ImageError(
            f"expected a picture that can be read, but {name} cannot: {error}. Copy or save it "
            "again."
        ) from error


def _known() -> list[str]:
    return [name for name in FORMATS if name in Image.OPEN]


def _open(file: Path | io.BytesIO) -> Image.Image:
    """As Pillow does: its common readers first, for loading all of them takes a while."""
    Image.preinit()
    with suppress(UnidentifiedImageError):
        return Image.open(file, formats=_known())
    Image.init()
    return Image.open(file, formats=_known())


def _from_file(file: Path | io.BytesIO, name: str) -> Image.Image:
    if isinstance(file, Path) and not file.is_file():
        what = "a folder" if file.is_dir() else "nothing"
        raise ImageError(
            f"expected a picture at {name}, found {what} there. Check the path; a space at its "
            "end counts."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata, and of size: our rule is stricter
        with _open(file) as opened:
            return _upright_rgb(opened, name)


def _from_array(array: np.ndarray) -> Image.Image:
    if array.ndim < 2 or array.shape[2:] not in CHANNELS or 0 in array.shape:
        raise ImageError(
            "expected an array (height, width), or with 1, 3 or 4 channels last, received shape "
            f"{array.shape}"
        )
    if array.dtype.kind == "f":
        low, high = array.min(), array.max()
        if not 0 <= low <= high <= 1:  # nor NaN
            raise ImageError(
                f"expected floats in 0..1, received {low:.4g}..{high:.4g}; divide by 255, "
                "or pass uint8"
            )
        array = np.rint(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise ImageError(f"expected uint8, or float in 0..1, received {array.dtype}")
    if array.shape[2:] == (1,):
        array = array[:, :, 0]
    return _upright_rgb(Image.fromarray(np.ascontiguousarray(array)), "the array")


def _upright_rgb(image: Image.Image, name: str) -> Image.Image:
    megapixels = image.width * image.height / 1e6
    if megapixels > MAX_MEGAPIXELS:
        raise ImageError(
            f"expected at most {MAX_MEGAPIXELS} megapixels, {name} has {megapixels:.0f} "
            f"({image.width}×{image.height}). Shrink it first."
        )
    try:
        image.load()
        return _to_rgb(ImageOps.exif_transpose(image))
    except Exception as error:  # as above
        raise ImageError(
            f"{name} is damaged, cut off, or of a kind that cannot be shown: {error}. Copy or "
            "save it again."
        ) from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return _from_deep(image)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _from_deep(image: Image.Image) -> Image.Image:
    """16- and 32-bit grey: by 257 where it is 16-bit, else stretched from its darkest to its
    lightest.
    """
    values = np.asarray(image, np.float64)
    if not np.isfinite(values).all():
        raise ValueError("some of its values are not numbers")
    low, high = float(values.min()), float(values.max())
    if image.mode.startswith("I;16") or (image.mode == "I" and low >= 0 and 255 < high <= 65535):
        low, high = 0, 65535
    scaled = (values - low) / ((high - low) or 1) * 255
    return Image.fromarray(np.rint(scaled).astype(np.uint8)).convert("RGB")


def prepare(image: ImageLike, *, min_pixels: int, max_pixels: int) -> np.ndarray:
    """A picture at the size at which Qwen2-VL looks at it.

    Parameters
    ----------
    image
        As for `load_rgb`.
    min_pixels, max_pixels
        Bounds of the area, from the checkpoint's ``preprocessor_config.json``.

    Returns
    -------
    numpy.ndarray
        (height, width, 3) uint8 RGB; both sides are multiples of 28. Resized with Pillow's
        bicubic filter, as transformers does, and the same for every engine.
    """
    rgb = load_rgb(image)
    height, width = smart_resize(
        rgb.height, rgb.width, min_pixels=min_pixels, max_pixels=max_pixels
    )
    return np.array(rgb.resize((width, height), Image.Resampling.BICUBIC))
