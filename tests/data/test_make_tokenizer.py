"""make_tokenizer: Qwen2's kind of tokenizer, with the words of the emoji world."""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_tokenizer import SPECIAL, SYSTEM, VOCABULARY, make_tokenizer

from labkit.inside.reference import Reference
from labkit.world.chance import random_question, random_scene
from labkit.world.questions import plural
from labkit.world.scenes import NAMES


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer()


def test_it_is_small_and_holds_the_special_tokens_of_qwen2_vl(tokenizer: Any) -> None:
    assert len(tokenizer) <= VOCABULARY
    assert len(SPECIAL) == 14
    ids = tokenizer.convert_tokens_to_ids(list(SPECIAL))
    assert len(set(ids)) == 14
    assert all(
        tokenizer(mark)["input_ids"] == [number] for mark, number in zip(SPECIAL, ids, strict=True)
    )
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")


def test_every_object_is_one_token_wherever_it_stands(tokenizer: Any) -> None:
    for name in NAMES:
        for word in (f" {name}", f" {plural(name)}", name.capitalize()):
            assert len(tokenizer(word)["input_ids"]) == 1, word


def test_questions_and_answers_come_back_and_fit_into_24_tokens(tokenizer: Any) -> None:
    rng = np.random.default_rng(4)
    for _ in range(400):
        question = random_question(rng, random_scene(rng))
        for text in (question.text, question.answer):
            ids = tokenizer(text)["input_ids"]
            assert tokenizer.decode(ids) == text
            assert len(ids) < 24, "scoring stops there"


@given(text=st.text(max_size=40).filter(lambda text: "<|" not in text))
def test_any_text_can_be_encoded(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(
        tokenizer(text)["input_ids"], clean_up_tokenization_spaces=False
    ) == unicodedata.normalize("NFC", text)


def test_the_chat_template_is_qwen2_vls(tokenizer: Any) -> None:
    content = [{"type": "image"}, {"type": "text", "text": "Is there a cat?"}]
    for message in (
        [{"role": "user", "content": content}],
        [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}],
    ):
        assert tokenizer.apply_chat_template(
            message, tokenize=False, add_generation_prompt=True
        ) == (
            f"<|im_start|>system\n{SYSTEM}<|im_end|>\n"
            "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>"
            "Is there a cat?<|im_end|>\n"
            "<|im_start|>assistant\n"
        )


def test_it_is_made_the_same_every_time_and_is_the_embedded_one(
    tokenizer: Any, mini_reference: Reference
) -> None:
    assert (
        make_tokenizer().get_vocab()
        == tokenizer.get_vocab()
        == mini_reference.tokenizer.get_vocab()
    )
