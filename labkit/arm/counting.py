"""Which instructions an Arm CPU executes, counted in the emulated lane: per function and per class.

A QEMU plugin (``counting.c``, compiled on first use) counts executions of translated blocks.
Here blocks become instructions, instructions get a class by their encoding (Arm
Architecture Reference Manual, C4.1, "A64 instruction set encoding"), and addresses get a
function by the ELF symbols of the guest's libraries. Instructions are not time.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from labkit.base import command, paths
from labkit.base.errors import CommandFailed, CountingFailed
from labkit.engine import lanes
from labkit.engine.client import EngineProcess
from labkit.engine.lanes import Lane
from labkit.model.parts import Part

CLASSES = ("smmla", "sdot", "int_simd", "fp_simd", "load", "store", "branch", "scalar")
SOURCE = Path(__file__).with_name("counting.c")
MAGIC = 0x314E554F43424C
NEWEST_QEMU = 8  # QEMU 9 has another plugin API, which was not run with this plugin
RUNGS = (("cortex-a53", False), ("cortex-a76", False), ("max", False), ("max", True))
SYMBOL = np.dtype(
    [
        ("name", "<u4"),
        ("info", "u1"),
        ("other", "u1"),
        ("section", "<u2"),
        ("value", "<u8"),
        ("size", "<u8"),
    ]
)


# ---- classes of instructions


def classify(words: np.ndarray) -> np.ndarray:
    """The class of each A64 instruction, as an index into `CLASSES`.

    ``smmla`` and ``sdot`` stand for their unsigned and mixed kin as well. ``fp_simd`` includes scalar floating point.
    Loads and stores of vectors are loads and stores. SVE is sorted roughly, by its top-level groups.

    Parameters
    ----------
    words
        (n,) uint32.

    Returns
    -------
    numpy.ndarray
        (n,) uint8.

    Examples
    --------
    >>> [CLASSES[c] for c in classify(np.array([0x4E80A400, 0x4E809400, 0xF9400000, 0xD65F03C0], np.uint32))]
    ['smmla', 'sdot', 'load', 'branch']
    """
    w = np.asarray(words, np.uint32)

    def bits(high: int, low: int) -> np.ndarray:
        field: np.ndarray = (w >> np.uint32(low)) & np.uint32((1 << (high - low + 1)) - 1)
        return field

    def like(value: int, mask: int) -> np.ndarray:
        same: np.ndarray = (w & np.uint32(mask)) == np.uint32(value)
        return same

    op0 = bits(28, 25)
    out = np.full(w.shape, CLASSES.index("scalar"), np.uint8)

    def put(name: str, where: np.ndarray) -> None:
        out[where] = CLASSES.index(name)

    branch = (
        like(0x14000000, 0x7C000000)
        | like(0x54000000, 0xFF000000)
        | like(0x34000000, 0x7C000000)
        | like(0xD6000000, 0xFE000000)
    )
    put("branch", ((op0 & 14) == 10) & branch)

    memory = (op0 & 5) == 4
    kind, opc, vector = bits(29, 28), bits(23, 22), bits(26, 26) == 1
    literal = (bits(29, 27) == 3) & (bits(25, 24) == 0)
    atomic = (kind == 3) & (bits(25, 24) == 0) & (bits(21, 21) == 1) & (bits(11, 10) == 0)
    by_opc = np.where(vector, (opc & 1) == 1, opc != 0)  # a single register
    loads = (
        np.where(
            kind == 3,
            by_opc | atomic,
            np.where((kind == 1) & ~literal, opc != 0, bits(22, 22) == 1),
        )
        | literal
    )
    put("load", memory & loads)
    put("store", memory & ~loads)

    simd = (op0 & 7) == 7
    scalar_fp = simd & (bits(28, 28) == 1) & (bits(30, 30) == 0)
    plain = simd & ~scalar_fp & (bits(24, 24) == 0)  # two or three registers, element-wise
    indexed = simd & ~scalar_fp & (bits(24, 24) == 1)  # by element, or with an immediate
    floating = scalar_fp
    floating |= (
        plain & (bits(21, 21) == 1) & (bits(10, 10) == 1) & (bits(15, 11) >= 24)
    )  # three the same
    floating |= (
        plain & (bits(22, 21) == 2) & (bits(15, 14) == 0) & (bits(10, 10) == 1)
    )  # three the same, float16
    misc = plain & (bits(21, 17) == 16) & (bits(11, 10) == 2)
    floating |= misc & ((bits(16, 12) >= 22) | ((bits(16, 14) == 3) & (bits(23, 23) == 1)))
    floating |= plain & (bits(21, 17) == 28) & (bits(11, 10) == 2)  # the same, float16
    floating |= (
        plain & (bits(21, 17) == 24) & (bits(11, 10) == 2) & np.isin(bits(16, 12), (12, 15))
    )  # across lanes
    floating |= (
        indexed & (bits(10, 10) == 0) & np.isin(bits(15, 12), (1, 5, 9)) & ~(bits(23, 22) == 1)
    )
    floating |= (
        indexed & (bits(10, 10) == 1) & (bits(22, 19) != 0) & np.isin(bits(15, 11), (28, 31))
    )
    put("int_simd", simd)
    put("fp_simd", floating)
    put("smmla", like(0x0E80A400, 0x9FE0FC00) | like(0x4E80AC00, 0xFFE0FC00))
    dots = (
        like(0x0E809400, 0x9FE0FC00)
        | like(0x0E809C00, 0xBFE0FC00)
        | like(0x0F80E000, 0x9FC0F400)
        | like(0x0F00F000, 0xBF40F400)
    )
    put("sdot", dots)

    sve = op0 == 2
    group = bits(31, 29)
    put("int_simd", sve & (group < 3))
    put("fp_simd", sve & (group == 3))
    put("load", sve & (group >= 4) & (group < 7))
    put("store", sve & (group == 7))
    put("smmla", like(0x45009800, 0xFF20FC00))
    put("sdot", like(0x44800000, 0xFFA0F800))
    return out


# ---- functions by address


def _symbols(library: Path) -> tuple[np.ndarray, bytes] | None:
    """Functions of an ELF file, sorted by address, and the text that holds their names; None if there is nothing to read."""
    return _symbols_at(library, library.stat().st_mtime_ns)


def _first_address(elf: Any) -> int:
    """Where a file's first segment lies, as its symbols count: 0, but in a program for a fixed address."""
    return int(next((segment["p_vaddr"] for segment in elf.iter_segments("PT_LOAD")), 0))


