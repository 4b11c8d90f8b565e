"""Every exercise, proven: the solution passes, each known mistake gets its own diagnosis."""

from __future__ import annotations

import inspect
import textwrap
from typing import Any

import numpy as np
import pytest

from labkit.lessons.catalogue import EXERCISES, LESSONS, QUIZZES
from labkit.lessons.exercise import Exercise

lesson_00, lesson_02 = LESSONS["lesson_00"], LESSONS["lesson_02"]
MISTAKES = [(exercise, kind) for exercise in EXERCISES.values() for kind in exercise.mistakes]


def function_of(exercise: Exercise, source: str) -> Any:
    """What the name of the exercise stands for after this source was run."""
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    return namespace[exercise.name]


def with_body(exercise: Exercise, body: str) -> Any:
    """The exercise's function with another body than the stub's."""
    head, definition = exercise.stub_source.split("def ", 1)
    first_line = definition.splitlines()[0]
    return function_of(
        exercise, f"import numpy as np\n{head}def {first_line}\n{textwrap.indent(body, '    ')}\n"
    )


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=lambda exercise: exercise.id)
def test_the_solution_is_right(exercise: Exercise) -> None:
    verdict = exercise.judge(function_of(exercise, exercise.solution_source))
    assert (verdict.status, verdict.text) == ("right", "")


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=lambda exercise: exercise.id)
def test_the_untouched_stub_is_not_tried(exercise: Exercise) -> None:
    stub = function_of(exercise, exercise.stub_source)
    assert exercise.judge(stub).status == "not tried"
    assert exercise.judge(stub).text == ""  # and nobody hears of a forgotten return


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=lambda exercise: exercise.id)
@pytest.mark.parametrize("body", ["raise NotImplementedError", "pass", "return None", "return ..."])
def test_other_ways_to_leave_it_open(exercise: Exercise, body: str) -> None:
    assert exercise.judge(with_body(exercise, body)).status == "not tried"


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=lambda exercise: exercise.id)
@pytest.mark.parametrize("value", [None, ...])
def test_a_blank_is_not_tried(exercise: Exercise, value: object) -> None:
    assert exercise.judge(value).status == "not tried"


@pytest.mark.parametrize(
    ("exercise", "kind"), MISTAKES, ids=[f"{exercise.id}-{kind}" for exercise, kind in MISTAKES]
)
def test_each_mistake_gets_its_diagnosis(exercise: Exercise, kind: str) -> None:
    verdict = exercise.judge(with_body(exercise, exercise.mistakes[kind][0]))
    assert (verdict.status, verdict.kind) == ("wrong", kind)
    assert len(verdict.text) > 40


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=lambda exercise: exercise.id)
def test_diagnoses_differ(exercise: Exercise) -> None:
    texts = [
        exercise.judge(with_body(exercise, body)).text for body, _ in exercise.mistakes.values()
    ]
    assert len(texts) >= 3
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=lambda exercise: exercise.id)
@pytest.mark.parametrize(
    "value",
    [16, "cat", 3.5, np.zeros(3), (1, 2, 3), {"a": 1}, object()],
    ids=lambda value: type(value).__name__,
)
def test_no_function(exercise: Exercise, value: object) -> None:
    verdict = exercise.judge(value)
    assert (verdict.status, verdict.kind) == ("wrong", "not_a_function")
    assert "0x" not in verdict.text


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=lambda exercise: exercise.id)
@pytest.mark.parametrize(
    "answer",
    [
        True,
        b"x",
        object(),
        [],
        (),
        (1, 2, 3),
        (None, None, None),
        np.zeros((2, 2)),
        np.zeros(0),
        float("nan"),
        {},
        range(3),
        print,
    ],
    ids=lambda answer: type(answer).__name__,
)
def test_strange_answers_get_a_diagnosis_not_an_exception(
    exercise: Exercise, answer: object
) -> None:
    verdict = exercise.judge(lambda *arguments: answer)
    assert verdict.status == "wrong"
    assert verdict.kind != "unreadable"  # each is named for what it is
    assert "0x" not in verdict.text


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=lambda exercise: exercise.id)
def test_texts_are_complete(exercise: Exercise) -> None:
    assert len(exercise.hints) >= 2
    assert len(set(exercise.hints)) == len(exercise.hints)
    assert 3 <= exercise.minutes <= 6
    assert exercise.why_right.endswith(".")
    assert f"def {exercise.name}(" in exercise.stub_source
    assert list(
        inspect.signature(function_of(exercise, exercise.solution_source)).parameters
    ) == list(inspect.signature(function_of(exercise, exercise.stub_source)).parameters)
    for body, _ in exercise.mistakes.values():
        assert body.count("`") == 0
    for text in (
        exercise.why_right,
        *exercise.hints,
        *(text for _, text in exercise.mistakes.values()),
    ):
        assert text.count("`") % 2 == 0  # every piece of code is closed


