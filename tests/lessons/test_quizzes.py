"""Quizzes: as text, as a page, and as a widget."""

from __future__ import annotations

import re
from typing import Any

import pytest

from labkit import lessons
from labkit.lessons import store
from labkit.lessons.cards import entries, inline, make_widget
from labkit.lessons.catalogue import QUIZZES


def test_entries_are_lines_with_indented_lines_below() -> None:
    assert entries("\nfirst\n    says more,\n    and more\nsecond\n") == [
        ("first", "says more, and more"),
        ("second", ""),
    ]


@pytest.mark.parametrize("quiz", QUIZZES.values(), ids=lambda quiz: quiz.id)
def test_a_quiz_without_a_kernel_has_folded_answers(quiz: Any) -> None:
    bundle = lessons.quiz(quiz.id)._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    page = bundle["text/html"]
    assert page.count("</details>") == len(quiz.questions)
    open_text = re.sub(r"<details.*?</details>", "", page, flags=re.DOTALL)
    for question in quiz.questions:
        for option in question.options:
            assert inline(option.text) in open_text
            assert inline(option.why) not in open_text
            assert inline(option.why) in page


def test_a_quiz_is_done_when_every_question_was_right_once() -> None:
    pytest.importorskip("anywidget")
    quiz = QUIZZES["02"]
    widget = make_widget(quiz)
    assert widget.message == ""
    assert widget.solved == [False] * len(quiz.questions)
    widget.solved = [True, True, False, True]  # the browser keeps what was right once
    assert not store.load().done
    widget.solved = [True] * 4
    assert store.load().done == {"02"}
    assert "this quiz is done" in widget.message
    assert "finished this quiz before" in make_widget(quiz).message
