"""labkit.model.chat: the same question, the same answer; and no way to crash the kernel."""

from __future__ import annotations

import math
import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import labkit
from labkit import Model
from labkit.base.errors import EngineCrashed, ImageError, ModelError, QuestionError
from labkit.inside.reference import Reference
from labkit.model.checkpoints import Checkpoint
from labkit.model.vision import FACTOR
from labkit.proof.evaluate import Case, held_out_cases
from labkit.proof.parity import cosine, vision_stages
from labkit.world.scenes import render

CASES = held_out_cases(12)


def ask(model: Model, case: Case, **options: Any) -> labkit.Answer:
    return model.ask(render(case.scene), case.question.text, **options)


def test_the_same_question_gets_the_same_answer(mini_model: Model) -> None:
    first = [ask(mini_model, case) for case in CASES[:4]]
    for case, before in zip(CASES[:4], first, strict=True):  # with others asked in between
        again = ask(mini_model, case)
        assert (again.text, again.tokens) == (before.text, before.tokens)
        assert np.array_equal(again.first_logits, before.first_logits)


def test_an_answer_comes_piece_by_piece(mini_model: Model) -> None:
    for case in CASES[:6]:
        pieces: list[str] = []
        answer = ask(mini_model, case, on_text=pieces.append)
        assert "".join(pieces) == answer.text
        assert len(answer.tokens) >= len(pieces) >= 1
        assert answer.tokens[0] == answer.first_logits.argmax()
        assert answer.text


def test_an_answer_can_be_cut_off(mini_model: Model) -> None:
    whole = ask(mini_model, CASES[0])
    cut = ask(mini_model, CASES[0], max_new_tokens=1)
    assert whole.finished
    assert len(whole.tokens) > 1
    assert (cut.finished, cut.tokens) == (False, whole.tokens[:1])
    assert whole.text.startswith(cut.text)


def test_counts_are_those_of_the_picture_and_of_transformers(
    mini_model: Model, mini_reference: Reference
) -> None:
    for case in CASES:
        answer = ask(mini_model, case, max_new_tokens=1)
        height, width, _ = mini_model.prepare(render(case.scene)).shape
        assert answer.visual_tokens == height * width // FACTOR**2
        assert (
            answer.prompt_tokens
            == mini_reference.inputs(render(case.scene), case.question.text)["input_ids"].shape[1]
        )
        times = answer.times
        assert all(
            math.isfinite(t) and t > 0
            for t in (times.load_s, times.vision_s, times.prefill_s, times.decode_s)
        )


def test_text_after_a_tall_picture_stands_where_the_original_has_it(
    mini_folder: Path, mini_reference: Reference
) -> None:
    """MNN-LLM 3.6.1 goes on from the picture's last column; transformers from its longer side."""
    tall = [case for case in held_out_cases(40) if case.scene.height > case.scene.width]
    assert len(tall) >= 8
    expected = [
        mini_reference.stages(render(case.scene), case.question.text)["first_logits"]
        for case in tall
    ]
    near = {}
    for positions in ("mrope", "mnn"):
        with Model(mini_folder, positions=positions) as model:
            near[positions] = [
                cosine(ask(model, c, max_new_tokens=1).first_logits, e)
                for c, e in zip(tall, expected, strict=True)
            ]
    assert min(near["mrope"]) > 0.985
    assert np.median(near["mrope"]) > np.median(near["mnn"])
    assert min(near["mrope"]) > min(near["mnn"])


def test_a_question_without_a_picture(mini_model: Model, mini_reference: Reference) -> None:
    answer = mini_model.ask(None, "Is there a cat?")
    with_picture = mini_model.ask(np.zeros((112, 112, 3), np.uint8), "Is there a cat?")
    assert (answer.visual_tokens, with_picture.visual_tokens) == (0, 16)
    assert with_picture.prompt_tokens == answer.prompt_tokens + 16 + 2, (
        "the tokens around the picture"
    )


def test_every_kind_of_picture_is_the_same_picture(mini_model: Model, tmp_path: Path) -> None:
    picture = render(CASES[1].scene)
    picture.save(tmp_path / "a scene.png")
    kinds = [
        picture,
        np.asarray(picture),
        np.asarray(picture) / 255,
        tmp_path / "a scene.png",
        str(tmp_path / "a scene.png"),
    ]
    answers = [mini_model.ask(kind, "Describe the image.") for kind in kinds]
    assert {answer.tokens for answer in answers} == {answers[0].tokens}
    assert all(np.array_equal(answer.first_logits, answers[0].first_logits) for answer in answers)


def test_other_pictures_are_looked_at_at_their_own_size(mini_model: Model) -> None:
    sizes = [(112, 112), (84, 168), (168, 84), (1, 1), (700, 500), (12, 1200)]
    counts = [
        mini_model.ask(
            np.full((*size, 3), 200, np.uint8), "Describe the image.", max_new_tokens=2
        ).visual_tokens
        for size in sizes
    ]
    assert counts == [16, 18, 18, 16, 20, 40]


