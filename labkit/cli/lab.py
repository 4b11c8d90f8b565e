"""Opens JupyterLab on the first notebook; bootstrap.py starts it when ``.venv`` is ready."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
START = Path("notebooks") / "00_start_here.ipynb"


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


def main(argv: Sequence[str] | None = None) -> None:
    """Replace this process by JupyterLab."""
    parser = argparse.ArgumentParser(prog="python -m labkit.cli.lab", description=__doc__)
    parser.add_argument("--port", type=int, default=8888)
    parser.add_argument("--no-browser", action="store_true")
    args = parser.parse_args(argv)
    print(
        "· Starting JupyterLab; Ctrl-C, twice, ends it. "
        "If no browser opens, open the address below that has a token in it.",
        flush=True,
    )
    command = lab_command(port=args.port, browser=not args.no_browser, root=os.geteuid() == 0)
    os.execv(command[0], command)  # noqa: S606 - no shell wanted; Ctrl-C goes straight to JupyterLab


if __name__ == "__main__":
    main()
