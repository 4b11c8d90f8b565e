"""Progress: kept, renumbered, taken back, and never in the way."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from learner import solved

from labkit import lessons
from labkit.base import paths
from labkit.lessons import store
from labkit.lessons.catalogue import EXERCISES, QUIZZES
from labkit.lessons.store import Progress


def test_progress_grows_and_stays(home: Path) -> None:
    assert store.load() == Progress()
    lessons.check("00.1", solved("00.1"))
    lessons.check("00.1", lambda height, width: 0)  # wrong later does not take it away
    lessons.check("02.1", solved("02.1"))
    assert json.loads((home / "progress" / "progress.json").read_text()) == {
        "schema": 2,
        "exercises": ["00.1", "02.1"],
        "quizzes": [],
        "reset": [],
    }
    assert store.load().done == {"00.1", "02.1"}
    assert sorted(path.name for path in (home / "progress").iterdir()) == ["progress.json"]


def test_only_right_answers_write(home: Path) -> None:
    lessons.check("00.1")
    lessons.check("00.1", lambda height, width: 0)
    lessons.hint("00.1")
    lessons.solution("00.1")
    lessons.progress()
    assert not (home / "progress" / "progress.json").exists()


def test_what_a_later_version_recorded_is_kept() -> None:
    store.record("99.1", "99")
    lessons.check("00.1", solved("00.1"))
    assert store.load().done == {"00.1", "99", "99.1"}
    assert "99" not in str(lessons.progress())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"[]",
        b"null",
        b'{"schema": 3, "exercises": [], "quizzes": []}',
        b'{"schema": 1, "exercises": "abc", "quizzes": []}',
        b'{"schema": 1, "exercises": [1], "quizzes": []}',
        b'{"schema": 1}',
        b"[" * 100_000,
    ],
    ids=range(10),
)
def test_a_corrupt_file_is_set_aside_unchanged(home: Path, content: bytes) -> None:
    path = paths.progress_dir() / "progress.json"
    path.write_bytes(content)
    card = str(lessons.check("00.1", solved("00.1")))
    assert card.startswith("✔ Right")
    assert "progress.unreadable-1.json" in card
    assert (home / "progress" / "progress.unreadable-1.json").read_bytes() == content
    assert store.load().done == {"00.1"}
    path.write_bytes(content)
    assert "progress.unreadable-2.json" in str(lessons.progress())
    assert (home / "progress" / "progress.unreadable-1.json").read_bytes() == content


def test_a_write_that_fails_leaves_the_old_file(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lessons.check("00.1", solved("00.1"))
    before = (home / "progress" / "progress.json").read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    card = str(lessons.check("02.1", solved("02.1")))
    assert card.startswith("✔ Right")
    assert "No space left on device" in card
    assert (home / "progress" / "progress.json").read_bytes() == before
    assert sorted(path.name for path in (home / "progress").iterdir()) == ["progress.json"]


def test_a_folder_that_cannot_be_made_does_not_stop_a_lesson(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "file").write_text("in the way")
    monkeypatch.setenv("LABKIT_HOME", str(home / "file"))
    for card in (
        lessons.check("00.1", solved("00.1")),
        lessons.progress(),
        lessons.reset(),
        lessons.restore(),
    ):
        assert "labkit doctor" in str(card)
    assert str(lessons.check("00.1", solved("00.1"))).startswith("✔ Right")


def test_a_file_that_cannot_be_read_is_not_written_over(home: Path) -> None:
    path = paths.progress_dir() / "progress.json"
    path.mkdir()  # reading a folder fails for every user, root too
    card = str(lessons.check("00.1", solved("00.1")))
    assert card.startswith("✔ Right")
    assert "could not be read" in card
    assert path.is_dir()


def test_reset_takes_back_and_restore_brings_it_back() -> None:
    assert "Nothing was reset" in str(lessons.reset())
    assert "Nothing was restored" in str(lessons.restore())
    store.record("00", "00.1")
    card = str(lessons.reset())
    assert "`00`, `00.1`" in card
    assert "lessons.restore()" in card
    assert store.load().done == set()
    store.record("02.2")  # done since
    lessons.reset()
    store.record("02.1")
    assert "`00`, `00.1`, `02.2`" in str(lessons.restore())
    assert store.load() == Progress(done=frozenset({"00", "00.1", "02.1", "02.2"}))
    assert "Nothing was restored" in str(lessons.restore())


def test_one_lesson_can_be_started_over() -> None:
    store.record("00.1", "03", "03.1", "03.2")
    lessons.hint("00.2")
    lessons.hint("03.1")
    assert "`03`, `03.1`, `03.2`" in str(lessons.reset("03"))
    assert store.load().done == {"00.1"}
    assert "Hint 1 of" in str(lessons.hint("03.1"))
    assert "Hint 2 of" in str(lessons.hint("00.2"))
    assert "Nothing was reset" in str(lessons.reset("03"))
    lessons.restore()
    assert store.load().done == {"00.1", "03", "03.1", "03.2"}


def test_a_reset_that_cannot_be_saved_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    store.record("00.1")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    card = str(lessons.reset())
    assert card.startswith("Nothing was reset")
    assert "No space left on device" in card
    assert store.load().done == {"00.1"}


# Lessons had another order once, and some exercises another number: what is done stays done.

BEFORE_AND_NOW = dict(
    pair.split("->")
    for pair in (
        "00->00 00.1->00.1 00.2->00.2 01->01 01.3->01.3 "
        "02->06 02.1->06.1 02.2->06.2 02.3->06.3 03->02 03.1->02.2 03.2->02.1 03.3->02.3 "
        "04->03 04.1->03.1 04.2->03.2 04.3->03.3 05->04 05.1->04.1 05.2->04.3 05.3->04.2 "
        "06->05 06.1->05.1 06.2->05.2 06.3->05.3 07.1->07.1"
    ).split()
)


@pytest.mark.parametrize(("before", "now"), BEFORE_AND_NOW.items())
def test_progress_of_before_the_renumbering_is_the_same_exercises(before: str, now: str) -> None:
    kinds = (
        {"exercises": [before], "quizzes": []}
        if "." in before
        else {"exercises": [], "quizzes": [before]}
    )
    (paths.progress_dir() / "progress.json").write_text(json.dumps({"schema": 1, **kinds}))
    assert store.load() == Progress(done=frozenset({now}))
    store.record("99")
    assert store.load().done == {now, "99"}, "written once, it is not renumbered again"


def test_nobody_loses_or_gains_a_tick_by_the_renumbering() -> None:
    known = {*EXERCISES, *QUIZZES}
    assert len(set(BEFORE_AND_NOW.values())) == len(BEFORE_AND_NOW)
    everything = {"schema": 1, "exercises": sorted(EXERCISES), "quizzes": sorted(QUIZZES)}
    (paths.progress_dir() / "progress.json").write_text(json.dumps(everything))
    assert store.load().done == known
