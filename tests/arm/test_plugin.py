"""The plugin is compiled once, or says what is missing; what it wrote gets its functions."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import numpy as np
import pytest

from labkit.arm import plugin
from labkit.arm.counts import CLASSES
from labkit.arm.plugin import MAGIC, MappedFile, attribute, between, executed, mapped_files
from labkit.arm.symbols import functions
from labkit.base.errors import CountingFailed
from labkit.engine.lanes import Lane

PREFIX = Path("snapshot")


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_no_compiler_is_named(
    emulated_lane: Lane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    program(tmp_path / "qemu-aarch64", 'echo "qemu-aarch64 version 7.2.22 (Debian)"')
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CountingFailed, match="apt-get install gcc libc6-dev"):
        plugin.option(PREFIX)


def test_a_compiler_that_fails_leaves_nothing_behind(
    emulated_lane: Lane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin" / "cc", 'echo "no headers" >&2; exit 1')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    with pytest.raises(CountingFailed, match="no headers"):
        plugin.option(PREFIX)
    assert [file for file in (tmp_path / "cache").rglob("*") if file.is_file()] == []


def test_a_qemu_with_another_plugin_interface_is_refused_by_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "qemu-aarch64", 'echo "qemu-aarch64 version 9.2.0"')
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(CountingFailed, match=r"version 9\.2\.0"):
        plugin.option(PREFIX)


def test_it_is_compiled_once(emulated_lane: Lane) -> None:
    words = plugin.option(PREFIX)
    library, _, options = words.partition(",")
    made = Path(library).stat().st_mtime_ns
    assert options == "out=snapshot"
    assert plugin.option(PREFIX, at_exit=True) == f"{words},exit=on"
    assert Path(library).stat().st_mtime_ns == made


def write_snapshot(path: Path, blocks: list[tuple[int, int, list[int]]]) -> None:
    size = sum(len(words) for _, _, words in blocks)
    head = np.array([MAGIC, len(blocks), size], np.uint64)
    fields = np.array(
        [[b[0] for b in blocks], [b[1] for b in blocks], [len(b[2]) for b in blocks]], np.uint64
    )
    path.write_bytes(
        head.tobytes()
        + fields.tobytes()
        + np.array([w for b in blocks for w in b[2]], np.uint32).tobytes()
    )


def test_blocks_become_instructions_even_where_no_library_lies(tmp_path: Path) -> None:
    smmla, load, ret = 0x4E80A400, 0xF9400000, 0xD65F03C0
    blocks = [(0x1000, 5, [smmla, load]), (0x2000, 0, [ret]), (0x3000, 2, [ret])]
    write_snapshot(tmp_path / "s", blocks)
    snapshot = plugin.read(tmp_path / "s")
    counts = attribute(snapshot, snapshot.executions, [])
    assert counts.by_class() == dict.fromkeys(CLASSES, 0) | {"smmla": 5, "load": 5, "branch": 2}
    assert list(counts.functions) == [("elsewhere", "(no symbol)")]


def test_executions_go_to_the_function_at_their_address(tmp_path: Path) -> None:
    """A real library, wherever it lies; what is in it but in no function has no name."""
    source, library = tmp_path / "two.c", tmp_path / "two.so"
    source.write_text("int one(int a) { return a + 1; }\nint two(int a) { return a + 2; }\n")
    subprocess.run(["cc", "-shared", "-nostdlib", "-o", library, source], check=True)
    known = functions(library)
    assert known is not None
    one, two = (int(known.addresses[known.names.index(name)]) for name in ("one", "two"))
    start, ret = 0x7F0000000000, [0xD65F03C0]
    places = [(start + one, 3, ret), (start + two + 4, 4, ret), (start, 5, ret), (0x1000, 6, ret)]
    write_snapshot(tmp_path / "s", places)
    snapshot = plugin.read(tmp_path / "s")
    where = [MappedFile(library, start, start + (1 << 20))]
    counts = dict(attribute(snapshot, snapshot.executions, where).by_function())
    assert counts == {
        ("two", "one"): 3,
        ("two", "two"): 4,
        ("two", "(no symbol)"): 5,
        ("elsewhere", "(no symbol)"): 6,
    }


def test_what_runs_in_a_file_without_functions_has_no_name(tmp_path: Path) -> None:
    source, library = tmp_path / "none.c", tmp_path / "none.so"
    source.write_text("int number = 1;\n")
    subprocess.run(["cc", "-shared", "-nostdlib", "-o", library, source], check=True)
    write_snapshot(tmp_path / "s", [(0x1000, 1, [0xD65F03C0])])
    snapshot = plugin.read(tmp_path / "s")
    counts = attribute(snapshot, snapshot.executions, [MappedFile(library, 0, 0x2000)])
    assert counts.by_function() == [(("none", "(no symbol)"), 1)]


def test_only_files_that_are_there_are_mapped_from_their_first_to_their_last_address(
    tmp_path: Path,
) -> None:
    library = tmp_path / "with a space.so"
    library.write_bytes(b"")
    lines = (
        "1000-2000 r-xp 00000000 00:00 0 ",
        "5000-6000 r-xp 00000000 fe:00 7   /gone/lib.so",
        f"7f0000-7f2000 r--p 00000000 fe:00 8   {library}",
        f"7f2000-7f5000 r-xp 00002000 fe:00 8   {library}",
        "7f9000-7fa000 rw-p 00000000 00:00 0   [stack]",
    )
    assert mapped_files("\n".join(lines)) == [MappedFile(library, 0x7F0000, 0x7F5000)]


def test_executions_from_each_snapshot_to_the_next(tmp_path: Path) -> None:
    taken = []
    for number, counted in enumerate(([5], [7, 1], [9, 4, 2])):
        blocks = [(0x1000 * (i + 1), n, [0xD65F03C0]) for i, n in enumerate(counted)]
        write_snapshot(tmp_path / f"s.{number}", blocks)
        taken.append(plugin.read(tmp_path / f"s.{number}"))
    assert executed(*taken).tolist() == [[2, 1, 0], [2, 3, 2]]
    assert [between(tmp_path / "s", number, []).total for number in (0, 1)] == [3, 7]


def test_a_damaged_or_missing_snapshot_is_named(tmp_path: Path) -> None:
    write_snapshot(tmp_path / "s", [(0x1000, 5, [0x4E80A400])])
    (tmp_path / "cut").write_bytes((tmp_path / "s").read_bytes()[:-2])
    (tmp_path / "other").write_bytes(b"something else, and long enough")
    (tmp_path / "empty").write_bytes(b"")
    for name in ("cut", "other", "empty"):
        with pytest.raises(CountingFailed, match="is damaged"):
            plugin.read(tmp_path / name)
    with pytest.raises(CountingFailed, match="found none"):
        plugin.read(tmp_path / "none")
