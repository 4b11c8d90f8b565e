"""labkit.proof.heads: rounding moves little attention, a scrambled picture all of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from labkit.inside.probes import Probe
from labkit.model.checkpoints import Checkpoint
from labkit.model.vision import merge_order
from labkit.proof.heads import compare_layers, layers_table
from labkit.proof.parity import examples


def test_layers_are_compared_head_by_head(mini_folder: Path, mini: Checkpoint) -> None:
    rows = compare_layers([mini_folder], mini, cases=examples()[:1])
    assert [(row.part, row.layer) for row in rows] == [
        (part, layer) for part in ("vision", "language") for layer in range(4)
    ]
    assert {row.model for row in rows} == {"int4 in MNN"}
    assert all(0.98 < row.cosine < 1 for row in rows)
    assert [len(row.moved) for row in rows] == [4] * 4 + [6] * 4
    assert all(0 < share < 0.1 for row in rows for share in row.moved)
    table = repr(layers_table(rows)).splitlines()
    assert len(table) == 9
    assert table[1].split()[:5] == ["vision", "int4", "in", "MNN", "0"]


def test_a_scrambled_picture_moves_all_attention(
    mini_folder: Path, mini: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scrambled(probe: Probe, image: Any, *, look: Any = Probe.look) -> Any:
        seen = look(probe, image)
        order = merge_order(seen.rows, seen.cols)  # the sequence taken for the picture
        q, k = ({i: x[:, order] for i, x in part.items()} for part in (seen.q, seen.k))
        return dataclasses.replace(seen, q=q, k=k)

    monkeypatch.setattr(Probe, "look", scrambled)
    rows = compare_layers([mini_folder], mini, cases=examples()[:1])
    assert all(row.cosine < 0.9 and min(row.moved) > 0.1 for row in rows if row.part == "vision")
