"""Many at once: each gets an answer or a named error, nothing is lost, and nothing is left."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from faults.sandbox import LONG, TALLY, Done, Sandbox, rounds
from faults.subjects import QUESTION, SCENE

from labkit.lessons import store
from labkit.model import manifest

MANY = 10
SOLVE = """
import sys
sys.path[:0] = ["{tests}"]
from labkit import lessons
from learner import solved
lessons.check("{number}", solved("{number}"))
"""
ASK = ("labkit", "ask", SCENE, QUESTION, "--threads", "1")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def ended(place: Sandbox, commands: list[tuple[str, ...]], part: str) -> list[Done]:
    """Start all at once; how each of them ended."""
    processes = [place.start(*command) for command in commands]
    outputs = [process.communicate(timeout=900) for process in processes]
    done = [
        Done(code=process.returncode, out=out, err=err)
        for process, (out, err) in zip(processes, outputs, strict=True)
    ]
    place.require_no_process()
    TALLY.update(Counter(("together", part, one.kind) for one in done))
    return done


def test_many_ask_on_an_empty_cache_and_one_converts(place: Sandbox) -> None:
    done = ended(place, [ASK] * MANY, "ask")
    assert {one.out for one in done} == {"A cat.\n"}
    converted = [one for one in done if "8/9" in one.err or "parity" in one.err]
    assert len(converted) == 1
    assert any("another process works in the cache" in one.err for one in done)
    (model,) = (place.home / "cache" / "models").iterdir()
    assert all(manifest.verify(model).values())
    assert len([*(place.home / "cache" / "logs").iterdir()]) == 1
    assert not [*place.tmp.glob("labkit-*")]


def test_many_check_exercises_and_none_is_lost(place: Sandbox) -> None:
    numbers = ["00.1", "00.2", "02.1", "02.2", "03.1", "03.2", "04.1", "05.1", "06.1", "07.1"]
    tests = Path(__file__).parents[1]
    ended(place, [(SOLVE.format(tests=tests, number=number),) for number in numbers], "check")
    assert store.load().done == {*numbers}
    assert [path.name for path in (place.home / "progress").iterdir()] == ["progress.json"]


def test_many_convert_to_one_place_and_one_does(place: Sandbox) -> None:
    convert = ("labkit", "convert", "mini", "--out", "model", "--no-parity")
    few = rounds(3, MANY)
    done = ended(place, [convert] * few, "convert")
    assert sorted(one.code for one in done) == [0] + [1] * (few - 1)
    assert all(
        "at it" in one.err or "there is a converted model" in one.err for one in done if one.code
    )
    assert [path.name for path in place.out.iterdir()] == ["model"]
    assert all(manifest.verify(place.out / "model").values())


@pytest.mark.skipif(not LONG, reason="in the long form: converts up to nine times")
def test_while_another_frees_the_cache_an_answer_or_a_named_error_comes(
    place: Sandbox, mini_folder: Path
) -> None:
    model = place.home / "cache" / "models" / mini_folder.name
    for _ in range(4):  # a conversion or two each
        shutil.copytree(mini_folder, model, dirs_exist_ok=True)
        ended(place, [ASK, ("labkit", "clean", "cache"), ASK], "ask, clean, ask")
    done = ended(place, [ASK], "ask afterwards")
    assert done[0].out == "A cat.\n"
