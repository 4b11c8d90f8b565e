"""Proportions and ratios with their intervals, and what makes values doubtful; beside SciPy's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given
from hypothesis import strategies as st

from labkit.base import stats

TRUTH = 1.3


@given(total=st.integers(1, 500), data=st.data())
def test_the_interval_of_a_proportion_is_scipys(total: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, total))
    z = scipy.stats.norm.ppf(0.975)
    theirs = scipy.stats.binomtest(right, total).proportion_ci(0.95, method="wilson")
    assert stats.wilson(right, total, z=z) == pytest.approx(tuple(theirs), abs=1e-12)


@pytest.mark.parametrize(("right", "total"), [(0, 0), (-1, 5), (6, 5)])
def test_a_proportion_that_is_none(right: int, total: int) -> None:
    with pytest.raises(ValueError, match="expected 0 <= right <= total"):
        stats.wilson(right, total)


@pytest.mark.parametrize("truth", [(0.02, 0.05), (0.03, 0.03), (0.2, 0.1)])
def test_a_paired_interval_holds_the_truth_19_times_of_20(truth: tuple[float, float]) -> None:
    gains, losses = truth
    drawn = np.random.default_rng(0).multinomial(300, [gains, losses, 1 - gains - losses], 2000)
    intervals = np.array([stats.paired(gained, lost, 300) for gained, lost, _ in drawn])
    held = (intervals[:, 0] <= gains - losses) & (gains - losses <= intervals[:, 1])
    assert 0.93 < held.mean() < 0.99


@pytest.mark.parametrize("counts", [(-1, 0, 5), (3, 3, 5), (0, 0, 0)])
def test_paired_counts_that_are_none(counts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="expected counts within total > 0"):
        stats.paired(*counts)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (1.03, 1.2, "faster"),
        (1.02, 1.2, "undecided"),
        (0.97, 1.5, "undecided"),
        (0.99, 1.01, "undecided"),
        (0.5, 0.98, "undecided"),
        (0.5, 0.97, "slower"),
    ],
)
def test_verdict_needs_the_whole_interval_beyond_the_margin(
    low: float, high: float, verdict: str
) -> None:
    assert stats.Ratio(speedup=1.0, low=low, high=high, pairs=9).verdict == verdict


@pytest.mark.parametrize(
    ("factor", "verdict"), [(2.0, "faster"), (1.0, "undecided"), (0.5, "slower")]
)
def test_verdict_of_measured_values(factor: float, verdict: str) -> None:
    rng = np.random.default_rng(0)
    a, b = (np.exp(0.01 * rng.standard_normal(15)) for _ in range(2))
    measured = stats.ratio(factor * a, b)
    assert measured.low <= measured.speedup <= measured.high
    assert measured.verdict == verdict
    assert measured.speedup == pytest.approx(factor, rel=0.03)


def test_the_estimate_is_the_ratio_of_medians_and_above_one_where_the_candidate_takes_less() -> (
    None
):
    baseline, candidate = (
        [3.0, 1.0, 2.0, 9.0, 4.0, 2.5, 2.2, 2.1, 2.3],
        [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8],
    )
    measured = stats.ratio(baseline, candidate)
    assert measured.speedup == np.median(baseline) / np.median(candidate) > 1
    assert measured.pairs == 9


def test_one_seed_gives_one_interval() -> None:
    values = np.random.default_rng(1).lognormal(size=(2, 12))
    assert stats.ratio(*values, seed=3) == stats.ratio(*values, seed=3)
    assert stats.ratio(*values, seed=3) != stats.ratio(*values, seed=4)


def test_what_slows_both_of_a_pair_is_not_held_against_either() -> None:
    rng = np.random.default_rng(2)
    both = np.exp(0.3 * rng.standard_normal(15))
    together = stats.ratio(TRUTH * both, both)
    apart = stats.ratio(TRUTH * both, rng.permutation(both))
    assert together.low == pytest.approx(TRUTH)
    assert together.high == pytest.approx(TRUTH)
    assert apart.high / apart.low > 1.1


@pytest.mark.parametrize(
    "noise",
    [
        pytest.param(lambda rng, n: 0.05 * rng.standard_normal(n), id="log-normal"),
        pytest.param(lambda rng, n: 0.02 * rng.standard_t(2, n), id="heavy tails"),
    ],
)
def test_the_interval_holds_the_true_ratio_as_often_as_it_says(
    noise: Callable[[np.random.Generator, int], np.ndarray],
) -> None:
    rng, times, hits = np.random.default_rng(7), 400, 0
    for seed in range(times):
        measured = stats.ratio(
            TRUTH * np.exp(noise(rng, 15)), np.exp(noise(rng, 15)), seed=seed, resamples=1000
        )
        hits += measured.low <= TRUTH <= measured.high
    assert 0.90 <= hits / times <= 0.99


def test_the_interval_is_scipys_bootstrap_of_pairs() -> None:
    rng = np.random.default_rng(3)
    both = np.exp(0.2 * rng.standard_normal(15))
    baseline = 1.1 * both * np.exp(0.05 * rng.standard_normal(15))

    def speedup(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
        return np.median(a, axis=axis) / np.median(b, axis=axis)

    theirs = scipy.stats.bootstrap(
        (baseline, both),
        speedup,
        paired=True,
        method="percentile",
        n_resamples=20_000,
        rng=np.random.default_rng(0),
    ).confidence_interval
    ours = stats.ratio(baseline, both, resamples=20_000)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=0.01)


@pytest.mark.parametrize(
    ("baseline", "candidate", "said"),
    [
        ([1.0] * 8, [1.0] * 8, "at least 9 pairs"),
        ([1.0] * 9, [1.0] * 10, "at least 9 pairs"),
        ([[1.0] * 9], [[1.0] * 9], "at least 9 pairs"),
        ([1.0] * 8 + [0.0], [1.0] * 9, "positive seconds"),
        ([1.0] * 9, [1.0] * 8 + [-1.0], "positive seconds"),
        ([1.0] * 9, [1.0] * 8 + [float("nan")], "positive seconds"),
        ([float("inf")] * 9, [1.0] * 9, "positive seconds"),
    ],
)
def test_values_that_give_no_interval_are_refused(
    baseline: list[float], candidate: list[float], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        stats.ratio(baseline, candidate)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([1.0] * 9, []),
        ([1.0, 1.01, 0.99] * 5, []),
        (
            [1.0, 1.0, 1.0, 1.0, 3.0, 1.0, 1.0, 1.0, 1.0],
            [],
        ),  # one interrupt is what medians are for
        ([1.0, 1.3, 0.8] * 5, ["spread"]),
        (list(np.linspace(1, 1.08, 12)), ["drift"]),
        (list(np.linspace(1.08, 1, 12)), ["drift"]),
        (list(np.linspace(1, 2, 12)), ["spread", "drift"]),
    ],
)
@pytest.mark.filterwarnings("error")
def test_doubts_about_values_are_said_in_words(values: list[float], words: list[str]) -> None:
    assert [text.partition(":")[0] for text in stats.stability(values)] == words


def test_the_direction_of_a_drift_is_said() -> None:
    assert "up" in stats.stability(list(np.linspace(1, 1.08, 12)))[0]
    assert "down" in stats.stability(list(np.linspace(1.08, 1, 12)))[0]


@given(
    steps=st.lists(st.integers(90, 110), min_size=6, max_size=20),
    slope=st.floats(-0.02, 0.02),
)
def test_a_drift_is_what_theil_sen_and_spearman_say(steps: list[int], slope: float) -> None:
    values = np.array(steps) / 100 + slope * np.arange(len(steps))
    run = np.arange(len(values))
    change = scipy.stats.theilslopes(values, run).slope * run[-1] / np.median(values)
    percent = 100 * abs(change)  # not at the threshold, nor where rounding turns
    assume(abs(percent - 5) > 1e-9 and abs(percent % 1 - 0.5) > 1e-9)
    follows = percent > 0 and abs(scipy.stats.spearmanr(values, run).statistic) > 0.7
    words = stats.stability(list(values), spread=10)
    assert bool(words) is bool(percent > 5 and follows)
    assert all(f"{percent:.0f} % {'up' if change > 0 else 'down'}" in w for w in words)


@pytest.mark.parametrize("way", [1, -1])
def test_a_step_is_a_drift_whichever_way(way: int) -> None:
    before_and_after = [1.0] * 6 + [1.2] * 6
    assert "drift" in " ".join(stats.stability(before_and_after[::way]))
