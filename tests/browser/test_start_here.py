"""Notebook 00 as a learner meets it: opened in the lab, run to the end, its composer used."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import OpenNotebook

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(600),
]  # the first question may convert the model

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "00_start_here.ipynb"


def test_start_here(open_notebook: Callable[..., OpenNotebook]) -> None:
    if not NOTEBOOK.is_file() and os.environ.get("CI") != "true":
        pytest.skip(f"There is no {NOTEBOOK.name} in notebooks/ yet")
    notebook = open_notebook(NOTEBOOK)
    notebook.theme("light")
    notebook.run_all()
    assert notebook.errors() == []
    assert all(
        cell["execution_count"]
        for cell in notebook.cells()
        if cell["cell_type"] == "code" and "".join(cell["source"]).strip()
    )
    answer = notebook.composer().visit()
    assert answer == "A cat."
    numbers = notebook.page.locator(".lc-numbers").inner_text().split("\n")
    assert numbers[::2] == ["Tokens", "Visual tokens", "Vision", "Prefill", "Decode"]
    assert all(re.fullmatch(r"[1-9]\d*", count) for count in numbers[1:4:2])
    assert all(re.fullmatch(r"[\d.]+ s", seconds) for seconds in numbers[5::2])
    notebook.shot("start_here_light")
    notebook.theme("dark")
    notebook.shot("start_here_dark")
