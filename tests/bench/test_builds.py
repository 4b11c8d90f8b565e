"""Recorded builds as the lesson shows them, and own ones in their place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labkit.arm.counts import CLASSES, Counts, difference
from labkit.arm.figures import ladder
from labkit.base import files, paths
from labkit.base.records import to_json
from labkit.bench import builds
from labkit.building import llm_demo
from labkit.building.record import RECORD, BuildRecord, Product, read_record
from labkit.engine import lanes


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))


def own(folder: Path, variant: str) -> BuildRecord:
    folder.mkdir(parents=True)
    record = BuildRecord(
        variant=variant,
        target="aarch64-linux",
        version="3.6.1",
        options={},
        toolchain="gcc",
        compiler="gcc 12",
        architecture="aarch64",
        seconds={"configure": 1.0, "compile": 299.0},
        products=(Product(path="llm_demo", bytes=5, sha256="0"),),
        kernels={"i8mm": 3} if variant == "accelerated" else {},
        machine={},
    )
    files.write(folder / RECORD, to_json(record))
    return read_record(folder)


def test_the_recorded_builds_show_what_the_lesson_says() -> None:
    demos = builds.recorded_demos()
    assert [demo.label for demo in demos] == ["baseline", "accelerated"]
    assert demos[0].answer == demos[1].answer == "A cat left of a pizza."
    assert (bool(demos[0].kleidiai), bool(demos[1].kleidiai)) == (False, True)
    assert demos[0].shares == dict.fromkeys(llm_demo.PHASES, 0.0)
    assert min(demos[1].shares.values()) > 0.2
    rows = builds.builds_table().rows
    assert {row[0] for row in rows} >= {
        "accelerated, aarch64-linux",
        "baseline, aarch64-linux",
        "accelerated, aarch64-static",
    }
    assert all(("none" in row[5]) == (row[6] == "no") for row in rows)
    assert b"PNG" in ladder(demos).png[:8]


def test_the_recorded_timings_can_be_read() -> None:
    for result in builds.timings():
        assert {row.name for row in result.rows} == {"build"}
        assert all(len(row.baseline.values_s) >= 9 for row in result.rows)


def test_nothing_recorded_names_a_folder_of_the_machine() -> None:
    text = "".join(path.read_text() for path in (paths.data_dir() / "builds").glob("*.json"))
    assert "/tmp" not in text
    assert "/root" not in text


def test_own_builds_stand_under_the_recorded_ones() -> None:
    folder = paths.place("cache") / "builds"
    (folder / "unfinished").mkdir(parents=True)
    made = own(folder / "a", "accelerated")
    assert builds.own_builds() == [made]
    row = builds.builds_table([made]).rows[-1]
    assert row == (
        "accelerated, aarch64-linux",
        "yours",
        "gcc 12",
        "5.0",
        "llm_demo 0.0 MB",
        "i8mm 3",
        "no",
    )


def test_own_builds_are_counted_in_place_of_recorded_ones(
    monkeypatch: pytest.MonkeyPatch, emulated_lane: lanes.Lane, tmp_path: Path
) -> None:
    monkeypatch.setattr(lanes, "emulated", lambda _cpu: emulated_lane)
    assert builds.here_or_recorded(tmp_path, tmp_path)[0].startswith("recorded: built on ")
    for variant in ("accelerated", "baseline"):
        own(paths.place("cache") / "builds" / variant, variant)

    def ask(record: BuildRecord, *_: object, **__: object) -> llm_demo.DemoRun:
        return llm_demo.DemoRun(
            answer=record.variant,
            prompt_tokens=1,
            decode_tokens=1,
            seconds={},
            kleidiai=(),
            peak_bytes=None,
        )

    counts = Counts(dict.fromkeys((("MNN", "kai_x"), ("MNN", "y")), np.ones(len(CLASSES))))
    monkeypatch.setattr(llm_demo, "ask", ask)
    monkeypatch.setattr(llm_demo, "count", lambda *_, **__: dict.fromkeys(llm_demo.PHASES, counts))
    where, demos = builds.here_or_recorded(tmp_path, tmp_path)
    assert where.startswith("your own builds, emulated")
    assert [demo.answer for demo in demos] == ["baseline", "accelerated"]
    assert builds.demos_table(demos).rows[0][-2:] == ("1.000", "50%")


def test_the_difference_of_two_runs_is_taken_function_by_function() -> None:
    one = np.arange(len(CLASSES), dtype=float)
    more = Counts({("a", "f"): 3 * one, ("a", "g"): one})
    less = Counts({("a", "g"): 2 * one, ("a", "h"): one})
    found = difference(more, less, by=3)
    assert list(found.functions) == [("a", "f"), ("a", "g"), ("a", "h")]
    assert np.array_equal(list(found.functions.values()), [one, 0 * one, 0 * one])
