"""Commands that are ended from outside leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from labkit.base import files

if TYPE_CHECKING:
    from pathlib import Path


def heed_int() -> None:
    """As in a terminal: what a shell starts in the background would ignore it, and so its heirs."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def asked(
    mini_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> subprocess.Popen[str]:
    """``labkit bench``, in the middle of it: an engine runs."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    words = ("-m", "labkit", "bench", "--model", str(mini_folder), "--compare", "quantised")
    process = subprocess.Popen(
        [sys.executable, *words],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_int,  # noqa: PLW1509 - no thread of ours runs in a test
    )
    deadline = time.monotonic() + 120
    while not [*tmp_path.glob("labkit-engine-*/worker.log")] and time.monotonic() < deadline:
        time.sleep(0.01)
    return process


def ended(children: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(children, timeout=20)
    return not alive


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_ended_by_term_or_int_it_leaves_nothing(
    asked: subprocess.Popen[str], tmp_path: Path, by: int
) -> None:
    children = psutil.Process(asked.pid).children(recursive=True)
    asked.send_signal(by)
    _, said = asked.communicate(timeout=60)
    assert asked.returncode == 130, said
    assert said.endswith("labkit: interrupted; nothing half-written is left\n")
    assert ended(children)
    assert not [*tmp_path.glob("labkit-*")]


def test_what_a_killed_one_leaves_is_removed_by_the_next(
    asked: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    children = psutil.Process(asked.pid).children(recursive=True)
    asked.kill()
    asked.communicate(timeout=60)
    assert ended(children), "a worker ends with the one that it works for"
    assert len([*tmp_path.glob("labkit-engine-*")]) == 1
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    other = tmp_path / f"labkit-engine-{os.getppid()}-abc"
    other.mkdir()
    with files.temporary("engine") as folder:
        assert {*tmp_path.glob("labkit-*")} == {folder, other}, "that one's process still runs"
    assert not folder.exists()
