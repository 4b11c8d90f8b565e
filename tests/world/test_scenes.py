"""labkit.world.scenes: every rule of the one right answer, on scenes made by hand and by chance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.world import asking
from labkit.world.scenes import (
    HELD_OUT_PAIRS,
    MAX_SIDE,
    MIN_SIDE,
    PATTERNS,
    RELATIONS,
    SIZES,
    TASKS,
    WORDINGS,
    Background,
    Placed,
    Scene,
    has_held_out_pair,
    random_question,
    random_scene,
    render,
    render_array,
    true_answer,
    wording,
)
from labkit.world.sprites import NAMES, sprite

SEEDS = st.integers(0, 10**6)


def scene(
    *placed: tuple[str, int, int], size: tuple[int, int] = (168, 168), side: int = 40
) -> Scene:
    """Objects by name and centre (column, row)."""
    objects = tuple(
        Placed(name=name, x=x - side // 2, y=y - side // 2, side=side) for name, x, y in placed
    )
    return Scene(height=size[0], width=size[1], objects=objects)


PAIR = scene(("cat", 40, 80), ("pizza", 120, 84))
TALL = scene(("pizza", 80, 130), ("cat", 84, 40))
DIAGONAL = scene(("cat", 40, 40), ("pizza", 120, 120))
CROSS = scene(("cat", 84, 84), ("apple", 30, 84), ("dog", 138, 84), ("egg", 84, 30))
TWINS = scene(("cat", 30, 40), ("cat", 90, 120), ("apple", 140, 40))


@pytest.mark.parametrize(
    ("where", "task", "subject", "answer"),
    [
        # a pair is described with its left, or upper, object first
        (PAIR, "describe", None, "A cat left of a pizza."),
        (TALL, "describe", None, "A cat above a pizza."),
        (DIAGONAL, "describe", None, None),
        # more than two, or several of a kind, are listed from left to right by the leftmost copy
        (CROSS, "describe", None, None),  # cat and egg stand in one column
        (TWINS, "describe", None, "Two cats and an apple."),
        (scene(("cat", 30, 84)), "describe", None, "A cat."),
        (scene(("fish", 30, 84), ("fish", 100, 84)), "describe", None, "Two fish."),
        (scene(("bus", 130, 30), ("bus", 80, 30), ("egg", 30, 84), ("hat", 60, 140)), "describe", None, "An egg, a hat and two buses."),
        (PAIR, "which", None, "Cat, pizza."),
        (TWINS, "which", None, "Cat, apple."),
        (scene(("cat", 60, 40), ("pizza", 68, 120)), "which", None, None),  # 8 pixels apart are not beyond doubt
        (scene(("cat", 60, 40), ("pizza", 69, 120)), "which", None, "Cat, pizza."),
        # relations: at most one object in that quarter, none on a diagonal
        (PAIR, "left_of", "pizza", "A cat."),
        (PAIR, "right_of", "pizza", "Nothing."),
        (PAIR, "right_of", "cat", "A pizza."),
        (PAIR, "above", "cat", "Nothing."),
        (TALL, "below", "cat", "A pizza."),
        (DIAGONAL, "left_of", "pizza", None),
        (CROSS, "left_of", "cat", "An apple."),
        (CROSS, "right_of", "cat", "A dog."),
        (CROSS, "above", "cat", "An egg."),
        (CROSS, "below", "cat", "Nothing."),
        (scene(("cat", 140, 84), ("dog", 40, 70), ("egg", 40, 110)), "left_of", "cat", None),  # two of them there
        (TWINS, "left_of", "cat", None),  # which cat?
        (PAIR, "left_of", "dog", None),  # there is none
        # counting and finding
        (TWINS, "how_many", "cat", "Two."),
        (TWINS, "how_many", "apple", "One."),
        (TWINS, "how_many", "dog", None),
        (scene(*(("egg", x, 84) for x in (30, 70, 110, 150))), "how_many", "egg", "Four."),
        (TWINS, "is_there", "cat", "Yes."),
        (TWINS, "is_there", "dog", "No."),
        (scene(("cat", 28, 28)), "where", "cat", "Top left."),
        (scene(("cat", 84, 84)), "where", "cat", "Middle."),
        (scene(("cat", 140, 84)), "where", "cat", "Right."),
        (scene(("cat", 84, 140), size=(168, 112), side=32), "where", "cat", "Bottom right."),
        (scene(("cat", 76, 140), size=(168, 112), side=32), "where", "cat", None),  # 76 of 112 is too near two thirds
        (scene(("cat", 56, 84)), "where", "cat", None),  # on the line between two parts
        (TWINS, "where", "cat", None),
        # no scene at all, and more than the world has
        (scene(), "describe", None, None),
        (scene(), "is_there", "cat", None),
        (scene(*(("egg", x, 84) for x in (20, 50, 80, 110, 140))), "how_many", "egg", None),
    ],
)  # fmt: skip
def test_the_one_right_answer(
    where: Scene, task: str, subject: str | None, answer: str | None
) -> None:
    assert true_answer(where, task, subject) == answer


def test_the_order_in_which_objects_are_named_does_not_matter() -> None:
    for one in (PAIR, TALL, CROSS, TWINS):
        other = Scene(height=one.height, width=one.width, objects=one.objects[::-1])
        for task in TASKS:
            for subject in (*one.kinds, "dog") if asking.needs_subject(task) else (None,):
                assert true_answer(one, task, subject) == true_answer(other, task, subject)


def test_objects_in_the_corners_and_over_the_border_have_answers_too() -> None:
    corners = Scene(
        height=112,
        width=112,
        objects=(
            Placed(name="cat", x=-20, y=-20, side=52),
            Placed(name="dog", x=92, y=-26, side=32),
        ),
    )
    assert true_answer(corners, "where", "cat") == "Top left."
    assert true_answer(corners, "where", "dog") == "Top right."
    assert true_answer(corners, "left_of", "dog") == "A cat."
    assert render_array(corners).shape == (112, 112, 3)
    on_top = Scene(height=112, width=112, objects=(Placed(name="cat", x=30, y=30, side=40),) * 2)
    assert true_answer(on_top, "how_many", "cat") == "Two."
    assert true_answer(on_top, "where", "cat") is None


def test_a_wrong_task_and_a_missing_subject_are_errors() -> None:
    with pytest.raises(KeyError, match="is not one of the tasks"):
        true_answer(PAIR, "dance")
    for ask in (lambda: true_answer(PAIR, "where"), lambda: wording("where")):
        with pytest.raises(ValueError, match="asks about one object"):
            ask()


def test_there_are_enough_objects_tasks_and_sizes() -> None:
    assert len(set(NAMES)) == len(NAMES) >= 48
    assert {
        "cat",
        "dog",
        "pizza",
        "apple",
        "banana",
        "car",
        "house",
        "tree",
        "star",
        "fish",
        "ball",
        "umbrella",
    } <= set(NAMES)
    assert set(RELATIONS) < set(TASKS)
    assert all(len(words) >= 2 for words in WORDINGS.values())
    assert len(SIZES) >= 5
    assert all(side % 28 == 0 for size in SIZES for side in size)
    assert {(h > w) - (h < w) for h, w in SIZES} == {-1, 0, 1}


def test_no_two_questions_have_the_same_words() -> None:
    asked = [
        wording(task, name, i)
        for task in TASKS
        for name in (NAMES if asking.needs_subject(task) else (None,))
        for i in range(len(WORDINGS[task]))
    ]
    assert len(set(asked)) == len(asked)


def test_objects_differ_in_look() -> None:
    pictures = np.stack([np.asarray(sprite(name, 48), np.float32) for name in NAMES]).reshape(
        len(NAMES), -1
    )
    apart = np.abs(pictures[:, None] - pictures[None]).mean(-1)
    assert apart[~np.eye(len(NAMES), dtype=bool)].min() > 12, "of 255, in the mean over all pixels"


# ---- chance


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
        assert asking.understand(question.text) == (question.task, question.subject)


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


# ---- drawing


@given(seed=SEEDS)
def test_a_scene_is_drawn_the_same_every_time_and_objects_stand_where_they_are(seed: int) -> None:
    drawn = random_scene(np.random.default_rng(seed))
    pixels = render_array(drawn)
    assert (pixels.shape, pixels.dtype) == ((drawn.height, drawn.width, 3), np.uint8)
    assert np.array_equal(pixels, np.asarray(render(drawn)))
    empty = render_array(
        Scene(height=drawn.height, width=drawn.width, objects=(), background=drawn.background)
    )
    inside = np.zeros(pixels.shape[:2], bool)
    for o in drawn.objects:
        inside[o.y : o.y + o.side, o.x : o.x + o.side] = True
    changed = (pixels != empty).any(-1)
    assert not changed[~inside].any()
    assert changed[inside].mean() > 0.2


def test_patterns_differ_and_an_unknown_one_is_refused() -> None:
    grounds = [
        Background(colour=(10, 20, 30), second=(200, 180, 160), pattern=pattern, seed=1)
        for pattern in PATTERNS
    ]
    drawn = [
        render_array(Scene(height=56, width=84, objects=(), background=b)).tobytes()
        for b in grounds
    ]
    assert len(set(drawn)) == len(PATTERNS)
    with pytest.raises(KeyError, match="is not one of the patterns"):
        render_array(
            Scene(height=28, width=28, objects=(), background=Background(pattern="tartan"))
        )
    with pytest.raises(KeyError, match="is not one of the 48 objects"):
        sprite("unicorn")
