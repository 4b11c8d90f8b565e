"""labkit.lessons.prepare: what a class needs is made once, read by all and changed by none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from labkit.base import paths
from labkit.base.errors import FolderError
from labkit.cli import main
from labkit.lessons import prepare as preparing
from labkit.lessons.prepare import Prepared, prepare, prepared


def notebook(folder: Path, code: str) -> Path:
    """A checkout of one lesson, which holds one cell."""
    (folder / "notebooks").mkdir(parents=True)
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbformat.write(book, folder / "notebooks" / "lesson.ipynb")
    return folder


def state(folder: Path) -> list[tuple[str, int, int]]:
    """Everything below a folder, and when it was changed."""
    return [(str(p), p.lstat().st_mtime_ns, p.lstat().st_size) for p in sorted(folder.rglob("*"))]


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder prepared by a lesson that converts the embedded checkpoint."""
    code = "from labkit.proof.ready import cached\nprint(cached('mini'))"
    checkout = notebook(tmp_path / "checkout", code)
    with monkeypatch.context() as patch:
        patch.setattr(paths, "repository", lambda: checkout)
        stages: list[str] = []
        done = prepare(
            tmp_path / "class", lessons=["lesson"], on_stage=lambda s: stages.append(s.name)
        )
    assert stages == ["lesson"]
    assert prepared(tmp_path / "class") == done
    assert done.bytes > 1_000_000
    return tmp_path / "class"


@pytest.mark.convert
def test_a_learner_reads_what_was_prepared_and_changes_nothing(
    shared: Path, tmp_path: Path
) -> None:
    assert not [p for p in shared.rglob("*") if p.lstat().st_mode & 0o022], "others may write"
    assert not [p for p in shared.rglob("*") if not p.lstat().st_mode & 0o004], (
        "others may not read"
    )
    assert {p.name for p in shared.iterdir()} == {"cache", paths.PREPARED}
    before, own = state(shared), tmp_path / "learner"
    environment = {**os.environ, "LABKIT_HOME": str(own), "LABKIT_SHARED": str(shared)}
    sprite = next((paths.data_dir() / "sprites").rglob("*.png"))
    argv = [sys.executable, "-m", "labkit", "ask", str(sprite), "what is this?", "--json"]
    asked = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(asked.stdout)["text"]
    assert state(shared) == before
    assert not (own / "cache" / "models").exists(), "converted once more"


def test_the_own_cache_is_used_for_what_a_class_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_SHARED", str(tmp_path / "class"))
    with pytest.raises(FolderError, match="nothing was prepared"):
        paths.kept("models", "one")
    (tmp_path / "class" / "cache" / "models" / "one").mkdir(parents=True)
    (tmp_path / "class" / paths.PREPARED).write_text("{}")
    assert paths.kept("models", "one") == tmp_path / "class" / "cache" / "models" / "one"
    assert paths.kept("models", "two") == paths.place("cache") / "models" / "two"


def test_a_lesson_that_fails_is_told_and_nothing_is_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = notebook(tmp_path / "checkout", "1 / 0")
    monkeypatch.setattr(paths, "repository", lambda: checkout)
    with pytest.raises(FolderError, match=r"lesson does not run here(.|\n)*ZeroDivisionError"):
        prepare(tmp_path / "class", lessons=["lesson"])
    with pytest.raises(FolderError, match="labkit prepare --shared"):
        prepared(tmp_path / "class")


def test_a_folder_of_other_things_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    before = state(tmp_path)
    assert main(["prepare", "--shared", str(tmp_path)]) == 1
    assert "other things stand" in capsys.readouterr().err
    assert state(tmp_path) == before


def test_checkpoints_are_converted_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places: dict[str, str] = {}
    monkeypatch.setenv("LABKIT_SHARED", str(tmp_path / "of-another-class"))

    def convert(source: str, **_: Any) -> None:
        places[source] = str(paths.kept("models", source))

    monkeypatch.setattr(preparing, "cached", convert)
    done = prepare(tmp_path / "class", lessons=(), checkpoints=["twin:2b/28"])
    assert places == {"twin:2b/28": str(tmp_path / "class/cache/models/twin:2b/28")}
    assert isinstance(done, Prepared)
    assert done.checkpoints == ("twin:2b/28",)
