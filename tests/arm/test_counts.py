"""Counts by class, by function and by share."""

from __future__ import annotations

import json

import numpy as np
import pytest

from labkit.arm.counts import CLASSES, Counts


def made_up(*rows: tuple[str, int]) -> Counts:
    sdot = np.eye(len(CLASSES))[CLASSES.index("sdot")]
    return Counts({("_mnncengine", name): n * sdot for name, n in rows})


def test_counts_by_class_by_function_and_by_share() -> None:
    counts = made_up(("memcpy", 10), ("kai_run_a", 60), ("kai_get_b", 30), ("unused", 0))
    assert counts.total == 100
    assert counts.by_class()["sdot"] == 100
    assert [name for (_, name), _ in counts.by_function()] == ["kai_run_a", "kai_get_b", "memcpy"]
    assert counts.share("kai_") == pytest.approx(0.9)
    assert made_up().share("kai_") == 0
    assert json.loads(json.dumps(counts.to_dict()))["kai_share"] == pytest.approx(0.9)


def test_functions_are_chosen_by_how_their_names_begin() -> None:
    counts = made_up(("kai_run_a", 60), ("memcpy", 10), ("kai_get_b", 30))
    chosen = counts.inside("kai_get", "mem")
    assert [name for _, name in chosen.functions] == ["memcpy", "kai_get_b"]
    assert chosen.by_class()["sdot"] == 40
