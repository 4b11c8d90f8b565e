"""labkit.proof.tradeoffs: points, their frontier, and what was recorded of them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from labkit.base import paths, stats
from labkit.base.records import from_json
from labkit.model import manifest
from labkit.model.checkpoints import Checkpoint
from labkit.model.plan import ConversionPlan
from labkit.proof.evaluate import held_out_cases
from labkit.proof.figures import pareto
from labkit.proof.tradeoffs import (
    GRAPHS,
    Measured,
    Point,
    Recorded,
    frontier,
    grid,
    measure,
    stored,
)


def made(bits: int, size: int, *wrong: int, **known: int) -> Measured:
    point = Point(part="language", bits=bits)
    return Measured(point=point, bytes=size, scenes=100, wrong=wrong, moved=0.0, layers=known)


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    return from_json(Recorded, (paths.data_dir() / "tradeoffs.json").read_bytes())


@pytest.mark.parametrize("part", GRAPHS)
def test_every_point_can_be_planned_and_has_its_own_name(part: str, mini: Checkpoint) -> None:
    points = grid(part)
    assert str(points[0]) == "float16"
    assert len({str(point) for point in points}) == len(points) == 17
    for point in points:
        plan = ConversionPlan(checkpoint=mini, out=Path("unused"), **point.options)
        bits = {"language": plan.weight_bits, "vision": plan.vision_bits}
        assert bits.pop(part) == point.bits
        assert set(bits.values()) == {16}


def test_how_a_model_is_stored_in_words(mini_folder: Path) -> None:
    assert stored(manifest.read(mini_folder).options) == "int4/64 + int4/128"


def test_the_frontier_leaves_out_what_is_beaten() -> None:
    large, small = made(16, 30, 1, 2), made(4, 10, *range(9))
    as_good = made(8, 15, 1, 2)  # as many right as the large one, in half the bytes
    beaten = made(4, 12, *range(10))
    assert frontier([large, beaten, as_good, small]) == [small, as_good]
    assert frontier([large]) == [large]
    same_size = made(8, 10, 1)
    assert frontier([small, same_size]) == [same_size]


def test_a_difference_counts_only_what_the_two_disagree_on() -> None:
    reference, other = made(16, 30, 1, 2, 3), made(4, 10, 2, 3, 4, 5, 6)
    difference, low, high = other.against(reference)
    assert difference == pytest.approx(-0.02)
    assert (low, high) == stats.paired(1, 3, 100)
    assert low < difference < high
    assert other.right == 95
    with pytest.raises(ValueError, match="expected the same scenes, received 100, 200"):
        other.against(replace(reference, scenes=200))


def test_a_converted_model_is_measured(mini_folder: Path, mini: Checkpoint) -> None:
    point = Point(part="vision", bits=4, block=128)
    row = measure(point, mini_folder, mini, held_out_cases(4), {"": 26, "kernel": 2})
    assert row.bytes == (mini_folder / "visual.mnn.weight").stat().st_size
    assert (row.scenes, row.layers[""]) == (4, 26)
    assert set(row.wrong) <= set(range(4))
    assert 0 < row.moved < 0.1


def test_the_record_holds_every_point_on_the_same_scenes(recorded: Recorded) -> None:
    assert [row.point for row in recorded.rows] == [p for part in GRAPHS for p in grid(part)]
    (scenes,) = {row.scenes for row in recorded.rows}
    assert scenes >= 200
    for row in recorded.rows:
        assert list(row.wrong) == sorted(set(row.wrong))
        assert all(0 <= number < scenes for number in row.wrong)
        taken = row.point.bits == 4 and not (row.point.symmetric and row.point.block)
        assert row.taken == taken
    (mixed,) = (row for row in recorded.rows if row.layers.get("", 0) > 0 and not row.taken)
    assert str(mixed.point) == "int4/128 sym"  # in the tower 128 is a row in some layers
    assert recorded.tools["mnn"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", recorded.date)


def test_blocks_of_128_are_blocks_of_64_in_a_language_model_192_wide(recorded: Recorded) -> None:
    rows = {row.point: row for row in recorded.rows}
    for point, row in rows.items():
        if point.part == "language" and point.block == 128:
            assert replace(row, point=replace(point, block=64)) == rows[replace(point, block=64)]


def test_the_words_of_the_picture_name_the_frontier() -> None:
    rows = [made(16, 3_000_000, 1), made(8, 1_500_000, 1), made(4, 800_000, 1, 2, 3, **{"": 9})]
    picture = pareto({"language model": rows})
    assert picture.png.startswith(b"\x89PNG")
    assert "on the frontier of 3 points int4/row 0.80 MB -2.0, int8/row 1.50 MB +0.0" in picture.alt
