"""The original with its weights left in their files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from labkit.inside.reference import Reference
from labkit.model import mapped
from labkit.proof.parity import examples

if TYPE_CHECKING:
    from labkit.model.checkpoints import Checkpoint


@pytest.fixture(scope="module")
def layerwise(mini: Checkpoint) -> Reference:
    return Reference(mini, layerwise=True)


@pytest.mark.parametrize("case", range(3))
def test_layer_by_layer_it_computes_the_same_to_the_bit(
    layerwise: Reference, mini_reference: Reference, case: int
) -> None:
    image, question = examples()[case]
    ours, theirs = (r.stages(image, question) for r in (layerwise, mini_reference))
    for stage, expected in theirs.items():
        np.testing.assert_array_equal(ours[stage], expected, err_msg=stage)
    assert layerwise.ask(image, question) == mini_reference.ask(image, question)


def test_what_it_looks_at_is_the_same(layerwise: Reference, mini_reference: Reference) -> None:
    image, _ = examples()[0]
    ours, theirs = (r.look(image) for r in (layerwise, mini_reference))
    np.testing.assert_array_equal(ours.q[3], theirs.q[3])


def test_weights_are_left_as_they_are(layerwise: Reference) -> None:
    import torch

    tower = layerwise.model.model.visual
    assert {p.dtype for p in tower.blocks.parameters()} == {torch.float16}


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (10, 2**24), (151_936, 1536), (5, 7)])
def test_groups_take_every_row_once(rows: int, columns: int) -> None:
    groups = mapped.groups(rows, columns)
    taken = [row for group in groups for row in range(rows)[group]]
    assert taken == list(range(rows))
    assert all(
        len(range(rows)[group]) == 1 or 4 * columns * len(range(rows)[group]) <= 2**26
        for group in groups
    )
