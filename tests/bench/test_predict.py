"""Predictions: by hand, by MNN's own rules, and beside what was counted and published."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from labkit.arm import counting, rules
from labkit.base.records import from_json, to_json
from labkit.bench import predict
from labkit.bench.figures import predicted
from labkit.bench.predict import KERNELS, Cores, Device, Loop, kernel
from labkit.bench.report import published
from labkit.bench.work import work
from labkit.engine import lanes
from labkit.engine.lanes import Lane
from labkit.model import twin
from labkit.model.parts import NAMES, all_parts

WORK = work(twin.config(), image=(252, 756), prompt_tokens=243, context=243, bits=(4, 4))
PI, GRAVITON, PHONE, MAC = predict.devices()
RECORDER = Path(__file__).parents[1] / "benchmarks" / "record_wheel_loops.py"


@pytest.mark.parametrize("features", [(), ("dotprod",), ("i8mm",), ("dotprod", "i8mm"), ("sme2",)])
def test_kleidiai_is_expected_where_the_rules_find_nothing_in_its_way(
    features: tuple[str, ...],
) -> None:
    options: dict[str, Any] = {"built": True, "memory": "low", "precision": "normal", "model": ()}
    for part in NAMES:
        for hint in (False, True):
            obstacles = rules.reasons(hint=hint, features=features, **options)
            taken = kernel(features, part, kleidiai=hint)
            assert taken.startswith("KleidiAI") == (not obstacles)


@pytest.mark.slow
def test_the_expected_kernel_is_where_most_instructions_go(
    emulated_lane: Lane, mini_folder: Path
) -> None:
    assert emulated_lane.name == "emulated"
    for rung in counting.ladder(all_parts(mini_folder)):
        features = lanes.CPUS[rung.cpu].split(", ")
        for part, counts in rung.counts.items():
            (_, function), _ = counts.by_function()[0]
            assert function == KERNELS[kernel(features, part, kleidiai=rung.kleidiai)]


@pytest.mark.parametrize("device", [PI, MAC], ids=lambda device: device.name)
def test_where_the_same_code_runs_nothing_is_gained(device: Device) -> None:
    for one in predict.predict(device, WORK):
        assert one.kernels == ("MNN, dotprod", "MNN, dotprod")
        assert [e.evidence for e in one.estimates] == ["rules"]
        assert one.range is not None
        assert (one.range.low, one.range.high) == (1, 1)


def test_a_prediction_by_hand() -> None:
    """One core, so that every kind of evidence is one quotient."""
    device = Device(
        name="one core",
        cores=(Cores(count=1, core="Neoverse-V1", ghz=2.0),),
        features=("dotprod", "i8mm"),
        gb_s=10.0,
    )
    vision, _, decode = predict.predict(device, WORK)
    said = {e.evidence: e for e in vision.estimates}
    assert said["counts"].low == pytest.approx(161_679_005 / 182_718_342)
    cycles = {(one.kernel, one.form, one.around): one for one in predict.loops()}
    off, on = cycles["MNN, i8mm", "gemm", False], cycles["KleidiAI, i8mm", "gemm", False]
    static = (off.cycles["neoverse-v1"] / 640) / (on.cycles["neoverse-v1"] / 1024)  # type: ignore[operator]
    assert said["static"].low == said["static"].high == pytest.approx(static)
    assert said["roof"].low == pytest.approx(static), "arithmetic takes longer than memory"
    assert vision.range is not None
    assert vision.range.low == min(e.low for e in vision.estimates)
    assert vision.range.high == max(e.high for e in vision.estimates)
    assert {e.evidence: e for e in decode.estimates}["roof"].low == 1, "memory takes longer"
    assert vision.miss(vision.range.high * 1.5) == pytest.approx(1.5)
    assert vision.miss(vision.range.low / 2) == pytest.approx(0.5)
    assert vision.miss(vision.range.low) == 1


def test_what_is_not_known_is_not_predicted() -> None:
    (one, *_) = predict.predict(Device(name="a new one", features=("sme2", "i8mm")), WORK)
    assert one.kernels == ("MNN, SME2", "KleidiAI, SME2")
    assert (one.estimates, one.range) == ((), None)
    assert "not predicted" in str(predict.table([one]))
    with pytest.raises(ValueError, match="nothing was predicted for vision on a new one"):
        one.miss(1.0)
    bare = Device(name="emulated", features=("dotprod", "i8mm"))
    assert [e.evidence for e in predict.predict(bare, WORK)[0].estimates] == ["counts"]
    with pytest.raises(ValueError, match="no roof"):
        predict.roof(bare)


def test_the_published_figures_are_missed_and_lie_below_the_roof() -> None:
    done = predict.published(published()[0], WORK)
    measured = predict.speedups(done)
    assert measured == pytest.approx(
        {"vision": 5.76 / 2.91, "prefill": 266.13 / 192.28, "decode": 44.96 / 34.73}
    )
    predictions = predict.predict(PHONE, WORK)
    assert all(one.miss(measured[one.part]) > 1.1 for one in predictions), "the lesson says so"
    roof = predict.roof(PHONE)
    assert all(one.rate < roof.at(one.work.intensity) for one in done)
    picture = predicted(predictions, measured)
    assert "vision: phone, Cortex-X2 and A710, predicted 0.88 to 1.14×, measured 1.98×" in (
        picture.alt
    )
    assert "1.73×" in str(predict.table(predictions, measured))


def test_the_devices_name_their_source_and_have_models() -> None:
    for device in predict.devices():
        assert device.source
        used = [*device.used()]
        assert sum(cores.count for cores in used) == predict.THREADS
    assert [cores.core for cores in PHONE.used()] == ["Cortex-X2", "Cortex-A710"]
    assert from_json(Device, to_json(GRAVITON)) == GRAVITON


def test_the_recorded_loops_are_the_wheels(emulated_lane: Lane) -> None:
    assert emulated_lane.library.is_file()
    spec: Any = importlib.util.spec_from_file_location("record_wheel_loops", RECORDER)
    recorder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recorder)
    made: list[Loop] = recorder.loops("KleidiAI, i8mm", "gemm")
    kept = [one for one in predict.loops() if one.kernel == "KleidiAI, i8mm"]
    assert [(one.around, one.instructions, one.macs) for one in made] == [
        (one.around, one.instructions, one.macs) for one in kept
    ]
    for one, other in zip(made, kept, strict=True):
        assert one.cycles["neoverse-v1"] == pytest.approx(other.cycles["neoverse-v1"], rel=0.3)
