"""labkit.proof.evaluate: the same cases every time, and a quick score that is the true one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from labkit import Model
from labkit.inside.reference import Reference
from labkit.proof.evaluate import (
    Case,
    Outcome,
    Score,
    held_out_cases,
    score_model,
    score_reference,
    table,
)
from labkit.world.questions import TASKS, true_answer
from labkit.world.scenes import render

CASES = held_out_cases(12)


def outcome(task: str, expected: str, answered: str, *, pair: bool = False) -> Outcome:
    return Outcome(
        task=task, held_out_pair=pair, question="?", expected=expected, answered=answered
    )


SCORE = Score(
    engine="made up",
    outcomes=(
        outcome("where", "Left.", "Left."),
        outcome("where", "Left.", "Right."),
        outcome("where", "Left.", "Right.", pair=True),
        outcome("is_there", "Yes.", "yes.", pair=True),
    ),
)


def test_cases_are_the_same_every_time_and_every_other_has_a_held_out_pair() -> None:
    cases = held_out_cases(60)
    assert cases[:12] == CASES
    assert [case.held_out_pair for case in cases] == [i % 2 == 1 for i in range(60)]
    for case in cases:
        assert case.question.answer == true_answer(
            case.scene, case.question.task, case.question.subject
        )


def test_reading_the_answer_along_says_what_generating_it_says(mini_reference: Reference) -> None:
    score = score_reference(mini_reference, iter(CASES), batch=5)
    generated = [
        mini_reference.ask(render(case.scene), case.question.text, max_new_tokens=24).text
        for case in CASES
    ]
    assert [o.right for o in score.outcomes] == [
        text == case.question.answer for text, case in zip(generated, CASES, strict=True)
    ]
    assert [o.answered for o in score.outcomes] == generated
    assert [o.question for o in score.outcomes] == [case.question.text for case in CASES]
    assert score.engine == "transformers float32"


def test_the_converted_model_is_asked_each_question(mini_model: Model) -> None:
    score = score_model(mini_model, iter(CASES[:4]))
    assert score.engine == "MNN int4 (vision int4)"
    for case, reply in zip(CASES, score.outcomes, strict=False):
        assert reply.answered == mini_model.ask(render(case.scene), case.question.text).text
        assert (reply.task, reply.expected, reply.held_out_pair) == (
            case.question.task,
            case.question.answer,
            case.held_out_pair,
        )


def test_a_bar_around_the_cases_moves_with_the_answers(
    mini_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    ask = Model.ask

    def asked(self: Model, *args: Any, **options: Any) -> Any:
        events.append("asked")
        return ask(self, *args, **options)

    def taken() -> Iterator[Case]:
        for case in CASES[:2]:
            events.append("taken")
            yield case

    monkeypatch.setattr(Model, "ask", asked)
    score_model(mini_model, taken())
    assert events == ["taken", "asked"] * 2


def test_only_the_very_letters_count() -> None:
    assert SCORE.accuracy() == (1, 4)
    assert SCORE.accuracy("where") == (1, 3)
    assert SCORE.accuracy(held_out_pair=True) == (0, 2)
    assert SCORE.accuracy("where", held_out_pair=False) == (1, 2)
    assert SCORE.accuracy("which") == (0, 0)


def test_the_commonest_confusion_comes_first() -> None:
    assert SCORE.confusions() == [("where", "Left.", "Right.", 2), ("is_there", "Yes.", "yes.", 1)]
    assert len(SCORE.confusions(most=1)) == 1


def test_a_score_as_data_and_as_a_table() -> None:
    content = SCORE.to_dict()
    assert (content["all"], content["new_scenes"], content["held_out_pairs"]) == (
        (1, 4),
        (1, 2),
        (0, 2),
    )
    assert set(content["tasks"]) == set(TASKS)
    assert [wrong["answered"] for wrong in content["wrong"]] == ["Right.", "Right.", "yes."]
    text = table(
        [
            SCORE,
            Score(
                engine="other",
                outcomes=tuple(replace(o, answered=o.expected) for o in SCORE.outcomes),
            ),
        ]
    )
    rows = {line.split("  ")[0].strip(): line.split() for line in text.splitlines()}
    assert rows["where"][-2:] == ["33.3%", "100.0%"]
    assert rows["all"][-2:] == ["25.0%", "100.0%"]
    assert "2 × where     expected 'Left.', answered 'Right.'" in text
    assert "which" not in rows, "a task without cases has no score"


@pytest.mark.parametrize("count", [0, 1])
def test_a_table_of_next_to_nothing(count: int) -> None:
    empty = Score(engine="made up", outcomes=SCORE.outcomes[:count])
    assert "made up" in table([empty])
