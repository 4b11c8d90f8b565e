"""Every rule of the one right answer, on scenes made by hand."""

from __future__ import annotations

import pytest

from labkit.base.errors import SceneError
from labkit.world.questions import TASKS, needs_subject, true_answer, wording
from labkit.world.scenes import Placed, Scene, render_array


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
BUSES = scene(("bus", 130, 30), ("bus", 80, 30), ("egg", 30, 84), ("hat", 60, 140))
FOUR_EGGS, FIVE_EGGS = (
    scene(*(("egg", 20 + 30 * i, 84) for i in range(count))) for count in (4, 5)
)
TWO_LEFT = scene(("cat", 140, 84), ("dog", 40, 70), ("egg", 40, 110))
BOTTOM_RIGHT, NEAR_TWO_THIRDS = (
    scene(("cat", column, 140), size=(168, 112), side=32) for column in (84, 76)
)


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
        (BUSES, "describe", None, "An egg, a hat and two buses."),
        (PAIR, "which", None, "Cat, pizza."),
        (TWINS, "which", None, "Cat, apple."),
        # 8 pixels apart are not beyond doubt, 9 are
        (scene(("cat", 60, 40), ("pizza", 68, 120)), "which", None, None),
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
        (TWO_LEFT, "left_of", "cat", None),
        (TWINS, "left_of", "cat", None),  # which cat?
        (PAIR, "left_of", "dog", None),  # there is none
        # counting and finding
        (TWINS, "how_many", "cat", "Two."),
        (TWINS, "how_many", "apple", "One."),
        (TWINS, "how_many", "dog", None),
        (FOUR_EGGS, "how_many", "egg", "Four."),
        (TWINS, "is_there", "cat", "Yes."),
        (TWINS, "is_there", "dog", "No."),
        (scene(("cat", 28, 28)), "where", "cat", "Top left."),
        (scene(("cat", 84, 84)), "where", "cat", "Middle."),
        (scene(("cat", 140, 84)), "where", "cat", "Right."),
        (BOTTOM_RIGHT, "where", "cat", "Bottom right."),
        (NEAR_TWO_THIRDS, "where", "cat", None),  # 76 of 112
        (scene(("cat", 56, 84)), "where", "cat", None),  # on the line between two parts
        (TWINS, "where", "cat", None),
        # no scene at all, and more than the world has
        (scene(), "describe", None, None),
        (scene(), "is_there", "cat", None),
        (FIVE_EGGS, "how_many", "egg", None),
    ],
)
def test_the_one_right_answer(
    where: Scene, task: str, subject: str | None, answer: str | None
) -> None:
    assert true_answer(where, task, subject) == answer


def test_the_order_in_which_objects_are_named_does_not_matter() -> None:
    for one in (PAIR, TALL, CROSS, TWINS):
        other = Scene(height=one.height, width=one.width, objects=one.objects[::-1])
        for task in TASKS:
            for subject in (*one.kinds, "dog") if needs_subject(task) else (None,):
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
    with pytest.raises(SceneError, match="is not one of the 9 tasks"):
        true_answer(PAIR, "dance")
    for ask in (lambda: true_answer(PAIR, "where"), lambda: wording("where")):
        with pytest.raises(SceneError, match="asks about one object"):
            ask()
