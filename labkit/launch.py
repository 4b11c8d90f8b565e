"""What bootstrap.py hands over to when ``.venv`` is ready: the lab, and the checks that CI runs.

Standard library only, and run as ``python -m labkit.launch`` by the Python of ``.venv``.
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
from dataclasses import dataclass
from pathlib import Path

from labkit.hardware import find_browser

REPO = Path(__file__).resolve().parents[1]
START = Path("notebooks") / "00_start_here.ipynb"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One check: its name, and the arguments that Python gets."""

    name: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a step ended, and how long it took."""

    step: Step
    exit_code: int
    time_s: float


def lab_command(*, port: int, browser: bool, root: bool, repo: Path = REPO) -> list[str]:
    """The command that opens JupyterLab on the first notebook.

    It listens on this machine only, keeps its token, and asks no server for news or newer versions.

    Parameters
    ----------
    port
        Where to listen; JupyterLab takes the next free one if it is taken.
    browser
        Whether to open a browser.
    root
        Whether this is the user root, whom JupyterLab refuses by default.
    repo
        The checkout.

    Returns
    -------
    list of str
        The whole command line.
    """
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=100",
        f"--ServerApp.root_dir={repo}",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.extension_manager=readonly",
        "--ServerApp.log_level=WARN",  # the address is logged as critical, so it stays
        "--LabApp.log_level=WARN",
    ]
    if (repo / START).exists():
        command.append(f"--LabApp.default_url=/lab/tree/{START.as_posix()}")
    if not browser:
        command.append("--no-browser")
    if root:
        command.append("--allow-root")
    return command


def steps(*, quick: bool) -> list[Step]:
    """The checks, in order. ``quick`` leaves out the browser, slow tests and the notebooks."""
    tests = ["pytest", "--durations=10"] + (["-m", "not browser and not slow"] if quick else [])
    chosen = [
        Step(name="ruff check", arguments=("ruff", "check", ".")),
        Step(name="ruff format", arguments=("ruff", "format", "--check", ".")),
        Step(name="mypy", arguments=("mypy",)),
        Step(name="pytest", arguments=tuple(tests)),
    ]
    if not quick:
        notebooks: tuple[str, ...] = (
            "pytest",
            "--nbval",
            "--nbval-current-env",
            "--nbval-sanitize-with",
            "tests/nbval_sanitize.cfg",
            "--durations=10",
        )
        if platform.system() != "Linux":
            print("· Notebook 06 is left out: its emulated Arm CPU needs Linux.", flush=True)
            notebooks += ("--ignore=notebooks/06_accelerated_vs_baseline.ipynb",)
        chosen.append(Step(name="notebooks", arguments=(*notebooks, "notebooks")))
    return chosen


def run_steps(chosen: Sequence[Step], call: Callable[[Sequence[str]], int]) -> list[Outcome]:
    """Run every step, also after one that failed."""
    outcomes = []
    for number, step in enumerate(chosen, 1):
        print(f"\n── {number}/{len(chosen)} {step.name}: {' '.join(step.arguments)}", flush=True)
        start = time.monotonic()
        exit_code = call([sys.executable, "-m", *step.arguments])
        outcomes.append(Outcome(step=step, exit_code=exit_code, time_s=time.monotonic() - start))
        print(
            f"── {step.name}: {'passed' if exit_code == 0 else f'FAILED (exit code {exit_code})'} in {outcomes[-1].time_s:.1f} s",
            flush=True,
        )
    return outcomes


def summary(outcomes: Sequence[Outcome]) -> str:
    """The closing table.

    >>> print(summary([Outcome(step=Step(name="mypy", arguments=("mypy",)), exit_code=1, time_s=2.0)]))
    mypy         FAILED       2.0 s
    <BLANKLINE>
    1 of 1 steps failed: mypy. After 2.0 s.
    """
    rows = [f"{o.step.name:12} {'passed' if o.exit_code == 0 else 'FAILED'} {o.time_s:9.1f} s" for o in outcomes]
    failed = [o.step.name for o in outcomes if o.exit_code]
    verdict = f"{len(failed)} of {len(outcomes)} steps failed: {', '.join(failed)}." if failed else f"All {len(outcomes)} steps passed."
    return "\n".join([*rows, "", f"{verdict} After {sum(o.time_s for o in outcomes):.1f} s."])


def call_in_repo(command: Sequence[str]) -> int:
    """Run a command in the checkout, on this terminal, without input."""
    return subprocess.run(command, cwd=REPO, stdin=subprocess.DEVNULL, check=False).returncode


def main(argv: Sequence[str] | None = None) -> int:
    """``lab`` replaces this process by JupyterLab; ``test`` returns 1 if any step failed."""
    parser = argparse.ArgumentParser(prog="python -m labkit.launch", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    lab = commands.add_parser("lab")
    lab.add_argument("--port", type=int, default=8888)
    lab.add_argument("--no-browser", action="store_true")
    test = commands.add_parser("test")
    test.add_argument("--quick", action="store_true")
    args = parser.parse_args(argv)
    if args.command == "lab":
        print(
            "· Starting JupyterLab; Ctrl-C, twice, ends it. If no browser opens, open the address below that has a token in it.", flush=True
        )
        command = lab_command(port=args.port, browser=not args.no_browser, root=os.geteuid() == 0)
        os.execv(command[0], command)  # noqa: S606 - no shell wanted; Ctrl-C goes straight to JupyterLab
    browser = find_browser()
    if browser:
        os.environ["LABKIT_BROWSER"] = str(browser)
    with tempfile.TemporaryDirectory(prefix="labkit-test-") as home:  # notebooks are compared as a newcomer would run them
        os.environ["LABKIT_HOME"] = home
        outcomes = run_steps(steps(quick=args.quick), call_in_repo)
    print(f"\n{summary(outcomes)}", flush=True)
    return int(any(o.exit_code for o in outcomes))


if __name__ == "__main__":
    sys.exit(main())
