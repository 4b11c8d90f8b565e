"""What Qwen2-VL does to a picture, in NumPy.

Resize rule, pixel values, patches in 2×2 merge order, patch embedding, positions of patches
and of prompt tokens, attention from Q and K and what is read from it. The definitions follow Qwen2-VL (Wang et al. 2024, sections 2.1
and 2.2) as implemented in transformers 4.57; tests hold them equal.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from labkit.base.errors import ImageError

PATCH_SIZE = 14
MERGE_SIZE = 2
TEMPORAL_PATCH_SIZE = 2
FACTOR = PATCH_SIZE * MERGE_SIZE
MAX_ASPECT_RATIO = 200
IMAGE_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
IMAGE_STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)


def smart_resize(
    height: int, width: int, *, min_pixels: int, max_pixels: int, factor: int = FACTOR
) -> tuple[int, int]:
    """The size at which Qwen2-VL looks at a picture.

    Both sides become multiples of ``factor``, the area lies between the bounds but for
    that rounding, and the aspect ratio is kept as closely as it allows.

    Parameters
    ----------
    height, width
        Size of the picture in pixels.
    min_pixels, max_pixels
        Bounds of the area, in pixels.
    factor
        Patch size times merge size.

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
            f"expected sides within 1:{MAX_ASPECT_RATIO}, got {width}×{height} pixels, which Qwen2-VL refuses. Crop the picture first."
        )
    rows, cols = round(height / factor) * factor, round(width / factor) * factor
    if rows * cols > max_pixels:
        scale = math.sqrt(height * width / max_pixels)
        rows = max(factor, math.floor(height / scale / factor) * factor)
        cols = max(factor, math.floor(width / scale / factor) * factor)
    elif rows * cols < min_pixels:
        scale = math.sqrt(min_pixels / (height * width))
        rows, cols = (
            math.ceil(height * scale / factor) * factor,
            math.ceil(width * scale / factor) * factor,
        )
    return rows, cols


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
    if height % FACTOR or width % FACTOR:
        raise ImageError(
            f"expected sides that are multiples of {FACTOR}, got {width}×{height}; call smart_resize first"
        )
    rows, cols = height // PATCH_SIZE, width // PATCH_SIZE
    x = (image.astype(np.float32) / 255 - IMAGE_MEAN) / IMAGE_STD
    x = x.reshape(rows // 2, 2, PATCH_SIZE, cols // 2, 2, PATCH_SIZE, 3)
    x = x.transpose(
        0, 3, 1, 4, 6, 2, 5
    )  # block row, block column, row in block, column in block, channel, y, x
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
    rows, cols = np.divmod(np.arange(grid_rows * grid_cols), grid_cols)
    picture = np.stack([np.zeros_like(rows), rows, cols]) + before
    start = before + max(grid_rows, grid_cols)
    return np.concatenate(
        [
            np.tile(np.arange(before), (3, 1)),
            picture,
            np.tile(np.arange(start, start + after), (3, 1)),
        ],
        axis=1,
    )


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
            f"expected {rows * cols} patches for a grid of {rows}×{cols}, received {sequence.shape[axis]}"
        )
    return np.take(sequence, np.argsort(merge_order(rows, cols)), axis=axis)


