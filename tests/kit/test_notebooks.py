"""What must hold of every committed notebook, without running it; ``--nbval`` runs them."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

from labkit.lessons.catalogue import EXERCISES
from labkit.lessons.path_map import NOTEBOOKS as TITLES

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
IGNORED = "nbval-ignore-output"
OF_A_MACHINE = r"/(?:home|root|Users|work)/[\w.-]+|/(?:private/)?(?:var/folders|tmp)/[\w.-]+"

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)


def cells_of(path: Path, kind: str) -> list[dict[str, Any]]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [c for c in cells if c["cell_type"] == kind and "".join(c["source"]).strip()]


def texts(path: Path) -> list[str]:
    return ["".join(cell["source"]) for cell in cells_of(path, "markdown")]


def link(number: int) -> str:
    stem, title = list(TITLES.items())[number]
    return f"[{stem[:2]}: {title}]({stem}.ipynb)"


def test_the_notebooks_are_the_path() -> None:
    assert [path.stem for path in NOTEBOOKS] == list(TITLES)


@each_notebook
def test_every_cell_was_run_in_order_without_an_error(path: Path) -> None:
    cells = cells_of(path, "code")
    assert [c["execution_count"] for c in cells] == list(range(1, len(cells) + 1))
    assert [o for c in cells for o in c["outputs"] if o["output_type"] == "error"] == []


@each_notebook
def test_no_cell_says_something_beside_its_output(path: Path) -> None:
    outputs = [(c["id"], o) for c in cells_of(path, "code") for o in c["outputs"]]
    beside = {cell: "".join(o["text"]) for cell, o in outputs if o.get("name") == "stderr"}
    assert beside == {}, "a library's warning, or a progress bar"


@each_notebook
def test_most_of_what_is_printed_is_compared(path: Path) -> None:
    printing = [c for c in cells_of(path, "code") if c["outputs"]]
    compared = [
        c
        for c in printing
        if IGNORED not in c["metadata"].get("tags", [])
        and "NBVAL_IGNORE_OUTPUT" not in "".join(c["source"])
    ]
    assert len(compared) >= 0.7 * len(printing), (
        f"only {len(compared)} of {len(printing)} cells that print are compared"
    )


@each_notebook
def test_code_cells_are_short(path: Path) -> None:
    sources = ["".join(cell["source"]) for cell in cells_of(path, "code")]
    assert [source for source in sources if len(source.splitlines()) > 15] == []


@each_notebook
def test_every_picture_has_words_for_those_who_cannot_see_it(path: Path) -> None:
    for cell in cells_of(path, "code"):
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                words = output["metadata"].get("image/png", {}).get("alt") or "".join(
                    data.get("text/plain", "<")
                )
                assert not words.startswith("<"), (
                    f"a picture without words in the cell: {''.join(cell['source'])[:80]}"
                )


@each_notebook
def test_it_begins_as_a_lesson_does(path: Path) -> None:
    title, _, about, *_ = (first := texts(path)[0]).splitlines()
    assert title.startswith("# ")
    number = NOTEBOOKS.index(path)
    neighbours = [f"Before it: {link(number - 1)}."] if number else []
    neighbours += [f"After it: {link(number + 1)}."] if number + 1 < len(NOTEBOOKS) else []
    assert re.fullmatch(rf"\*\*About \d+ minutes\.\*\* {re.escape(' '.join(neighbours))}", about)
    assert first.count("\n- **") >= 3, "objectives, each beginning with a verb"


@each_notebook
def test_it_ends_with_the_way_on(path: Path) -> None:
    last = texts(path)[-1]
    assert last.startswith("## What you have now\n")
    following = NOTEBOOKS.index(path) + 1
    way_on = link(following) if following < len(NOTEBOOKS) else "nothing"
    assert last.splitlines()[-1].startswith(f"**Next:** {way_on}")


@each_notebook
def test_links_lead_to_files_that_exist(path: Path) -> None:
    targets = [t for text in texts(path) for t in re.findall(r"\]\(([^)#]+)", text)]
    assert [t for t in targets if "://" not in t and not (path.parent / t).exists()] == []


@each_notebook
def test_every_exercise_has_its_stub(path: Path) -> None:
    functions = {last_statement("".join(cell["source"])) for cell in cells_of(path, "code")}
    own = [e for number, e in EXERCISES.items() if number[:2] == path.stem[:2]]
    assert own
    assert [e.id for e in own if last_statement(e.stub_source) not in functions] == []


def last_statement(source: str) -> str:
    """What a cell ends with, whatever its layout; a stub's imports may stand in other cells."""
    return ast.dump(ast.parse(source).body[-1])


@each_notebook
def test_outputs_hold_no_path_of_the_machine_they_were_made_on(path: Path) -> None:
    outputs = json.dumps([c["outputs"] for c in cells_of(path, "code")])
    assert re.findall(OF_A_MACHINE, outputs) == []


@pytest.mark.parametrize(
    "output",
    ["/home/ann/kit", "/Users/ann", "/root/x", "to /tmp/labkit-lesson-4r33f_k0/int4", "/tmp/x"],
)
def test_a_path_of_a_machine_is_recognised(output: str) -> None:
    assert re.findall(OF_A_MACHINE, output)
