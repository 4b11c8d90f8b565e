"""The protocol of the benchmark with fake sides, its files, what it refuses, and one real run."""

from __future__ import annotations

import json
import platform
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from labkit.base import hardware, paths, stats
from labkit.base.errors import ResultError
from labkit.base.records import to_json
from labkit.bench import figures, measure, results, work
from labkit.bench.comparisons import PARTS, Side
from labkit.bench.plan import BenchPlan, default_comparisons
from labkit.bench.rows import Measured
from labkit.bench.runner import open_runner
from labkit.engine.lanes import Lane
from labkit.kernels.roof import Peak, Roof
from labkit.model import manifest


class FakeRunner:
    """A side without a process: the candidate takes half as long; what is done is written down."""

    done: ClassVar[list[tuple[str, str]]] = []
    alive = 0
    most_alive = 0

    def __init__(self, side: Side, plan: BenchPlan) -> None:
        self.side = side
        self.about = {name: (f"size of {name}", None) for name in PARTS}
        FakeRunner.alive += 1
        FakeRunner.most_alive = max(FakeRunner.alive, FakeRunner.most_alive)

    @property
    def seconds(self) -> float:
        return 0.008 if self.side.memory == "normal" else 0.004

    def load(self) -> float:
        FakeRunner.done.append(("load", self.side.label))
        return 10 * self.seconds

    def run(self, part: str, repeat: int) -> float:
        FakeRunner.done.append((part, self.side.label))
        return self.seconds

    def facts(self) -> dict[str, Any]:
        return {"peak_bytes": 50_000_000, "kleidiai_running": (), "versions": {"mnn": "3"}}

    def close(self) -> None:
        FakeRunner.alive -= 1


@pytest.fixture(autouse=True)
def _fresh_fake() -> None:
    FakeRunner.done, FakeRunner.alive, FakeRunner.most_alive = [], 0, 0


@pytest.fixture(scope="module")
def plan(mini_folder: Path) -> BenchPlan:
    return BenchPlan(model=mini_folder, comparisons=("quantised",))


@pytest.fixture
def result(plan: BenchPlan) -> results.BenchResult:
    return measure.run(plan, open_side=FakeRunner)  # type: ignore[arg-type]


def test_both_orders_occur_and_the_seed_decides() -> None:
    orders = measure.orders(9, np.random.default_rng(0))
    assert len(orders) == 9
    assert sorted((orders.count("AB"), orders.count("BA"))) == [4, 5]
    assert orders == measure.orders(9, np.random.default_rng(0))
    assert len({measure.orders(9, np.random.default_rng(seed)) for seed in range(20)}) > 10


def test_warm_up_stops_when_steady_and_keeps_what_it_took() -> None:
    left = iter([0.9, 0.5, 0.2, 0.102, 0.1, 0.1])
    taken = measure.warm_up(lambda: next(left))
    assert taken == (0.9, 0.5, 0.2, 0.102, 0.1)
    assert measure.steady(taken)


def test_warm_up_gives_up_on_what_never_settles() -> None:
    taken = measure.warm_up(iter(2.0**-n for n in range(100)).__next__)
    assert len(taken) == measure.MOST_WARMUPS
    assert not measure.steady(taken)


def test_warm_up_of_a_large_model_ends_after_one_long_pass() -> None:
    assert measure.warm_up(iter([5.0, 4.0, 4.0]).__next__) == (5.0,)
    assert measure.warm_up(iter([0.9, 0.5, 0.5]).__next__) == (0.9, 0.5, 0.5)


@pytest.mark.parametrize(("after", "kept"), [(9, ["quantised"]), (13, ["quantised"]), (5, [])])
def test_interrupted_it_keeps_the_comparisons_that_are_whole(
    plan: BenchPlan, after: int, kept: list[str]
) -> None:
    def step(done: int, *_: object) -> None:
        if done == after:
            raise KeyboardInterrupt

    two = replace(plan, comparisons=("quantised", "threads"), threads=2)
    if not kept:
        with pytest.raises(KeyboardInterrupt):
            measure.run(two, open_side=FakeRunner, on_step=step)  # type: ignore[arg-type]
        return
    result = measure.run(two, open_side=FakeRunner, on_step=step)  # type: ignore[arg-type]
    assert list(dict.fromkeys(row.name for row in result.rows)) == kept
    assert result.plan["comparisons"] == kept
    assert {len(row.order) for row in result.rows} == {9}
    assert FakeRunner.alive == 0


