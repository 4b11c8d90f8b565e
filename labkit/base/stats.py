"""Statistics in pure NumPy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


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


MARGIN = 0.02
"""Speed-ups nearer to 1 than this are not called one.

Two processes of one program differ by up to this much through where their memory happens to lie, which no
number of pairs within the two can show (``tests/benchmarks/harness_overhead.py`` measures it).
"""
LEAST_PAIRS = 9
"""With nine, the second and the eighth of the sorted values enclose the median 96 times of 100."""


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """How many times as fast the candidate is: the estimate and its 95 % interval."""

    speedup: float
    low: float
    high: float
    pairs: int

    @property
    def verdict(self) -> str:
        """Says "faster" or "slower" if the whole interval says so by more than `MARGIN`, else "undecided"."""
        return (
            "faster"
            if self.low > 1 + MARGIN
            else "slower"
            if self.high < 1 - MARGIN
            else "undecided"
        )

    def __str__(self) -> str:
        return f"{self.speedup:.3g}× ({self.low:.3g} to {self.high:.3g})"


def ratio(
    baseline: Sequence[float], candidate: Sequence[float], *, seed: int = 0, resamples: int = 4000
) -> Ratio:
    """Speed-up of interleaved pairs: median(baseline) / median(candidate), above 1 where the candidate takes less.

    The interval is the bootstrap's percentile interval (Efron 1979). Whole pairs are drawn again, so what slowed
    both sides of a pair, such as a warm CPU, stays together.

    Parameters
    ----------
    baseline, candidate
        (pairs,) seconds; ``baseline[i]`` and ``candidate[i]`` were measured one after the other.
    seed
        Of the resampling.
    resamples
        How often to draw.

    Raises
    ------
    ValueError
        With fewer than `LEAST_PAIRS` pairs, sides of unlike length, or values that are no positive seconds.

    Examples
    --------
    >>> print(ratio([2.0] * 9, [1.0] * 9), ratio([2.0] * 9, [1.0] * 9).verdict)
    2× (2 to 2) faster
    """
    a, b = np.asarray(baseline, float), np.asarray(candidate, float)
    if a.shape != b.shape or a.ndim != 1 or len(a) < LEAST_PAIRS:
        raise ValueError(
            f"expected at least {LEAST_PAIRS} pairs of values, received {a.shape} and {b.shape}"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all() and min(a.min(), b.min()) > 0):
        raise ValueError(
            "expected positive seconds, received a value that is zero, negative or not a number"
        )
    drawn = np.random.default_rng(seed).integers(len(a), size=(resamples, len(a)))
    low, high = np.percentile(
        np.median(a[drawn], axis=1) / np.median(b[drawn], axis=1), (2.5, 97.5)
    )
    return Ratio(
        speedup=float(np.median(a) / np.median(b)), low=float(low), high=float(high), pairs=len(a)
    )


def stability(
    values: Sequence[float], *, spread: float = 0.10, drift: float = 0.05
) -> tuple[str, ...]:
    """What is doubtful about values measured one after the other, in words; empty if nothing is.

    Parameters
    ----------
    values
        (n,) seconds, in the order of measurement.
    spread
        Largest interquartile range that passes, as a share of the median.
    drift
        Largest change over the run that passes, as a share of the median: the median slope of all pairs of values
        (Theil 1950, Sen 1968), if the order of the values also follows time (Spearman's rank correlation over 0.7).

    Examples
    --------
    >>> stability([1.0, 1.01, 0.99] * 3), stability([1.0, 1.1, 1.2, 1.3, 1.4, 1.5])
    ((), ('spread: the middle half spans 20 % of the median', 'drift: 40 % up from the first value to the last'))
    """
    x, time = np.asarray(values, float), np.arange(len(values))
    middle = float(np.median(x))
    found = []
    low, high = np.percentile(x, (25, 75))
    if high - low > spread * middle:
        found.append(
            f"spread: the middle half spans {(high - low) / middle:.0%} of the median".replace(
                "%", " %"
            )
        )
    first, second = np.triu_indices(len(x), 1)
    change = float(np.median((x[second] - x[first]) / (second - first))) * (len(x) - 1) / middle
    rank = float(np.corrcoef(x.argsort().argsort(), time)[0, 1])
    if abs(change) > drift and abs(rank) > 0.7:
        found.append(
            f"drift: {abs(change):.0%} {'up' if change > 0 else 'down'} from the first value to the last".replace(
                "%", " %"
            )
        )
    return tuple(found)
