"""A board for the teacher: who agrees shares which exercises were tried and solved, with hints.

``LABKIT_BOARD`` names a folder into which every learner can drop a file that the others cannot
read (`notebooks/workshop/README.md` says how it is made). No answer is in it, and no name unless
one was given; nothing is shared before `share`, and `unshare` takes the file back.
"""

import os
import secrets
import stat
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any

from labkit.base import files, paths
from labkit.base.data import frozen
from labkit.base.errors import FolderError
from labkit.base.records import from_json, to_json
from labkit.base.show import Table
from labkit.lessons import store
from labkit.lessons.catalogue import EXERCISES

MOST_BYTES, NAME_LENGTH = 16_384, 40
STUCK_S = 600.0  # an exercise that was tried so long ago, and is not solved, has its learner stuck
BAR = 20


@frozen
class Entry:
    """What one learner shares.

    Attributes
    ----------
    name
        As given; mostly empty.
    tried, solved
        Numbers of exercises.
    hints
        How many were opened, by exercise.
    at
        The exercise that was tried last; empty before the first.
    since_s
        When that began, in seconds since 1970.
    """

    name: str = ""
    tried: frozenset[str] = frozenset()
    solved: frozenset[str] = frozenset()
    hints: dict[str, int] = field(default_factory=dict)
    at: str = ""
    since_s: float = 0.0


def folder() -> Path | None:
    """The class's folder; None outside of a class."""
    named = os.environ.get("LABKIT_BOARD")
    return Path(named) if named else None


def _agreed() -> Path:
    """Holds the name of one's own file on the board; there only while one shares."""
    return paths.progress_dir() / "board.txt"


def share(name: str = "") -> Entry | None:
    """Agree to share, under a name or none; None where there is no class.

    Raises
    ------
    OSError
        If the board cannot be written to.
    """
    board = folder()
    if not board:
        return None
    solved = store.load().done & EXERCISES.keys()
    entry = replace(_own() or Entry(solved=solved, tried=solved), name=name[:NAME_LENGTH])
    first = not files.read(_agreed())
    if first:
        files.write(_agreed(), f"{secrets.token_hex(16)}.json")
    try:
        _write(entry)
    except OSError:  # who is told that nothing is shared has not agreed to later, either
        if first:
            _agreed().unlink()
        raise
    return entry


def unshare() -> None:
    """Take one's file back from the board; nothing more is shared."""
    board, name = folder(), files.read(_agreed())
    if board and name:
        (board / name).unlink(missing_ok=True)
    _agreed().unlink(missing_ok=True)


def checkbox(above: str) -> Any:
    """A widget to agree with one click, and to take it back with another, below some HTML."""
    import ipywidgets

    wide = {"layout": ipywidgets.Layout(width="auto"), "indent": False}
    words = "My teacher may see which exercises I tried and solved, and my hints; no answers"
    box = ipywidgets.Checkbox(bool(files.read(_agreed())), description=words, **wide)
    said = ipywidgets.HTML()

    def carry_out(change: dict[str, Any]) -> None:
        wish, said.value = change["new"], ""
        if wish == bool(files.read(_agreed())):
            return
        try:
            share() if wish else unshare()
        except OSError as error:
            box.value = not wish
            said.value = f"Not {'shared' if wish else 'taken back'}: {escape(str(error))}"

    box.observe(carry_out, "value")
    return ipywidgets.VBox([ipywidgets.HTML(above), box, said])


def note(exercise: str, *, solved: bool = False, hints: int = 0) -> None:
    """Tell the board of an exercise that was tried, if that was agreed; a lesson never stops."""
    with suppress(OSError, FolderError):
        if entry := _own():
            moved = exercise != entry.at
            _write(
                replace(
                    entry,
                    tried=entry.tried | {exercise},
                    solved=entry.solved | ({exercise} if solved else set()),
                    hints=entry.hints | ({exercise: hints} if hints else {}),
                    at=exercise,
                    since_s=time.time() if moved else entry.since_s,
                )
            )