def test_numbers_belong_to_their_notebook_and_follow_on() -> None:
    assert list(EXERCISES) == sorted(EXERCISES)
    assert all(number == exercise.id for number, exercise in EXERCISES.items())
    for notebook in {number[:2] for number in EXERCISES}:
        own = [number for number in EXERCISES if number.startswith(notebook)]
        assert own == [f"{notebook}.{i}" for i in range(1, len(own) + 1)]
        assert len(own) >= 2


# 00.2 states how many tokens the pieces of a prompt have: the tokenizer must agree.


def test_the_prompt_has_as_many_tokens_as_the_exercise_says() -> None:
    pytest.importorskip("transformers")
    from make_tokenizer import make_tokenizer

    tokenizer = make_tokenizer()
    question = "What is left of the pizza?"
    message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}
    prompt = tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
    before, after = prompt.split("<|image_pad|>")
    pieces = [
        before.split("<|im_start|>user")[0],
        "<|im_start|>user\n",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|im_end|>\n",
    ]
    pieces.append("<|im_start|>assistant\n")
    counts = [len(tokenizer(piece)["input_ids"]) for piece in pieces]
    stated = (
        lesson_00.SYSTEM_TURN,
        lesson_00.USER_START,
        lesson_00.VISION_START,
        lesson_00.VISION_END,
        lesson_00.END,
        lesson_00.ASSISTANT,
    )
    assert tuple(counts) == stated
    assert "".join(pieces[:3]) == before
    assert f"{pieces[3]}{question}{pieces[4]}{pieces[5]}" == after
    tokens = len(
        tokenizer(prompt.replace("<|image_pad|>", "<|image_pad|>" * lesson_00.tokens_of(112, 112)))[
            "input_ids"
        ]
    )
    assert lesson_00.prompt_length(112, 112, len(tokenizer(question)["input_ids"])) == tokens


def test_visual_tokens_agree_with_the_patches_that_labkit_cuts() -> None:
    from labkit.model.vision import MERGE_SIZE, pixel_values

    for height, width in ((28, 28), (112, 140), (84, 168)):
        patches = len(pixel_values(np.zeros((height, width, 3), np.uint8)))
        assert lesson_00.tokens_of(height, width) * MERGE_SIZE**2 == patches


# 02.2 is judged by what the numbers do, so other right ways must pass as well.


@pytest.mark.parametrize(
    "rounding", [lambda x: np.floor(x + 0.5), np.rint, lambda x: np.ceil(x - 0.5)]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64])
@pytest.mark.parametrize("precision", [np.float32, np.float64])
def test_other_right_ways_to_quantise(rounding: Any, dtype: Any, precision: Any) -> None:
    def quantise_block(block: Any) -> Any:
        block = block.astype(precision)
        scale = (block.max() - block.min()) / 15
        return [
            rounding((block - block.min()) / (scale or 1)).astype(dtype),
            np.array([scale or 1e-3]),
            float(block.min()),
        ]

    assert EXERCISES["02.2"].judge(quantise_block).text == ""


def test_a_scale_of_zero_passes_where_codes_are_right() -> None:
    def quantise_block(block: Any) -> Any:
        scale = (block.max() - block.min()) / 15
        codes = np.round((block - block.min()) / scale) if scale else np.zeros(block.shape)
        return codes.astype(int), scale, block.min()

    assert EXERCISES["02.2"].judge(quantise_block).status == "right"


def test_the_blocks_show_what_they_should() -> None:
    for block in lesson_02.BLOCKS.values():
        assert block.dtype == np.float32
        assert 32 <= block.size <= 64
    assert lesson_02.POSITIVE_BLOCK.min() > 0
    assert lesson_02.WEIGHT_BLOCK.min() < 0 < lesson_02.WEIGHT_BLOCK.max()
    others = np.delete(lesson_02.OUTLIER_BLOCK, 7)
    assert lesson_02.OUTLIER_BLOCK[7] > 4 * np.abs(others).max()


@pytest.mark.parametrize("quiz", QUIZZES.values(), ids=lambda quiz: quiz.id)
def test_each_question_has_one_right_option_and_explains_all(quiz: Any) -> None:
    assert 3 <= len(quiz.questions) <= 4
    for question in quiz.questions:
        assert sum(option.right for option in question.options) == 1
        assert len(question.options) >= 3
        assert len({option.why for option in question.options}) == len(question.options)
        assert all(len(option.why) > 30 and option.why.endswith(".") for option in question.options)
    places = [
        [option.right for option in question.options].index(True) for question in quiz.questions
    ]
    assert len(set(places)) > 1  # the right answer is not always in the same place
