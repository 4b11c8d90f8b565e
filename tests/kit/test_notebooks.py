"""What must hold of every committed notebook, without running it; ``--nbval`` runs them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
IGNORED = "nbval-ignore-output"

pytestmark = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)


def code_cells(path: Path) -> list[dict[str, Any]]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [c for c in cells if c["cell_type"] == "code" and "".join(c["source"]).strip()]


def test_there_are_notebooks(path: Path) -> None:
    assert {"00_start_here", "02_convert_qwen2_vl"} <= {p.stem for p in NOTEBOOKS}
    assert path in NOTEBOOKS


def test_every_cell_was_run_in_order_without_an_error(path: Path) -> None:
    cells = code_cells(path)
    assert [c["execution_count"] for c in cells] == list(range(1, len(cells) + 1))
    assert [o for c in cells for o in c["outputs"] if o["output_type"] == "error"] == []


def test_most_of_what_is_printed_is_compared(path: Path) -> None:
    printing = [c for c in code_cells(path) if c["outputs"]]
    compared = [
        c
        for c in printing
        if IGNORED not in c["metadata"].get("tags", [])
        and "NBVAL_IGNORE_OUTPUT" not in "".join(c["source"])
    ]
    assert len(compared) >= 0.7 * len(printing), (
        f"only {len(compared)} of {len(printing)} cells that print are compared"
    )


def test_code_cells_are_short(path: Path) -> None:
    assert [
        c["source"][0] for c in code_cells(path) if len("".join(c["source"]).splitlines()) > 15
    ] == []


def test_every_picture_has_words_for_those_who_cannot_see_it(path: Path) -> None:
    for cell in code_cells(path):
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                words = output["metadata"].get("image/png", {}).get("alt") or "".join(
                    data.get("text/plain", "<")
                )
                assert not words.startswith("<"), (
                    f"a picture without words in the cell: {''.join(cell['source'])[:80]}"
                )


def test_it_begins_as_a_lesson_does(path: Path) -> None:
    first = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
    assert first.startswith("# ")
    assert re.search(r"\*\*About \d+ minutes\.\*\*", first)
    assert first.count("\n- **") >= 3, "objectives, each beginning with a verb"


def test_outputs_hold_no_path_of_the_machine_they_were_made_on(path: Path) -> None:
    outputs = json.dumps([c["outputs"] for c in code_cells(path)])
    assert re.findall(r"/(?:home|root|Users|work)/[\w.-]+", outputs) == []