def test_stopped_within_a_comparison_the_same_plan_goes_on_and_another_does_not(
    plan: BenchPlan,
) -> None:
    def stop(done: int, *_: object) -> None:
        if done == 5:
            raise KeyboardInterrupt

    words: list[str] = []
    plan = replace(plan, seed=1)
    options: dict[str, Any] = {"open_side": FakeRunner, "on_words": words.append}
    with pytest.raises(KeyboardInterrupt):
        measure.run(plan, on_step=stop, **options)
    assert words == [
        "quantised: 9 pairs, about 8 s",
        "quantised: pairs done so far (5) are kept; the same command goes on with them",
    ]
    FakeRunner.done.clear()
    result = measure.run(plan, **options)
    assert "goes on after pair 5" in words[-1]
    assert len([1 for part, _ in FakeRunner.done if part == "load"]) == 2 * 4
    assert [len(row.order) for row in result.rows] == [9] * len(PARTS)
    assert result.rows[0].order == measure.orders(9, np.random.default_rng(1))
    assert results.parse(to_json(result)) == result
    for fresh in (plan, replace(plan, seed=2)):  # what is whole is not gone on with
        measure.run(fresh, **options)
        assert words[-1].startswith("quantised: 9 pairs, about")


def test_weights_that_would_not_fit_unpacked_are_not_compared_so(
    plan: BenchPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = manifest.read(plan.model)
    large = replace(about, source=about.source | {"parameters": 2_208_985_600})
    for gib, chosen in ((8, "threads"), (16, "quantised")):
        machine = replace(
            hardware.describe(), architecture="x86_64", memory_available_bytes=gib * 2**30
        )
        monkeypatch.setattr(hardware, "describe", lambda machine=machine: machine)
        assert default_comparisons(2, large) == (chosen,)
        assert default_comparisons(2, about) == ("quantised", "threads", "chat")
    monkeypatch.setattr(manifest, "read", lambda _: large)
    monkeypatch.setattr(
        hardware, "describe", lambda: replace(machine, memory_available_bytes=2**33)
    )
    with pytest.raises(ResultError, match=r"GiB of free memory .* Take --compare threads"):
        measure.run(plan, open_side=FakeRunner)  # type: ignore[arg-type]


def test_pairs_are_counted_raw_values_kept_and_one_side_idles(
    result: results.BenchResult, plan: BenchPlan
) -> None:
    assert [row.part for row in result.rows] == list(PARTS)
    for row in result.rows:
        assert (
            len(row.order)
            == len(row.baseline.values_s)
            == len(row.candidate.values_s)
            == plan.pairs
        )
        assert set(row.order) == {"AB", "BA"}
        assert row.ratio.speedup == pytest.approx(2)
        assert row.ratio.verdict == "faster"
        assert len(row.baseline.warmup_s) == (0 if row.part == "load" else plan.pairs)
    assert result.rows[1].candidate.repeat == 5  # 20 ms at 4 ms a pass
    loads = ["AB"[label.startswith("kept")] for part, label in FakeRunner.done if part == "load"]
    assert "".join(loads) == "".join(result.rows[0].order)
    assert (FakeRunner.most_alive, FakeRunner.alive) == (2, 0)


def test_what_was_reached_of_the_roof(result: results.BenchResult, mini_folder: Path) -> None:
    config = json.loads((paths.data_dir() / "mini-qwen2-vl" / "config.json").read_bytes())
    done = {(one.part, one.engine): one for one in work.achieved(result, config)}
    assert len(done) == 6
    unpacked, kept = (done["decode", side.side.label] for side in result.rows[0].both)
    assert unpacked.work.operations == kept.work.operations
    assert 4 < unpacked.work.bytes / kept.work.bytes < 32 / 4  # int4 with scales and minima
    assert kept.rate == pytest.approx(2 * unpacked.rate)
    roof = Roof(
        machine="a CPU",
        threads=1,
        instructions="sdot",
        peaks={
            "float32": Peak(median=1e9, low=1e9, high=1e9),
            "memory": Peak(median=1e9, low=1e9, high=1e9),
        },
    )
    share = kept.rate / roof.at(kept.work.intensity)
    assert f"{share:.0%}" in str(work.table(roof, [kept]))
    assert f"decode, {kept.engine}: " in figures.roofline(roof, [kept]).alt


def test_sides_are_closed_when_one_fails(plan: BenchPlan) -> None:
    class Failing(FakeRunner):
        def run(self, part: str, repeat: int) -> float:
            raise OSError("no")

    with pytest.raises(OSError, match="no"):
        measure.run(plan, open_side=Failing)  # type: ignore[arg-type]
    assert FakeRunner.alive == 0


def test_progress_is_told(plan: BenchPlan) -> None:
    told: list[tuple[int, int, str]] = []
    measure.run(plan, open_side=FakeRunner, on_step=lambda *step: told.append(step))  # type: ignore[arg-type]
    assert [done for done, _, _ in told] == list(range(plan.pairs + 1))
    assert told[-1] == (plan.pairs, plan.pairs, "done")


def test_a_file_holds_the_whole_result_and_replaces_none(
    result: results.BenchResult, tmp_path: Path
) -> None:
    path = tmp_path / "one.json"
    results.write(path, to_json(result))
    assert results.read(path) == result
    before = path.read_bytes()
    with pytest.raises(ResultError, match="free"):
        results.write(path, "another")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_result_prints_its_tables_and_where_it_was_measured(
    result: results.BenchResult,
) -> None:
    text = str(result)
    assert text.startswith("quantised: plain modules, weights unpacked to float32")
    for row in result.rows:
        assert f"{row.part}  " in text
        assert f"{row.ratio}" in text
    assert text.endswith(f"\n\n{result.where}\n{result.what}")


def test_what_is_doubtful_is_said_of_its_side() -> None:
    side = Side(
        label="on", runtime="modules", threads=1, precision="normal", memory="low", kleidiai=True
    )
    measured = Measured(
        side=side,
        values_s=(1.0,) * 9,
        warmup_s=((1.0, 1.0),) * 8 + ((1.0, 2.0),),
        repeat=1,
        peak_bytes=1,
        kleidiai_running=(),
    )
    unsteady, kleidiai = measure.doubts(measured)
    assert unsteady == "on: not steady when its warm-ups ended in 1 of 9 pairs"
    assert kleidiai.startswith("on: KleidiAI is turned on, but MNN did not say that it runs")
    fine = replace(measured, warmup_s=((1.0, 1.0),) * 9, kleidiai_running=("QI4",))
    assert measure.doubts(fine) == []


def _without(key: str, content: dict[str, Any]) -> None:
    del content["rows"][0][key]


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: c.pop("machine"),
        lambda c: c.update(rows=[]),
        lambda c: c.update(rows=None),
        lambda c: c.update(more=1),
        lambda c: _without("order", c),
        lambda c: c["rows"][0].update(part="elsewhere"),
        lambda c: c["rows"][0]["order"].pop(),
        lambda c: c["rows"][0]["baseline"]["values_s"].pop(),
        lambda c: c["rows"][0]["baseline"]["values_s"].__setitem__(0, -1),
    ],
)
def test_a_damaged_result_is_refused(result: results.BenchResult, damage: Any) -> None:
    content = json.loads(to_json(result))
    damage(content)
    with pytest.raises(ResultError, match="damaged"):
        results.parse(json.dumps(content))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"rows": []}', '"schema"'])
