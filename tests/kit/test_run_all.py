"""tests/run_all.py: the steps, and the summary at the end."""

from __future__ import annotations

from pathlib import Path

import pytest
import run_all
from run_all import Outcome, Step


def test_all_steps_are_ci_and_quick_leaves_out_the_slow_ones() -> None:
    names = [step.name for step in run_all.steps(quick=False)]
    assert names == ["ruff check", "ruff format", "mypy", "pytest", "notebooks"]
    quick = run_all.steps(quick=True)
    assert [step.name for step in quick] == names[:-1]
    assert quick[-1].arguments[-2:] == ("-m", "not browser and not slow")
    assert "-m" not in run_all.steps(quick=False)[3].arguments
    assert Path("tests/nbval_sanitize.cfg") in [
        Path(a) for a in run_all.steps(quick=False)[4].arguments
    ]


def test_a_failing_step_does_not_hide_the_next_and_fails_the_whole(
    capsys: pytest.CaptureFixture[str],
) -> None:
    steps = [Step(name=name, arguments=(name,)) for name in ("one", "two", "three")]
    asked: list[str] = []

    def call(command: list[str]) -> int:
        asked.append(command[-1])
        return 3 if command[-1] == "two" else 0

    outcomes = run_all.run_steps(steps, call)
    assert asked == ["one", "two", "three"]
    assert [o.exit_code for o in outcomes] == [0, 3, 0]
    assert "two: FAILED (exit code 3)" in capsys.readouterr().out
    assert "1 of 3 steps failed: two." in run_all.summary(outcomes)


def test_the_summary_of_a_good_run() -> None:
    text = run_all.summary(
        [Outcome(step=Step(name="mypy", arguments=()), exit_code=0, time_s=61.25)]
    )
    assert "All 1 steps passed. After 61.2 s." in text


@pytest.mark.parametrize(("exit_code", "expected"), [(0, 0), (2, 1)])
def test_the_exit_code_is_that_of_the_steps(
    monkeypatch: pytest.MonkeyPatch, exit_code: int, expected: int
) -> None:
    monkeypatch.setattr(run_all, "call_in_repo", lambda command: exit_code)
    assert run_all.main(["--quick"]) == expected
