"""Scenes and questions by chance keep the rules of the world."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from labkit.world.chance import HELD_OUT_PAIRS, has_held_out_pair, random_question, random_scene
from labkit.world.questions import TASKS, true_answer, understand
from labkit.world.scenes import MAX_SIDE, MIN_SIDE, NAMES, PATTERNS, SIZES

SEEDS = st.integers(0, 10**6)


@given(seed=SEEDS, held_out=st.sampled_from([False, True, None]))
def test_random_scenes_keep_the_rules_of_the_world(seed: int, held_out: bool | None) -> None:
    drawn = random_scene(np.random.default_rng(seed), held_out=held_out)
    assert (drawn.height, drawn.width) in SIZES
    assert 1 <= len(drawn.objects) <= 4
    for o in drawn.objects:
        assert o.name in NAMES
        assert MIN_SIDE <= o.side <= MAX_SIDE
        assert 0 <= o.x <= drawn.width - o.side
        assert 0 <= o.y <= drawn.height - o.side
    assert drawn.background.pattern in PATTERNS
    assert held_out is None or has_held_out_pair(drawn.kinds) == held_out
    assert drawn == random_scene(np.random.default_rng(seed), held_out=held_out)


@given(seed=SEEDS, held_out=st.booleans())
def test_random_questions_have_the_one_right_answer(seed: int, held_out: bool) -> None:
    rng = np.random.default_rng(seed)
    drawn = random_scene(rng, held_out=held_out)
    for _ in range(3):
        question = random_question(rng, drawn)
        assert question.answer == true_answer(drawn, question.task, question.subject)
        assert question.answer.endswith(".")
        assert understand(question.text) == (question.task, question.subject)


def test_held_out_pairs_are_one_in_ten_and_never_in_training() -> None:
    assert len(HELD_OUT_PAIRS) == len(NAMES) * (len(NAMES) - 1) // 2 // 10
    rng = np.random.default_rng(7)
    seen = set()
    for _ in range(1500):
        kinds = random_scene(rng).kinds
        seen |= {frozenset((a, b)) for a in kinds for b in kinds if a < b}
    assert len(seen) > 500
    assert not seen & HELD_OUT_PAIRS


def test_every_task_and_every_object_is_asked_about() -> None:
    rng = np.random.default_rng(8)
    asked = [random_question(rng, random_scene(rng)) for _ in range(1500)]
    counts = {task: sum(q.task == task for q in asked) for task in TASKS}
    assert min(counts.values()) > 30, counts
    assert {q.subject for q in asked if q.subject} == set(NAMES)
    yes = [q.answer for q in asked if q.task == "is_there"]
    assert 0.3 < yes.count("Yes.") / len(yes) < 0.7
