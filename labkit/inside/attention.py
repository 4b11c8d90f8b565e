"""Attention in NumPy: rotation of Q and K, the pattern they give, and what is read from it.

The definitions follow Qwen2-VL (Wang et al. 2024, section 2.1) as implemented in transformers 4.57;
tests hold them equal.
"""

import math
from collections.abc import Iterable

import numpy as np

from labkit.base.errors import ImageError


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
    places = np.indices((rows, cols)).reshape(2, -1)
    angles = [np.outer(place, frequency) for place in places]
    return np.concatenate(angles, axis=1, dtype=np.float32)


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


def turned_ones(rows: int, cols: int, d_head: int) -> np.ndarray:
    """What rotation alone tells of each patch: (rows * cols, d_head), all ones, turned."""
    return rotate(np.ones((rows * cols, d_head), np.float32), rope_2d(rows, cols, d_head))


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How alike vectors are, pair by pair: (..., d) and (..., d), which broadcast, to (...).

    Examples
    --------
    >>> cosines(np.array([[3.0, 0.0], [1.0, 1.0]]), np.array([1.0, 0.0])).round(3).tolist()
    [1.0, 0.707]
    """
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    cosine: np.ndarray = (a * b).sum(axis=-1) / np.maximum(lengths, 1e-12)
    return cosine


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
        (n_queries, n_keys) bool, True where a query may see a key; ``np.tri(n, dtype=bool)`` lets
        none see a later one.

    Returns
    -------
    numpy.ndarray
        (..., n_queries, n_keys) float32; rows are queries, columns keys, each row sums to 1.
    """
    if q.shape[-1] != k.shape[-1]:
        raise ImageError(f"expected Q and K of one width, received {q.shape} and {k.shape}")
    scores = (q @ k.mT).astype(np.float32) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
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
    """Follow attention through all layers.

    The product of (residual · I + (1 - residual) · mean over heads).

    A crude account: it takes values for equal, heads for alike, and leaves the MLPs out
    (Abnar and Zuidema 2020, section 3). This tower has no CLS token, so all rows are returned.

    Parameters
    ----------
    patterns
        (heads, n, n) of each layer, first layer first; one at a time is enough.
    residual
        Share of a patch's own path. 0 leaves the residual connection out: wrong on purpose.

    Returns
    -------
    numpy.ndarray
        (n, n) float32; row: patch after the last layer; column: patch before the first; each row
        sums to 1.
    """
    rolled: np.ndarray | None = None
    for pattern in patterns:
        own = np.eye(pattern.shape[-1], dtype=np.float32)
        mixed = residual * own + (1 - residual) * pattern.mean(axis=0)
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
    places = np.indices((rows, cols)).reshape(2, -1)
    apart = np.hypot(*(places[:, :, None] - places[:, None]))
    mean: np.ndarray = (pattern * apart).sum(axis=-1).mean(axis=-1)
    return mean
