"""labkit.inside.reference: the original answers greedily, whatever its files ask for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from labkit.inside.reference import Reference
from labkit.model.checkpoints import resolve
from labkit.proof.parity import examples

if TYPE_CHECKING:
    from labkit.inside.reference import ReferenceAnswer


@pytest.fixture(scope="module")
def greedy(mini_reference: Reference) -> ReferenceAnswer:
    return mini_reference.ask(*examples()[0])


@pytest.mark.parametrize(
    ("file", "layerwise"), [("generation_config.json", False), ("config.json", True)]
)
@pytest.mark.parametrize(
    "asked",
    [
        {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5},
        {"penalty_alpha": 0.6, "top_k": 4, "do_sample": False},
        {"dola_layers": "high"},
        {"do_sample": True, "temperature": 9.0},
        {"custom_generate": "someone/else", "min_new_tokens": 30, "suppress_tokens": [32]},
    ],
    ids=" ".join,
)
def test_what_a_checkpoint_asks_of_the_search_changes_nothing(
    asked: dict[str, Any], file: str, layerwise: bool, greedy: ReferenceAnswer, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(resolve("mini").folder, tmp_path / "foreign"))
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(content | asked))
    assert Reference(resolve(folder), layerwise=layerwise).ask(*examples()[0]) == greedy
