"""Statistics in pure NumPy."""

from __future__ import annotations

import math


def wilson(right: int, total: int, *, z: float = 1.96) -> tuple[float, float]:
    """Interval of a proportion that was counted (Wilson 1927); with z = 1.96 it holds the truth 19 times of 20.

    Raises
    ------
    ValueError
        If ``total`` is zero or ``right`` is not within it.

    Examples
    --------
    >>> tuple(round(v, 3) for v in wilson(9, 10))
    (0.596, 0.982)
    """
    if total < 1 or not 0 <= right <= total:
        raise ValueError(f"expected 0 <= right <= total and total > 0, received {right} of {total}")
    p = right / total
    centre = p + z * z / (2 * total)
    spread = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
