"""labkit.base.paths: where things go, how much they take, and what is deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit.base import paths
from labkit.base.errors import FolderError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "my lab"))
    return tmp_path / "my lab"


def test_everything_lies_under_labkit_home_and_is_made_on_use(home: Path) -> None:
    assert not home.exists()
    assert [paths.cache_dir(), paths.progress_dir(), paths.results_dir()] == [
        home / "cache",
        home / "progress",
        home / "results",
    ]
    assert all((home / kind).is_dir() for kind in {*paths.KINDS} - {"peers"})


def test_without_labkit_home_the_platform_decides(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("LABKIT_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    folders = {kind: paths.place(kind) for kind in paths.KINDS}
    assert len(set(folders.values())) == len(paths.KINDS)
    assert all(tmp_path in folder.parents for folder in folders.values())
    assert all("labkit" in folder.parts for folder in folders.values())
    # Freeing the cache must never reach what cannot be made again.
    assert not any(folders["cache"] in folder.parents for folder in folders.values())


def test_a_relative_labkit_home_does_not_follow_the_working_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LABKIT_HOME", "lab")
    assert paths.place("cache") == tmp_path / "lab" / "cache"


def test_a_folder_that_cannot_be_made_names_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "file"))
    with pytest.raises(FolderError, match="Set LABKIT_HOME"):
        paths.cache_dir()


def test_the_size_of_every_kind_is_that_of_its_files(home: Path) -> None:
    (paths.cache_dir() / "model").mkdir()
    (paths.cache_dir() / "model" / "weights").write_bytes(bytes(1000))
    (paths.progress_dir() / "progress.json").write_bytes(bytes(10))
    sizes = {kind: paths.size_bytes(paths.place(kind)) for kind in paths.KINDS}
    assert sizes == {"cache": 1000, "peers": 0, "progress": 10, "results": 0}


def test_asking_for_a_size_makes_no_folder(home: Path) -> None:
    assert sum(paths.size_bytes(paths.place(kind)) for kind in paths.KINDS) == 0
    assert not home.exists()


def test_freeing_the_cache_keeps_progress_and_what_links_lead_to(
    home: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "precious"
    kept.write_bytes(bytes(500))
    (paths.progress_dir() / "progress.json").write_bytes(bytes(10))
    (paths.cache_dir() / "model").mkdir()
    (paths.cache_dir() / "model" / "weights").write_bytes(bytes(1000))
    (paths.cache_dir() / "link").symlink_to(kept)
    freed = paths.free("cache")
    assert freed >= 1000
    assert list(paths.cache_dir().iterdir()) == []
    assert kept.exists()
    assert (home / "progress" / "progress.json").exists()


def test_freeing_all_and_freeing_nothing(home: Path) -> None:
    (paths.results_dir() / "run.json").write_bytes(bytes(7))
    assert paths.free("all") == 7
    assert paths.free("cache", "results") == 0
    assert home.exists()


def test_an_unknown_kind_is_refused_before_anything_is_deleted(home: Path) -> None:
    (paths.cache_dir() / "file").write_bytes(bytes(3))
    with pytest.raises(FolderError, match="'models'"):
        paths.free("cache", "models")
    assert (home / "cache" / "file").exists()


def test_the_repository_has_data_and_labkit() -> None:
    assert (paths.repository() / "labkit" / "base" / "paths.py").samefile(paths.__file__)
    assert (paths.data_dir() / "sprites" / "cat.png").exists()


def test_labkit_without_its_checkout_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        paths, "__file__", str(tmp_path / "site-packages" / "labkit" / "base" / "paths.py")
    )
    with pytest.raises(FolderError, match=r"bootstrap\.py setup"):
        paths.repository()
