"""Lanes: what stands in the way is named with what to type; what was damaged is mended."""

from __future__ import annotations

import json
import os
import platform
import shutil
import stat
from pathlib import Path
from typing import NamedTuple

import pytest

from labkit.base.errors import LaneNotReady
from labkit.engine import known, lanes
from labkit.engine.client import EngineProcess
from labkit.engine.lane_setup import remove_emulated, setup_emulated
from labkit.engine.lanes import CPUS, Lane, parse_features


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made-up Linux with a home and programs of its own; apt-get and dpkg-deb do nothing."""
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "home"))
    tools = tmp_path / "bin"
    program(tools / "qemu-aarch64", 'echo "qemu-aarch64 version 7.2.22 (Debian 1:7.2)"')
    program(tools / "apt-get", "exit 0")
    program(tools / "dpkg-deb", "exit 0")
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    return tools


def lane_folder(home: Path, files: dict[str, int]) -> Path:
    """A lane that looks set up; its files are of these sizes, whatever was written down."""
    folder = home / "cache" / "lanes" / "emulated"
    folder.mkdir(parents=True)
    for name in files:
        (folder / name).write_bytes(b"12345")
    about = {
        "schema": 1,
        "python": "3.11.2",
        "mnn": "3.6.1",
        "numpy": "2.4.6",
        "qemu": "qemu 7",
        "files": files,
    }
    (folder / "lane.json").write_text(json.dumps(about))
    return folder


@pytest.mark.parametrize(
    ("line", "features"),
    [
        (
            "The device supports: i8sdot:1, fp16:1, i8mm: 1, sve2: 1, sme2: 0",
            ("dotprod", "fp16", "i8mm", "sve2"),
        ),
        ("noise\nThe device supports: i8sdot:0, fp16:0, i8mm: 0, sve2: 0, sme2: 0\nmore", ()),
        (
            "The device supports: i8sdot:1, fp16:1, i8mm: 0, sve2: 0, sme2: 1",
            ("dotprod", "fp16", "sme2"),
        ),
        ("nothing of the kind", None),
    ],
)
def test_features_are_read_from_what_mnn_prints(
    line: str, features: tuple[str, ...] | None
) -> None:
    assert parse_features(line) == features


def test_what_may_be_timed_and_how_lanes_are_called() -> None:
    assert lanes.native().may_be_timed
    assert not Lane(name="emulated", cpu="max").may_be_timed
    assert Lane(name="emulated", cpu="cortex-a76").label == "emulated, cortex-a76 (NEON, dotprod)"
    assert lanes.native().label == f"native, {platform.machine()}"
    assert known.lane("native") == lanes.native()


@pytest.mark.parametrize(("name", "cpu"), [("remote", None), ("native", "max"), ("", None)])
def test_a_lane_that_does_not_exist(name: str, cpu: str | None) -> None:
    with pytest.raises(LaneNotReady, match="expected the lane 'native'"):
        known.lane(name, cpu)


def test_a_cpu_that_is_not_on_the_ladder(machine: Path) -> None:
    with pytest.raises(LaneNotReady, match="cortex-a53, cortex-a76, max"):
        lanes.emulated("cortex-z1")


def test_not_linux(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    for attempt in (lanes.emulated, setup_emulated):
        with pytest.raises(LaneNotReady, match="needs Linux, this is Darwin"):
            attempt()


def test_no_qemu(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (machine / "qemu-aarch64").unlink()
    monkeypatch.setenv("PATH", str(machine))
    for attempt in (lanes.emulated, setup_emulated):
        with pytest.raises(LaneNotReady, match="sudo apt-get install qemu-user"):
            attempt()
    row = known.status()[1]
    assert (row.works, row.todo) == (False, "sudo apt-get install qemu-user")


@pytest.mark.parametrize(
    ("says", "words"),
    [("qemu-aarch64 version 5.2.0", "expected QEMU 7.0"), ("", "expected QEMU 7.0")],
)
def test_qemu_that_is_too_old_or_says_nothing(machine: Path, says: str, words: str) -> None:
    program(machine / "qemu-aarch64", f'echo "{says}"')
    with pytest.raises(LaneNotReady, match=words):
        setup_emulated()


def test_a_lane_that_was_not_set_up(machine: Path) -> None:
    with pytest.raises(LaneNotReady, match=r"not set up\. Type: labkit lane setup emulated"):
        lanes.emulated()


def test_damage_is_seen_and_named(machine: Path, tmp_path: Path) -> None:
    folder = lane_folder(tmp_path / "home", {"library.so": 5})
    about = (folder / "lane.json").read_text()
    assert lanes.emulated("max").cpu == "max"
    assert known.status()[1].works
    (folder / "library.so").write_bytes(b"123")
    with pytest.raises(LaneNotReady, match=r"damaged.*labkit lane setup emulated"):
        lanes.emulated()
    (folder / "library.so").unlink()
    with pytest.raises(LaneNotReady, match="damaged"):
        lanes.emulated()
    other = about.replace('"schema": 1', '"schema": 2')
    assert other != about
    for content in ("{", "[]", "{}", '{"schema": 1, "files": 3}', other):
        (folder / "lane.json").write_text(content)
        with pytest.raises(LaneNotReady, match="damaged"):
            lanes.emulated()
    assert remove_emulated() > 0
    assert not folder.exists()


def test_a_stage_that_fails_is_named_and_downloads_are_kept(machine: Path, tmp_path: Path) -> None:
    program(machine / "apt-get", 'echo "E: Temporary failure resolving" >&2; exit 100')
    over: list[str] = []
    part = tmp_path / "home" / "cache" / "lanes" / "emulated.part"
    (part / "debs").mkdir(parents=True)
    (part / "debs" / "kept.deb").write_bytes(b"1")
    with pytest.raises(
        LaneNotReady,
        match=r"(?s)'arm64 packages: lists' failed.*Temporary failure.*"
        "type again: labkit lane setup emulated",
    ):
        setup_emulated(on_stage=lambda stage: over.append(stage.name))
    assert over == []
    assert (part / "debs" / "kept.deb").exists()
    assert not part.with_name("emulated").exists()


def test_package_lists_without_arm64(machine: Path) -> None:
    with pytest.raises(LaneNotReady, match=r"no arm64.*LABKIT_APT_SOURCES"):
        setup_emulated()


def test_no_wheel_for_the_lanes_python(machine: Path) -> None:
    program(
        machine / "apt-get",
        # the folder for packages, as the configuration file names it
        """debs=$(sed -n 's/^Dir::Cache::archives "\\(.*\\)";$/\\1/p' "${1#*=}")\n"""
        'touch "$debs/python.deb"',
    )
    program(
        machine / "dpkg-deb",
        'mkdir -p "$3/usr/bin"; cd "$3/usr/bin"; touch python3.99; ln -sf python3.99 python3',
    )
    with pytest.raises(
        LaneNotReady,
        match=r"(?s)'arm64 wheels of MNN and NumPy' failed.*No matching distribution",
    ):
        setup_emulated()


def test_apt_gets_its_own_folders_and_the_sources_that_were_named(
    machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(
        machine / "apt-get", f'cat "${{1#*=}}" >> {tmp_path}/said; echo "$@" >> {tmp_path}/said'
    )
    monkeypatch.setenv("LABKIT_APT_SOURCES", "my sources.list")
    with pytest.raises(LaneNotReady):
        setup_emulated()
    said = (tmp_path / "said").read_text()
    part = tmp_path / "home" / "cache" / "lanes" / "emulated.part"
    assert f'Dir::Etc::sourcelist "{Path.cwd()}/my sources.list";' in said
    assert f'Dir::Cache::archives "{part}/debs";' in said
    assert 'APT::Architecture "arm64";' in said
    assert "--quiet update" in said
    assert "--download-only python3-minimal" in said


def test_a_disk_that_is_full(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10, 9, 1))
    with pytest.raises(LaneNotReady, match="MB free for the emulated lane"):
        setup_emulated()


# ---- the real one


def test_the_lane_is_mended_after_damage(emulated_lane: Lane) -> None:
    library = emulated_lane.library
    library.write_bytes(library.read_bytes()[:1000])
    with pytest.raises(LaneNotReady, match="damaged"):
        lanes.emulated()
    numbers: list[int] = []
    assert setup_emulated(on_stage=lambda stage: numbers.append(stage.number)) == emulated_lane
    assert numbers == [1, 2, 3, 4, 5]
    assert setup_emulated(on_stage=lambda stage: numbers.append(stage.number)) == emulated_lane
    assert len(numbers) == 5, "a lane that stands is left alone"
    row = known.status()[1]
    assert row.works
    assert row.bytes > 50_000_000
    assert row.found.startswith("Python 3.")


@pytest.mark.slow
def test_the_lane_stands_behind_a_link_too(
    emulated_lane: Lane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").symlink_to(os.environ["LABKIT_HOME"])
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "home"))
    emulated_lane.library.unlink()
    assert setup_emulated() == emulated_lane


@pytest.mark.parametrize("cpu", CPUS)
def test_a_worker_sees_the_cpu_that_was_asked_for(emulated_lane: Lane, cpu: str) -> None:
    with EngineProcess(lanes.emulated(cpu)) as engine:
        assert engine.machine["machine"] == "aarch64"
        features = set(engine.features or ())
    assert ("dotprod" in features) is ("dotprod" in CPUS[cpu])
    assert ("i8mm" in features) is ("i8mm" in CPUS[cpu])
