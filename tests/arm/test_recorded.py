"""The counts at the real width: what is kept of rungs, and what the recorded file says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labkit.arm import recorded
from labkit.arm.counting import Rung
from labkit.arm.counts import CLASSES, Counts
from labkit.base.records import from_json, to_json
from labkit.model.parts import Part


def test_totals_and_classes_survive_and_the_largest_functions_are_named() -> None:
    functions = {("lib", f"f{n}"): np.full(len(CLASSES), 10.0 + n) for n in range(20)}
    rung = Rung(cpu="max", kleidiai=True, counts={"vision": Counts(functions)})
    part = Part(name="vision", file=Path("unused"), outputs=(), arrays={}, size="64 patches")
    kept = recorded.record("mini", "3", [part], [rung])
    (read,) = from_json(recorded.RealWidth, to_json(kept)).rungs
    assert read.label == rung.label
    assert read.counts["vision"].by_class() == rung.counts["vision"].by_class()
    assert read.counts["vision"].by_function()[1] == (("lib", "f19"), 29 * len(CLASSES))
    assert len(read.counts["vision"].functions) == recorded.FUNCTIONS + 1


def test_the_recorded_multiplications_follow_from_the_shapes() -> None:
    """As many with KleidiAI as without, and as many as 32 multiply-adds to an smmla ask for."""
    real = recorded.real_width()
    off, on = (rung.counts for rung in real.rungs)
    assert [rung.kleidiai for rung in real.rungs] == [False, True]
    assert off["prefill"].share("kai_") == 0
    assert on["prefill"].share("kai_") > 0.5
    tokens = int(real.sizes["prefill"].split()[0])
    block = 1536 * (1536 + 2 * 256) + 1536 * 1536 + 3 * 1536 * 8960
    assert on["prefill"].by_class()["smmla"] == pytest.approx(tokens * block / 32, rel=0.01)
    assert on["decode"].by_class()["sdot"] > block / 16
