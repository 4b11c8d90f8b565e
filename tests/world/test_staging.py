"""Arranging a scene by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest

from labkit.base.errors import SceneError
from labkit.world.questions import true_answer
from labkit.world.scenes import MAX_SIDE, MIN_SIDE, NAMES, SIZES, Background, Placed, Scene, render
from labkit.world.staging import (
    BACKGROUNDS,
    FULL,
    Stage,
    add,
    clear,
    in_words,
    move,
    nudge,
    paint,
    remove,
    resize,
    stage_of,
)


def _empty(height: int = 140, width: int = 140) -> Stage:
    return stage_of(Scene(height=height, width=width, objects=()))


def _filled(*names: str, size: tuple[int, int] = (140, 140)) -> Stage:
    stage = _empty(*size)
    for name in names:
        stage = add(stage, name)
    return stage


def _overlap(a: Placed, b: Placed) -> bool:
    return (
        abs(a.centre[0] - b.centre[0]) < (a.side + b.side) / 2
        and abs(a.centre[1] - b.centre[1]) < (a.side + b.side) / 2
    )


@pytest.mark.parametrize("size", SIZES)
def test_four_objects_find_a_place_of_their_own_in_every_size(size: tuple[int, int]) -> None:
    stage = _filled("cat", "pizza", "dog", "bee", size=size)
    for o in stage.scene.objects:
        assert 0 <= o.x <= size[1] - o.side
        assert 0 <= o.y <= size[0] - o.side
        assert MIN_SIDE <= o.side <= MAX_SIDE
    assert not any(_overlap(a, b) for a, b in combinations(stage.scene.objects, 2))


@pytest.mark.parametrize("size", SIZES)
def test_the_first_two_stand_so_that_a_question_about_sides_has_an_answer(
    size: tuple[int, int],
) -> None:
    scene = _filled("cat", "pizza", size=size).scene
    assert true_answer(scene, "above" if size[0] > size[1] else "left_of", "pizza") == "A cat."


def test_an_object_is_added_even_where_all_is_covered() -> None:
    crowd = tuple(Placed(name="cat", x=x, y=30, side=52) for x in (0, 58, 116))
    stage = add(stage_of(Scene(height=112, width=168, objects=crowd)), "dog")
    assert [o.name for o in stage.scene.objects] == ["cat", "cat", "cat", "dog"]


def test_a_fifth_object_and_an_unknown_one_are_refused() -> None:
    full = _filled("cat", "cat", "dog", "bee")
    with pytest.raises(SceneError) as refused:
        add(full, "fish")
    assert str(refused.value) == FULL
    with pytest.raises(
        SceneError, match=r"'unicorn' is not one of the 48 objects.*cat, dog, pizza"
    ):
        add(_empty(), "unicorn")


@pytest.mark.parametrize(
    ("x", "y", "side", "expected"),
    [
        (10, 20, 40, (10, 20, 40)),
        (-30, -1, 40, (0, 0, 40)),
        (500, 101, 40, (100, 100, 40)),
        (99, 99, 10, (99, 99, MIN_SIDE)),
        (99, 99, 90, (88, 88, MAX_SIDE)),
    ],
)
def test_placing_stays_within_the_rules(
    x: int, y: int, side: int, expected: tuple[int, int, int]
) -> None:
    o = move(_filled("cat"), 1, x=x, y=y, side=side).placed(1)
    assert (o.x, o.y, o.side) == expected


def test_moving_and_growing_stop_at_the_border() -> None:
    stage = _filled("cat", "pizza")
    stage = nudge(stage, 1, dx=-8, dy=3)
    assert (stage.placed(1).x, stage.placed(1).y) == (8, 51)
    stage = nudge(stage, 1, dx=-900)
    assert (stage.placed(1).x, stage.placed(1).y) == (0, 51)
    grown = nudge(stage, 1, by=4)
    assert (grown.placed(1).x, grown.placed(1).y, grown.placed(1).side) == (0, 49, 48)
    assert nudge(grown, 1, by=100).placed(1).side == MAX_SIDE
    assert nudge(grown, 1, by=-100).placed(1).side == MIN_SIDE
    assert grown.placed(2) == stage.placed(2)


def test_objects_keep_their_numbers_when_others_go() -> None:
    stage = remove(_filled("cat", "pizza", "dog"), 2)
    assert list(stage.objects) == [1, 3]
    assert stage.placed(3).name == "dog"
    with pytest.raises(SceneError, match=r"no object number 2 in the scene, only \[1, 3\]"):
        nudge(stage, 2, dx=1)
    assert list(add(stage, "bee").objects) == [1, 3, 4]
    assert clear(stage) == _empty()


def test_another_picture_size_keeps_relative_places() -> None:
    stage = resize(_filled("cat", "pizza"), 84, 168)
    assert (stage.scene.height, stage.scene.width) == (84, 168)
    assert [o.name for o in stage.scene.objects] == ["cat", "pizza"]
    assert true_answer(stage.scene, "left_of", "pizza") == "A cat."
    with pytest.raises(
        SceneError, match=r"'100 × 50' is not one of the 8 picture sizes.*112 × 112"
    ):
        resize(stage, 50, 100)


def test_backgrounds_have_names_and_can_be_drawn() -> None:
    stage = _filled("cat")
    drawn = set()
    for name in BACKGROUNDS:
        stage = paint(stage, name)
        assert stage.state()["background"] == name
        drawn.add(render(stage.scene).tobytes())
    assert len(drawn) == len(BACKGROUNDS)
    assert (
        stage_of(replace(stage.scene, background=Background(colour=(1, 2, 3)))).state()[
            "background"
        ]
        == "Custom"
    )
    with pytest.raises(SceneError, match=r"'Lava' is not one of the 6 backgrounds.*Paper, Sky"):
        paint(stage, "Lava")


@pytest.mark.parametrize(
    ("scene", "complaint"),
    [
        (
            Scene(height=140, width=140, objects=(Placed(name="cat", x=0, y=0, side=40),) * 5),
            "at most 4 objects, this one has 5",
        ),
        (
            Scene(height=140, width=140, objects=(Placed(name="unicorn", x=0, y=0, side=40),)),
            "'unicorn' is not one",
        ),
        (
            Scene(height=28, width=140, objects=()),
            "at least 52 pixels high and wide, this one is 140 × 28",
        ),
    ],
)
def test_a_scene_that_does_not_fit_is_refused(scene: Scene, complaint: str) -> None:
    with pytest.raises(SceneError, match=complaint):
        stage_of(scene)


def test_state_is_what_stands_there() -> None:
    state = _filled("cat").state()
    assert state == {
        "height": 140,
        "width": 140,
        "background": "Paper",
        "objects": [{"id": 1, "name": "cat", "x": 16, "y": 48, "side": 44}],
    }


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((), "nothing yet"),
        (("apple",), "an apple"),
        (("cat", "pizza"), "a cat and a pizza"),
        (("bus", "bus", "egg"), "2 buses and an egg"),
    ],
)
def test_in_words(names: tuple[str, ...], words: str) -> None:
    spread = tuple(Placed(name=name, x=40 * i, y=10, side=32) for i, name in enumerate(names))
    assert in_words(Scene(height=112, width=168, objects=spread)) == words


def test_every_object_of_the_world_can_be_added() -> None:
    assert {add(_empty(), name).placed(1).name for name in NAMES} == set(NAMES)
