"""labkit.model.parts: the inputs of both graphs, written once, and what stands ready to be run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labkit import Model
from labkit.base.errors import ImageError, ModelError
from labkit.model import parts
from labkit.model.parts import prompt_inputs, vision_inputs


def test_every_patch_sees_every_other_and_knows_its_place() -> None:
    given = vision_inputs(np.zeros((28, 56, 3), np.uint8))
    assert given["patches"].shape == (8, 1176)
    assert not given["attention_mask"].any()
    assert given["attention_mask"].shape == (1, 8, 8)
    assert given["position_ids"].tolist() == [[0, 0, 1, 1, 0, 0, 1, 1], [0, 1, 0, 1, 2, 3, 2, 3]]


def test_no_token_sees_a_later_one() -> None:
    given = prompt_inputs(np.zeros((3, 5), np.float32), np.zeros((3, 3), np.int32))
    hidden = given["attention_mask"][0, 0] < -1e38
    assert hidden.tolist() == [[False, True, True], [False, False, True], [False, False, False]]
    assert not given["attention_mask"][0, 0][~hidden].any()
    assert given["input_ids"].shape == (3, 1, 5)


def test_the_graphs_take_what_the_parts_give(mini_model: Model) -> None:
    for part in parts.all_parts(mini_model.folder, image=(56, 84), prompt_tokens=7):
        part.load(mini_model.engine, kleidiai=False)
        seconds, outputs = part.forward(mini_model.engine, repeat=2)
        assert len(seconds) == 2
        assert all(np.isfinite(outputs[name]).all() for name in part.outputs)


def test_a_part_wants_a_model_and_a_size_that_it_can_take(
    mini_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"expected visual\.mnn in .* found none"):
        parts.vision(tmp_path)
    for height in (50, 0):
        with pytest.raises(ImageError, match=f"of 28, received height {height}, width 56"):
            parts.vision(mini_folder, height=height, width=56)
    with pytest.raises(ModelError, match="at least one token, received 0"):
        parts.prefill(mini_folder, tokens=0)
