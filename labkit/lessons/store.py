"""Which exercises and quizzes are done, in one small file; what is unreadable is kept beside it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, Literal

from labkit.base import files, paths
from labkit.base.data import frozen
from labkit.base.errors import FolderError
from labkit.base.records import from_json, to_json

# Schema 1 knew most lessons, and some exercises, by other numbers.
RENUMBERED = dict(
    pair.split(">")
    for pair in "02>06 03>02 04>03 05>04 06>05 03.1>02.2 03.2>02.1 05.2>04.3 05.3>04.2".split()
)


@frozen
class Saved:
    """What the file holds: numbers of exercises ("02.1") and of quizzes ("02")."""

    schema: Literal[1, 2]
    exercises: tuple[str, ...]
    quizzes: tuple[str, ...]
    reset: tuple[str, ...] = ()


@frozen
class Progress:
    """What is done, and what was before a reset: numbers of exercises and quizzes."""

    done: frozenset[str] = frozenset()
    reset: frozenset[str] = frozenset()
    note: str = ""  # what needs saying about the file
    writable: bool = True  # False: its content is not known, and must not be written over


def load() -> Progress:
    """What is done so far; problems with the file are in `note`, never raised."""
    try:
        return _read(_file().read_bytes())
    except FileNotFoundError:
        return Progress()
    except (ValueError, RecursionError):
        return _set_aside(_file())
    except Exception as error:  # noqa: BLE001 - no folder, no permission: the lesson goes on
        return Progress(
            note=f"Your progress could not be read ({type(error).__name__}: {error}). "
            "`labkit doctor` looks at the folders.",
            writable=False,
        )


def record(*numbers: str) -> Progress:
    """Add what is done now; returns all that is done, with a note if it could not be saved."""
    with _alone():
        before = load()
        return _changed(before, done=before.done.union(numbers))


def reset(lesson: str = "") -> Progress:
    """Take back what is done of one lesson, or of all; `restore` can undo it."""
    with _alone():
        before = load()
        gone = {number for number in before.done if number.startswith(lesson)}
        return _changed(before, done=before.done - gone, reset=before.reset | gone)


def restore() -> Progress:
    """Bring back all that was reset; what was done since stays."""
    with _alone():
        before = load()
        return _changed(before, done=before.done | before.reset, reset=frozenset())


@contextmanager
def _alone() -> Iterator[None]:
    """Two notebooks that record at once wait for each other; without a folder, neither records."""
    with ExitStack() as stack:
        with suppress(FolderError, OSError):
            stack.enter_context(files.alone(paths.progress_dir()))
        yield


def _changed(before: Progress, **change: Any) -> Progress:
    after = replace(before, **change)
    if before.writable and after != before:
        try:
            files.write(_file(), _text(after))
        except Exception as error:  # noqa: BLE001 - a full disk must not spoil a right answer
            note = (
                f"This could not be saved ({type(error).__name__}: {error}). Free some space or "
                "set LABKIT_HOME to a folder of yours; `labkit doctor` tells more."
            )
            return replace(after, note=note)
    return after


def _file() -> Path:
    return paths.progress_dir() / "progress.json"


def _read(text: bytes) -> Progress:
    saved = from_json(Saved, text)
    done = saved.exercises + saved.quizzes
    if saved.schema == 1:
        done = tuple(
            RENUMBERED.get(old) or RENUMBERED.get(old[:2], old[:2]) + old[2:] for old in done
        )
    return Progress(done=frozenset(done), reset=frozenset(saved.reset))


def _text(progress: Progress) -> str:
    exercises = {number for number in progress.done if "." in number}
    kinds = {"exercises": exercises, "quizzes": progress.done - exercises, "reset": progress.reset}
    return to_json({"schema": 2, **{kind: sorted(numbers) for kind, numbers in kinds.items()}})


def _set_aside(path: Path) -> Progress:
    names = (path.with_name(f"progress.unreadable-{number}.json") for number in count(1))
    try:
        kept = path.rename(next(name for name in names if not name.exists()))
    except OSError as error:
        return Progress(
            note=f"{path} is not a readable progress file and could not be set aside ({error}). "
            "Move it away by hand.",
            writable=False,
        )
    return Progress(
        note=f"Expected a progress file at {path}, received something unreadable "
        "(an interrupted copy, or another version's file). It is kept, unchanged, "
        f"as {kept.name} beside it; your progress is counted anew from here."
    )
