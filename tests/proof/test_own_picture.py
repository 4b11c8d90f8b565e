"""A picture of one's own and two answers, without a browser (`tests/browser` has the rest)."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from labkit.base import paths
from labkit.base.errors import ImageError, ModelError, QuestionError
from labkit.model import manifest
from labkit.proof import own_picture
from labkit.proof.own_picture import EMBEDDED, OwnPicture

if TYPE_CHECKING:
    from labkit import Model

SCENE = paths.data_dir() / "scenes" / "cat_and_pizza.png"
pytestmark = pytest.mark.usefixtures("mini_folder")


@pytest.fixture
def own() -> Iterator[OwnPicture]:
    widget = OwnPicture(SCENE)
    yield widget
    widget.close()


def send(widget: OwnPicture, content: dict[str, Any], *parts: bytes) -> None:
    """As the browser does."""
    widget._handle_custom_msg(content, [memoryview(part) for part in parts])


def test_the_picture_is_what_the_model_sees(own: OwnPicture, mini_model: Model) -> None:
    own.show(np.zeros((300, 500, 3), np.uint8))
    url = own.seen["url"].partition(",")[2]
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(url))))
    np.testing.assert_array_equal(shown, mini_model.prepare(np.zeros((300, 500, 3), np.uint8)))
    assert (own.seen["rows"] * 14, own.seen["columns"] * 14) == shown.shape[:2]
    assert own.seen["words"].startswith("500×300 pixels, seen at ")


def test_both_answer_and_stream(own: OwnPicture) -> None:
    seen: list[str] = []

    def look(change: dict[str, Any]) -> None:
        seen.extend(answer["text"] for answer in change["new"]["answers"].values())

    own.observe(look, "reply")
    answers = own.ask("What is left of the pizza?")
    assert {engine: answer.text for engine, answer in answers.items()} == {
        "MNN": "A cat.",
        "transformers": "A cat.",
    }
    assert {"", "A", "A cat", "A cat."} <= set(seen), "words came one by one"
    assert own.reply["status"] == "idle"
    kinds = [shown["kind"] for shown in own.reply["answers"].values()]
    assert kinds == ["int4 in MNN", "the original, float32 in transformers"]
    assert repr(own).endswith("transformers: A cat.")


def test_the_original_may_be_left_out(own: OwnPicture) -> None:
    own.original = False
    assert list(own.ask("Where is the cat?")) == ["MNN"]


def test_a_file_comes_in_parts(own: OwnPicture, tmp_path: Path) -> None:
    file = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (84, 112, 3), np.uint8)).save(file)
    content, before = file.read_bytes(), own.seen
    half = len(content) // 2
    send(own, {"do": "part", "of": len(content), "first": True}, content[:half])
    assert own.seen == before, "half a file is no picture yet"
    send(own, {"do": "part", "of": len(content), "first": False}, content[half:])
    assert own.seen["words"].startswith("112×84 pixels")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"do": "part", "of": 3, "first": True}, "none of these. Save it as PNG"),
        ({"do": "part", "of": 10**12, "first": True}, "at most 100 MB"),
        ({"do": "part"}, "of"),
    ],
)
def test_what_is_no_picture_is_said_and_changes_nothing(
    own: OwnPicture, content: dict[str, Any], says: str
) -> None:
    before = own.seen
    send(own, content, b"abc")
    assert says in own.reply["notice"]
    assert own.seen == before


def test_what_cannot_be_asked_is_a_named_error(own: OwnPicture) -> None:
    with pytest.raises(QuestionError, match="received nothing"):
        own.ask(" ")
    assert own.reply["status"] == "idle"
    empty = OwnPicture()
    with pytest.raises(ImageError, match="there is none yet"):
        empty.ask("What is this?")
    empty.close()


def test_converted_models_can_be_chosen(mini_folder: Path) -> None:
    place = paths.cache_dir() / "models"
    named = place / "zz-of-others"
    named.symlink_to(mini_folder, target_is_directory=True)
    (place / "zz-half-made").mkdir()
    try:
        models = own_picture.sources()
    finally:
        named.unlink()
        (place / "zz-half-made").rmdir()
    assert models[EMBEDDED] == mini_folder
    assert models["mini, int4/64 + int4/128"] == named
    assert not any("half-made" in str(folder) for folder in models.values())


def test_a_model_whose_original_is_not_here_answers_alone(mini_folder: Path) -> None:
    described = manifest.read(mini_folder)
    described.source["name"] = "somebody/qwen2-vl-of-theirs"
    with pytest.raises(ModelError, match="MNN answers alone"):
        own_picture.original_of(described)
