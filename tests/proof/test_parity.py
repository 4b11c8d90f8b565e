"""labkit.proof.parity: a conversion that is sound agrees; one that sees garbage is caught at the
stage where it goes wrong.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labkit import Model
from labkit.base.errors import ConversionError
from labkit.inside.reference import Reference
from labkit.model import manifest, parts
from labkit.model.checkpoints import Checkpoint
from labkit.model.vision import merge_order, patch_positions, pixel_values
from labkit.proof import parity
from labkit.proof.evaluate import held_out_cases
from labkit.proof.parity import (
    LEAST_COSINE,
    MEANING,
    Parity,
    StageParity,
    compare,
    cosine,
    examples,
    vision_stages,
)
from labkit.world.scenes import render

Compare = Callable[..., Parity]
STAGES = ("pixel_values", "patch_embeddings", "image_embeds", "first_logits")


@pytest.fixture
def compared(
    mini: Checkpoint, mini_folder: Path, mini_reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> Compare:
    """One comparison with the converted model, as it is by then; the original is loaded once for
    all.
    """
    monkeypatch.setattr("labkit.proof.parity.Reference", lambda *_, **__: mini_reference)
    return lambda count=1: compare(mini_folder, mini, cases=examples()[:count])


def test_a_sound_conversion_agrees_at_every_stage(mini_folder: Path) -> None:
    report = Parity.from_dict(
        manifest.read(mini_folder).parity or {}
    )  # measured when the model was converted
    assert [s.stage for s in report.stages] == list(STAGES) == list(MEANING) == list(LEAST_COSINE)
    assert report.first_departure is None
    assert all(s.holds and s.cosine <= 1 + 1e-9 for s in report.stages)
    assert report.stages[0].max_error == 0, "the same NumPy and Pillow on both sides"
    assert len(report.answers) == len(examples()) == 3
    report.require()


def test_pictures_that_parity_never_saw_agree_too(
    mini_model: Model, mini_reference: Reference
) -> None:
    for case in held_out_cases(6):
        picture, question = render(case.scene), case.question.text
        expected = mini_reference.stages(picture, question)
        computed = {
            **vision_stages(mini_model, picture),
            "first_logits": mini_model.ask(picture, question).first_logits,
        }
        for stage in STAGES:
            assert computed[stage].shape == expected[stage].shape
            assert computed[stage].dtype == np.float32
            assert cosine(computed[stage], expected[stage]) >= LEAST_COSINE[stage][4], stage
        assert np.array_equal(computed["pixel_values"], expected["pixel_values"])


def test_comparing_again_says_the_same(compared: Compare) -> None:
    report = compared()
    assert report.first_departure is None
    assert compared().stages == report.stages


def rows_instead_of_blocks(image: np.ndarray) -> np.ndarray:
    values, order = pixel_values(image), merge_order(image.shape[0] // 14, image.shape[1] // 14)
    grid = np.empty_like(values)
    grid[order] = values
    return grid


def positions_by_rows(rows: int, cols: int) -> np.ndarray:
    return np.stack(np.divmod(np.arange(rows * cols), cols)).astype(np.int32)


def spoilt(
    stage: str, spoil: Callable[[np.ndarray], np.ndarray]
) -> Callable[..., dict[str, np.ndarray]]:
    original = parity.vision_stages

    def stages(self: Model, image: Any) -> dict[str, np.ndarray]:
        computed = original(self, image)
        return {**computed, stage: spoil(computed[stage])}

    return stages


def test_swapped_colours_are_caught_at_the_pixels(
    compared: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Model.prepare
    monkeypatch.setattr(
        Model,
        "prepare",
        lambda self, image: np.ascontiguousarray(original(self, image)[:, :, ::-1]),
    )
    assert compared().first_departure == "pixel_values"


def test_a_scrambled_patch_order_is_caught_at_the_pixels(
    compared: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "pixel_values", rows_instead_of_blocks)
    report = compared()
    assert report.first_departure == "pixel_values"
    assert not report.stages[2].holds
    with pytest.raises(
        ConversionError,
        match=r"(?s)departs from .* at 'pixel_values' \(the picture, .*DEPARTS.*Try 8 bits",
    ):
        report.require()


def test_scrambled_positions_are_caught_at_the_visual_tokens(
    compared: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not np.array_equal(positions_by_rows(8, 8), patch_positions(8, 8))
    monkeypatch.setattr(parts, "patch_positions", positions_by_rows)
    report = compared(3)
    assert [s.holds for s in report.stages[:2]] == [True, True]
    assert report.first_departure == "image_embeds"


@pytest.mark.parametrize("stage", ["patch_embeddings", "image_embeds"])
@pytest.mark.parametrize(
    "spoil",
    [lambda x: x[::-1], lambda x: x * np.float32("nan"), np.zeros_like],
    ids=["scrambled", "nan", "nothing"],
)
def test_a_spoilt_stage_is_named(
    compared: Compare, monkeypatch: pytest.MonkeyPatch, stage: str, spoil: Any
) -> None:
    monkeypatch.setattr(parity, "vision_stages", spoilt(stage, spoil))
    assert compared().first_departure == stage


def test_an_engine_that_sees_another_picture_is_caught_at_the_logits(
    compared: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, other = Model.ask, examples()[2][0]
    monkeypatch.setattr(
        Model, "ask", lambda self, image, question, **how: ask(self, other, question, **how)
    )
    assert compared().first_departure == "first_logits"


def test_another_shape_is_an_error_of_its_own(
    compared: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "vision_stages", spoilt("image_embeds", lambda x: x[1:]))
    with pytest.raises(
        ConversionError,
        match=r"expected image_embeds of shape \(16, 192\), the converted model gives \(15, 192\)",
    ):
        compared()


def test_a_report_survives_json_and_reads_as_a_table() -> None:
    stages = tuple(
        StageParity(stage=name, cosine=c, max_error=0.5, least_cosine=0.9)
        for name, c in zip(STAGES, (1, 0.95, 0.5, 0.4), strict=True)
    )
    report = Parity(
        stages=stages,
        answers=(
            parity.AnswerParity(question="Is there a cat?", original="Yes.", converted="No."),
        ),
    )
    assert Parity.from_dict(json.loads(json.dumps(asdict(report)))) == report
    assert report.first_departure == "image_embeds"
    assert report.same_answers == 0
    lines = str(report).splitlines()
    assert [line.rpartition(" ")[2] for line in lines[1:5]] == [
        "agrees",
        "agrees",
        "DEPARTS",
        "DEPARTS",
    ]
    assert "0 of 1 answers" in lines[5]
    assert "original: Yes." in lines[6]


def test_cosine_of_nothing() -> None:
    assert cosine(np.zeros(3), np.zeros(3)) == 1
    assert cosine(np.zeros(3), np.ones(3)) == 0
    assert cosine(np.ones(3), -np.ones(3)) == pytest.approx(-1)
