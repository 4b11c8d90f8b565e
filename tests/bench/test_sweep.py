"""labkit sweep: plans, and tasks on a Dask cluster that lose workers, fail, wait and go on."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from labkit.base import paths
from labkit.base.errors import ResultError
from labkit.bench import fleet, report, results, spread, sweep, swept
from labkit.bench.fleet import Here
from labkit.bench.results import BenchResult
from labkit.bench.sweep import Done, SweepPlan, Task, carry_out
from labkit.cli import main
from labkit.engine.lanes import Lane
from labkit.model.checkpoints import Checkpoint
from labkit.proof import tradeoffs


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sweep, "ROUND", 10)
    yield
    forget()


def forget() -> None:
    shutil.rmtree(paths.place("cache") / "sweeps", ignore_errors=True)


class Counting(Here):
    """Does the work here, and counts it."""

    def __init__(self) -> None:
        self.begun: list[str] = []

    def submit(self, task: Task) -> Future[Done]:
        self.begun.append(str(task))
        return super().submit(task)


def planned(tmp_path: Path, text: str) -> SweepPlan:
    (tmp_path / "plan.toml").write_text(text)
    return sweep.read_plan(tmp_path / "plan.toml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("weight_bits = [5]", r"weight_bits: expected among 4, 8, 16, received \[5\]"),
        ("weight_bits = 4", r"Expected `array`, got `int` - at `\$.weight_bits`"),
        ("bits = [4]", "received 'bits'"),
        ("machine = []", r"machine: expected one at least, received \[\]"),
        ('measure = ["speed"]', "measure: expected among size, score, drift, time"),
        ("pairs = 3", "9 pairs"),
        ("[[leave_out]]\nweight_bits = [8]", r"weight_bits = \[8\] is not in the plan"),
        ("[[leave_out]]\nweight_bits = [4]", "all of it is left out"),
        ("weight_bits [4]", "at line 1"),
    ],
)
def test_a_bad_plan_is_refused_in_words(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ResultError, match=words):
        planned(tmp_path, text)


def test_a_plan_is_the_product_of_its_axes_without_what_is_left_out() -> None:
    plan = sweep.read_plan(paths.data_dir() / "tradeoffs.toml")
    sizes = [cell for cell in plan.cells() if cell["measure"] == "size"]
    both = [tradeoffs.points(cell) for cell in sizes]
    assert [a for a, b in both if b.bits == 16] == tradeoffs.grid("language")
    assert [b for a, b in both if a.bits == 16] == tradeoffs.grid("vision")
    assert len(both) == 2 * 17 - 1
    assert len(plan.cells()) == 3 * len(both)


def test_what_a_machine_cannot_do_is_said_before_anything_starts(
    tmp_path: Path, emulated_lane: Lane, capsys: pytest.CaptureFixture[str]
) -> None:
    for text, words in (
        ('machine = ["nowhere"]', "nowhere"),
        ('machine = ["emulated"]\nmeasure = ["time"]\nweight_bits = [4, 8]', "emulation"),
    ):
        planned(tmp_path, text)
        assert main(["sweep", str(tmp_path / "plan.toml"), "--dry-run"]) == 1
        assert words in capsys.readouterr().err
    timed = sweep.tasks(SweepPlan(weight_bits=(4, 8), measure=("time",)))
    with pytest.raises(ResultError, match="found 0 workers with the label 'timing'"):
        spread.run(timed, Unlabelled())


class Unlabelled(Here):
    """Workers without labels."""

    def labels(self) -> list[str]:
        return []


def test_an_interrupted_sweep_goes_on_and_a_whole_one_does_nothing(mini_folder: Path) -> None:
    plan = SweepPlan(scenes=30)
    todo = sweep.tasks(plan)

    def stop(done: int, total: int, what: str) -> None:
        if done == 3:
            raise KeyboardInterrupt

    first, second, third = Counting(), Counting(), Counting()
    with pytest.raises(KeyboardInterrupt):
        spread.run(todo, first, on_step=stop)
    done = spread.run(todo, second)
    assert len(first.begun) == 3  # the conversion, and two that are kept
    assert len(second.begun) == 1 + len(todo) - 2
    assert spread.run(todo, third) == done
    assert third.begun == []
    assert "30 (" in str(swept.put_together(plan, done))
    more = sweep.tasks(replace(plan, scenes=40))
    spread.run(more, third)
    assert [words.partition(" of ")[0] for words in third.begun] == ["convert", "score 30 to 39"]


def test_a_failure_is_told_with_its_machine_and_does_not_stop_the_rest(
    tmp_path: Path,
    mini: Checkpoint,
    mini_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(mini.folder, broken)
    run = spread.run

    def broken_meanwhile(*args: Any, **options: Any) -> list[Done]:
        os.truncate(broken / "model.safetensors", 1000)
        return run(*args, **options)

    monkeypatch.setattr(spread, "run", broken_meanwhile)
    planned(tmp_path, f"checkpoint = ['{broken}', 'mini']\nmeasure = ['size']\n")
    out = tmp_path / "sweep.json"
    assert main(["sweep", str(tmp_path / "plan.toml"), "--serial", "--out", str(out)]) == 1
    said, found = capsys.readouterr(), swept.read(out)
    assert isinstance(found, swept.Swept)
    assert [bool(one.error) for one in found.done] == [True, False]
    assert f"on {os.uname().nodename}: " in found.failed[0]
    assert found.failed[0] in said.out
    assert found.table().rows[0][-1] == "failed"
    page = report.page([found])
    assert "What failed" in page
    assert "<td>failed</td>" in page


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_three_workers_of_which_one_is_killed_find_what_one_process_finds(
    mini_folder: Path, emulated_lane: Lane
) -> None:
    plan = SweepPlan(scenes=40)
    todo = sweep.tasks(plan) + sweep.tasks(
        SweepPlan(machine=("emulated",), measure=("score",), scenes=1)
    )
    alone = spread.run(todo, Here())
    forget()
    killed: list[int] = []
    with fleet.cluster(workers=3) as (at, page):
        assert page.startswith("http://127.0.0.1:")
        client = at._client
        before = client.run(os.getpid)
        assert len(before) == 3
        for pid in [os.getpid(), *before.values()]:
            ports = psutil.Process(pid).net_connections("tcp")
            listening = [port.laddr.ip for port in ports if port.status == psutil.CONN_LISTEN]
            assert set(listening) <= {"127.0.0.1"}, listening

        def kill(done: int, total: int, what: str) -> None:
            at_work = [address for address, keys in client.processing().items() if keys]
            if done and at_work and not killed:
                killed.append(before[at_work[0]])
                os.kill(killed[0], signal.SIGKILL)

        together = spread.run(todo, at, on_step=kill)
        assert killed
        assert killed[0] not in client.run(os.getpid).values()
    assert [(d.task, d.value) for d in together] == [(d.task, d.value) for d in alone]
    assert not any(d.error for d in together)
    ran = [replace(swept.put_together(plan, done[:-1]), date="") for done in (together, alone)]
    assert str(ran[0]) == str(ran[1])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_kills_its_worker_thrice_is_told_and_the_rest_is_done(
    mini_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = carry_out
    monkeypatch.setattr(
        fleet,
        "carry_out",
        lambda task: os.kill(os.getpid(), signal.SIGKILL) if task.measure == "size" else real(task),
    )
    with fleet.cluster(workers=2) as (at, _):
        size, *scores = spread.run(sweep.tasks(SweepPlan(scenes=20)), at)
    assert "3 different workers" in size.error
    assert not any(one.error for one in scores)
    assert sum(one.value["scenes"] for one in scores) == 20


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_timing_has_the_machine_for_itself(mini_folder: Path, tmp_path: Path) -> None:
    text = "vision_block = [128, 64, 32]\nmeasure = ['time', 'size']"
    plan, seen = planned(tmp_path, text), list[Done]()
    with fleet.cluster(workers=3) as (at, _):
        ahead = spread.in_order(sweep.tasks(plan, at.labels()))
        seen = list(spread.outcomes(ahead, at))
    assert not [one.error for one in seen if one.error]
    timed = [one for one in seen if one.task.measure == "time"]
    assert len(timed) == 2
    for one in timed:
        others = [other for other in seen if other is not one]
        assert all(o.ended <= one.begun or one.ended <= o.begun for o in others)
    assert seen[-1].task.measure == "time"
    found = swept.put_together(plan, [one for one in seen if one.task.measure != "convert"])
    assert [timing.plan["pairs"] for timing in found.timings] == [9, 9]
    assert [row[3] == "" for row in found.table().rows] == [True, False, False]
    out = tmp_path / "sweep.json"
    results.write(out, swept.to_json(found))
    assert swept.read(out) == found
    assert report.page([found]).count("<h3>conversion</h3>") == 2


def test_lesson_07_reads_the_points_of_a_sweep(tmp_path: Path) -> None:
    plan = SweepPlan(weight_bits=(16, 4), vision_bits=(16,), measure=("size", "score", "drift"))
    done = [told(task) for task in sweep.tasks(plan)]
    out = tmp_path / "sweep.json"
    results.write(out, swept.to_json(swept.put_together(plan, done)))
    rows = tradeoffs.read(out).rows
    assert [(row.point.part, str(row.point)) for row in rows] == [
        ("language", "float16"),
        ("language", "int4/64"),
        ("vision", "float16"),
    ]
    assert {(row.scenes, row.right, row.bytes) for row in rows if row.point.part == "vision"} == {
        (300, 300 - 30, 2)
    }
    assert tradeoffs.read(paths.data_dir() / "tradeoffs.json").rows


def told(task: Task) -> Done:
    """An outcome as tasks of its kind have it."""
    value = {
        "size": {"bytes": {"language": 1, "vision": 2}, "layers": {"language": {}, "vision": {}}},
        "drift": {"moved": {"language": 0.1, "vision": 0.2}, "departs": ""},
        "score": {"scenes": 10, "wrong": [task.about.get("first")]},
    }[task.measure]
    return Done(task=task, value=value | ({"tools": {}} if task.measure == "size" else {}))


def test_a_file_that_is_no_sweep_is_refused_and_a_result_is_still_read(tmp_path: Path) -> None:
    (tmp_path / "half.json").write_text('{"sweep": 1, "plan": {}')
    with pytest.raises(ResultError, match="half of one"):
        swept.read(tmp_path / "half.json")
    real = json.loads((paths.data_dir() / "real_size.json").read_text())["result"]
    (tmp_path / "result.json").write_text(json.dumps(real))
    assert isinstance(swept.read(tmp_path / "result.json"), BenchResult)
