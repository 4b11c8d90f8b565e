"""The words of the world: enough of them, and none that means two things."""

from __future__ import annotations

from labkit.world.questions import RELATIONS, TASKS, WORDINGS, needs_subject, wording
from labkit.world.scenes import NAMES, SIZES


def test_there_are_enough_objects_tasks_and_sizes() -> None:
    assert len(set(NAMES)) == len(NAMES) >= 48
    known = "cat dog pizza apple banana car house tree star fish ball umbrella"
    assert set(known.split()) <= set(NAMES)
    assert set(RELATIONS) < set(TASKS)
    assert all(len(words) >= 2 for words in WORDINGS.values())
    assert len(SIZES) >= 5
    assert all(side % 28 == 0 for size in SIZES for side in size)
    assert {(h > w) - (h < w) for h, w in SIZES} == {-1, 0, 1}


def test_no_two_questions_have_the_same_words() -> None:
    asked = [
        wording(task, name, i)
        for task in TASKS
        for name in (NAMES if needs_subject(task) else (None,))
        for i in range(len(WORDINGS[task]))
    ]
    assert len(set(asked)) == len(asked)