def first_address(program: Path) -> int:
    """Where a program for a fixed address begins."""
    from elftools.elf.elffile import ELFFile

    with program.open("rb") as file:
        return _first_address(ELFFile(file))


@lru_cache(maxsize=16)
def _symbols_at(library: Path, _changed_ns: int) -> tuple[np.ndarray, bytes] | None:
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    with library.open("rb") as file:
        try:
            elf = ELFFile(file)
        except ELFError:
            return None
        table = elf.get_section_by_name(".symtab") or elf.get_section_by_name(".dynsym")
        if table is None:
            return None
        rows = np.frombuffer(table.data(), SYMBOL)
        names = elf.get_section(table["sh_link"]).data()
        first = _first_address(elf)
    rows = rows[np.isin(rows["info"] & 15, (2, 10)) & (rows["section"] != 0)].copy()
    rows["value"] -= first
    return rows[np.argsort(rows["value"], kind="stable")], names


def _name(names: bytes, offset: int) -> str:
    return names[offset : names.index(b"\0", offset)].decode(errors="replace")


def function_names(library: Path) -> tuple[str, ...] | None:
    """All functions defined in a library, by its ELF symbols; None if it is no ELF file or has no symbols."""
    found = _symbols(library)
    return None if found is None else tuple(_name(found[1], int(row["name"])) for row in found[0])


