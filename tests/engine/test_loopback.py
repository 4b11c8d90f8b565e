"""This machine, reached over SSH: OpenSSH's own server and client, and nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from labkit.base import paths
from labkit.base.errors import LaneNotReady
from labkit.engine import loopback, qemu
from labkit.engine.lanes import Lane

SCRIPT = """
from labkit.engine import loopback
from labkit.engine.client import EngineProcess

lane = loopback.device(on_words=print)
with EngineProcess(lane) as engine:
    print(lane.label, engine.features, lane.may_be_timed, sep="; ")
"""


@pytest.mark.slow
def test_the_emulated_lane_is_reached_over_ssh_and_nothing_stays(
    emulated_lane: Lane, tmp_path: Path
) -> None:
    assert emulated_lane.name == "emulated"
    env = {**os.environ, "TMPDIR": str(tmp_path), "CI": "true"}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    *stages, last = run.stdout.splitlines()
    assert len(stages) == 3
    assert "connection" in stages[0]
    expected = "loopback, aarch64 under emulation, over SSH; ('dotprod', 'fp16', 'i8mm', 'sve2')"
    assert last == f"{expected}; False"
    assert not list(tmp_path.iterdir()), "keys and copies are gone"
    assert not (paths.place("cache") / "lanes" / "loopback").exists()


def test_without_a_server_it_says_what_to_type_and_goes_on(
    emulated_lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator = qemu.program()
    monkeypatch.setattr(qemu, "program", lambda: emulator)
    monkeypatch.setattr(loopback.shutil, "which", lambda *_, **__: None)
    words: list[object] = []
    monkeypatch.delenv("CI", raising=False)
    assert loopback.device(on_words=words.append) == emulated_lane
    (said,) = map(str, words)
    assert "found no server. Type: sudo apt-get install openssh-server" in said
    assert "goes on without SSH" in said
    monkeypatch.setenv("CI", "true")
    with pytest.raises(LaneNotReady, match="openssh-server"):
        loopback.device()
