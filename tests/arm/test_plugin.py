"""The plugin is compiled once, or says what is missing."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from labkit.arm import plugin
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
