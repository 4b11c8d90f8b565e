"""Where labkit keeps things, and what ``labkit clean`` may free.

Caches, progress and results live in the platform's user folders, or all under
``LABKIT_HOME`` when it is set. What a class shares (`labkit.lessons.prepare`) is looked up first
in the folder that ``LABKIT_SHARED`` names, and never written to.
"""

import hashlib
import os
import shutil
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import platformdirs

from labkit.base import files
from labkit.base.errors import FolderError

PREPARED = "shared.json"
"""Stands in a folder that a class shares, once it is whole."""
KINDS = {
    "cache": "downloads, converted models, compiled helpers; made again when needed",
    "peers": "other engines, for labkit bench --peer; made again when needed",
    "progress": "which exercises you solved; cannot be made again",
    "results": "measurements and reports that you asked for; cannot be made again",
}


def place(kind: str) -> Path:
    """The folder of one kind, whether or not it exists.

    Parameters
    ----------
    kind
        "cache", "progress" or "results".

    Returns
    -------
    pathlib.Path
        Absolute.
    """
    if home := os.environ.get("LABKIT_HOME"):
        return Path(home).expanduser().absolute() / kind
    if kind == "cache":
        return platformdirs.user_cache_path("labkit", appauthor=False)
    return platformdirs.user_data_path("labkit", appauthor=False) / kind


def _made(kind: str) -> Path:
    folder = place(kind)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FolderError(
            f"expected to be able to make the folder {folder}, got: {error.strerror or error}. "
            "Set LABKIT_HOME to a folder of your own, for example: export LABKIT_HOME=~/labkit"
        ) from error
    return folder


def cache_dir() -> Path:
    """What can be made again: converted models, compiled helpers. Made on use."""
    return _made("cache")


def kept(*names: str) -> Path:
    """Where something that is made once stands or will: where a class shares it, or in one's cache.

    Raises
    ------
    FolderError
        If ``LABKIT_SHARED`` names a folder in which nothing was prepared.
    """
    if folder := os.environ.get("LABKIT_SHARED"):
        shared = Path(folder).expanduser().absolute()
        if not (shared / PREPARED).is_file():
            raise FolderError(
                f"LABKIT_SHARED names {shared}, in which nothing was prepared (it has no "
                f"{PREPARED}). Type: labkit prepare --shared {shared}, or: unset LABKIT_SHARED"
            )
        if (there := shared.joinpath("cache", *names)).exists():
            return there
    return place("cache").joinpath(*names)


def named(*about: Any) -> str:
    """A name for what depends on all of this: another one as soon as anything is otherwise."""
    return hashlib.sha256(repr(about).encode()).hexdigest()[:16]


def progress_dir() -> Path:
    """Which exercises were solved. Made on use."""
    return _made("progress")


def results_dir() -> Path:
    """Measurements and reports. Made on use."""
    return _made("results")


def repository() -> Path:
    """The checkout that labkit runs from; it has ``data`` and ``notebooks``.

    Raises
    ------
    FolderError
        If labkit was installed without it.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / "data").is_dir():
        raise FolderError(
            f"expected the folders data and notebooks beside the package, found neither in {root}. "
            "labkit runs from its checkout: clone it and type python3 bootstrap.py setup"
        )
    return root


def data_dir() -> Path:
    """Sprites, the embedded checkpoint and everything else that ships with the repository."""
    return repository() / "data"


def size_bytes(folder: Path) -> int:
    """Bytes of all files below a folder, without following links; 0 if it does not exist."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # it may go away while we look
                total += Path(parent, name).lstat().st_size
    return total


def free(*kinds: str) -> int:
    """Delete everything of the given kinds.

    Parameters
    ----------
    kinds
        One or more of "cache", "progress", "results"; "all" means all three.

    Returns
    -------
    int
        Bytes that were freed.

    Raises
    ------
    FolderError
        If a kind is not one of these (nothing is deleted then), or something could not be deleted.
    """
    for unknown in {*kinds} - {*KINDS, "all"}:
        raise FolderError(
            f"expected one of {', '.join(KINDS)} or all, got {unknown!r}. "
            "`labkit clean` shows what there is"
        )
    return sum(_emptied(place(kind)) for kind in KINDS if {kind, "all"} & {*kinds})


def _emptied(folder: Path) -> int:
    """Delete what is in a folder; the bytes that were freed."""
    if not folder.is_dir():
        return 0
    before = size_bytes(folder)
    try:  # a folder that is a link stays one: it is the user's, only what it leads to is ours
        with files.alone(folder, partial(_refuse, folder)):
            for entry in list(folder.iterdir()):
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
    except OSError as error:
        raise FolderError(
            f"expected to be able to empty {folder}, got: {error.strerror or error}. "
            "Close the notebooks that use it and try again"
        ) from error
    return before - size_bytes(folder)


def _refuse(folder: Path) -> None:
    raise FolderError(
        f"expected nobody to work in {folder}; another process converts or sets up there. "
        "Wait until it is done and try again"
    )
