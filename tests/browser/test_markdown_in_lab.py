"""Tables in prose, as JupyterLab shows them: every cell of the source, none lost to a bar."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from conftest import OpenNotebook

pytestmark = pytest.mark.browser

REPOSITORY = Path(__file__).parents[2]
TABLE = re.compile(r"(?:^\|.*\|\n?){3,}", re.MULTILINE)  # a header, a rule, and rows


def tables() -> list[str]:
    """All tables of all prose: of the notebooks, and of README."""
    texts = [(REPOSITORY / "README.md").read_text(encoding="utf-8")]
    for path in sorted((REPOSITORY / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        texts += ["".join(c["source"]) for c in cells if c["cell_type"] == "markdown"]
    return [table[0] for text in texts for table in TABLE.finditer(text)]


def meant(table: str) -> list[list[str]]:
    """What the author of a table means, cell by cell: a bar within `code` is text."""
    header, _, *rows = table.strip().splitlines()
    return [
        [plain(cell) for cell in re.findall(r"((?:`[^`]*`|\\\||[^`|])+)\|", row.strip("|") + "|")]
        for row in (header, *rows)
    ]


def plain(cell: str) -> str:
    """A cell without its marks: links, emphasis and code are their text."""
    cell = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", cell.replace("\\|", "|"))
    return re.sub(r"[`*]", "", cell).strip()


def test_a_bar_within_code_is_meant_as_text() -> None:
    assert meant("| a | b |\n|---|---|\n| `<|x|>`, y | **1** |\n| `<\\|x\\|>` | [c](d.md) |") == [
        ["a", "b"],
        ["<|x|>, y", "1"],
        ["<|x|>", "c"],
    ]


def test_every_table_shows_what_its_source_means(
    open_notebook: Callable[..., OpenNotebook],
) -> None:
    sources = tables()
    assert any("image_pad" in table for table in sources)
    assert len(sources) >= 2
    cells = [nbformat.v4.new_markdown_cell(table) for table in sources]
    notebook = open_notebook(nbformat.v4.new_notebook(cells=cells), height=600 * len(cells))
    shown = notebook.page.locator(".jp-RenderedMarkdown table")
    expect(shown).to_have_count(len(sources))
    assert shown.evaluate_all(
        """(tables) => tables.map((table) =>
             [...table.rows].map((row) => [...row.cells].map((cell) => cell.innerText.trim())))"""
    ) == list(map(meant, sources))
