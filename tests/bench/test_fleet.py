"""labkit sweep with other machines: over SSH as a lane, as hosts, as a cluster that runs."""

from __future__ import annotations

import getpass
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from loopback_sshd import Line, Loopback, free_port, line, loopback, wait_for

from labkit.base import paths
from labkit.base.errors import ResultError
from labkit.bench import fleet, spread, sweep, swept
from labkit.bench.sweep import SweepPlan
from labkit.cli import main
from labkit.engine.remote_setup import remove, setup

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(autouse=True)
def _nothing_kept() -> None:
    shutil.rmtree(paths.place("cache") / "sweeps", ignore_errors=True)


@pytest.fixture(scope="module")
def sshd() -> Iterator[Loopback]:
    """Its user is the one who tests, for only that one has labkit there."""
    with loopback(user=getpass.getuser()) as server:
        yield server


@pytest.fixture(scope="module")
def way(sshd: Loopback) -> Iterator[Line]:
    with line(sshd.port) as made:
        yield made


@pytest.fixture(autouse=True)
def _client(sshd: Loopback, way: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_SSH", sshd.client(way.port))


def over(sshd: Loopback, way: Line) -> str:
    return f"{sshd.user}@127.0.0.1:{way.port}"


def swept_by(tmp_path: Path, plan: str, *options: str) -> tuple[int, swept.Swept]:
    """What the command finds, and how it ends."""
    (tmp_path / "plan.toml").write_text(plan)
    out = tmp_path / "sweep.json"
    code = main(["sweep", str(tmp_path / "plan.toml"), "--out", str(out), *options])
    found = swept.read(out)
    assert isinstance(found, swept.Swept)
    return code, found


def test_a_machine_over_ssh_scores_and_is_timed_alone(
    sshd: Loopback, mini_folder: Path, tmp_path: Path
) -> None:
    setup("far", sshd.target, python=sshd.bare())
    plan = """
        machine = ["native", "far"]
        vision_block = [128, 64]
        measure = ["score", "time"]
        scenes = 3
        [[leave_out]]
        machine = ["native"]
        measure = ["time"]
    """
    try:
        code, found = swept_by(tmp_path, plan, "--workers", "2")
    finally:
        remove("far")
    assert (code, found.failed) == (0, [])
    assert [row[2] for row in found.table().rows] == ["native", "far"] * 2
    scores = [one.value for one in found.done if one.task.measure == "score"]
    assert [value["scenes"] for value in scores] == [3] * 4
    (timed,) = found.timings
    assert timed.lane == "far"
    assert {row.part for row in timed.rows} == {"vision", "prefill", "decode"}
    done = [one for one in found.done if one.task.measure == "time"]
    assert max(one.ended for one in found.done if one not in done) <= done[0].begun


def test_a_machine_that_is_lost_fails_by_its_name_and_the_rest_is_done(
    sshd: Loopback, way: Line, mini_folder: Path, tmp_path: Path
) -> None:
    setup("far", over(sshd, way), python=sshd.bare())
    plan = "machine = ['native', 'far']\nmeasure = ['score']\nscenes = 2"
    way.silent.set()
    way.cut()
    code, found = swept_by(tmp_path, plan, "--serial")
    way.silent.clear()
    assert code == 1
    (failed,) = found.failed
    assert re.search(r"score 0 to 1 of mini .* far: on \S+: .*there is no way to", failed)
    assert [row[-1] == "failed" for row in found.table().rows] == [False, True]
    (tmp_path / "sweep.json").unlink()
    code, whole = swept_by(tmp_path, plan, "--serial")
    remove("far")
    assert (code, whole.failed) == (0, [])
    assert whole.done[0] == found.done[0]  # done once


def test_hosts_work_in_place_of_this_machine(
    sshd: Loopback, mini_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hosts").write_text(f"{sshd.target} {sys.executable}\n")
    plan = "machine = ['127.0.0.1']\nmeasure = ['score', 'size']\nscenes = 2"
    code, found = swept_by(tmp_path, plan, "--hosts", str(tmp_path / "hosts"))
    assert (code, found.failed) == (0, [])
    assert "1 workers" in capsys.readouterr().err
    assert [row[2] for row in found.table().rows] == ["127.0.0.1"]


def test_hosts_that_do_not_join_are_told(
    sshd: Loopback, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plan.toml").write_text("scenes = 2")
    for text, words in (
        (f"{sshd.target} {sshd.bare()}", "No module named"),
        (f"{sshd.user}@127.0.0.1:1", "refuses connections"),
        (" ", "expected machines in"),
    ):
        (tmp_path / "hosts").write_text(text)
        options = ["--hosts", str(tmp_path / "hosts")]
        assert main(["sweep", str(tmp_path / "plan.toml"), *options]) == 1
        assert words in capsys.readouterr().err


def test_hosts_that_are_lost_end_the_sweep_and_it_goes_on(
    sshd: Loopback, way: Line, mini_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "WAIT_S", 10)
    monkeypatch.setattr(sweep, "ROUND", 5)
    todo = sweep.tasks(SweepPlan(scenes=30, measure=("score",)))
    host = f"{over(sshd, way)} {sys.executable}"

    def cut(done: int, total: int, what: str) -> None:
        if done == 3:
            way.cut()

    with (
        pytest.raises(ResultError, match=r"no worker is left(.|\n)*What was measured is kept"),
        fleet.cluster(hosts=[host]) as (at, _),
    ):
        spread.run(todo, at, on_step=cut)
    kept = [one for task in todo if (one := spread.kept(task))]
    assert 2 <= len(kept) < len(todo)
    with fleet.cluster(hosts=[host]) as (at, _):
        whole = spread.run(todo, at)
    assert not [one for one in whole if one.error]
    assert [one for one in whole if one in kept] == kept


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[str]:
    """A cluster of two workers as its owner starts one, one of which is labelled."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    own = ["--host", "127.0.0.1", "--no-dashboard"]
    commands = [
        ["dask_scheduler", "--port", str(port), *own],
        ["dask_worker", address, "--nthreads", "1", *own],
        ["dask_worker", address, "--nthreads", "1", "--resources", "timing=1 board=1", *own],
    ]
    argvs = [[sys.executable, "-m", f"distributed.cli.{name}", *more] for name, *more in commands]
    started = [subprocess.Popen(argv, cwd=tmp_path, stderr=subprocess.DEVNULL) for argv in argvs]
    try:
        wait_for(port)
        yield address
    finally:
        for process in started:
            process.terminate()
            process.wait()


def test_a_cluster_that_runs_does_the_same(
    scheduler: str, mini_folder: Path, tmp_path: Path
) -> None:
    from distributed import Client

    with Client(scheduler, set_as_default=False) as client:
        client.wait_for_workers(2, 60)
    plan = "machine = ['native', 'board']\nmeasure = ['size', 'score']\nscenes = 4"
    code, found = swept_by(tmp_path, plan, "--scheduler", scheduler)
    assert (code, found.failed) == (0, [])
    assert [row[2] for row in found.table().rows] == ["native", "board"]
    assert len({row[-1] for row in found.table().rows}) == 1


def test_another_labkit_there_is_refused(mini_folder: Path) -> None:
    (task, *_) = sweep.tasks(SweepPlan(scenes=1, measure=("score",)))
    other = sweep.carry_out(replace(task, versions={**task.versions, "labkit": "0.0.1"}))
    assert "expected labkit 0.0.1 as the sweep has it, found" in other.error
