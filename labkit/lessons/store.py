"""Which exercises and quizzes are done, in one small file in the user's data folder.

Writes are atomic, nothing is ever deleted unread: a file that cannot be read is
set aside under another name, a reset keeps a backup.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

SCHEMA = 1
FILE_NAME = "progress.json"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What is done, a note when something about the file needs saying, and whether the file may be written over."""

    exercises: frozenset[str] = frozenset()
    quizzes: frozenset[str] = frozenset()
    note: str = ""
    writable: bool = True

    def __or__(self, other: Progress) -> Progress:
        return Progress(
            exercises=self.exercises | other.exercises,
            quizzes=self.quizzes | other.quizzes,
            note=self.note or other.note,
            writable=self.writable and other.writable,
        )

    def __bool__(self) -> bool:
        return bool(self.exercises or self.quizzes)


def progress_file() -> Path:
    """Where progress is kept."""
    from labkit import paths

    return Path(paths.progress_dir()) / FILE_NAME


def load() -> Progress:
    """What is done so far; problems with the file are in `note`, never raised."""
    try:
        path = progress_file()
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Progress()
    except UnicodeDecodeError:
        return _set_aside(path)
    except Exception as error:  # noqa: BLE001 - no folder, no permission: the lesson goes on without a memory
        note = f"Your progress could not be read ({type(error).__name__}: {error}). `labkit doctor` looks at the folders."
        return Progress(note=note, writable=False)
    try:
        return _parse(text)
    except (ValueError, KeyError, TypeError, RecursionError):
        return _set_aside(path)


def record(*, exercises: tuple[str, ...] = (), quizzes: tuple[str, ...] = ()) -> Progress:
    """Add what is done now; returns all that is done, with a note if it could not be saved."""
    before = load()
    after = before | Progress(exercises=frozenset(exercises), quizzes=frozenset(quizzes))
    if not before.writable or (after.exercises, after.quizzes) == (before.exercises, before.quizzes):
        return after  # never over a file whose content is not known
    try:
        _write(progress_file(), after)
    except Exception as error:  # noqa: BLE001 - a full disk must not spoil a right answer
        note = (
            f"This could not be saved ({type(error).__name__}: {error}). Free some space or set LABKIT_HOME to a folder of yours; "
            "`labkit doctor` tells more."
        )
        return replace(after, note=note)
    return after


def move_away() -> Path | None:
    """Begin anew: rename the file to a backup and return its new path, or None if there is nothing to reset.

    Raises
    ------
    OSError
        If the file cannot be renamed.
    """
    path = progress_file()
    if not path.exists():
        return None
    backup = _free_name(path, "backup")
    path.rename(backup)
    return backup


def bring_back() -> tuple[Path, Progress] | None:
    """Undo the latest reset: add the backup to what was done since; None if there is no backup.

    Raises
    ------
    OSError
        If a file cannot be read or written.
    ValueError
        If the backup is not a progress file; it stays where it is.
    """
    path = progress_file()
    backups = sorted(path.parent.glob("progress.backup-*.json"), key=_number)
    if not backups:
        return None
    both = _parse(backups[-1].read_text(encoding="utf-8")) | load()
    _write(path, both)
    backups[-1].unlink()  # only after its content is safe in the progress file
    return backups[-1], both


def _parse(text: str) -> Progress:
    data = json.loads(text)
    lists = data["exercises"], data["quizzes"]
    if data["schema"] != SCHEMA or not all(isinstance(items, list) and all(isinstance(item, str) for item in items) for items in lists):
        raise ValueError("not a progress file of this version")
    return Progress(exercises=frozenset(data["exercises"]), quizzes=frozenset(data["quizzes"]))


def _write(path: Path, progress: Progress) -> None:
    data = {"schema": SCHEMA, "exercises": sorted(progress.exercises), "quizzes": sorted(progress.quizzes)}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(json.dumps(data, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _set_aside(path: Path) -> Progress:
    kept = _free_name(path, "unreadable")
    try:
        path.rename(kept)
    except OSError as error:
        return Progress(
            note=f"{path} is not a readable progress file and could not be set aside ({error}). Move it away by hand.", writable=False
        )
    note = (
        f"Expected a progress file at {path}, received something unreadable (an interrupted copy, or another version's file). It is "
        f"kept, unchanged, as {kept.name} beside it; your progress is counted anew from here."
    )
    return Progress(note=note)


def _free_name(path: Path, word: str) -> Path:
    taken = [_number(other) for other in path.parent.glob(f"progress.{word}-*.json")]
    return path.with_name(f"progress.{word}-{max(taken, default=0) + 1}.json")


def _number(path: Path) -> int:
    digits = path.name.split("-")[-1].removesuffix(".json")
    return int(digits) if digits.isdigit() else 0
