"""labkit.launch: the commands that it puts together, and the summary at the end."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from labkit import launch
from labkit.launch import Outcome, Step


def test_the_lab_listens_here_only_keeps_its_token_and_calls_nobody(tmp_path: Path) -> None:
    command = launch.lab_command(port=9999, browser=True, root=False, repo=tmp_path)
    assert command[:3] == [sys.executable, "-m", "jupyterlab"]
    assert {"--ServerApp.ip=127.0.0.1", "--ServerApp.port=9999", "--LabApp.news_url=None"} <= set(command)
    assert "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate" in command
    assert not [part for part in command if "token" in part or "password" in part]
    assert not {"--no-browser", "--allow-root"} & set(command)


def test_root_is_allowed_only_for_root_and_the_first_notebook_opens(tmp_path: Path) -> None:
    (tmp_path / "notebooks").mkdir()
    (tmp_path / launch.START).write_text("{}")
    command = launch.lab_command(port=1, browser=False, root=True, repo=tmp_path)
    assert {"--allow-root", "--no-browser", "--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb"} <= set(command)


def test_jupyterlab_knows_every_option() -> None:
    from jupyter_server.serverapp import ServerApp
    from jupyterlab.labapp import LabApp

    for part in launch.lab_command(port=1, browser=True, root=False):
        if part.startswith("--"):
            owner, _, trait = part[2:].partition("=")[0].partition(".")
            assert {"LabApp": LabApp, "ServerApp": ServerApp}[owner].class_traits(config=True)[trait]


def test_all_steps_are_ci_and_quick_leaves_out_the_slow_ones() -> None:
    names = [step.name for step in launch.steps(quick=False)]
    assert names == ["ruff check", "ruff format", "mypy", "pytest", "notebooks"]
    quick = launch.steps(quick=True)
    assert [step.name for step in quick] == names[:-1]
    assert quick[-1].arguments[-2:] == ("-m", "not browser and not slow")
    assert "-m" not in launch.steps(quick=False)[3].arguments
    assert Path("tests/nbval_sanitize.cfg") in [Path(a) for a in launch.steps(quick=False)[4].arguments]


def test_a_failing_step_does_not_hide_the_next_and_fails_the_whole(capsys: pytest.CaptureFixture[str]) -> None:
    steps = [Step(name=name, arguments=(name,)) for name in ("one", "two", "three")]
    asked: list[str] = []

    def call(command: list[str]) -> int:
        asked.append(command[-1])
        return 3 if command[-1] == "two" else 0

    outcomes = launch.run_steps(steps, call)
    assert asked == ["one", "two", "three"]
    assert [o.exit_code for o in outcomes] == [0, 3, 0]
    assert "two: FAILED (exit code 3)" in capsys.readouterr().out
    assert "1 of 3 steps failed: two." in launch.summary(outcomes)


def test_the_summary_of_a_good_run() -> None:
    text = launch.summary([Outcome(step=Step(name="mypy", arguments=()), exit_code=0, time_s=61.25)])
    assert "All 1 steps passed. After 61.2 s." in text


@pytest.mark.parametrize(("exit_code", "expected"), [(0, 0), (2, 1)])
def test_the_exit_code_is_that_of_the_steps(monkeypatch: pytest.MonkeyPatch, exit_code: int, expected: int) -> None:
    monkeypatch.setattr(launch, "call_in_repo", lambda command: exit_code)
    assert launch.main(["test", "--quick"]) == expected
