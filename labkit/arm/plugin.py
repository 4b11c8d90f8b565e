"""The QEMU plugin that counts (``counting.c``), and what it wrote, given to functions and classes.

It counts executions of translated blocks, and writes snapshots of its counters. Here blocks become
instructions, and instructions get their function by the ELF symbols of the files that are mapped
into the guest.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from labkit.arm.counts import CLASSES, Counts, classify
from labkit.arm.symbols import demangle, functions
from labkit.base import command, paths
from labkit.base.errors import CommandFailed, CountingFailed
from labkit.engine import qemu

SOURCE = Path(__file__).with_name("counting.c")
NEWEST_QEMU = 8  # QEMU 9 has another plugin API, which was not run with this plugin
INSTALL = "Type: sudo apt-get install gcc libc6-dev"
MAGIC = 0x314E554F43424C
HEAD_BYTES = 24
MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (?:\S+ +){4}(/.*)$", re.MULTILINE)
NO_SYMBOL = "(no symbol)"


def c_compiler() -> str | None:
    """A C compiler for this machine; None if there is none on PATH."""
    return next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)


def compiled(name: str, argv: Sequence[str], sources: Mapping[str, str]) -> Path:
    """What a compiler makes of some sources, made once and kept in the cache.

    Parameters
    ----------
    name
        Ends the result's name; before it stands a hash of the command and the sources.
    argv
        The compiler's command without ``-o``. It runs where the sources lie.
    sources
        Text by file name.

    Raises
    ------
    CommandFailed
        If the compiler refuses. Nothing is left behind.
    """
    result = paths.kept("compiled", f"{paths.named(argv, sources)}-{name}")
    folder = result.parent
    if not result.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            work = Path(temporary)
            for source, text in sources.items():
                (work / source).write_text(text, encoding="utf-8")
            command.run([*argv, "-o", "made.o"], timeout_s=300, cwd=work, env={"LC_ALL": "C"})
            os.replace(work / "made.o", result)
    return result


def option(prefix: Path, *, at_exit: bool = False) -> str:
    """The plugin as QEMU is told of it, compiled on first use. It writes PREFIX.0 and so on.

    Parameters
    ----------
    prefix
        Of the snapshots' names.
    at_exit
        Also write PREFIX.exit and PREFIX.maps when the program ends.

    Raises
    ------
    CountingFailed
        Without a C compiler, or with a QEMU whose plugin API was not run with it.
    """
    version = qemu.version("qemu-aarch64")
    major = re.search(r"version (\d+)", version)
    if major and int(major[1]) > NEWEST_QEMU:
        raise CountingFailed(
            "expected QEMU 7 or 8, whose plugin interface counting was written for, "
            f"found {version!r}. Everything else of the emulated lane works; to count, "
            "use Debian 12 or Ubuntu 24.04, for example in a container."
        )
    compiler = c_compiler()
    if compiler is None:
        raise CountingFailed(
            "counting needs a C compiler for its QEMU plugin, found none on PATH. " + INSTALL
        )
    words = ["-shared", "-fPIC", "-O2", "-Wl,--unresolved-symbols=ignore-all", SOURCE.name]
    sources = {SOURCE.name: SOURCE.read_text(encoding="utf-8")}
    try:
        library = compiled("counting.so", [compiler, *words], sources)
    except CommandFailed as error:
        raise CountingFailed(f"the QEMU plugin did not compile: {error}\n{INSTALL}") from error
    return f"{library},out={prefix}{',exit=on' if at_exit else ''}"


class Snapshot(NamedTuple):
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
    return Snapshot(addresses, executions, sizes, np.frombuffer(content[words_at:], "u4"))


def executed(*snapshots: Snapshot) -> np.ndarray:
    """Executions from each snapshot to the next: (snapshots - 1, blocks of the last) int64."""
    blocks = len(snapshots[-1].executions)
    counters = [np.pad(s.executions, (0, blocks - len(s.executions))) for s in snapshots]
    return np.diff(counters, axis=0)


def mapped_files(maps: str) -> list[MappedFile]:
    """The files in a process's memory, from the text of its ``/proc/self/maps``."""
    ends: dict[Path, list[int]] = {}
    for low, high, name in MAPPING.findall(maps):  # by address, lowest first
        ends.setdefault(Path(name), []).extend((int(low, 16), int(high, 16)))
    return [MappedFile(file, at[0], at[-1]) for file, at in ends.items() if file.is_file()]


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
    """All instructions of a program that ran under `option` with ``at_exit``."""
    end = read(path(prefix, "exit"))
    maps = path(prefix, "maps").read_text(encoding="utf-8", errors="replace")
    return attribute(end, end.executions, mapped_files(maps))
