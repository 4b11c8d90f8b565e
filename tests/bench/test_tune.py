"""One option after the other, with fake answers; a choice kept for one machine; and a real run."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from labkit import cli
from labkit.base import hardware
from labkit.bench import tune
from labkit.bench.tune import Answered
from labkit.model import laid, manifest, tuned
from labkit.model.chat import Model

if TYPE_CHECKING:
    from pathlib import Path

# Seconds of an answer, with one option changed: times the usual ones.
FACTORS = {("threads", 1): 2.0, ("memory", "normal"): 1.6, ("attention", 0): 0.8}
FACTORS |= {("attention", 10): 0.7, ("rounding", 2): 1.001, ("mmap", 1): 1.001}


class FakeAnswers:
    """Of a machine with two cores, on which only the attention matters; int8 changes the answer."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def __call__(self, options: dict[str, Any]) -> Answered:
        self.asked.append(options)
        seconds = 0.1 + 0.0001 * (len(self.asked) % 3)
        for option in options.items():
            seconds *= FACTORS.get(option, 1)
        scores = np.ones(8)
        if options["attention"] == 10:
            scores[0] = -1
        return Answered(
            seconds=dict.fromkeys(tune.PARTS, seconds),
            peak_bytes=10**8,
            tokens=(1, 2),
            logits=scores,
        )


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = replace(hardware.describe(), architecture="x86_64", logical_cores=2)
    monkeypatch.setattr(hardware, "describe", lambda: machine)
    monkeypatch.setattr(hardware, "usable_cores", lambda: 2)


@pytest.mark.usefixtures("two_cores")
def test_what_is_surely_faster_and_answers_alike_is_taken(mini_folder: Path) -> None:
    answers, words = FakeAnswers(), list[str]()
    found = tune.tune(mini_folder, answer=answers, on_words=words.append)
    verdicts = {(row.option, row.value): row.verdict for row in found.tried}
    assert verdicts == {
        ("threads", 1): "slower",
        ("memory", "normal"): "slower",
        ("attention", 0): "faster",
        ("attention", 10): "faster, but answers otherwise",
        ("rounding", 2): "undecided",
        ("mmap", 1): "undecided",
    }
    assert found.best == found.usual | {"attention": 0}
    assert answers.asked[-1]["attention"] == 0, "each is tried against the best so far"
    hopeless = next(row for row in found.tried if row.option == "threads")
    assert hopeless.ratio is None, "three pairs told enough"
    assert words == ["at most 43 s"]
    assert str(found).endswith("Best for mini here: attention 0")
    assert "under 0.8× in each of 3 pairs" in str(found)


def test_a_choice_holds_for_this_machine_and_these_weights(
    mini_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    other = tmp_path / "other"
    shutil.copytree(mini_folder, other)
    about = manifest.read(mini_folder)
    written = manifest.read(other)
    name, file = next(iter(written.files.items()))
    changed = written.files | {name: replace(file, sha256="0" * 64)}
    manifest.write(other, replace(written, files=changed))
    tuned.write(about, {"threads": 1, "attention": 0, "unknown": 1})
    try:
        with Model(mini_folder) as model, Model(mini_folder, threads=2) as told:
            assert model.options == {"threads": 1, "precision": "normal", "memory": "low"}
            assert (model.more, model.tuned) == ({"attention": 0}, {"threads": 1, "attention": 0})
            assert told.options["threads"] == 2
        assert Model(other).tuned == {}
        machine = hardware.describe()
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(hardware, "describe", lambda: replace(machine, cpu="another"))
            assert Model(mini_folder).tuned == {}
        scene = mini_folder.parents[2] / "scene.png"
        from PIL import Image

        Image.new("RGB", (112, 112)).save(scene)
        assert cli.main(["ask", str(scene), "?", "--model", str(mini_folder)]) == 0
        assert "as labkit tune chose here: threads 1, attention 0" in capsys.readouterr().err
    finally:
        assert cli.main(["tune", "--model", str(mini_folder), "--undo"]) == 0
    assert capsys.readouterr().out == "untuned\n"
    assert Model(mini_folder).tuned == {}
    tuned.place(about).write_text("{")
    assert Model(mini_folder).tuned == {}, "a damaged choice is none"
    tuned.undo(about)


@pytest.mark.parametrize(
    ("option", "values"),
    [("memory", ("low", "normal")), ("attention", (8, 0, 10)), ("rounding", (0, 2))],
)
def test_each_option_is_heeded_by_mnn(
    mini_folder: Path, option: str, values: tuple[Any, ...]
) -> None:
    answer, usual = tune.asked(mini_folder), tuned.usual()
    first, *others = (answer(usual | {option: value}) for value in values)
    for other in others:
        assert not np.array_equal(first.logits, other.logits)
        assert other.tokens == first.tokens
        assert first.logits @ other.logits > tune.COSINE * np.linalg.norm(
            first.logits
        ) * np.linalg.norm(other.logits)


@pytest.mark.slow
def test_a_real_run_is_shown_and_kept(mini_folder: Path, capsys: Any) -> None:
    about = manifest.read(mini_folder)
    try:
        assert cli.main(["tune", "--model", str(mini_folder), "--write", "--json"]) == 0
        said = capsys.readouterr()
        found = json.loads(said.out)
        assert {row["option"] for row in found["tried"]} >= {
            "memory",
            "attention",
            "rounding",
            "mmap",
        }
        assert all(row["cosine"] > tune.COSINE for row in found["tried"])
        assert f"kept in {tuned.place(about)}" in said.err
        assert tuned.read(about) == found["best"]
        assert laid.place(about).exists() == bool(found["best"]["mmap"])
    finally:
        tuned.undo(about)
        laid.free(about)


def test_what_was_laid_out_to_be_tried_goes_unless_it_is_chosen(
    mini_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    about, answers = manifest.read(mini_folder), FakeAnswers()

    def asked(_: Path) -> FakeAnswers:
        laid.laid(mini_folder, tuned.usual() | {"mmap": 1})
        assert laid.place(about).exists()
        return answers

    monkeypatch.setattr(tune, "asked", asked)
    assert cli.main(["tune", "--model", str(mini_folder)]) == 0
    assert "mmap" in capsys.readouterr().out
    assert not laid.place(about).exists()
