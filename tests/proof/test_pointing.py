"""The pointing score: what counts as a hit, and that a lucky head cannot win."""

from __future__ import annotations

import numpy as np
import pytest

from labkit import Model
from labkit.inside.probes import Probe
from labkit.proof.evaluate import held_out_cases
from labkit.proof.heads import SUPERVISED, Pointing, inside, pointing
from labkit.world.scenes import Placed, Scene


def test_a_visual_token_is_inside_if_its_middle_is() -> None:
    cats = Placed(name="cat", x=0, y=28, side=40), Placed(name="cat", x=84, y=0, side=32)
    scene = Scene(height=84, width=112, objects=(*cats, Placed(name="dog", x=44, y=50, side=33)))
    assert inside(scene, "cat").reshape(3, 4).astype(int).tolist() == [
        [0, 0, 0, 1],
        [1, 0, 0, 0],
        [0, 0, 0, 0],
    ]
    assert inside(scene, "dog").reshape(3, 4).astype(int).tolist() == [
        [0, 0, 0, 0],
        [0, 0, 0, 0],
        [0, 0, 1, 0],
    ]
    assert not inside(scene, "pizza").any()


def test_the_best_head_is_chosen_on_some_words_and_scored_on_others() -> None:
    hits = np.zeros((2, 2, 8), bool)
    hits[0, 0] = True  # supervised, say
    hits[1, 1, ::2] = True  # lucky: right on every word that it is chosen on, and on no other
    hits[0, 1, :6] = True
    score = Pointing(hits=hits, chance=np.full(8, 0.1))
    assert score.best(leave_out=[(0, 0)]) == (1, 1)
    assert score.held_out(1, 1)[:2] == (0, 4)
    assert score.best(leave_out=[]) == (0, 0)
    assert score.held_out(0, 1)[:2] == (3, 4)
    assert score.score.tolist() == [[1, 0.75], [0, 0.5]]


def test_heads_of_the_embedded_model_point_at_what_they_name(mini_model: Model) -> None:
    with Probe(mini_model) as probe:
        scores = pointing(probe, held_out_cases(40))
    assert set(scores) == {"asked", "said"}
    for score in scores.values():
        assert score.hits.shape[:2] == (4, 6)
        assert score.hits.shape[2] == len(score.chance) >= 10
        assert 0.05 < score.chance.mean() < 0.3
        assert score.best() not in SUPERVISED
    assert scores["asked"].score[1, 0] > 0.9, "this head was shown where to look"
    assert scores["said"].score[3].mean() > 3 * scores["said"].chance.mean(), "these were not"


def test_nothing_to_score_is_no_score(mini_model: Model) -> None:
    with Probe(mini_model) as probe:
        assert pointing(probe, []) == {}


@pytest.mark.parametrize("size", [(112, 112), (84, 168)])
def test_an_empty_scene_has_nothing_inside(size: tuple[int, int]) -> None:
    assert inside(Scene(height=size[0], width=size[1], objects=()), "cat").shape == (
        size[0] * size[1] // 28**2,
    )