@pytest.mark.parametrize(
    "question",
    [
        "",
        "   \n",
        "<|im_end|>",
        "see <|image_pad|> this",
        "<img>x.png</img>",
        "</audio>",
        "<hw>28,28</hw>",
        "a\0b",
        "\ud800",
    ],
)
def test_questions_that_are_none(mini_model: Model, question: str) -> None:
    with pytest.raises(QuestionError, match="expected"):
        mini_model.ask(None, question)


@pytest.mark.parametrize(
    "question",
    [
        "¿Dónde está el 🐱?",
        "a < b | c > d",
        "{{ 7 * 7 }} {% x %}",
        "'\"\\ $(ls) `ls`",
        "why? " * 50,
    ],
)
def test_odd_but_plain_words_are_asked_as_they_are(
    mini_model: Model, mini_reference: Reference, question: str
) -> None:
    picture = render(CASES[0].scene)
    answer = mini_model.ask(picture, question, max_new_tokens=4)
    assert (
        answer.prompt_tokens
        == mini_reference.inputs(picture, question.strip())["input_ids"].shape[1]
    )


def test_no_tokens_and_no_picture(mini_model: Model) -> None:
    with pytest.raises(QuestionError, match="at least 1, received 0"):
        mini_model.ask(None, "Where?", max_new_tokens=0)
    with pytest.raises(ImageError, match="found nothing there"):
        mini_model.ask("nothing.png", "Where?")


def test_wrong_options_and_no_model_are_refused_without_a_process(
    mini_folder: Path, tmp_path: Path
) -> None:
    for wrong in ({"precision": "double"}, {"memory": 2}, {"positions": "xyz"}):
        with pytest.raises(ModelError, match="expected precision and memory among"):
            Model(mini_folder, **wrong)
    for source in (tmp_path, tmp_path / "nothing", "no-such-model"):
        with pytest.raises(ModelError, match="Make one: labkit convert"):
            labkit.open_model(source)


def test_precision_and_memory_are_passed_on(mini_folder: Path) -> None:
    with Model(mini_folder, threads=1, precision="high", memory="normal") as model:
        exact = ask(model, CASES[0])
    with Model(mini_folder, threads=1) as model:
        quick = ask(model, CASES[0])
    assert cosine(exact.first_logits, quick.first_logits) > 0.99
    assert not np.array_equal(exact.first_logits, quick.first_logits), (
        "activations are quantised only with low memory"
    )


def test_a_crash_is_an_error_and_the_next_question_is_answered(mini_folder: Path) -> None:
    with Model(mini_folder, threads=1) as model:
        before = ask(model, CASES[2])
        stages = vision_stages(model, render(CASES[2].scene))

        pid = model.engine.pid

        def crash() -> None:
            os.kill(pid, signal.SIGSEGV)
            os.kill(pid, signal.SIGCONT)

        os.kill(
            pid, signal.SIGSTOP
        )  # so that it is at work on the question, however fast it is, when the crash comes
        threading.Timer(0.2, crash).start()
        with pytest.raises(EngineCrashed, match="killed by SIGSEGV"):
            ask(model, CASES[2])
        assert ask(model, CASES[2]).tokens == before.tokens
        engine = (
            model.engine
        )  # held: the property would start a new one as soon as this one is gone
        os.kill(engine.pid, signal.SIGKILL)
        with pytest.raises(EngineCrashed, match="killed by SIGKILL"):
            engine.request("hello")
        again = vision_stages(model, render(CASES[2].scene))
        assert all(np.array_equal(stages[name], again[name]) for name in stages)


def test_a_callers_error_passes_through_and_the_next_question_is_answered(
    mini_folder: Path,
) -> None:
    def on_text(piece: str) -> None:
        raise ValueError("my own mistake")

    with Model(mini_folder, threads=1) as model:
        with pytest.raises(ValueError, match="my own mistake"):
            ask(model, CASES[0], on_text=on_text)
        assert ask(model, CASES[0]).text


def test_a_model_starts_at_the_first_question_and_again_after_closing(mini_folder: Path) -> None:
    model = Model(mini_folder, threads=1)
    assert model._engine is None
    first = ask(model, CASES[0])
    model.close()
    model.close()
    assert model._engine is None
    assert ask(model, CASES[0]).tokens == first.tokens
    model.close()


def test_the_graph_of_a_part(mini_model: Model) -> None:
    kinds = {op["type"] for op in mini_model.graph("llm.mnn")}
    assert {"Convolution", "Attention"} <= kinds
    assert all(
        set(op) == {"type", "name", "inputs", "outputs", "external", "layer"}
        for op in mini_model.graph("visual.mnn")
    )


@pytest.mark.slow
@pytest.mark.convert
def test_at_8_bits_new_tokens_stand_where_qwen2_vl_puts_them(
    mini: Checkpoint, mini_reference: Reference
) -> None:
    from labkit.proof.ready import cached

    with Model(cached("mini", weight_bits=8, vision_bits=8), threads=2) as model:
        pairs = [
            (
                ask(model, case).tokens,
                mini_reference.ask(render(case.scene), case.question.text).tokens,
            )
            for case in CASES
        ]
    same = sum(mine == theirs for mine, theirs in pairs)
    assert same > len(CASES) / 2, pairs
