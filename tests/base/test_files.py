"""labkit.base.files: a file or a folder gets its name when it is whole, or not at all."""

from __future__ import annotations

import errno
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from labkit.base import files


def test_a_folder_that_cannot_be_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.mkdir

    def fails(self: Path, *args: Any, **options: Any) -> None:
        if self.name == "new":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(self))
        real(self, *args, **options)

    monkeypatch.setattr(Path, "mkdir", fails)
    with pytest.raises(OSError, match="Input/output error"), files.new_folder(tmp_path / "x"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path: Path) -> None:
    files.write(tmp_path / "a", "old")

    def half() -> None:
        with files.replacing(tmp_path / "a") as new:
            new.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a", "old")]


def test_a_folder_gets_its_name_when_it_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "made" / "here"
    with files.new_folder(out) as new:
        (new / "a").write_text("whole")
        assert not out.exists()
    assert (out / "a").read_text() == "whole"
    assert [p.name for p in out.parent.iterdir()] == ["here"]


def test_a_folder_that_cannot_be_finished_leaves_nothing(tmp_path: Path) -> None:
    def half() -> None:
        with files.new_folder(tmp_path / "x") as new:
            (new / "a").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_taken_meanwhile_is_left_alone_unless_it_may_be_replaced(
    tmp_path: Path,
) -> None:
    out = tmp_path / "x[1]"
    out.mkdir()
    (out / "old").touch()
    with pytest.raises(FileExistsError), files.new_folder(out):
        pass
    assert [p.name for p in out.iterdir()] == ["old"]
    with files.new_folder(out, replace=True) as new:
        (new / "new").touch()
        assert (out / "old").exists(), "until the new one is whole"
    assert [p.name for p in out.iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["x[1]"]


def test_many_may_share_a_folder_and_one_may_have_it_alone(tmp_path: Path) -> None:
    def refuse() -> None:
        raise InterruptedError

    shared = partial(files.alone, tmp_path, refuse, shared=True)
    with shared(), shared(), pytest.raises(InterruptedError), files.alone(tmp_path, refuse):
        pass
    with files.alone(tmp_path, refuse), pytest.raises(InterruptedError), shared():
        pass


def test_what_a_killed_process_set_aside_comes_back(tmp_path: Path) -> None:
    aside = tmp_path / f".x[1].{os.getpid()}" / "old"  # this process's number, used again
    aside.mkdir(parents=True)
    (aside / "old").touch()
    with pytest.raises(FileExistsError), files.new_folder(tmp_path / "x[1]"):
        pass
    assert (tmp_path / "x[1]" / "old").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["x[1]"]