def demangle(name: str) -> str:
    """A C++ function's name as in its source, where the C++ runtime can tell; else the name itself."""
    try:
        runtime = ctypes.CDLL("libstdc++.so.6")
    except OSError:
        return name
    read = runtime["__cxa_demangle"]  # held: each look-up makes another object
    read.restype = ctypes.c_void_p
    text = read(name.encode(), None, None, None)
    if not text:
        return name
    try:
        return ctypes.string_at(text).decode()
    finally:
        ctypes.CDLL(None).free(ctypes.c_void_p(text))


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Executed instructions, one row for each function, one column for each of `CLASSES`.

    Attributes
    ----------
    functions
        (library, function) of each row.
    table
        (functions, classes) float64.
    """

    functions: tuple[tuple[str, str], ...]
    table: np.ndarray

    @property
    def total(self) -> float:
        """All instructions."""
        return float(self.table.sum())

    def by_class(self) -> dict[str, int]:
        """Instructions of each class."""
        return dict(zip(CLASSES, (int(n) for n in np.rint(self.table.sum(0))), strict=True))

    def by_function(self) -> list[tuple[tuple[str, str], int]]:
        """Functions with their instructions, most first."""
        rows = self.table.sum(1)
        return [(self.functions[i], int(rows[i])) for i in np.argsort(-rows) if rows[i] > 0]

    def share(self, prefix: str) -> float:
        """Share of the instructions inside functions whose names begin so, such as ``"kai_"``; 0 to 1."""
        inside = np.array([name.startswith(prefix) for _, name in self.functions], bool)
        return float(self.table[inside].sum() / self.total) if self.total else 0.0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        top = [
            {"library": lib, "function": name, "instructions": n}
            for (lib, name), n in self.by_function()[:20]
        ]
        return {
            "instructions": round(self.total),
            "by_class": self.by_class(),
            "kai_share": self.share("kai_"),
            "top_functions": top,
        }


@dataclass(frozen=True)
class _Snapshot:
    address: np.ndarray
    executions: np.ndarray
    size: np.ndarray
    words: np.ndarray


def _read_snapshot(path: Path) -> _Snapshot:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CountingFailed(
            f"expected a snapshot of the counters at {path}, found none: is the disk full? Free some and try again"
        ) from error
    head = np.frombuffer(raw[:24], np.uint64)
    if len(head) != 3 or head[0] != MAGIC or len(raw) != 24 + 24 * int(head[1]) + 4 * int(head[2]):
        raise CountingFailed(
            f"the snapshot {path} is damaged: is the disk full? Free some and try again"
        )
    fields = np.frombuffer(raw[24:], np.uint64, count=3 * int(head[1])).reshape(3, -1)
    return _Snapshot(
        fields[0],
        fields[1].astype(np.int64),
        fields[2].astype(np.int64),
        np.frombuffer(raw[24 + 24 * int(head[1]) :], np.uint32),
    )


def _grown(later: _Snapshot, earlier: _Snapshot) -> np.ndarray:
    """Executions of each block between two snapshots."""
    grown: np.ndarray = later.executions.copy()
    grown[: len(earlier.executions)] -= earlier.executions
    return grown


def attribute(blocks: _Snapshot, executions: np.ndarray, maps: str) -> Counts:
    """Give the executions of blocks to functions and classes; ``maps`` is the guest's ``/proc/self/maps``."""
    ran = np.flatnonzero(executions)
    starts = np.concatenate([[0], np.cumsum(blocks.size)])[:-1]
    size = blocks.size[ran]
    inside = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
    address = np.repeat(blocks.address[ran].astype(np.int64), size) + 4 * inside
    classes = classify(blocks.words[np.repeat(starts[ran], size) + inside])
    weight = np.repeat(executions[ran], size).astype(np.float64)
    keys: dict[tuple[str, str], int] = {}
    row = np.full(len(address), keys.setdefault(("elsewhere", "(no symbol)"), 0))
    for path, base, end in _libraries(maps):
        here = np.flatnonzero((address >= base) & (address < end))
        found = _symbols(path) if here.size else None
        if here.size == 0:
            continue
        library = path.name.split(".")[0]
        unknown = keys.setdefault((library, "(no symbol)"), len(keys))
        row[here] = unknown
        if found is None or len(found[0]) == 0:
            continue
        functions, names = found
        at = np.searchsorted(functions["value"], address[here] - base, side="right") - 1
        value, length = (
            functions["value"][at].astype(np.int64),
            functions["size"][at].astype(np.int64),
        )
        fits = (at >= 0) & ((address[here] - base < value + length) | (length == 0))
        for index in np.unique(at[fits]):
            name = demangle(_name(names, int(functions["name"][index])))
            row[here[fits & (at == index)]] = keys.setdefault((library, name), len(keys))
    table = np.zeros((len(keys), len(CLASSES)))
    np.add.at(table, (row, classes), weight)
    return Counts(functions=tuple(keys), table=table)


