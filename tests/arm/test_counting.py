"""Real counts follow from the shapes of layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labkit.arm import counting, kleidiai
from labkit.arm.counting import CountingEngine
from labkit.base.errors import CountingFailed
from labkit.engine import lanes
from labkit.engine.lanes import Lane
from labkit.model import parts


def test_counting_is_for_the_emulated_lane() -> None:
    with pytest.raises(CountingFailed, match="in the emulated lane"):
        CountingEngine(lanes.native())


def test_kernels_execute_what_the_layers_shapes_ask_for(
    emulated_lane: Lane, mini_folder: Path
) -> None:
    """32 multiply-adds to an smmla, 16 to an sdot, exactly; the language head sees one row."""
    prefill, decode = parts.prefill(mini_folder), parts.decode(mini_folder)
    with CountingEngine(emulated_lane) as engine:
        linear = {
            layer.name: layer.rows * layer.columns
            for layer in kleidiai.layers(engine, [mini_folder / "llm.mnn"])
        }
        counted = {part.name: engine.count(part, kleidiai=True) for part in (prefill, decode)}
        off = engine.count(prefill, kleidiai=False)
    body, head = (
        sum(n for name, n in linear.items() if "lm_head" not in name),
        sum(n for name, n in linear.items() if "lm_head" in name),
    )
    assert head > 0
    assert counted["prefill"].by_class()["smmla"] == 48 * body // 32
    assert counted["prefill"].by_class()["sdot"] == head // 16
    assert counted["decode"].by_class()["sdot"] == (body + head) // 16
    assert counted["decode"].by_class()["smmla"] == 0
    assert counted["prefill"].share("kai_") > 0.2
    assert off.share("kai_") == 0


def test_two_processes_agree_to_half_a_percent(emulated_lane: Lane, mini_folder: Path) -> None:
    totals = []
    for _ in range(2):
        with CountingEngine(emulated_lane) as engine:
            totals.append(
                [engine.count(part, kleidiai=True).total for part in parts.all_parts(mini_folder)]
            )
    assert np.abs(np.divide(*totals) - 1).max() < 0.005


def test_each_cpu_of_the_ladder_has_its_instructions(
    emulated_lane: Lane, mini_folder: Path
) -> None:
    steps: list[str] = []
    rungs = counting.ladder([parts.decode(mini_folder)], on_step=steps.append)
    neon, dotprod, i8mm, _ = (rung.counts["decode"].by_class() for rung in rungs)
    assert (neon["smmla"], neon["sdot"]) == (0, 0)
    assert dotprod["smmla"] == 0
    assert dotprod["sdot"] > 90_000
    assert i8mm["smmla"] > 90_000
    assert len(steps) == len(counting.RUNGS)
    assert rungs[0].to_dict()["unit"] == "executed instructions, not time"


def test_loading_with_kleidiai_packs_weights(emulated_lane: Lane, mini_folder: Path) -> None:
    with CountingEngine(emulated_lane) as engine:
        off, on = (
            engine.count_load(parts.decode(mini_folder), kleidiai=hint) for hint in (False, True)
        )
    assert off.share("kai_") == 0
    assert on.share("kai_run_rhs_pack") > 0.3
