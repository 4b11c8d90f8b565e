"""labkit.proof.classify: the probe reads what is there, and only what is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labkit import Model
from labkit.proof import classify
from labkit.proof.classify import TokenProbe, gather, pixels, single_objects
from labkit.proof.parity import vision_stages
from labkit.world.chance import random_scene
from labkit.world.scenes import NAMES, Placed, Scene, render

TRAIN, HELD_OUT = single_objects(240, seed=1), single_objects(96, seed=2)


@pytest.fixture(scope="module")
def features(mini_model: Model) -> tuple[list[np.ndarray], list[np.ndarray]]:
    def embeds(image: Any) -> np.ndarray:
        return vision_stages(mini_model, image)["image_embeds"]

    return gather(embeds, TRAIN), gather(embeds, HELD_OUT)


def test_every_kind_comes_as_often_and_no_picture_twice() -> None:
    assert [scene.objects[0].name for scene in TRAIN[: len(NAMES)]] == list(NAMES)
    assert all(len(scene.objects) == 1 for scene in TRAIN)
    pictures = {render(scene).tobytes() for scene in [*TRAIN, *HELD_OUT]}
    assert len(pictures) == len(TRAIN) + len(HELD_OUT)
    assert single_objects(5, seed=1) == TRAIN[:5]


def test_the_towers_features_tell_the_kind_and_pixels_do_not(
    features: tuple[list[np.ndarray], list[np.ndarray]],
) -> None:
    result = classify.classify("int4", (TRAIN, features[0]), (HELD_OUT, features[1]))
    plain = classify.classify(
        "pixels", (TRAIN, gather(pixels, TRAIN)), (HELD_OUT, gather(pixels, HELD_OUT))
    )
    right, total = result.right
    assert total == 96
    assert right / total > 0.6
    assert plain.right[0] / total < 0.2
    assert result.matrix.sum(axis=1).tolist() == [2] * len(NAMES)
    assert result.row()[1] == f"{right} of 96, {right / 96:.1%}"


def test_labels_that_mean_nothing_are_not_learned(
    features: tuple[list[np.ndarray], list[np.ndarray]],
) -> None:
    shuffled = [TRAIN[i] for i in np.random.default_rng(0).permutation(len(TRAIN))]
    result = classify.classify("shuffled", (shuffled, features[0]), (HELD_OUT, features[1]))
    assert result.right[0] / 96 < 0.15


def test_what_stands_at_a_visual_token() -> None:
    scene = Scene(
        height=84,
        width=112,
        objects=(Placed(name="cat", x=0, y=28, side=40), Placed(name="dog", x=60, y=40, side=40)),
    )
    cat, dog = (TokenProbe.labels.index(name) for name in ("cat", "dog"))
    assert TokenProbe.truth(scene).reshape(3, 4).tolist() == [
        [0, 0, 0, 0],
        [cat, 0, dog, dog],
        [0, 0, dog, dog],
    ]


def test_tokens_are_painted_where_the_objects_are(
    mini_model: Model, features: tuple[list[np.ndarray], list[np.ndarray]]
) -> None:
    probe = TokenProbe(TRAIN, features[0])
    scenes = [random_scene(np.random.default_rng([5, i])) for i in range(12)]
    tokens = [vision_stages(mini_model, render(scene))["image_embeds"] for scene in scenes]
    right, total = probe.score("tokens", scenes, tokens).right
    background = sum(int((TokenProbe.truth(scene) == 0).sum()) for scene in scenes)
    assert right / total > max(0.75, background / total), "better than calling all of it background"
    painted = probe.paint(tokens[0], scenes[0].height // 28, scenes[0].width // 28)
    assert painted.shape == (scenes[0].height // 28, scenes[0].width // 28)


def test_features_are_kept_for_what_they_depend_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    seen: list[object] = []

    def features(image: Any) -> np.ndarray:
        seen.append(image)
        return np.full((len(seen), 3), len(seen), np.float32)

    some = TRAIN[:3]
    first = gather(features, some, of="one model")
    again = gather(features, some, of="one model")
    assert len(seen) == 3, "computed once"
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    gather(features, some, of="another model")
    gather(features, some[:2], of="one model")
    assert len(seen) == 8, "of another model, and of other scenes, they are others"
    gather(features, some)
    assert len(seen) == 11, "of what nobody named nothing is kept"

    for file in (tmp_path / "cache" / "features").iterdir():
        file.write_bytes(file.read_bytes()[:-40])
    repaired = gather(features, some, of="one model")
    assert len(seen) == 14, "damaged ones are computed again"
    np.testing.assert_array_equal(gather(features, some, of="one model")[2], repaired[2])
