"""labkit.lessons.board: nothing is shared unasked; a teacher sees where the class is."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from labkit import lessons
from labkit.base.errors import FolderError
from labkit.lessons import board, path_map
from labkit.lessons.catalogue import EXERCISES


@pytest.fixture
def drop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A class's folder."""
    place = tmp_path / "board"
    place.mkdir()
    monkeypatch.setenv("LABKIT_BOARD", str(place))
    return place


def wrong() -> object:
    """An answer that is right nowhere."""
    return None


def test_nothing_is_shared_before_one_agrees_nor_after_one_takes_it_back(drop: Path) -> None:
    lessons.check("00.1", wrong)
    lessons.hint("00.1")
    assert not [*drop.iterdir()]
    assert "no answers" in str(lessons.share())
    lessons.hint("00.1")
    assert len([*drop.iterdir()]) == 1
    lessons.unshare()
    assert not [*drop.iterdir()]
    lessons.hint("00.1")
    assert not [*drop.iterdir()]


def test_what_is_shared_is_what_was_done_and_nothing_else(drop: Path) -> None:
    lessons.share()
    lessons.hint("00.1")
    lessons.hint("00.1")
    lessons.check("00.1", lambda *_: "my secret answer")
    (file,) = drop.iterdir()
    assert "secret" not in file.read_text()
    assert file.stat().st_mode & 0o007 == 0, "the other learners"
    (entry,) = board.read().entries
    assert (entry.name, entry.hints, entry.at, entry.solved) == (
        "",
        {"00.1": 2},
        "00.1",
        frozenset(),
    )
    lessons.share("Ada")
    assert [e.name for e in board.read().entries] == ["Ada"]
    assert board.read().entries[0].hints == {"00.1": 2}, "kept when a name is given"


def test_without_a_class_nothing_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LABKIT_BOARD", raising=False)
    assert "not in a class" in str(lessons.share())
    lessons.hint("00.1")
    assert "LABKIT_BOARD is not set" in repr(board.read())
    monkeypatch.setenv("LABKIT_BOARD", "/nowhere")
    with pytest.raises(FolderError, match="who may"):
        board.read()


def test_a_board_that_cannot_be_written_does_not_stop_a_lesson(drop: Path) -> None:
    lessons.share()
    for file in drop.iterdir():
        file.unlink()
    drop.rmdir()
    assert lessons.hint("00.1").title.startswith("Hint 1")
    assert lessons.share().tone == "wrong"


def test_who_was_told_that_nothing_is_shared_shares_nothing_later(drop: Path) -> None:
    drop.rmdir()
    assert lessons.share().title == "Nothing is shared"
    drop.mkdir()
    lessons.hint("00.1")
    assert not [*drop.iterdir()]


def test_what_learners_drop_is_not_trusted(drop: Path) -> None:
    lessons.share("<b>Eve</b>" * 100)
    (drop / "link.json").symlink_to("/etc/passwd")
    os.mkfifo(drop / "pipe.json")  # to read it would wait for ever
    (drop / "huge.json").write_bytes(b" " * 1_000_000)
    (drop / "other.json").write_text('{"tried": 3}')
    (drop / "unknown.json").write_text('{"tried": ["99.9"], "at": "99.9"}')
    entries = board.read().entries
    assert sorted(len(e.name) for e in entries) == [0, board.NAME_LENGTH]
    assert not any(e.tried or e.at for e in entries)
    stuck = [replace(e, at="00.1", tried=frozenset({"00.1"})) for e in entries]
    html = board.Board(entries=stuck, now_s=1e9)._repr_html_()
    assert "<b>Eve" not in html
    assert "&lt;b&gt;Eve" in html


def test_a_teacher_sees_where_the_class_is_and_who_is_stuck() -> None:
    now = 10_000.0
    entries = [
        board.Entry(tried=frozenset({"00.1"}), solved=frozenset({"00.1"}), at="00.1", since_s=0),
        board.Entry(tried=frozenset({"00.1"}), at="00.1", since_s=now - 10, hints={"00.1": 2}),
        board.Entry(name="Ada", tried=frozenset({"00.1"}), at="00.1", since_s=now - 2000),
        board.Entry(tried=frozenset({"00.1"}), at="00.1", since_s=0, hints={"00.1": 1}),
    ]
    table = board.Board(entries=entries, now_s=now).table()
    assert len(table.rows) == len(EXERCISES)
    exercise, solved, hints, here, stuck = table.rows[list(EXERCISES).index("00.1")]
    assert str(exercise).startswith("00.1")
    assert (solved, hints, here, stuck) == (
        "█" * 5 + "░" * 15 + " 1 of 4",
        "3",
        "3",
        "Ada, somebody",
    )


def test_the_live_board_reads_again(drop: Path) -> None:
    shown = board.watch(every_s=0.05)
    assert "0 learner(s)" in shown.value
    changed: list[str] = []
    shown.observe(lambda change: changed.append(change["new"]), "value")
    lessons.share("Ada")
    lessons.check("00.1", wrong)
    while not any("1 learner(s)" in value for value in changed):
        pass  # until the test's own time limit


def test_a_class_has_a_checkbox_below_the_path(drop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    html = lessons.progress()._repr_html_()
    shown = board.checkbox(html)
    box = shown.children[1]
    assert (shown.children[0].value, box.value) == (html, False), "off until one agrees"
    box.value = True
    assert len([*drop.iterdir()]) == 1
    assert board.checkbox(html).children[1].value, "and so it stays"
    box.value = False
    assert not [*drop.iterdir()]
    monkeypatch.setattr(path_map, "in_notebook", lambda: True)
    assert "application/vnd.jupyter.widget-view+json" in lessons.progress()._repr_mimebundle_()
    monkeypatch.delenv("LABKIT_BOARD")
    assert set(lessons.progress()._repr_mimebundle_()) == {"text/plain", "text/html"}
