"""tests/nbval_sanitize.cfg hides what may differ on another CPU in what notebooks print."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from nbval.plugin import get_sanitize_patterns

TESTS = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((TESTS.parent / "notebooks").glob("*.ipynb"))
PATTERNS = dict(get_sanitize_patterns((TESTS / "nbval_sanitize.cfg").read_text(encoding="utf-8")))
NOT_COMPARED = ("image/png", "image/jpeg", "application/vnd.jupyter.widget-view+json")
HIDDEN = {  # the notebook, and what is hidden there, with # for each number
    ("03", "most like row #, column #"),
    ("04", "L#H# row #, column #"),
    ("04", "L#H# row #, column # (#%)"),
    ("04", "” row #, column #"),
    ("04", "entropy # to # bits, distance # to #"),
    ("04", "#% on itself, at most #%"),
    ("04", "#% of the attention moved"),
}
SHOWN = [  # what a learner is told to compare, on every machine
    "  vision   32%  of instructions inside kai_ functions: kai_kernel_matmul 25%",
    "vision   470.74             546.85                0.861                   84%",
    "72% by size distinguishes colours",
    "(8, 12, 16) row 1, column 0: [1.    0.316 0.1   0.032] …",
    "the patch at row 4, column 6",
    "on itself: 7% with the residual, 0% without",
]


def compared(notebook: Path) -> Iterator[str]:
    """Each text of the committed outputs that nbval compares."""
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        ignored = "nbval-ignore-output" in cell["metadata"].get("tags", [])
        if cell["cell_type"] != "code" or ignored:
            continue
        for output in cell["outputs"]:
            for kind, text in [("", output.get("text", "")), *output.get("data", {}).items()]:
                if kind not in NOT_COMPARED:
                    yield text if isinstance(text, str) else "".join(text)


def sanitised(text: str) -> str:
    for pattern, replacement in PATTERNS.items():
        text = re.sub(pattern, replacement, text)
    return text


def test_it_hides_these_sentences_and_no_others() -> None:
    hidden = {
        (notebook.stem[:2], re.sub(r"\d+(?:\.\d+)?", "#", match[0]))
        for notebook in NOTEBOOKS
        for text in compared(notebook)
        for pattern in PATTERNS
        for match in re.finditer(pattern, text)
    }
    assert hidden == HIDDEN


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_pattern_hides_something(pattern: str) -> None:
    texts = "\n".join(text for notebook in NOTEBOOKS for text in compared(notebook))
    assert re.search(pattern, texts)


@pytest.mark.parametrize("text", SHOWN)
def test_exact_numbers_are_compared(text: str) -> None:
    assert sanitised(text) == text


def test_almost_all_numbers_are_compared() -> None:
    texts = [text for notebook in NOTEBOOKS for text in compared(notebook)]
    numbers = sum(len(re.findall(r"\d+", text)) for text in texts)
    left = sum(len(re.findall(r"\d+", sanitised(text))) for text in texts)
    assert numbers > 3000
    assert left > 0.95 * numbers