def patch_embedding(patches: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Step 2, linear embedding: Conv3D whose window is as large as its step is one matrix product.

    Parameters
    ----------
    patches
        (n_patches, 1176) float32, from `pixel_values`.
    weight
        (d_model, 3, 2, 14, 14) float32, the checkpoint's ``visual.patch_embed.proj.weight``; it has no bias.

    Returns
    -------
    numpy.ndarray
        (n_patches, d_model) float32.
    """
    if patches.ndim != 2 or patches.shape[1] != weight[0].size:
        raise ImageError(
            f"expected patches of {weight[0].size} values, received an array of shape {patches.shape}"
        )
    embedded: np.ndarray = patches @ weight.reshape(len(weight), -1).T
    return embedded


def rope_2d(rows: int, cols: int, d_head: int, *, theta: float = 10000.0) -> np.ndarray:
    """Step 3, position: the angle by which each pair of values of Q and K is turned.

    The first half of the pairs turns with the patch's row, the second with its column.

    Returns
    -------
    numpy.ndarray
        (rows * cols, d_head / 2) float32, radians, in picture order.

    Examples
    --------
    >>> (100 * rope_2d(2, 2, 8)).round().astype(int).tolist()
    [[0, 0, 0, 0], [0, 0, 100, 1], [100, 1, 0, 0], [100, 1, 100, 1]]
    """
    if d_head % 4:
        raise ImageError(f"expected d_head to be a multiple of 4, received {d_head}")
    frequency = theta ** (-np.arange(0, d_head // 2, 2) / (d_head // 2))
    row, col = np.divmod(np.arange(rows * cols), cols)
    return np.concatenate([np.outer(row, frequency), np.outer(col, frequency)], axis=1).astype(
        np.float32
    )


def rotate(x: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Turn each pair of values (i, i + d_head / 2) by its angle.

    Parameters
    ----------
    x
        (..., n, d_head).
    angles
        (n, d_head / 2) in radians.
    """
    first, second = np.split(x, 2, axis=-1)
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def attention_pattern(
    q: np.ndarray, k: np.ndarray, *, mask: np.ndarray | None = None
) -> np.ndarray:
    """Who takes how much from whom: softmax(Q Kᵀ / √d_head).

    Parameters
    ----------
    q
        (..., n_queries, d_head), after rotation.
    k
        (..., n_keys, d_head), after rotation.
    mask
        (n_queries, n_keys) bool, True where a query may see a key; ``np.tri(n, dtype=bool)`` lets none see a later one.

    Returns
    -------
    numpy.ndarray
        (..., n_queries, n_keys) float32; rows are queries, columns keys, each row sums to 1.
    """
    if q.shape[-1] != k.shape[-1]:
        raise ImageError(f"expected Q and K of one width, received {q.shape} and {k.shape}")
    scores = (q @ np.swapaxes(k, -1, -2)).astype(np.float32) / np.float32(math.sqrt(q.shape[-1]))
    if mask is not None:
        scores = np.where(mask, scores, np.float32(-np.inf))
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    pattern: np.ndarray = weights / weights.sum(axis=-1, keepdims=True)
    return pattern


def attention_received(pattern: np.ndarray) -> np.ndarray:
    """How much each patch is attended to, as a multiple of its even share.

    Parameters
    ----------
    pattern
        (..., n_queries, n_keys).

    Returns
    -------
    numpy.ndarray
        (..., n_keys); the mean is 1.
    """
    received: np.ndarray = pattern.mean(axis=-2) * pattern.shape[-1]
    return received


def attention_rollout(patterns: Iterable[np.ndarray], *, residual: float = 0.5) -> np.ndarray:
    """Follow attention through all layers: the product of (residual · I + (1 - residual) · mean over heads).

    A crude account: it takes values for equal, heads for alike, and leaves the MLPs out
    (Abnar and Zuidema 2020, section 3). This tower has no CLS token, so all rows are returned.

    Parameters
    ----------
    patterns
        (heads, n, n) of each layer, first layer first; one at a time is enough.
    residual
        Share of a patch's own path. 0 leaves the residual connection out, which is wrong on purpose.

    Returns
    -------
    numpy.ndarray
        (n, n) float32; row: patch after the last layer; column: patch before the first; each row sums to 1.
    """
    rolled: np.ndarray | None = None
    for pattern in patterns:
        mixed = residual * np.eye(pattern.shape[-1], dtype=np.float32) + (
            1 - residual
        ) * pattern.mean(axis=0)
        mixed /= mixed.sum(axis=-1, keepdims=True)
        rolled = mixed if rolled is None else mixed @ rolled
    if rolled is None:
        raise ImageError("expected the attention patterns of at least one layer, received none")
    return rolled


def attention_entropy(pattern: np.ndarray) -> np.ndarray:
    """How spread a head's attention is: the entropy of its rows in bits, averaged over queries.

    Returns
    -------
    numpy.ndarray
        (...,); 0 looks at one patch, log2(n_keys) looks everywhere alike.
    """
    spread: np.ndarray = -(pattern * np.log2(np.maximum(pattern, 1e-30))).sum(axis=-1).mean(axis=-1)
    return spread


def attention_distance(pattern: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """How far a head looks: the mean distance from query to key, in patches, weighted by attention.

    Parameters
    ----------
    pattern
        (..., n, n) in picture order, n = rows * cols.
    """
    place = np.stack(np.divmod(np.arange(rows * cols), cols), axis=1)
    apart = np.linalg.norm(place[:, None] - place[None], axis=-1)
    mean: np.ndarray = (pattern * apart).sum(axis=-1).mean(axis=-1)
    return mean