def test_what_is_no_result_is_refused(text: str) -> None:
    with pytest.raises(ResultError, match="expected a benchmark's result"):
        results.parse(text)


def test_another_schema_and_a_missing_file_are_refused(
    result: results.BenchResult, tmp_path: Path
) -> None:
    with pytest.raises(ResultError, match="schema"):
        results.parse(to_json(replace(result, schema=99)))
    with pytest.raises(ResultError, match="could not read"):
        results.read(tmp_path / "none.json")


def test_an_emulated_lane_is_never_timed(plan: BenchPlan) -> None:
    with pytest.raises(ResultError, match="labkit bench --lane emulated --count"):
        measure.run(replace(plan, lane=Lane(name="emulated", cpu="max")), open_side=FakeRunner)  # type: ignore[arg-type]
    assert not FakeRunner.done


@pytest.mark.skipif(
    platform.machine() not in {"x86_64", "AMD64"}, reason="KleidiAI's kernels may run here"
)
def test_kleidiai_is_refused_on_x86_with_what_to_type_instead(plan: BenchPlan) -> None:
    with pytest.raises(ResultError, match="labkit bench --lane emulated --count"):
        measure.run(replace(plan, comparisons=("kleidiai",)), open_side=FakeRunner)  # type: ignore[arg-type]
    assert not FakeRunner.done