def _own() -> Entry | None:
    """What one shares so far; None if that was not agreed."""
    board, name = folder(), files.read(_agreed())
    if not board or not name:
        return None
    return _read(board / name) or Entry()


def _write(entry: Entry) -> None:
    board = folder()
    assert board
    content = {**entry.__dict__, "tried": sorted(entry.tried), "solved": sorted(entry.solved)}
    path = board / files.read(_agreed())
    board.stat()  # the teacher makes it, nobody else
    files.write(path, to_json(content))
    path.chmod(0o640)  # the folder's group is the teacher's


def _read(path: Path) -> Entry | None:
    """A file that somebody dropped; None if it is not what `note` writes."""
    try:
        state = path.lstat()
        if not stat.S_ISREG(state.st_mode) or state.st_size > MOST_BYTES:
            return None  # a link, a pipe that would block, or something huge
        entry = from_json(Entry, path.read_bytes())
    except (OSError, ValueError):
        return None
    known = EXERCISES.keys()
    return replace(
        entry,
        name=entry.name[:NAME_LENGTH],
        tried=entry.tried & known,
        solved=entry.solved & known,
        hints={number: count for number, count in entry.hints.items() if number in known},
        at=entry.at if entry.at in known else "",
    )


@dataclass(frozen=True, kw_only=True, repr=False)
class Board:
    """Where a class is and where it is stuck: a table, a row for each exercise."""

    entries: Sequence[Entry]
    now_s: float

    def table(self) -> Table:
        """Learners who tried, solved, took hints, are at it now, and are stuck there."""
        rows = []
        for number, exercise in EXERCISES.items():
            tried = [e for e in self.entries if number in e.tried]
            solved = sum(number in e.solved for e in tried)
            here = [e for e in self.entries if e.at == number and number not in e.solved]
            stuck = [e for e in here if self.now_s - e.since_s > STUCK_S]
            bar = "█" * round(BAR * solved / max(len(self.entries), 1))
            rows.append(
                (
                    exercise.heading,
                    f"{bar:░<{BAR}} {solved} of {len(tried)}",
                    str(sum(e.hints.get(number, 0) for e in self.entries)),
                    str(len(here)),
                    ", ".join(e.name or "somebody" for e in stuck),
                )
            )
        heads = ("Exercise", "Solved, of those who tried", "Hints", "At it now", "Stuck")
        return Table(heads, rows)

    @property
    def caption(self) -> str:
        """How many share, and when this was read."""
        if not folder() and not self.entries:
            return "No class here: LABKIT_BOARD is not set."
        at = time.strftime("%H:%M:%S", time.localtime(self.now_s))
        return f"{len(self.entries)} learner(s) share; read at {at}"

    def __repr__(self) -> str:
        return f"{self.table()}\n\n{self.caption}"

    def _repr_html_(self) -> str:
        return self.table().to_html(caption=self.caption)


def read(place: Path | None = None) -> Board:
    """Read the class's board; what is not a learner's file is left out.

    Parameters
    ----------
    place
        The folder; else what ``LABKIT_BOARD`` names.

    Raises
    ------
    FolderError
        If it cannot be listed.
    """
    place = place or folder()
    try:
        dropped = sorted(place.iterdir()) if place else []
    except OSError as error:
        raise FolderError(
            f"expected to be able to list the class's board {place}: {error.strerror}. "
            "notebooks/workshop/README.md says how it is made, and who may"
        ) from error
    read_ = (_read(path) for path in dropped if path.suffix == ".json")
    return Board(entries=[entry for entry in read_ if entry], now_s=time.time())


def watch(place: Path | None = None, *, every_s: float = 5.0) -> Any:
    """The board as a widget that reads it again every few seconds, until its kernel ends."""
    import ipywidgets

    shown = ipywidgets.HTML(read(place)._repr_html_())

    def again() -> None:
        while True:
            time.sleep(every_s)
            with suppress(FolderError):
                shown.value = read(place)._repr_html_()

    threading.Thread(target=again, daemon=True).start()
    return shown
