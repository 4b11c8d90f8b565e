"""labkit.model.budget: how much of a picture a model is shown."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labkit import Model
from labkit.base.errors import ModelError
from labkit.cli import main
from labkit.cli.shared import WORDS
from labkit.model.budget import LARGE_MAX_PIXELS, MAX_PIXELS, budget
from labkit.model.checkpoints import LARGE
from labkit.model.manifest import read

PHOTO = np.full((640, 900, 3), 200, np.uint8)


@pytest.fixture(scope="module")
def alike(
    mini_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int, int], Path]:
    """The embedded model under another manifest: so many parameters, such large pictures."""

    def make(parameters: int, most: int = 12_845_056) -> Path:
        folder = tmp_path_factory.mktemp("alike") / "model"
        shutil.copytree(mini_folder, folder)
        about = json.loads((folder / "labkit.json").read_text())
        about["source"]["parameters"] = parameters
        about["image"]["max_pixels"] = most
        (folder / "labkit.json").write_text(json.dumps(about))
        return folder

    return make


@pytest.mark.parametrize(
    ("parameters", "asked", "tokens", "shrunk"),
    [
        (LARGE + 1, None, 18 * 13, True),
        (LARGE + 1, 1_003_520, 32 * 23, False),
        (LARGE + 1, LARGE_MAX_PIXELS, 18 * 13, False),  # asked for: nothing to explain
        (LARGE, None, 32 * 23, False),
    ],
)
def test_a_photo_costs_a_large_model_fewer_tokens_unless_more_are_asked_for(
    alike: Any, parameters: int, asked: int | None, tokens: int, shrunk: bool
) -> None:
    model = Model(alike(parameters), max_pixels=asked)
    height, width, _ = model.prepare(PHOTO).shape
    seen = model.budget.seen(PHOTO)
    assert (seen.height, seen.width) == (height, width)
    assert (seen.visual_tokens, seen.shrunk) == (tokens, shrunk)
    assert str(seen).startswith(f"seen at {width}×{height}, {tokens} visual tokens")
    assert ("max_pixels=1003520 shows more (736)" in str(seen)) == shrunk


def test_what_fits_is_not_shrunk(alike: Any) -> None:
    model = Model(alike(LARGE + 1))
    assert model.prepare(PHOTO[:448, :448]).shape == (448, 448, 3)
    assert not model.budget.seen(PHOTO[:448, :448]).shrunk


def test_a_checkpoints_own_bounds_come_first(alike: Any) -> None:
    small = Model(alike(LARGE + 1, 19_600))
    assert small.budget.max_pixels == 19_600
    assert not small.budget.seen(PHOTO).shrunk, "no budget would show more"
    about = read(alike(LARGE + 1))
    about.image["min_pixels"] = 2 * LARGE_MAX_PIXELS
    assert budget(about, None).max_pixels == 2 * LARGE_MAX_PIXELS
    with pytest.raises(ModelError, match=r"at least 401,408, .* received 401,407"):
        budget(about, 2 * LARGE_MAX_PIXELS - 1)


def test_an_answer_tells_how_to_see_more(
    alike: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    picture, folder = str(tmp_path / "photo.png"), alike(LARGE + 1)
    Image.fromarray(PHOTO).save(picture)
    asked = ["ask", picture, "Describe the image.", "--model", str(folder), "--max-new-tokens", "1"]
    assert main(asked) == 0
    told = (
        "seen at 504×364, 234 visual tokens; --max-pixels 1003520 shows more (736) and takes at "
        "least 3.1 times as long\n"
    )
    assert told in capsys.readouterr().err
    assert main([*asked, "--max-pixels", "19600", "--json"]) == 0
    said = capsys.readouterr()
    answer = json.loads(said.out)
    assert said.err == ""
    sides = {"height": 112, "width": 140}
    assert answer["visual_tokens"] == 20
    assert answer["seen"] == {**sides, "whole_pixels": 19600, "whole_tokens": 20}


def test_an_answer_carries_it(alike: Any, mini_model: Model) -> None:
    answer = mini_model.ask(PHOTO, "Where?", max_new_tokens=1)
    assert answer.seen
    assert (answer.seen.visual_tokens, answer.seen.shrunk) == (answer.visual_tokens, False)
    assert "max_pixels" not in repr(answer)
    shrunk = replace(answer, seen=Model(alike(LARGE + 1)).budget.seen(PHOTO))
    assert "max_pixels=1003520 shows more" in repr(shrunk)
    assert mini_model.ask(None, "Where?", max_new_tokens=1).seen is None


def test_the_help_tells_the_same_numbers() -> None:
    words, _ = WORDS["max_pixels"]
    assert all(f"{number:,}" in words for number in (MAX_PIXELS, LARGE_MAX_PIXELS, LARGE))
