"""tests/run_all.py: the steps, and the summary at the end."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import TextIO

import pytest
import run_all
from run_all import Outcome, Step


def test_all_steps_are_ci_and_quick_leaves_out_the_slow_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Step] = []
    whole = {step.name: step.arguments for step in run_all.steps(quick=False)}
    quick = {step.name: step.arguments for step in run_all.steps(quick=True)}
    assert list(quick) == ["ruff check", "ruff format", "mypy", "import-linter", "pytest"]
    assert list(whole) == [*quick, "notebooks"]
    assert quick["pytest"] == (*whole["pytest"], "-m", "not browser and not slow")
    with monkeypatch.context() as patch:
        patch.setenv("LABKIT_FAULTS", "")
        patch.setattr(run_all, "run_steps", lambda chosen, _: asked.extend(chosen) or [])
        run_all.main(["--faults"])
        assert [step.name for step in asked] == ["faults"]
        assert os.environ["LABKIT_FAULTS"] == "long"
    place = whole["notebooks"].index("--nbval-sanitize-with")
    assert (run_all.REPO / whole["notebooks"][place + 1]).is_file()


def test_the_notebook_that_is_left_out_elsewhere_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_all.platform, "system", lambda: "Darwin")
    ignored = run_all.steps(quick=False)[-1].arguments[-1].partition("--ignore=")[2]
    assert (run_all.REPO / ignored).is_file()


def test_import_linter_sees_a_room_that_imports_backwards(tmp_path: Path) -> None:
    rooms = run_all.steps(quick=True)[3]
    for room in ("cli", "lessons", "bench", "building", "kernels", "arm", "proof", "inside"):
        (tmp_path / "labkit" / room).mkdir(parents=True)
        (tmp_path / "labkit" / room / "__init__.py").touch()
    for room in ("model", "world", "engine", "base"):
        (tmp_path / "labkit" / room).mkdir()
        (tmp_path / "labkit" / room / "__init__.py").touch()
    (tmp_path / "labkit" / "__init__.py").touch()
    shutil.copy(run_all.REPO / "pyproject.toml", tmp_path)
    for text, exit_code in (("", 0), ("import labkit.cli", 1)):
        (tmp_path / "labkit" / "base" / "__init__.py").write_text(text)
        env = {**os.environ, "PYTHONPATH": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, *rooms.arguments],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == exit_code, done.stdout + done.stderr
    assert "labkit.base is not allowed to import labkit.cli" in done.stdout
    assert not (tmp_path / ".import_linter_cache").exists()


def test_a_failing_step_does_not_hide_the_next_and_fails_the_whole(
    capsys: pytest.CaptureFixture[str],
) -> None:
    steps = [Step(name=name, arguments=(name,)) for name in ("one", "two", "three")]
    asked: list[str] = []

    def call(command: list[str], _: object) -> int:
        asked.append(command[-1])
        return 3 if command[-1] == "two" else 0

    outcomes = run_all.run_steps(steps, call)
    assert asked == ["one", "two", "three"]
    assert [o.exit_code for o in outcomes] == [0, 3, 0]
    assert "two: FAILED (exit code 3)" in capsys.readouterr().out
    assert "1 of 3 steps failed: two." in run_all.summary(outcomes, 9)


def test_what_runs_beside_a_step_is_shown_after_it(capsys: pytest.CaptureFixture[str]) -> None:
    two = Step(name="two", arguments=("two",))
    three = Step(name="three", arguments=("three",), beside=True)
    together = threading.Barrier(2, timeout=60)

    def call(command: list[str], out: TextIO | None) -> int:
        together.wait()
        print(f"{command[-1]} speaks", file=out)
        return 0 if command[-1] == "two" else 5

    outcomes = run_all.run_steps([two, three], call)
    assert [o.exit_code for o in outcomes] == [0, 5]
    spoken = [line for line in capsys.readouterr().out.splitlines() if line]
    assert [line.partition(" in ")[0] for line in spoken] == [
        "── 1/2 two: two",
        "two speaks",
        "── two: passed",
        "── 2/2 three: three",
        "three speaks",
        "── three: FAILED (exit code 5)",
    ]


def test_the_summary_of_a_good_run() -> None:
    text = run_all.summary(
        [Outcome(step=Step(name="mypy", arguments=()), exit_code=0, time_s=61.25)], 61.25
    )
    assert "All 1 steps passed. After 61.2 s." in text


@pytest.mark.parametrize(("exit_code", "expected"), [(0, 0), (2, 1)])
def test_the_exit_code_is_that_of_the_steps(
    monkeypatch: pytest.MonkeyPatch, exit_code: int, expected: int
) -> None:
    monkeypatch.setattr(run_all, "call_in_repo", lambda *_: exit_code)
    assert run_all.main(["--quick"]) == expected