@pytest.mark.parametrize(
    "changed",
    [
        {"pairs": stats.LEAST_PAIRS - 1},
        {"comparisons": ()},
        {"comparisons": ("luck",)},
        {"parts": ("soul",)},
        {"comparisons": ("threads",)},
        {"comparisons": ("conversion",)},
        {"comparisons": ("build",)},
    ],
)
def test_plans_that_cannot_be_measured_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ResultError):
        BenchPlan(**{"model": Path("unread"), "comparisons": ("quantised",), **changed})


def test_two_conversions_are_named_by_how_they_are_stored_and_each_runs_its_own(
    mini_folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(mini_folder, other)
    written = manifest.read(other)
    manifest.write(other, replace(written, options=written.options | {"weight_bits": 8}))
    plan = BenchPlan(model=mini_folder, against=other, comparisons=("conversion",))
    baseline, candidate = plan.sides("conversion", "int4")
    assert (baseline.label, candidate.label) == ("int8/64 + int4/128", "int4/64 + int4/128")
    for side, folder in ((baseline, other), (candidate, mini_folder)):
        runner = open_runner(side, plan)
        assert {part.file.parent for part in runner.parts.values()} == {folder}
        runner.close()
    assert "against" not in plan.to_dict()


def test_conversions_of_two_checkpoints_are_not_compared(mini_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(mini_folder, other)
    written = manifest.read(other)
    manifest.write(other, replace(written, source=written.source | {"sha256": "0" * 64}))
    plan = BenchPlan(model=mini_folder, against=other, comparisons=("conversion",))
    with pytest.raises(ResultError, match="expected two conversions of one checkpoint"):
        measure.run(plan, open_side=FakeRunner)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_real_run_has_every_part_of_a_result(plan: BenchPlan, tmp_path: Path) -> None:
    found = measure.run(replace(plan, parts=("decode",), prompt_tokens=8))
    (row,) = found.rows
    assert (row.part, row.size, row.tokens, found.lane) == ("decode", "1 token", 1, "native")
    for side in (row.baseline, row.candidate):
        assert len(side.values_s) == len(side.warmup_s) == plan.pairs
        assert min(side.values_s) > 0
        assert side.peak_bytes > 10_000_000
        assert side.repeat >= 1
    assert (row.baseline.side.memory, row.candidate.side.memory) == ("normal", "low")
    assert {"mnn", "numpy", "labkit", "python"} <= found.versions.keys()
    path = results.save(found, tmp_path / "real.json")
    assert results.read(path) == found


def test_the_published_figures_say_that_they_are_single_runs() -> None:
    found = json.loads(
        (Path(__file__).parents[2] / "data" / "published" / "arm-learning-path.json").read_text(
            encoding="utf-8"
        )
    )
    assert found["runs"] == 1
    assert "no interval" in found["note"]
    assert "never" in found["note"]
    assert [(r["part"], r["unit"], r["baseline"], r["candidate"]) for r in found["rows"]] == [
        ("vision", "s", 5.76, 2.91),
        ("prefill", "tokens/s", 192.28, 266.13),
        ("decode", "tokens/s", 34.73, 44.96),
    ]
    with pytest.raises(ResultError):
        results.parse(json.dumps(found))


@pytest.mark.parametrize(
    "comparison",
    ["quantised", "threads", "conversion", "chat", "transformers-fp32", "transformers-bf16"],
)
def test_both_sides_of_each_comparison_really_run(mini_folder: Path, comparison: str) -> None:
    plan = BenchPlan(model=mini_folder, comparisons=(comparison,), threads=2, against=mini_folder)
    for side in plan.sides(comparison, "int4"):
        runner = open_runner(side, plan)
        try:
            assert runner.load() > 0
            assert all(runner.run(part, 1) > 0 for part in ("vision", "prefill", "decode"))
            assert runner.about["decode"][1] == 1
            assert runner.about["prefill"][1] is not None
            facts = runner.facts()
            assert facts["peak_bytes"] > 10_000_000
            assert ("torch" in facts["versions"]) == (side.runtime == "transformers")
        finally:
            runner.close()
