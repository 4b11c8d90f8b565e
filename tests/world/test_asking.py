"""The composer's questions, and what is said about an answer."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from labkit.world.composer import facts
from labkit.world.questions import (
    LABELS,
    TASKS,
    WORDINGS,
    judge,
    needs_subject,
    understand,
    wording,
    wordings,
)
from labkit.world.scenes import NAMES, Placed, Scene

CAT = Placed(name="cat", x=10, y=50, side=40)
PIZZA = Placed(name="pizza", x=90, y=52, side=40)
PAIR = Scene(height=140, width=140, objects=(CAT, PIZZA))


def test_every_wording_of_the_world_is_understood_as_what_it_asks() -> None:
    asked = 0
    for task in TASKS:
        for subject in NAMES if needs_subject(task) else (None,):
            for index in range(len(WORDINGS[task])):
                assert understand(wording(task, subject, index)) == (task, subject)
                asked += 1
    assert asked == sum(
        len(variants) * (len(NAMES) if needs_subject(task) else 1)
        for task, variants in WORDINGS.items()
    )


@pytest.mark.parametrize(
    "question",
    ["  what is LEFT of   the pizza ", "What is left of the pizza?!", "what is left of the pizza."],
)
def test_small_differences_of_typing_do_not_matter(question: str) -> None:
    assert understand(question) == ("left_of", "pizza")


@pytest.mark.parametrize(
    "question", ["", "What is left of the unicorn?", "Is the cat left of the pizza?"]
)
def test_other_questions_are_the_learners_own(question: str) -> None:
    assert understand(question) is None


def test_each_task_has_a_label_and_words_for_the_browser() -> None:
    assert list(LABELS) == list(TASKS)
    table = wordings()
    assert table["describe"] == {"": list(WORDINGS["describe"])}
    assert table["is_there"]["apple"][0] == "Is there an apple?"
    assert set(table["where"]) == set(NAMES)


@pytest.mark.parametrize(
    ("question", "text", "word"),
    [
        ("What is left of the pizza?", "A cat.", "Right"),
        ("What is left of the pizza?", " A cat. ", "Right"),
        ("What is left of the pizza?", "A dog.", "Wrong"),
        ("What is left of the cat?", "Nothing.", "Right"),
        ("Is there a dog?", "Yes.", "Wrong"),
        ("What is left of the dog?", "A cat.", "Open"),
        ("Is the cat happy?", "Yes.", "Your own words"),
    ],
)
def test_judging(question: str, text: str, word: str) -> None:
    assert judge(PAIR, question, text)[0] == word


def test_a_verdict_gives_the_right_answer() -> None:
    assert "“A cat.”" in judge(PAIR, "What is left of the pizza?", "A dog.")[1]
    assert (
        "leave this open"
        in judge(Scene(height=140, width=140, objects=()), "Describe the image.", "A cat.")[1]
    )


@pytest.mark.parametrize(
    ("answer", "rows"),
    [
        (SimpleNamespace(text="Yes."), []),
        (SimpleNamespace(tokens=(), visual_tokens=None, times=None), [("Tokens", "0")]),
        (
            SimpleNamespace(tokens=(32, 453, 13), visual_tokens=16),
            [("Tokens", "3"), ("Visual tokens", "16")],
        ),
        (
            SimpleNamespace(
                tokens=(7,) * 12,
                visual_tokens=30,
                times=SimpleNamespace(load_s=1.0, vision_s=2.123, prefill_s=0.04, decode_s=0.00123),
            ),
            [
                ("Tokens", "12"),
                ("Visual tokens", "30"),
                ("Vision", "2.1 s"),
                ("Prefill", "0.04 s"),
                ("Decode", "0.0012 s"),
            ],
        ),
    ],
)
def test_facts_show_what_is_known_and_nothing_else(
    answer: SimpleNamespace, rows: list[tuple[str, str]]
) -> None:
    assert facts(answer) == rows
