"""Ratios with their intervals, and what makes values doubtful."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from labkit.base import stats

TRUTH = 1.3


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
    found = stats.ratio(factor * a, b)
    assert found.low <= found.speedup <= found.high
    assert found.verdict == verdict
    assert found.speedup == pytest.approx(factor, rel=0.03)


def test_the_estimate_is_the_ratio_of_medians_and_above_one_where_the_candidate_takes_less() -> (
    None
):
    baseline, candidate = (
        [3.0, 1.0, 2.0, 9.0, 4.0, 2.5, 2.2, 2.1, 2.3],
        [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8],
    )
    found = stats.ratio(baseline, candidate)
    assert found.speedup == np.median(baseline) / np.median(candidate) > 1
    assert found.pairs == 9


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
        found = stats.ratio(
            TRUTH * np.exp(noise(rng, 15)), np.exp(noise(rng, 15)), seed=seed, resamples=1000
        )
        hits += found.low <= TRUTH <= found.high
    assert 0.90 <= hits / times <= 0.99


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
