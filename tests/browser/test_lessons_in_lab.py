"""Quiz, cards and the path in a real JupyterLab, in both themes, and without a kernel's word."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from labkit.lessons.catalogue import QUIZZES

if TYPE_CHECKING:
    from conftest import OpenNotebook

pytestmark = pytest.mark.browser

FRESH = """
import os, tempfile
os.environ['LABKIT_HOME'] = tempfile.mkdtemp()
from labkit import lessons
""".strip()
CELLS = (
    FRESH,
    "lessons.progress()",
    "lessons.check('00.1', lambda height, width: (height // 14) * (width // 14))",
    "lessons.check('00.1', lambda height, width: height * width // 784)",
    "lessons.hint('00.1')",
    "lessons.solution('00.1')",
    "lessons.progress()",
    "lessons.quiz('00')",
)
RIGHT = [
    next(i for i, option in enumerate(question.options) if option.right)
    for question in QUIZZES["00"].questions
]


def test_a_quiz_by_keyboard(open_notebook: Callable[..., OpenNotebook]) -> None:
    cells = [nbformat.v4.new_code_cell(cell) for cell in (FRESH, "lessons.quiz('00')", "1")]
    notebook = open_notebook(nbformat.v4.new_notebook(cells=cells), width=1000)
    notebook.run_all()
    questions = notebook.page.get_by_role("group").filter(has_text="Question")
    expect(questions).to_have_count(len(RIGHT))
    keyboard = notebook.page.keyboard
    questions.first.get_by_role("button", name="Check").click()
    expect(questions.first).to_contain_text("Choose an answer first.")
    questions.first.get_by_role("radio").first.focus()
    keyboard.press("Space")
    wrong = (RIGHT[0] + 1) % 3
    for _ in range(wrong):
        keyboard.press("ArrowDown")  # must move within the question, not to the next cell
    expect(questions.first.get_by_role("radio").nth(wrong)).to_be_checked()
    keyboard.press("Enter")
    expect(questions.first).to_contain_text(
        "✘ Not this one. " + QUIZZES["00"].questions[0].options[wrong].why
    )
    for i, place in enumerate(RIGHT):
        radios = questions.nth(i).get_by_role("radio")
        if i:  # Tab leads from the question before: its button, what explains the others, then here
            keyboard.press("Tab")
            keyboard.press("Tab")
            expect(radios.first).to_be_focused()
            keyboard.press("Space")
        else:
            radios.first.focus()
            keyboard.press("Space")
        for _ in range(place):
            keyboard.press("ArrowDown")
        keyboard.press("Tab")
        keyboard.press("Enter")
        expect(questions.nth(i)).to_contain_text("✔ Right.")
    expect(notebook.page.get_by_role("status").filter(has_text="this quiz is done")).to_be_visible()
    assert notebook.kernel(
        "sorted(__import__('labkit.lessons.store', fromlist=['']).load().done)"
    ) == ["00"]
    assert notebook.errors() == []


def test_cards_and_path_as_a_learner_sees_them(open_notebook: Callable[..., OpenNotebook]) -> None:
    notebook = open_notebook(
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS]),
        width=1100,
        height=2700,
    )
    notebook.run_all()
    page = notebook.page
    expect(page.get_by_role("group").filter(has_text="Question")).to_have_count(len(RIGHT))
    picture = page.get_by_role("img", name="Your path:")
    expect(picture).to_have_count(2)
    assert picture.first.evaluate("(image) => image.complete && image.naturalWidth > 100")
    expect(page.locator("summary", has_text="Hint 1 of 3")).to_be_visible()
    expect(page.get_by_text("How many patches of 14×14 pixels fit along")).not_to_be_visible()
    page.locator("summary", has_text="Hint 1 of 3").click()
    expect(page.get_by_text("How many patches of 14×14 pixels fit along")).to_be_visible()
    for theme in ("light", "dark"):
        notebook.theme(theme)
        notebook.shot(f"lessons_{theme}")
        assert Axe().run(page, ".jp-OutputArea-output").response["violations"] == []
    assert notebook.errors() == []


def test_an_untrusted_notebook_shows_the_static_quiz_and_the_picture(
    open_notebook: Callable[..., OpenNotebook],
) -> None:
    # What GitHub and a fresh clone show: the same outputs, sanitised, no widget.
    from labkit import lessons

    cells = []
    for shown in (
        lessons.quiz("00"),
        lessons.progress(),
        lessons.check("00.1"),
        lessons.solution("00.1"),
    ):
        bundle = shown._repr_mimebundle_()
        bundle["application/vnd.jupyter.widget-view+json"] = {
            "version_major": 2,
            "version_minor": 0,
            "model_id": "gone",
        }
        cells.append(
            nbformat.v4.new_code_cell(
                "...", execution_count=1, outputs=[nbformat.v4.new_output("display_data", bundle)]
            )
        )
    notebook = open_notebook(nbformat.v4.new_notebook(cells=cells), width=1000, height=2000)
    page = notebook.page
    first = QUIZZES["00"].questions[0]
    expect(page.get_by_text(first.text)).to_be_visible()
    expect(page.get_by_text("a) " + first.options[0].text)).to_be_visible()
    expect(page.get_by_text(first.options[0].why)).not_to_be_visible()
    page.get_by_text("Answers to question 1, explained").click()
    expect(page.get_by_text(first.options[0].why)).to_be_visible()
    picture = page.get_by_role("img", name="Your path:")
    assert picture.evaluate("(image) => image.complete && image.naturalWidth > 100")
    notebook.shot("lessons_untrusted")
