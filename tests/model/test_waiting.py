"""labkit.model.waiting and pace: what an answer waits for, and for how long."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import pytest

from labkit import Model
from labkit.base import paths
from labkit.model import chat
from labkit.model.pace import Pace
from labkit.model.waiting import Waiting
from labkit.proof.evaluate import held_out_cases
from labkit.world.scenes import render

KNOWN = {"event": "vision", "size": 936, "expected_s": 8.0, "or_more": False}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(stream: io.StringIO, *events: dict[str, Any], each_s: float = 0.1) -> str:
    with Waiting(stream, after_s=0.02) as waiting:
        for event in events:
            waiting(event)
            time.sleep(each_s)
    return stream.getvalue()


def test_a_terminal_has_one_line_that_changes_and_goes() -> None:
    text = shown(Terminal(), {**KNOWN, "event": "load", "expected_s": None}, KNOWN)
    assert "\n" not in text
    assert "loading the model: 0 s" in text
    assert "vision, 936 patches: about 8 s left" in text
    assert text.split("\r")[-2].strip() == "", "what was there is written over"
    assert text.endswith("\r")


def test_elsewhere_each_stage_is_a_line() -> None:
    prefill = {"event": "prefill", "size": 1259, "expected_s": 9.6, "or_more": True}
    assert shown(io.StringIO(), KNOWN, prefill, {"event": "prompt"}).splitlines() == [
        "  vision, 936 patches: about 8 s left",
        "  prefill, 1,259 tokens: at least 10 s left",
    ]


def test_what_is_over_at_once_is_not_shown() -> None:
    with Waiting(stream := Terminal(), after_s=5) as waiting:
        waiting(KNOWN)
        waiting({"event": "piece"})
    assert stream.getvalue() == ""


def test_a_question_tells_its_stages_before_its_words(mini_folder: Path) -> None:
    events: list[dict[str, Any]] = []
    picture = render(held_out_cases(1)[0].scene)
    with Model(mini_folder, threads=1) as model:
        answer = model.ask(picture, "Describe the image.", on_event=events.append)
        kinds = [event["event"] for event in events]
        assert kinds[:4] == ["load", "vision", "prefill", "prompt"]
        assert set(kinds[4:]) == {"piece"}
        assert events[1]["size"] == 4 * answer.visual_tokens
        assert events[2]["size"] == answer.prompt_tokens
        events.clear()
        model.ask(None, "Is there a cat?", on_event=events.append)
    assert [event["event"] for event in events][:2] == ["prefill", "prompt"]


def test_a_notebook_shows_by_itself_what_takes_long(
    mini_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Model(mini_folder, threads=1) as model:
        monkeypatch.setattr(chat, "in_notebook", lambda: True)
        model.ask(None, "Is there a cat?")
        assert capsys.readouterr().err == ""
        monkeypatch.setattr(chat, "NOTEBOOK_S", 0)
        model.close()
        model.ask(None, "Is there a cat?")
        assert "loading the model" in capsys.readouterr().err
        model.close()
        model.ask(None, "Is there a cat?", on_text=lambda _: None)
    assert capsys.readouterr().err == ""


def test_the_pace_is_what_was_measured_and_nothing_else() -> None:
    pace = Pace("weights", 2)
    assert pace.expected("vision", 936) == {"expected_s": None, "or_more": False}
    pace.keep("vision", 64, 0.5)
    pace.keep("vision", 1024, 10.0)
    pace.keep("load", 1, 0.1)  # over in a moment
    again = Pace("weights", 2)
    assert again.expected("vision", 512) == {"expected_s": pytest.approx(4.0), "or_more": True}
    assert again.expected("vision", 936)["expected_s"] == pytest.approx(9.14, abs=0.01)
    assert not again.expected("vision", 2000)["or_more"]
    assert again.expected("vision", 2900)["or_more"]
    assert not again.knows("load")
    for taken in (9.0, 20.0):  # much as it was; then another machine's load
        again.keep("vision", 1024, taken)
        again = Pace("weights", 2)
        known = again.expected("vision", 1024)["expected_s"]
        assert known == (10.0 if taken == 9.0 else 20.0)
    assert not Pace("weights", 1).knows("vision"), "other options, another pace"


def test_a_damaged_or_unwritable_pace_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    Pace("damaged").keep("vision", 64, 0.5)
    for file in (paths.cache_dir() / "paces").iterdir():
        file.write_text("{")
    pace = Pace("damaged")
    assert not pace.knows("vision")
    monkeypatch.setattr("labkit.base.files.write", lambda *_: (_ for _ in ()).throw(OSError(28)))
    pace.keep("vision", 64, 0.5)
    assert pace.knows("vision")
    assert not Pace("damaged").knows("vision")


def test_a_large_model_that_is_new_here_measures_its_tower_first(
    mini_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "is_large", lambda _: True)
    monkeypatch.setattr(chat, "SAMPLE", 28)
    picture = render(held_out_cases(1)[0].scene)
    events: list[dict[str, Any]] = []
    with Model(mini_folder, threads=1, precision="high") as model:
        model.ask(picture, "Is there a cat?", on_event=events.append)
    vision = next(event for event in events if event["event"] == "vision")
    assert vision["expected_s"] > 0
