"""labkit.cli.lab: the command that it puts together."""

from __future__ import annotations

import sys
from pathlib import Path

from labkit.cli import lab


def test_the_lab_listens_here_only_keeps_its_token_and_calls_nobody(tmp_path: Path) -> None:
    command = lab.lab_command(port=9999, browser=True, root=False, repo=tmp_path)
    assert command[:3] == [sys.executable, "-m", "jupyterlab"]
    assert {"--ServerApp.ip=127.0.0.1", "--ServerApp.port=9999", "--LabApp.news_url=None"} <= set(
        command
    )
    assert "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate" in command
    assert not [part for part in command if "token" in part or "password" in part]
    assert not {"--no-browser", "--allow-root"} & set(command)


def test_root_is_allowed_only_for_root_and_the_first_notebook_opens(tmp_path: Path) -> None:
    (tmp_path / "notebooks").mkdir()
    (tmp_path / lab.START).write_text("{}")
    command = lab.lab_command(port=1, browser=False, root=True, repo=tmp_path)
    assert {
        "--allow-root",
        "--no-browser",
        "--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb",
    } <= set(command)


def test_jupyterlab_knows_every_option() -> None:
    from jupyter_server.serverapp import ServerApp
    from jupyterlab.labapp import LabApp

    for part in lab.lab_command(port=1, browser=True, root=False):
        if part.startswith("--"):
            owner, _, trait = part[2:].partition("=")[0].partition(".")
            assert {"LabApp": LabApp, "ServerApp": ServerApp}[owner].class_traits(config=True)[
                trait
            ]
