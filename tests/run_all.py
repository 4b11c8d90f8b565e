"""Everything that has to pass: ``python tests/run_all.py``, which bootstrap.py starts.

``--faults`` runs only tests/faults, in their long form.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from unittest import mock

from labkit.base.hardware import find_browser

REPO = Path(__file__).resolve().parents[1]
Call = Callable[..., int]
SANITISER = "tests/nbval_sanitize.cfg"
FAULTS = ("-m", "pytest", "-v", "--durations=10", "tests/faults")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One check: its name, what Python gets, and whether it begins together with the one before."""

    name: str
    arguments: tuple[str, ...]
    beside: bool = False


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a step ended, and how long it took."""

    step: Step
    exit_code: int
    time_s: float


def steps(*, quick: bool) -> list[Step]:
    """The checks, in order. ``quick`` leaves out the browser, slow tests and the notebooks."""
    rooms = "from importlinter.cli import lint_imports_command as main; main()"
    tests = ("-m", "not browser and not slow") if quick else ()
    chosen = [
        Step(name="ruff check", arguments=("-m", "ruff", "check", ".")),
        Step(name="ruff format", arguments=("-m", "ruff", "format", "--check", ".")),
        Step(name="mypy", arguments=("-m", "mypy")),
        Step(name="import-linter", arguments=("-c", rooms, "--no-cache", "--no-logo")),
        Step(name="pytest", arguments=("-m", "pytest", "--durations=10", *tests)),
    ]
    if not quick:
        notebooks = ("--nbval", "--nbval-current-env", "--nbval-sanitize-with")
        arguments = ("-m", "pytest", *notebooks, SANITISER, "--durations=10")
        arguments += ("--ignore-glob=*.py", "notebooks")  # the hub's configuration is no module
        if platform.system() != "Linux":
            print("· Notebook 05 is left out: its emulated Arm CPU needs Linux.", flush=True)
            arguments += ("--ignore=notebooks/05_accelerated_vs_baseline.ipynb",)
        chosen.append(Step(name="notebooks", arguments=arguments, beside=True))
    return chosen


def timed(step: Step, call: Call, out: IO[str] | None = None) -> Outcome:
    """Run a step, into a file if one is given."""
    start = time.monotonic()
    exit_code = call([sys.executable, *step.arguments], out)
    return Outcome(step=step, exit_code=exit_code, time_s=time.monotonic() - start)


def run_steps(chosen: Sequence[Step], call: Call) -> list[Outcome]:
    """Run every step, also after one that failed; in order, as far as one can see."""
    outcomes = []
    with ThreadPoolExecutor() as pool, tempfile.TemporaryFile("w+", encoding="utf-8") as kept:
        for number, step in enumerate(chosen, 1):
            what = f"{number}/{len(chosen)} {step.name}"
            print(f"\n── {what}: {' '.join(step.arguments)}", flush=True)
            for following in chosen[number : number + 1]:
                if following.beside:
                    begun = pool.submit(timed, following, call, kept)
            outcome = begun.result() if step.beside else timed(step, call)
            if step.beside:
                kept.seek(0)
                print(kept.read(), flush=True)
            outcomes.append(outcome)
            code = outcome.exit_code
            ended = f"FAILED (exit code {code})" if code else "passed"
            print(f"── {step.name}: {ended} in {outcome.time_s:.1f} s", flush=True)
    return outcomes


def summary(outcomes: Sequence[Outcome], took_s: float) -> str:
    """The closing table.

    >>> mypy = Step(name="mypy", arguments=("-m", "mypy"))
    >>> print(summary([Outcome(step=mypy, exit_code=1, time_s=2.0)], 2.0))
    mypy          FAILED       2.0 s
    <BLANKLINE>
    1 of 1 steps failed: mypy. After 2.0 s.
    """
    rows = [
        f"{o.step.name:13} {'passed' if o.exit_code == 0 else 'FAILED'} {o.time_s:9.1f} s"
        for o in outcomes
    ]
    failed = [o.step.name for o in outcomes if o.exit_code]
    verdict = (
        f"{len(failed)} of {len(outcomes)} steps failed: {', '.join(failed)}."
        if failed
        else f"All {len(outcomes)} steps passed."
    )
    return "\n".join([*rows, "", f"{verdict} After {took_s:.1f} s."])


def call_in_repo(command: Sequence[str], out: IO[str] | None = None) -> int:
    """Run a command in the checkout, on this terminal or into a file, without input."""
    done = subprocess.run(
        command, cwd=REPO, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False
    )
    return done.returncode


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 1 if any step failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--faults", action="store_true")
    args = parser.parse_args(argv)
    chosen = steps(quick=args.quick)
    if args.faults:
        os.environ["LABKIT_FAULTS"] = "long"  # tests/faults/sandbox.py reads it
        chosen = [Step(name="faults", arguments=FAULTS)]
    if browser := find_browser():
        os.environ["LABKIT_BROWSER"] = str(browser)
    start = time.monotonic()
    # Notebooks are compared as a newcomer would run them.
    with tempfile.TemporaryDirectory(prefix="labkit-test-") as home, mock.patch.dict(os.environ):
        os.environ["LABKIT_HOME"] = home
        outcomes = run_steps(chosen, call_in_repo)
    print(f"\n{summary(outcomes, time.monotonic() - start)}", flush=True)
    return int(any(o.exit_code for o in outcomes))


if __name__ == "__main__":
    sys.exit(main())
