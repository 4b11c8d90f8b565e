"""The engine stopped, killed, short of memory: a named error soon, and the next question works."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import psutil
import pytest
from faults.sandbox import TALLY, chance, rounds
from faults.subjects import QUESTION, SCENE

from labkit import Model
from labkit.base.errors import EngineCrashed, EngineError, EngineTimeout
from labkit.engine.client import EngineProcess

ANSWER = "A cat."
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def asked(model: Model, on_text: Callable[[str], None] | None = None) -> str:
    return model.ask(SCENE, QUESTION, on_text=on_text or (lambda _: None)).text


def hurt_at(piece: int, model: Model, by: signal.Signals) -> Callable[[str], None]:
    """Hurts the engine when so many pieces of the answer have come."""
    left = [piece]

    def on_text(_: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(model.engine.pid, by)

    return on_text


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGSEGV])
def test_killed_in_the_middle_of_an_answer(mini_model: Model, by: signal.Signals) -> None:
    assert asked(mini_model) == ANSWER
    for _ in range(rounds(1, 20)):
        piece = chance("killed", by, _).randrange(1, 3)
        try:
            outcome = f"{asked(mini_model, hurt_at(piece, mini_model, by))} (all had come)"
        except EngineCrashed as error:
            outcome = str(error).partition(". ")[0]
        crashed = f"the engine ended while doing 'ask' (killed by {by.name})"
        assert outcome in (f"{ANSWER} (all had come)", crashed)
        if outcome != crashed:
            mini_model.close()  # it is just ending
        TALLY["engine", "killed", f"{outcome}, then an answer"] += 1
        assert asked(mini_model) == ANSWER


def test_stopped_in_the_middle_of_an_answer(
    mini_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert asked(mini_model) == ANSWER
    for _ in range(rounds(1, 10)):
        with monkeypatch.context() as patch:
            patch.setitem(EngineProcess.request.__kwdefaults__, "timeout_s", 1.5)
            begun = time.monotonic()
            try:
                outcome = f"{asked(mini_model, hurt_at(1, mini_model, signal.SIGSTOP))} (all came)"
            except EngineTimeout:
                outcome = "EngineTimeout"
        assert outcome in (f"{ANSWER} (all came)", "EngineTimeout")
        assert time.monotonic() - begun < 60
        if outcome != "EngineTimeout":
            mini_model.close()  # it is stopped
        TALLY["engine", "stopped", f"{outcome}, then an answer"] += 1
        assert asked(mini_model) == ANSWER


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_AS"), reason="Linux limits a process from outside")
def test_short_of_memory(mini_model: Model) -> None:
    for _ in range(rounds(2, 20)):
        mini_model.close()
        process = psutil.Process(mini_model.engine.pid)
        room = chance("memory", _).randrange(0, 40 * 2**20)
        most = process.memory_info().vms + room
        process.rlimit(psutil.RLIMIT_AS, (most, most))
        try:
            outcome = "answer" if asked(mini_model) == ANSWER else "another answer"
        except (EngineError, EngineCrashed) as error:
            outcome = type(error).__name__
        TALLY["engine", "short of memory", f"{outcome}, then an answer"] += 1
        assert outcome != "another answer"
        mini_model.close()
        assert asked(mini_model) == ANSWER