def _libraries(maps: str) -> list[tuple[Path, int, int]]:
    """Files mapped into the guest: path, address of the file's beginning, end."""
    spans: dict[Path, tuple[int, int]] = {}
    for line in maps.splitlines():
        found = re.match(r"([0-9a-f]+)-([0-9a-f]+) \S+ ([0-9a-f]+) \S+ \S+ +(/.*)$", line)
        if found:
            path, low, high, offset = (
                Path(found[4]),
                int(found[1], 16),
                int(found[2], 16),
                int(found[3], 16),
            )
            base, end = spans.get(
                path, (low, high)
            )  # of the first segment, which begins at address 0 of the file's own
            spans[path] = (low if offset == 0 and low < base else base, max(end, high))
    return [(path, base, end) for path, (base, end) in spans.items() if path.is_file()]


def at_exit(prefix: Path) -> Counts:
    """All instructions of a program that ran under the plugin with ``out=PREFIX,exit=on``."""
    snapshot = _read_snapshot(prefix.with_name(prefix.name + ".exit"))
    maps = prefix.with_name(prefix.name + ".maps").read_text(encoding="utf-8", errors="replace")
    return attribute(snapshot, snapshot.executions, maps)


def difference(more: Counts, less: Counts, by: float = 1.0) -> Counts:
    """What one run executed beyond another, function by function, divided by ``by``; noise below zero becomes zero."""
    keys = tuple(dict.fromkeys([*more.functions, *less.functions]))
    rows = {key: number for number, key in enumerate(keys)}
    table = np.zeros((len(keys), len(CLASSES)))
    for counts, sign in ((more, 1.0), (less, -1.0)):
        np.add.at(table, [rows[key] for key in counts.functions], sign * counts.table)
    return Counts(functions=keys, table=np.maximum(table, 0.0) / by)


def between(earlier: Path, later: Path, maps: str) -> Counts:
    """Instructions executed between two snapshots' files; ``maps`` as in `attribute`."""
    end = _read_snapshot(later)
    return attribute(end, _grown(end, _read_snapshot(earlier)), maps)


# ---- the plugin, and an engine that carries it


def plugin() -> Path:
    """The compiled plugin; compiled into the cache on first use.

    Raises
    ------
    CountingFailed
        Without a C compiler, or with a QEMU whose plugin API was not run with it.
    """
    qemu = shutil.which("qemu-aarch64") or "qemu-aarch64"
    version = lanes.qemu_version(qemu)
    major = re.search(r"version (\d+)", version)
    if major and int(major[1]) > NEWEST_QEMU:
        raise CountingFailed(
            f"expected QEMU 7 or 8, whose plugin interface counting was written for, found {version!r}. "
            "Everything else of the emulated lane works; to count, use Debian 12 or Ubuntu 24.04, for example in a container."
        )
    source = SOURCE.read_bytes()
    library = paths.cache_dir() / f"counting-{hashlib.sha256(source).hexdigest()[:12]}.so"
    if library.is_file():
        return library
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        raise CountingFailed(
            "counting needs a C compiler for its QEMU plugin, found none on PATH. Type: sudo apt-get install gcc libc6-dev"
        )
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        new, log = Path(folder) / library.name, Path(folder) / "log"
        options = ["-shared", "-fPIC", "-O2", "-Wl,--unresolved-symbols=ignore-all"]
        try:
            command.run([compiler, *options, str(SOURCE), "-o", str(new)], log=log, timeout_s=120)
        except CommandFailed as error:
            raise CountingFailed(
                f"the QEMU plugin did not compile: {error}\nType: sudo apt-get install gcc libc6-dev"
            ) from error
        os.replace(new, library)
    return library


