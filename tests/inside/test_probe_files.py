"""labkit probe: files whose arrays are what they say, and nothing half-written."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labkit import Model, cli
from labkit.base.errors import ProbeError
from labkit.base.paths import data_dir
from labkit.inside import attention_figures, patch_figures, probe_files
from labkit.inside.probes import Probe

SCENE = data_dir() / "scenes" / "cat_and_pizza.png"


def test_pictures_and_arrays_with_the_reference(
    mini_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "probed"
    argv = [
        "probe",
        str(SCENE),
        "--question",
        "What is left of the pizza?",
        "--reference",
        "--out",
        str(out),
        "--model",
        str(mini_folder),
    ]
    assert cli.main(argv) == 0
    said, told = capsys.readouterr()
    assert re.search(r"\d s, at most \d\.\d GiB of memory", told)
    assert said.startswith("8×8 = 64 patches, 4 layers × 4 heads.")
    assert "What is left of the pizza? A cat." in said
    about = json.loads((out / "probe.json").read_text())
    with np.load(out / "probe.npz") as stored:
        assert set(about["arrays"]) == set(stored)
        assert stored["grid_thw"].tolist() == [1, 8, 8]
        assert (
            stored["attention_pattern"].shape
            == stored["reference_attention_pattern"].shape
            == (4, 4, 64, 64)
        )
        assert np.allclose(stored["attention_pattern"].sum(-1), 1, atol=1e-5)
        assert stored["text_to_patch"].shape == (4, 6, len(stored["words"]), 16)
        assert "".join(stored["words"]) == "What is left of the pizza?A cat."
        assert "".join(stored["words"][-int(stored["said"]) :]) == "A cat."
        assert (
            np.corrcoef(
                stored["patch_embeddings"].ravel(), stored["reference_patch_embeddings"].ravel()
            )[0, 1]
            > 0.99
        )
    assert {path.name for path in out.iterdir()} == {"probe.json", "probe.npz", *about["pictures"]}
    for name, alt in about["pictures"].items():
        with Image.open(out / name) as picture:
            assert picture.width > 300
        assert len(alt) > 60
    assert [path.name for path in out.parent.iterdir()] == ["probed"], "nothing is left beside it"


def test_a_taken_folder_is_refused_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["probe", "no such picture.png", "--out", str(tmp_path)]) == 1
    assert "to be free; choose another folder" in capsys.readouterr().err


def test_large_pictures_want_heads_to_be_named(
    mini_model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with Probe(mini_model) as probe:
        look = probe.look(SCENE)
    monkeypatch.setattr(probe_files, "ALL_PATTERNS_BYTES", 100_000)
    with pytest.raises(
        ProbeError, match=r"4 layers × 4 heads × 64² patches take 0 MB\. Name the heads .*--heads"
    ):
        probe_files.write(tmp_path / "out", look)
    assert list(tmp_path.iterdir()) == []
    stored = probe_files.arrays(look, None, [(0, 3), (2, 1)])
    assert stored["attention_pattern"].shape == (2, 64, 64)
    assert np.array_equal(stored["attention_pattern"][1], look.pattern(2, 1))
    with pytest.raises(SystemExit):
        cli.main(["probe", str(SCENE), "--out", str(tmp_path / "x"), "--heads", "3,4"])


def test_nothing_half_written_is_left(
    mini_model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with Probe(mini_model) as probe:
        look = probe.look(SCENE)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space"):
        probe_files.write(tmp_path / "out", look)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [(112, 112), (84, 168), (168, 84)], ids=["square", "wide", "tall"])
def test_every_figure_carries_its_numbers(mini_model: Model, size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(256, size=(*size, 3), dtype=np.uint8)
    with Probe(mini_model) as probe:
        look, reading = probe.look(picture), probe.read(picture, "Is there a cat?")
    drawn = probe_files.pictures(look, reading, look)
    assert len(drawn) == 9
    top = int(look.pattern(3, 2)[look.rows // 2 * look.cols + look.cols // 2].argmax())
    row, col = divmod(top, look.cols)
    assert f"L3H2 row {row}, column {col}" in drawn["attention_heads.png"].alt
    assert "int4 in MNN: 0.0% of the attention moved" in drawn["quantisation_drift.png"].alt
    assert f"“{reading.answer}”" in drawn["text_to_patch.png"].alt
    assert f"{look.rows} by {look.cols} patches" in drawn["patch_embeddings_pca.png"].alt


def test_a_patch_that_is_not_there(mini_model: Model) -> None:
    with Probe(mini_model) as probe:
        look = probe.look(SCENE)
    for draw in (
        patch_figures.similarity,
        attention_figures.rollout,
        patch_figures.rope,
        attention_figures.heads,
    ):
        with pytest.raises(ProbeError, match="expected a patch from 0 to 63, received 64"):
            draw(look, 64)


def test_confusion_and_segmentation_tell_what_they_show() -> None:
    matrix = np.diag([5, 5, 4]) + np.array([[0, 0, 0], [0, 0, 0], [0, 1, 0]])
    assert (
        "14 of 15 right. 1 kinds without any mistake are left out. "
        "Commonest mistakes: c taken for b, 1 times"
        in (patch_figures.confusion(matrix, ["a", "b", "c"], title="Test").alt)
    )
    assert (
        "3 of 3 right"
        in patch_figures.confusion(np.eye(3, dtype=int), ["a", "b", "c"], title="Test").alt
    )
    labels = np.array([[0, 1, 1], [0, 0, 2]])
    assert "cat 2, dog 1; the rest, of 6, background" in (
        patch_figures.segmentation(
            np.zeros((56, 84, 3), np.uint8), labels, ["background", "cat", "dog"]
        ).alt
    )
