"""What Qwen2-VL does to a picture, in NumPy.

Resize rule, pixel values, patches in 2×2 merge order, positions of patches and of prompt tokens.
The definitions follow Qwen2-VL (Wang et al. 2024, sections 2.1 and 2.2) as implemented in
transformers 4.57; tests hold them equal.
"""

import math

import numpy as np

from labkit.base.errors import ImageError

PATCH_SIZE = 14
MERGE_SIZE = 2
TEMPORAL_PATCH_SIZE = 2
FACTOR = PATCH_SIZE * MERGE_SIZE
MAX_ASPECT_RATIO = 200
IMAGE_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
IMAGE_STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)


def smart_resize(height: int, width: int, *, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """The size at which Qwen2-VL looks at a picture.

    Both sides become multiples of 28, the area lies between the bounds but for
    that rounding, and the aspect ratio is kept as closely as it allows.

    Parameters
    ----------
    height, width
        Size of the picture in pixels.
    min_pixels, max_pixels
        Bounds of the area, in pixels.

    Returns
    -------
    tuple of int
        (height, width) in pixels.

    Raises
    ------
    ImageError
        If one side is over 200 times the other, or a side is zero.

    Examples
    --------
    >>> smart_resize(480, 640, min_pixels=3136, max_pixels=1003520)
    (476, 644)
    """
    if min(height, width) < 1:
        raise ImageError(f"expected a picture with at least one pixel, got {width}×{height}")
    if max(height, width) / min(height, width) > MAX_ASPECT_RATIO:
        raise ImageError(
            f"expected sides within 1:{MAX_ASPECT_RATIO}, got {width}×{height} pixels, which "
            "Qwen2-VL refuses. Crop the picture first."
        )
    sides = height, width
    rows, cols = (round(side / FACTOR) * FACTOR for side in sides)
    if rows * cols > max_pixels:
        scale = math.sqrt(height * width / max_pixels)
        rows, cols = (max(1, math.floor(side / scale / FACTOR)) * FACTOR for side in sides)
    elif rows * cols < min_pixels:
        scale = math.sqrt(min_pixels / (height * width))
        rows, cols = (math.ceil(side * scale / FACTOR) * FACTOR for side in sides)
    return rows, cols


def grid(pixels: np.ndarray, cell: int = PATCH_SIZE) -> tuple[int, int]:
    """Rows and columns of a picture (height, width, ...), in cells of so many pixels a side."""
    return pixels.shape[0] // cell, pixels.shape[1] // cell


def pixel_values(image: np.ndarray) -> np.ndarray:
    """Cut a resized picture into model-ready patches.

    Parameters
    ----------
    image
        (height, width, 3) uint8, RGB; both sides multiples of 28.

    Returns
    -------
    numpy.ndarray
        (n_patches, 1176) float32, in 2×2 merge order; each row is a patch as
        (channel, frame, row, column), the still picture repeated for both frames.

    Raises
    ------
    ImageError
        If the shape or dtype is not as above.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ImageError(f"expected (height, width, 3) uint8, got {image.shape} {image.dtype}")
    height, width = image.shape[:2]
    if height % FACTOR or width % FACTOR or 0 in image.shape:
        raise ImageError(
            f"expected a picture whose sides are multiples of {FACTOR}, received height {height}, "
            f"width {width}; smart_resize tells which are near"
        )
    rows, cols = grid(image)
    x = (image.astype(np.float32) / 255 - IMAGE_MEAN) / IMAGE_STD
    x = x.reshape(rows // 2, 2, PATCH_SIZE, cols // 2, 2, PATCH_SIZE, 3)
    # Block row, block column, row in block, column in block, channel, y, x.
    x = x.transpose(0, 3, 1, 4, 6, 2, 5)
    x = np.repeat(x.reshape(rows * cols, 3, 1, PATCH_SIZE, PATCH_SIZE), TEMPORAL_PATCH_SIZE, axis=2)
    return np.ascontiguousarray(x.reshape(rows * cols, -1))


def patch_positions(rows: int, cols: int) -> np.ndarray:
    """Row and column of each patch, in the order of ``pixel_values``.

    Returns
    -------
    numpy.ndarray
        (2, rows * cols) int32: rows, then columns.

    Examples
    --------
    >>> patch_positions(2, 4).tolist()
    [[0, 0, 1, 1, 0, 0, 1, 1], [0, 1, 0, 1, 2, 3, 2, 3]]
    """
    order = merge_order(rows, cols)
    return np.stack([order // cols, order % cols]).astype(np.int32)


def merge_order(rows: int, cols: int) -> np.ndarray:
    """For each place in the sequence, the row-major number of its patch.

    Returns
    -------
    numpy.ndarray
        (rows * cols,) int64. ``x_grid = np.empty_like(x); x_grid[merge_order(r, c)] = x``
        puts a sequence back into picture order.
    """
    if rows % MERGE_SIZE or cols % MERGE_SIZE:
        raise ImageError(f"expected a grid with even sides, got {rows}×{cols} patches")
    grid = np.arange(rows * cols).reshape(rows // 2, 2, cols // 2, 2)
    order: np.ndarray = grid.transpose(0, 2, 1, 3).reshape(-1)
    return order


def mrope_positions(before: int, grid_rows: int, grid_cols: int, after: int) -> np.ndarray:
    """M-RoPE position ids of a prompt with one picture.

    Text counts on in all three rows; a picture keeps one time, and its visual
    tokens get their row and column; the text after it goes on from the largest id.

    Parameters
    ----------
    before, after
        Number of text tokens on each side of the visual tokens.
    grid_rows, grid_cols
        Grid of *visual tokens* (patches divided by the merge size).

    Returns
    -------
    numpy.ndarray
        (3, before + grid_rows * grid_cols + after) int64: time, height, width.

    Examples
    --------
    >>> mrope_positions(1, 2, 2, 1).tolist()
    [[0, 1, 1, 1, 1, 3], [0, 1, 1, 2, 2, 3], [0, 1, 2, 1, 2, 3]]
    """
    row, col = np.divmod(np.arange(grid_rows * grid_cols), grid_cols)
    picture = before + np.stack([np.zeros_like(row), row, col])
    text = np.tile(np.arange(before + after), (3, 1))
    text[:, before:] += max(grid_rows, grid_cols)
    return np.concatenate([text[:, :before], picture, text[:, before:]], axis=1)


def to_grid(sequence: np.ndarray, rows: int, cols: int, *, axis: int = 0) -> np.ndarray:
    """Put patches that stand in 2×2 merge order back into picture order, row by row.

    Parameters
    ----------
    sequence
        Any array with ``rows * cols`` patches along ``axis``.

    Examples
    --------
    >>> to_grid(np.array([0, 1, 4, 5, 2, 3, 6, 7]), 2, 4).tolist()
    [0, 1, 2, 3, 4, 5, 6, 7]
    """
    if sequence.shape[axis] != rows * cols:
        raise ImageError(
            f"expected {rows * cols} patches for a grid of {rows}×{cols}, received "
            f"{sequence.shape[axis]}"
        )
    return np.take(sequence, np.argsort(merge_order(rows, cols)), axis=axis)