class CountingEngine(EngineProcess):
    """An engine in the emulated lane whose instructions are counted, on one thread.

    Raises
    ------
    CountingFailed
        In another lane, or if the plugin cannot be had.
    """

    def __init__(self, lane: Lane) -> None:
        if lane.name != "emulated":
            raise CountingFailed(
                f"instructions are counted in the emulated lane, not in the lane {lane.name!r}. Use lanes.emulated()"
            )
        self._counters = tempfile.TemporaryDirectory(prefix="labkit-counting-")
        self._prefix, self._taken = Path(self._counters.name) / "snapshot", 0
        try:
            super().__init__(lane, plugin=f"{plugin()},out={self._prefix}")
        except BaseException:
            self._counters.cleanup()
            raise

    def _snapshot(self) -> tuple[_Snapshot, str]:
        maps = self.request("snapshot")["maps"]
        path = self._prefix.with_name(f"{self._prefix.name}.{self._taken}")
        self._taken += 1
        snapshot = _read_snapshot(path)
        path.unlink()
        return snapshot, maps

    def count(
        self,
        part: Part,
        *,
        kleidiai: bool,
        memory: str = "low",
        precision: str = "normal",
        repeats: tuple[int, int] = (1, 3),
    ) -> Counts:
        """Instructions of one forward pass: two runs of different repeat counts, subtracted, so that all else cancels."""
        part.load(self, kleidiai=kleidiai, memory=memory, precision=precision)
        part.forward(self)
        few, many = repeats
        start = self._snapshot()[0]
        part.forward(self, repeat=few)
        middle = self._snapshot()[0]
        part.forward(self, repeat=many)
        end, maps = self._snapshot()
        more, less = _grown(end, middle), _grown(middle, start)
        more[: len(less)] -= less
        return attribute(end, np.maximum(more, 0) / (many - few), maps)

    def count_load(self, part: Part, *, kleidiai: bool) -> Counts:
        """Instructions until a part is ready: loading, and what its first pass does beyond a later one, which is packing its weights."""
        part.load(
            self, kleidiai=kleidiai
        )  # once before: the first load of all also starts MNN itself
        part.forward(self)
        start = self._snapshot()[0]
        part.load(self, kleidiai=kleidiai)
        part.forward(self)
        ready = self._snapshot()[0]
        part.forward(self)
        end, maps = self._snapshot()
        later, first = _grown(end, ready), _grown(ready, start)
        later[: len(first)] = first - later[: len(first)]
        return attribute(end, np.maximum(later, 0), maps)

    def close(self) -> None:
        """End the worker and remove its snapshots."""
        super().close()
        with suppress(OSError):
            self._counters.cleanup()


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One way to run the parts: a CPU, KleidiAI off or on, and the instructions of one forward pass of each part."""

    cpu: str
    kleidiai: bool
    parts: tuple[str, ...]
    counts: tuple[Counts, ...]

    @property
    def label(self) -> str:
        """For tables and pictures: the newest instruction set of the CPU, and KleidiAI."""
        return f"{self.cpu}: {lanes.CPUS[self.cpu].split(', ')[-1]}" + (
            " + KleidiAI" if self.kleidiai else ""
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON, labelled as what it is."""
        counted = {
            part: counts.to_dict() for part, counts in zip(self.parts, self.counts, strict=True)
        }
        return {
            "cpu": self.cpu,
            "kleidiai": self.kleidiai,
            "unit": "executed instructions, not time",
            "parts": counted,
        }


def ladder(
    parts: Sequence[Part],
    *,
    rungs: Iterable[tuple[str, bool]] = RUNGS,
    on_step: Callable[[str], None] | None = None,
) -> tuple[Rung, ...]:
    """Count each part on each CPU of the ladder, KleidiAI off, and on where the CPU can run it.

    Parameters
    ----------
    parts
        What to run, from `labkit.model.parts`.
    rungs
        (CPU, KleidiAI) of each rung.
    on_step
        Called with a few words before each step.
    """
    found = []
    for cpu, kleidiai in rungs:
        with CountingEngine(lanes.emulated(cpu)) as engine:
            counts = []
            for part in parts:
                if on_step:
                    on_step(f"{cpu}, KleidiAI {'on' if kleidiai else 'off'}: {part.name}")
                counts.append(engine.count(part, kleidiai=kleidiai))
        found.append(
            Rung(
                cpu=cpu,
                kleidiai=kleidiai,
                parts=tuple(part.name for part in parts),
                counts=tuple(counts),
            )
        )
    return tuple(found)
