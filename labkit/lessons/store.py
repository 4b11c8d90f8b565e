"""Which exercises and quizzes are done, in one small file. Writes are atomic; what is unreadable or reset is kept under another name."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from labkit.base import paths


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What is done, a note when something about the file needs saying, and whether the file may be written over."""

    exercises: frozenset[str] = frozenset()
    quizzes: frozenset[str] = frozenset()
    note: str = ""
    writable: bool = True

    def plus(self, exercises: Iterable[str], quizzes: Iterable[str]) -> Progress:
        """The same and more."""
        return replace(
            self, exercises=self.exercises.union(exercises), quizzes=self.quizzes.union(quizzes)
        )


def load() -> Progress:
    """What is done so far; problems with the file are in `note`, never raised."""
    try:
        return _parse(_file().read_bytes())
    except FileNotFoundError:
        return Progress()
    except (ValueError, KeyError, TypeError, RecursionError):
        return _set_aside(_file())
    except Exception as error:  # noqa: BLE001 - no folder, no permission: the lesson goes on without a memory
        note = f"Your progress could not be read ({type(error).__name__}: {error}). `labkit doctor` looks at the folders."
        return Progress(note=note, writable=False)


def record(*, exercises: Iterable[str] = (), quizzes: Iterable[str] = ()) -> Progress:
    """Add what is done now; returns all that is done, with a note if it could not be saved."""
    before = load()
    after = before.plus(exercises, quizzes)
    if before.writable and after != before:  # never over a file whose content is not known
        try:
            _write(_file(), after)
        except Exception as error:  # noqa: BLE001 - a full disk must not spoil a right answer
            advice = "Free some space or set LABKIT_HOME to a folder of yours; `labkit doctor` tells more."
            return replace(
                after, note=f"This could not be saved ({type(error).__name__}: {error}). {advice}"
            )
    return after


def move_away() -> Path | None:
    """Begin anew: rename the file to a backup and return its new path, None if there is nothing to reset. Raises OSError."""
    return _file().rename(_kept("backup")[-1]) if _file().exists() else None


def bring_back() -> tuple[Path, Progress] | None:
    """Undo the latest reset: add the backup to what was done since; None if there is no backup.
    Raises OSError, or ValueError if the backup is no progress file; it stays where it is.
    """
    *backups, _ = _kept("backup")
    if not backups:
        return None
    old = _parse(backups[-1].read_bytes())
    both = load().plus(old.exercises, old.quizzes)
    _write(_file(), both)
    backups[-1].unlink()  # only after its content is safe in the progress file
    return backups[-1], both


def _file() -> Path:
    return paths.progress_dir() / "progress.json"


def _parse(text: bytes) -> Progress:
    data = json.loads(text.decode("utf-8"))
    lists = data["exercises"], data["quizzes"]
    if data["schema"] != 1 or not all(
        isinstance(items, list) and all(isinstance(item, str) for item in items) for items in lists
    ):
        raise ValueError("not a progress file of this version")
    return Progress().plus(*lists)


def _write(path: Path, progress: Progress) -> None:
    data = {
        "schema": 1,
        "exercises": sorted(progress.exercises),
        "quizzes": sorted(progress.quizzes),
    }
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
    try:
        kept = path.rename(_kept("unreadable")[-1])
    except OSError as error:
        note = f"{path} is not a readable progress file and could not be set aside ({error}). Move it away by hand."
        return Progress(note=note, writable=False)
    why = f"Expected a progress file at {path}, received something unreadable (an interrupted copy, or another version's file). "
    return Progress(
        note=f"{why}It is kept, unchanged, as {kept.name} beside it; your progress is counted anew from here."
    )


def _kept(word: str) -> list[Path]:
    # Those kept so far under this word, oldest first, and last the name for the next one.
    ends = (path.stem.rpartition("-")[2] for path in _file().parent.glob(f"progress.{word}-*.json"))
    numbers = sorted(int(end) for end in ends if end.isdecimal())
    return [
        _file().with_name(f"progress.{word}-{number}.json")
        for number in (*numbers, max(numbers, default=0) + 1)
    ]
