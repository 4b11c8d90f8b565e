"""How much of a picture a model is shown: its visual tokens cost time."""

import math

from labkit.base.data import frozen
from labkit.base.errors import ModelError
from labkit.model.checkpoints import LARGE
from labkit.model.images import ImageLike, load_rgb
from labkit.model.manifest import Manifest
from labkit.model.vision import FACTOR, smart_resize

MAX_PIXELS = 1280 * 28 * 28
"""Larger pictures are shrunk to 1,280 visual tokens; the 2B checkpoint alone would allow 16,384,
which fill a machine's memory.
"""
LARGE_MAX_PIXELS = 256 * 28 * 28
"""A model of more than `LARGE` parameters is shown 256 visual tokens, about 448×448, unless it is
told otherwise: its first answer then comes in seconds, not in minutes.
"""


@frozen
class Seen:
    """At which size a model looks at a picture; printed, it says what a larger budget would show.

    ``whole_tokens`` are the visual tokens that the picture would have at ``whole_pixels``: more
    than it has, where the budget that holds by default has shrunk it.
    """

    height: int
    width: int
    whole_pixels: int
    whole_tokens: int

    @property
    def visual_tokens(self) -> int:
        """What the picture is to the language model."""
        return self.height * self.width // FACTOR**2

    @property
    def shrunk(self) -> bool:
        """Whether the default budget took something away."""
        return self.whole_tokens > self.visual_tokens

    def __str__(self) -> str:
        told = f"seen at {self.width}×{self.height}, {self.visual_tokens:,} visual tokens"
        if not self.shrunk:
            return told
        times = self.whole_tokens / self.visual_tokens
        return (
            f"{told}; max_pixels={self.whole_pixels} shows more ({self.whole_tokens:,}) and takes "
            f"at least {times:.2g} times as long"
        )


@frozen
class Budget:
    """Bounds of a picture's area in pixels; ``whole_pixels`` is what it may be raised to."""

    min_pixels: int
    max_pixels: int
    whole_pixels: int

    @property
    def area(self) -> dict[str, int]:
        """As `labkit.model.images.prepare` takes it."""
        return {"min_pixels": self.min_pixels, "max_pixels": self.max_pixels}

    def seen(self, image: ImageLike) -> Seen:
        """What it makes of a picture."""
        width, height = load_rgb(image).size
        (rows, cols), whole = (
            smart_resize(height, width, min_pixels=self.min_pixels, max_pixels=most)
            for most in (self.max_pixels, self.whole_pixels)
        )
        return Seen(
            height=rows,
            width=cols,
            whole_pixels=self.whole_pixels,
            whole_tokens=math.prod(whole) // FACTOR**2,
        )


def is_large(manifest: Manifest) -> bool:
    """Whether a model has more than `LARGE` parameters."""
    return bool(manifest.source.get("parameters", 0) > LARGE)


def budget(manifest: Manifest, max_pixels: int | None) -> Budget:
    """What was asked for, or by default what the model's size allows, within the checkpoint's own
    bounds.

    Raises
    ------
    ModelError
        If it is less than the checkpoint's smallest picture.
    """
    least, most = manifest.image["min_pixels"], manifest.image["max_pixels"]
    if max_pixels is not None and max_pixels < least:
        raise ModelError(
            f"expected max_pixels of at least {least:,}, this model's smallest, "
            f"received {max_pixels:,}."
        )
    usual = LARGE_MAX_PIXELS if is_large(manifest) else MAX_PIXELS
    shown, whole = (min(max(max_pixels or default, least), most) for default in (usual, MAX_PIXELS))
    return Budget(min_pixels=least, max_pixels=shown, whole_pixels=whole)
