"""Where tokens stand: MNN-LLM's counter, set so that a prompt is placed as Qwen2-VL places it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.engine.mnn_llm import passes
from labkit.model.vision import mrope_positions

PAD = 3


def placed_by_mnn(tokens: list[int], first: int, cols: int) -> list[int]:
    """MNN-LLM 3.6.1 within one pass: text counts on, after a picture from its last column."""
    places, place = [], first
    for token, after in zip(tokens, [*tokens[1:], None], strict=True):
        places.append(place)
        if token != PAD:
            place += 1
        elif after != PAD:
            place += cols
    return places


@given(
    before=st.integers(1, 5),
    rows=st.integers(1, 6),
    cols=st.integers(1, 6),
    after=st.integers(2, 5),
)
def test_text_around_a_picture_stands_where_qwen2_vl_has_it(
    before: int, rows: int, cols: int, after: int
) -> None:
    ids = [*range(10, 10 + before), *[PAD] * (rows * cols), *range(20, 20 + after)]
    expected = mrope_positions(before, rows, cols, after).max(0).tolist()
    parts, end = passes(ids, (rows, cols), PAD, "mrope")
    assert [token for tokens, _ in parts for token in tokens] == ids
    places = [place for tokens, first in parts for place in placed_by_mnn(tokens, first, cols)]
    mark = before + rows * cols  # the one that ends a tall picture stays where MNN has it
    text = [i for i, token in enumerate(ids) if token != PAD and (rows <= cols or i != mark)]
    assert [places[i] for i in text] == [expected[i] for i in text]
    assert end == expected[-1] + 1


@pytest.mark.parametrize("positions", ["mrope", "mnn"])
def test_text_alone_is_counted(positions: str) -> None:
    assert passes([7, 8, 9], (0, 0), PAD, positions) == ([([7, 8, 9], 0)], 3)


def test_mnn_left_alone_counts_every_visual_token() -> None:
    ids = [7, *[PAD] * 6, 8, 9]
    assert passes(ids, (3, 2), PAD, "mnn") == ([(ids, 0)], 9)
