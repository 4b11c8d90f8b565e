"""What else goes on in the machine: other programs, and the CPU's clock."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from labkit.base import hardware
from labkit.bench import watch


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A machine whose time, clocks, and CPU seconds of all and of ours a test says."""
    now: dict[str, Any] = {"time": 0.0, "all": 0.0, "own": 0.0, "clocks": [3000.0]}
    monkeypatch.setattr(hardware.time, "monotonic", lambda: now["time"])
    monkeypatch.setattr(hardware.os, "times", lambda: (now["own"], 0.0, 0.0, 0.0, now["time"]))
    monkeypatch.setattr(psutil, "cpu_times", lambda: SimpleNamespace(user=now["all"], system=0.0))
    monkeypatch.setattr(psutil.Process, "children", lambda *_, **__: [])
    monkeypatch.setattr(
        psutil, "cpu_freq", lambda **_: [SimpleNamespace(current=hz) for hz in now["clocks"]]
    )
    return now


def test_a_quiet_machine_is_not_complained_of(machine: dict[str, Any]) -> None:
    watched = watch.Watch()
    watched.look()
    machine.update(time=10.0, all=8.5, own=8.0)
    watched.look()
    assert watched.warnings() == ()


def test_other_programs_and_a_falling_clock_are_told(machine: dict[str, Any]) -> None:
    watched = watch.Watch()
    watched.look()
    machine.update(time=10.0, all=13.0, own=8.0, clocks=[2000.0, 2400.0])
    watched.look()
    busy, frequency = watched.warnings()
    assert busy.startswith("busy machine: other programs used 0.5 cores meanwhile")
    assert frequency == "frequency: the CPU's clock went from 2400 to 3000 MHz"
