"""The world stays as it is: the checkpoint was trained on these scenes, questions, pictures."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

import numpy as np

from labkit.world.chance import HELD_OUT_PAIRS, random_question, random_scene
from labkit.world.scenes import Scene, render

SCENES = 200


def drawn() -> list[tuple[Scene, list[object]]]:
    """Scenes of all kinds, each with three questions."""
    rng = np.random.default_rng(2024)
    scenes = [random_scene(rng, held_out=(False, True, None)[n % 3]) for n in range(SCENES)]
    return [(s, [asdict(random_question(rng, s)) for _ in range(3)]) for s in scenes]


def digest(data: object) -> str:
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    return hashlib.sha256(text).hexdigest()[:16]


def test_chance_draws_the_scenes_and_questions_that_the_model_was_trained_on() -> None:
    cases = [[asdict(scene), questions] for scene, questions in drawn()]
    assert digest(cases) == "e768c89f01a6684f"
    assert digest(sorted(map(sorted, HELD_OUT_PAIRS))) == "19bb5a2a5e07bac5"


def test_each_picture_has_the_bytes_that_the_model_was_trained_on() -> None:
    scenes = [scene for scene, _ in drawn()]
    pictures = [render(scene).tobytes() for scene in scenes]
    patterns = {scene.background.pattern for scene in scenes}
    assert len(patterns) == 6, "every pattern is among them"
    assert digest(b"".join(pictures)) == "965fefc956e978fa"
