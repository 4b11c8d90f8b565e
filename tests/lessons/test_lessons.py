"""What a learner sees: check, hint, solution, quiz, progress."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from learner import solved, written

from labkit import lessons
from labkit.base import paths
from labkit.lessons.catalogue import EXERCISES


def flat(text: object) -> str:
    """A text without its line breaks."""
    return " ".join(str(text).split())


def test_check_says_not_tried_wrong_right() -> None:
    assert str(lessons.check("00.1")).startswith("○ Not tried yet: 00.1 How many visual tokens?")
    wrong = str(lessons.check("00.1", lambda height, width: (height // 14) * (width // 14)))
    assert wrong.startswith("✘ Not right yet: 00.1")
    assert "You count patches" in wrong
    assert 'lessons.hint("00.1")' in wrong
    right = str(lessons.check("00.1", solved("00.1")))
    assert right.startswith("✔ Right: 00.1")
    assert EXERCISES["00.1"].why_right in flat(right)


def test_a_forgotten_return_is_told_from_an_empty_stub() -> None:
    forgotten = written(
        "def visual_tokens(height, width):\n    tokens = height * width // 784\n", "visual_tokens"
    )
    assert "`return` is missing" in flat(lessons.check("00.1", forgotten))
    empty = written('def visual_tokens(height, width):\n    """To do."""\n', "visual_tokens")
    assert "is missing" not in flat(lessons.check("00.1", empty))


def test_every_card_has_text_and_html() -> None:
    cards = [
        lessons.check("00.1"),
        lessons.check("00.1", 3),
        lessons.check("00.1", solved("00.1")),
        lessons.hint("00.1"),
        lessons.solution("00.1"),
        lessons.quiz("00"),
        lessons.progress(),
        lessons.reset(),
        lessons.restore(),
        lessons.reset("no such"),
        lessons.check("no such"),
    ]
    for card in cards:
        bundle = card._repr_mimebundle_(include=None, exclude=None)
        assert bundle["text/plain"] == str(card) == repr(card)
        page = ET.fromstring(bundle["text/html"])  # every tag closed
        assert "".join(page.itertext()).strip()
        assert "<script" not in bundle["text/html"]
        assert "<svg" not in bundle["text/html"]  # pages that show notebooks drop it


@pytest.mark.parametrize("asked", ["02.9", "3.1", 3.1, None, "", "<b>", object])
def test_unknown_numbers_are_answered(asked: Any) -> None:
    for call in (lessons.check, lessons.hint, lessons.solution, lessons.quiz):
        text = str(call(asked))
        assert "Expected one of" in text
    assert "Did you mean `03.1`?" in flat(lessons.check("3.1"))
    assert "<b>" not in lessons.check("<b>")._repr_html_()


def test_hints_come_one_after_the_other() -> None:
    total = len(EXERCISES["02.2"].hints)
    for number in range(1, total + 1):
        card = lessons.hint("02.2")
        assert card.title.startswith(f"Hint {number} of {total}: 02.2")
        assert [fold.text for fold in card.folds] == list(EXERCISES["02.2"].hints[:number])
    assert str(lessons.hint("02.2")) == str(card)  # the last one stays
    assert 'lessons.solution("02.2")' in str(card)
    assert "Hint 1 of" in str(lessons.hint("02.1"))  # each exercise counts for itself


def test_the_first_hint_and_the_solution_are_folded() -> None:
    assert "<details><summary>Hint 1 of 3</summary>" in lessons.hint("00.1")._repr_html_()
    assert (
        '<details open="open"><summary>Hint 2 of 3</summary>' in lessons.hint("00.1")._repr_html_()
    )
    page = lessons.solution("00.1")._repr_html_()
    before, _, folded = page.partition("<details>")
    assert "def visual_tokens" not in before
    assert "def visual_tokens" in folded


def test_text_fits_an_output_cell() -> None:
    for exercise in EXERCISES.values():
        text = str(lessons.check(exercise.id, solved(exercise.id)))
        assert max(len(line) for line in text.splitlines()) <= 96


def test_an_answer_that_bites_becomes_a_diagnosis() -> None:
    class Biting:
        def __eq__(self, other: object) -> bool:
            raise RuntimeError("ouch")

        __hash__ = None  # type: ignore[assignment]

        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError("ouch")

    for number in EXERCISES:
        card = str(lessons.check(number, lambda *arguments: Biting()))
        assert "Not right yet" in card


def test_importing_lessons_is_light() -> None:
    heavy = "torch", "MNN", "ipywidgets", "anywidget", "IPython", "matplotlib", "transformers"
    listed = f"[name for name in {heavy} if name in sys.modules]"
    code = f"import sys; from labkit import lessons; print({listed})"
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=paths.repository(),
    )
    assert run.stdout.strip() == "[]"


CELLS = (
    "from labkit import lessons",
    EXERCISES["00.1"].stub_source,
    'lessons.check("00.1", visual_tokens)',
    'lessons.hint("00.1")',
    'lessons.solution("00.1")',
    "def visual_tokens(height, width):\n    rows = height // 28\n    return rows / 0",
    'lessons.check("00.1", visual_tokens)',
    'lessons.quiz("00")',
    "lessons.progress()",
)


def executed(home: Path) -> list[dict[str, Any]]:
    """What the cells show in a kernel, one bundle for each that shows something."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    environment = {**os.environ, "LABKIT_HOME": str(home), "PYTHONPATH": str(paths.repository())}
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute(env=environment)
    return [dict(output["data"]) for cell in notebook.cells for output in cell.get("outputs", [])]


def test_a_notebook_shows_the_same_in_every_fresh_home(home: Path) -> None:
    pytest.importorskip("nbclient")
    first, second = executed(home / "first"), executed(home / "second")
    view = "application/vnd.jupyter.widget-view+json"
    assert [view in bundle for bundle in first] == [False, False, False, False, True, False]
    for bundle in (*first, *second):
        bundle.pop(view, None)
    assert first == second
    for bundle in first:
        assert set(bundle) == {"text/plain", "text/html"}
        assert str(home) not in str(bundle)
        assert "ipykernel" not in str(bundle)
    assert "in line 3 of your cell: `return rows / 0`" in flat(first[3]["text/plain"])
