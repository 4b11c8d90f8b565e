"""Weights that are kept as the CPU's kernels want them: the same answers, whole or not there."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labkit import cli
from labkit.base import hardware
from labkit.base.errors import EngineCrashed
from labkit.bench import rounds, tune
from labkit.bench.plan import BenchPlan
from labkit.engine.client import EngineProcess
from labkit.model import laid, manifest, tuned
from labkit.model.chat import Model

SCENE, ASKED = Path("data/scenes/cat_and_pizza.png"), "What is left of the pizza?"


@pytest.fixture(autouse=True)
def place(mini_folder: Path) -> Iterator[Path]:
    made = laid.place(manifest.read(mini_folder))
    shutil.rmtree(made, ignore_errors=True)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def chosen(mini_folder: Path) -> Iterator[dict[str, Any]]:
    """As `labkit tune` may have chosen."""
    about, options = manifest.read(mini_folder), tuned.usual() | {"mmap": 1}
    tuned.write(about, options)
    yield options
    tuned.undo(about)


def contents(place: Path) -> dict[str, str]:
    return {
        str(file.relative_to(place)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in place.rglob("*")
        if file.is_file()
    }


def test_it_is_made_once_and_answers_the_same(mini_folder: Path, place: Path) -> None:
    answer, usual = tune.asked(mini_folder), tuned.usual()
    before = answer(usual)
    assert not place.exists()
    first = answer(usual | {"mmap": 1})
    made = contents(place)
    assert len(made) == 2, "the weights, and MNN's mark that they are whole"
    second = answer(usual | {"mmap": 1})
    for other in (first, second):
        assert other.tokens == before.tokens
        assert np.array_equal(other.logits, before.logits)
    assert contents(place) == made


def test_several_at_once_read_it_and_change_nothing(
    chosen: dict[str, Any], mini_folder: Path, place: Path
) -> None:
    made = dict[str, str]()
    models = [Model(mini_folder) for _ in range(3)]
    try:
        for _ in range(2):
            said = [model.ask(SCENE, ASKED) for model in models]
            assert {answer.text for answer in said} == {"A cat."}
            made = made or contents(place)
            assert contents(place) == made
    finally:
        for model in models:
            model.close()
    assert chosen["mmap"] == 1


def test_other_options_than_those_chosen_are_not_kept(
    chosen: dict[str, Any], mini_folder: Path, place: Path
) -> None:
    with Model(mini_folder, threads=chosen["threads"] + 1) as model:
        assert model.ask(SCENE, ASKED).text == "A cat."
        assert "mmap" not in model.more
    assert not place.exists()


def test_without_room_it_is_left_out(
    chosen: dict[str, Any], mini_folder: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "free_disk_bytes", lambda _: 1_000_000)
    with Model(mini_folder) as model:
        assert model.ask(SCENE, ASKED).text == "A cat."
    assert not place.exists()
    assert "mmap" not in laid.laid(mini_folder, chosen)


def test_where_making_it_fails_nothing_is_left(
    chosen: dict[str, Any], mini_folder: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = EngineProcess.request

    def dies(self: EngineProcess, *args: Any, **options: Any) -> Any:
        if "mmap" in options:  # as on a disk that fills up: writing to a mapped file is fatal
            real(self, *args, **options)
            raise EngineCrashed("SIGBUS")
        return real(self, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(EngineProcess, "request", dies)
        assert "mmap" not in laid.laid(mini_folder, chosen)
    assert not list(place.rglob("*"))
    assert laid.laid(mini_folder, chosen)["mmap"].parent == place


def test_a_result_beside_peers_says_that_mnn_was_tuned(
    chosen: dict[str, Any], mini_folder: Path, place: Path
) -> None:
    given = {"mmap": chosen["mmap"]}
    plan = BenchPlan(model=mini_folder, comparisons=("llamacpp",), threads=2, tuned=given)
    mnn, about = rounds.own(plan), manifest.read(mini_folder)
    assert mnn.side.label == "MNN int4, tuned"
    assert rounds.answer(mnn, plan, about.image_pad)["taken"]["load"][0] > 0
    assert contents(place)


def test_undo_frees_it(
    chosen: dict[str, Any], mini_folder: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    laid.laid(mini_folder, chosen)
    assert place.exists()
    assert cli.main(["tune", "--model", str(mini_folder), "--undo"]) == 0
    assert capsys.readouterr().out == "untuned\n"
    assert not place.exists()
