"""Statistics in pure NumPy."""

import math
from collections.abc import Sequence

import numpy as np

from labkit.base.data import frozen

MARGIN = 0.02
"""Speed-ups nearer to 1 than this are not called one.

Two processes of one program differ by up to this much through where their memory happens to lie,
which no number of pairs within the two can show (``tests/benchmarks/harness_overhead.py`` measures
it).
"""
LEAST_PAIRS = 9
"""With nine, the second and the eighth of the sorted values enclose the median 96 times of 100."""
POSSIBLE_S = (1e-12, 1e12)
"""Nothing that is timed takes less or more; what says so is damaged."""


def wilson(right: int, total: int, *, z: float = 1.96) -> tuple[float, float]:
    """Interval of a counted proportion (Wilson 1927); z = 1.96 holds the truth 19 times of 20.

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
    share, scale = right / total, 1 + z * z / total
    centre = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def paired(gained: int, lost: int, total: int, *, z: float = 1.96) -> tuple[float, float]:
    """Interval of the difference of two counted proportions, of the same things counted twice.

    Parameters
    ----------
    gained, lost
        How many only the second, and only the first, has right.
    total
        How many were counted.

    Source
    ------
    Agresti and Min 2005: Wald's interval after half a case was added to each of the four counts.

    Examples
    --------
    >>> tuple(round(v, 3) for v in paired(2, 12, 400))
    (-0.044, -0.006)
    """
    if total < 1 or min(gained, lost) < 0 or gained + lost > total:
        raise ValueError(
            f"expected counts within total > 0, received {gained} and {lost} of {total}"
        )
    more, fewer, n = gained + 0.5, lost + 0.5, total + 2
    difference = (more - fewer) / n
    spread = z * math.sqrt(more + fewer - (more - fewer) ** 2 / n) / n
    return difference - spread, difference + spread


@frozen
class Ratio:
    """How many times as fast the candidate is: the estimate and its 95 % interval."""

    speedup: float
    low: float
    high: float
    pairs: int

    @property
    def verdict(self) -> str:
        """Says "faster" or "slower" if the whole interval does, by more than `MARGIN`."""
        if self.low > 1 + MARGIN:
            return "faster"
        return "slower" if self.high < 1 - MARGIN else "undecided"

    def __str__(self) -> str:
        return f"{self.speedup:.3g}× ({self.low:.3g} to {self.high:.3g})"


def ratio(
    baseline: Sequence[float], candidate: Sequence[float], *, seed: int = 0, resamples: int = 4000
) -> Ratio:
    """Speed-up of interleaved pairs: median(baseline) / median(candidate).

    It is above 1 where the candidate takes less. The interval is the bootstrap's percentile
    interval (Efron 1979). Whole pairs are drawn again, so what slowed both sides of a pair, such as
    a warm CPU, stays together.

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
        With fewer than `LEAST_PAIRS` pairs, sides of unlike length, or values that nothing takes.

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
    least, most = POSSIBLE_S
    if not all(np.all((side > least) & (side < most)) for side in (a, b)):
        raise ValueError(f"expected positive seconds, {least:g} to {most:g}, received others")
    drawn = np.random.default_rng(seed).integers(len(a), size=(resamples, len(a)))
    resampled = np.median(a[drawn], axis=1) / np.median(b[drawn], axis=1)
    low, high = np.percentile(resampled, (2.5, 97.5)).tolist()
    return Ratio(speedup=float(np.median(a) / np.median(b)), low=low, high=high, pairs=len(a))


def stability(
    values: Sequence[float], *, spread: float = 0.10, drift: float = 0.05
) -> tuple[str, ...]:
    r"""What is doubtful about values measured one after the other, in words; empty if nothing is.

    Parameters
    ----------
    values
        (n,) seconds, in the order of measurement.
    spread
        Largest interquartile range that passes, as a share of the median.
    drift
        Largest change over the run that passes, as a share of the median: the median slope of all
        pairs of values (Theil 1950, Sen 1968), if the order of the values also follows time
        (Spearman's rank correlation over 0.7).

    Examples
    --------
    >>> stability([1.0, 1.01, 0.99] * 3)
    ()
    >>> print(*stability([1.0, 1.1, 1.2, 1.3, 1.4, 1.5]), sep="\n")
    spread: the middle half spans 20 % of the median
    drift: 40 % up from the first value to the last
    """
    x, time = np.asarray(values, float), np.arange(len(values))
    low, middle, high = np.percentile(x, (25, 50, 75))
    doubts = []
    if high - low > spread * middle:
        doubts.append(
            f"spread: the middle half spans {100 * (high - low) / middle:.0f} % of the median"
        )
    first, second = np.triu_indices(len(x), 1)
    # Twice the rank of each value: equal values share the mean of theirs.
    ranks = sum(np.searchsorted(np.sort(x), x, side) for side in ("left", "right"))
    change = np.median((x[second] - x[first]) / (second - first)) * (len(x) - 1) / middle
    if abs(change) > drift and abs(np.corrcoef(ranks, time)[0, 1]) > 0.7:
        way = "up" if change > 0 else "down"
        doubts.append(f"drift: {100 * abs(change):.0f} % {way} from the first value to the last")
    return tuple(doubts)
