"""What the plugin wrote: how often each block of code was executed, given to functions and classes.

`labkit.arm.plugin` counts executions of translated blocks. Here blocks become instructions, and
instructions get their function by the ELF symbols of the files that are mapped into the guest.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from labkit.arm.classes import CLASSES, classify
from labkit.arm.counts import Counts
from labkit.arm.symbols import demangle, functions
from labkit.base.errors import CountingFailed

MAGIC = 0x314E554F43424C
HEAD_BYTES = 24
MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (?:\S+ +){4}(/.*)$", re.MULTILINE)
NO_SYMBOL = "(no symbol)"


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The counters at one moment.

    Attributes
    ----------
    addresses, executions, sizes
        (blocks,) int64: where a block begins, how often it ran so far, how many instructions it
        has. Blocks keep their place in later snapshots, which may have more of them.
    words
        (instructions,) uint32: those of all blocks, one after the other.
    """

    addresses: np.ndarray
    executions: np.ndarray
    sizes: np.ndarray
    words: np.ndarray


class MappedFile(NamedTuple):
    """A file in the guest's memory, from the address of its beginning to that of its end."""

    file: Path
    start: int
    end: int


def read(file: Path) -> Snapshot:
    """Read a snapshot as ``counting.c`` writes it.

    Raises
    ------
    CountingFailed
        If it is missing or damaged.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise CountingFailed(
            f"expected a snapshot of the counters at {file}, found none: is the disk full? "
            "Free some and try again"
        ) from error
    magic, blocks, instructions = np.frombuffer(
        content[:HEAD_BYTES].ljust(HEAD_BYTES), "i8"
    ).tolist()
    words_at = HEAD_BYTES + 3 * 8 * blocks
    if magic != MAGIC or len(content) != words_at + 4 * instructions:
        raise CountingFailed(
            f"the snapshot {file} is damaged: is the disk full? Free some and try again"
        )
    addresses, executions, sizes = np.frombuffer(content[HEAD_BYTES:words_at], "i8").reshape(3, -1)
    words = np.frombuffer(content[words_at:], "u4")
    return Snapshot(addresses=addresses, executions=executions, sizes=sizes, words=words)


def executed(*snapshots: Snapshot) -> np.ndarray:
    """Executions from each snapshot to the next: (snapshots - 1, blocks of the last) int64."""
    blocks = len(snapshots[-1].executions)
    counters = [np.pad(s.executions, (0, blocks - len(s.executions))) for s in snapshots]
    return np.diff(counters, axis=0)


def mapped_files(maps: str) -> list[MappedFile]:
    """The files in a process's memory, from the text of its ``/proc/self/maps``."""
    spans: dict[Path, tuple[int, int]] = {}
    for low, high, name in MAPPING.findall(maps):  # by address, lowest first
        file, start, end = Path(name), int(low, 16), int(high, 16)
        spans[file] = (spans.get(file, (start,))[0], end)
    return [MappedFile(file, *span) for file, span in spans.items() if file.is_file()]


def attribute(snapshot: Snapshot, executions: np.ndarray, where: Iterable[MappedFile]) -> Counts:
    """Give the executions of a snapshot's blocks to functions and classes.

    Parameters
    ----------
    snapshot
        The blocks.
    executions
        (blocks,) how often each ran.
    where
        The files in the guest's memory.
    """
    first = np.cumsum(snapshot.sizes) - snapshot.sizes  # of each block's words
    addresses = 4 * np.arange(len(snapshot.words))
    addresses += np.repeat(snapshot.addresses - 4 * first, snapshot.sizes)
    weights = np.repeat(executions, snapshot.sizes).astype(float)
    ran = np.flatnonzero(weights)
    addresses, weights, classes = addresses[ran], weights[ran], classify(snapshot.words[ran])
    rows = {("elsewhere", NO_SYMBOL): 0}
    row = np.zeros(len(ran), int)
    for file, start, end in where:
        here = np.flatnonzero((start <= addresses) & (addresses < end))
        known = functions(file) if here.size else None
        numbers = np.full(here.size, -1)
        if known and known.names:
            numbers = known.at(addresses[here], start)
        different, place = np.unique(numbers, return_inverse=True)
        names = (demangle(known.names[n]) if known and n >= 0 else NO_SYMBOL for n in different)
        library = file.name.partition(".")[0]
        mine = [rows.setdefault((library, name), len(rows)) for name in names]
        row[here] = np.array(mine, int)[place]
    table = np.zeros((len(rows), len(CLASSES)))
    np.add.at(table, (row, classes), weights)
    return Counts(dict(zip(rows, table, strict=True)))


def path(prefix: Path, what: int | str) -> Path:
    """Where the plugin writes a snapshot, by its number, or what else it writes."""
    return prefix.with_name(f"{prefix.name}.{what}")


def between(prefix: Path, number: int, where: Iterable[MappedFile]) -> Counts:
    """Instructions from snapshot PREFIX.number to the next one; ``where`` as in `attribute`."""
    start, end = (read(path(prefix, number + i)) for i in range(2))
    return attribute(end, executed(start, end)[0], where)


def at_exit(prefix: Path) -> Counts:
    """All instructions of a program that ran under `labkit.arm.plugin.option` with ``at_exit``."""
    end = read(path(prefix, "exit"))
    maps = path(prefix, "maps").read_text(encoding="utf-8", errors="replace")
    return attribute(end, end.executions, mapped_files(maps))
