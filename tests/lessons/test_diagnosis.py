"""Values and exceptions in words."""

from __future__ import annotations

import numpy as np
import pytest

from labkit.lessons.diagnosis import Diagnosis, describe, explain, real_number, whole_number


def test_an_error_without_a_cell_has_no_line() -> None:
    assert explain(ValueError("plain")) == "`ValueError`: plain."


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.zeros((2, 3), np.float32), "an array of shape (2, 3), float32"),
        (np.float32(1.5), "the float32 `1.5`"),
        ("cat", "the str `'cat'`"),
        ((1, 2), "a tuple of 2"),
        (None, "a value of type `NoneType`"),
        (object(), "a value of type `object`"),
        ({"a": object()}, "the dict `{'a': <object object at 0x…>}`"),
    ],
)
def test_describe(value: object, words: str) -> None:
    assert describe(value) == words


def test_numbers() -> None:
    for good in (7, np.int32(7), np.array(7)):
        assert whole_number(good, "it") == 7
    with pytest.raises(Diagnosis, match=r"received the float `7\.0`.*divide with `//`"):
        whole_number(7.0, "it")
    for bad in (True, "7", None, np.zeros(2, int), [7]):
        with pytest.raises(Diagnosis, match="Expected it as a whole number"):
            whole_number(bad, "it")
    for good in (7, 7.0, np.float16(7), np.array([7.0])):
        assert real_number(good, "it") == 7.0
    for bad in (True, "7", None, np.zeros(2)):
        with pytest.raises(Diagnosis, match="Expected it as one number"):
            real_number(bad, "it")
