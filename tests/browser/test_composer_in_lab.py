"""The scene composer in a real JupyterLab: by mouse, by keyboard, streaming, failing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import nbformat
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import expect

if TYPE_CHECKING:
    from conftest import OpenNotebook

pytestmark = pytest.mark.browser

FAKE_MODEL = """
import threading
from types import SimpleNamespace
from labkit.world.composer import Composer

released = threading.Event()

def ask(picture, question, *, on_text):
    if "unicorn" in question:
        raise RuntimeError("The model does not know this word.\\nAsk about one of the 48 objects.")
    on_text("A ")
    released.wait(60)  # the rest comes only when the kernel has run something else meanwhile
    on_text("cat")
    on_text(".")
    times = SimpleNamespace(load_s=0.4, vision_s=0.0213, prefill_s=0.041, decode_s=0.0157)
    counts = {"tokens": (3, 4, 1, 2), "prompt_tokens": 48, "visual_tokens": 25}
    return SimpleNamespace(text="A cat.", times=times, **counts)

composer = Composer(ask)
composer
""".strip()


@pytest.fixture
def notebook(open_notebook: Callable[..., OpenNotebook]) -> OpenNotebook:
    cells = [
        nbformat.v4.new_markdown_cell("# A cat and a pizza"),
        nbformat.v4.new_code_cell(FAKE_MODEL),
        nbformat.v4.new_code_cell(""),
    ]
    opened = open_notebook(nbformat.v4.new_notebook(cells=cells), width=900)
    opened.theme("light")
    opened.hide_sidebar()
    opened.run_all()
    assert opened.errors() == []
    return opened


def _by_name(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {o["name"]: o for o in objects}


def test_by_mouse(notebook: OpenNotebook) -> None:
    composer = notebook.composer()
    root = composer.root
    composer.settle()
    composer.shot("composer_empty_light")
    root.get_by_role("button", name="cat", exact=True).click()
    root.get_by_role("button", name="pizza", exact=True).click()
    expect(root.locator(".lc-object")).to_have_count(2)
    composer.settle()

    before = _by_name(composer.objects())["cat"]
    composer.drag("cat", -7, 13)
    expect(root.locator(".lc-notice")).to_contain_text("Cat: column")
    composer.settle()
    after = _by_name(composer.objects())["cat"]
    assert (after["x"], after["y"], after["side"]) == (
        before["x"] - 7,
        before["y"] + 13,
        before["side"],
    )

    composer.drag("pizza", 6, 6, handle="se")
    expect(root.locator(".lc-notice")).to_contain_text("50 pixels wide")
    composer.settle()
    composer.drag("pizza", 400, 400)
    expect(root.locator(".lc-notice")).to_contain_text("column 90, row 90")
    composer.settle()
    root.get_by_role("button", name="Undo").click()
    expect(root.locator(".lc-notice")).to_contain_text("Undone")
    composer.settle()

    # Ask; the first piece shows while the model is still at work and the kernel does other things.
    root.get_by_label("About").select_option("pizza")
    root.get_by_role("button", name="Left of …").click()
    assert (
        root.get_by_role("textbox", name="Question").input_value() == "What is left of the pizza?"
    )
    root.get_by_role("button", name="Ask").click()
    composer.status("thinking")
    live = root.locator(".lc-live")
    expect(live).to_have_attribute("data-pieces", "1")
    assert live.text_content() == "A "
    expect(root.get_by_role("button", name="Thinking…")).to_be_disabled()
    composer.shot("composer_thinking_light")
    assert notebook.kernel("released.set()") is None
    composer.status("done")
    assert live.text_content() == "A cat."
    assert live.locator("span").all_text_contents() == ["A ", "cat", "."]
    assert root.locator(".lc-numbers").inner_text().split("\n") == [
        *(
            "Tokens",
            "4",
            "Visual tokens",
            "25",
            "Vision",
            "0.021 s",
            "Prefill",
            "0.041 s",
            "Decode",
            "0.016 s",
        )
    ]
    expect(root.locator("[data-verdict]")).to_have_text("✓ Right")
    composer.shot("composer_answer_light")
    notebook.theme("dark")
    composer.shot("composer_answer_dark")

    # The scene moves on: the answer says that it is about another scene.
    composer.drag("cat", 20, -20)
    expect(root.locator(".lc-stale")).to_contain_text("changed since")
    root.get_by_label("Background").select_option("Night")
    root.get_by_label("Picture").select_option("168 × 112")
    expect(root.locator(".lc-notice")).to_contain_text("168 × 112")
    composer.settle()
    composer.shot("composer_wide_dark")


def test_by_keyboard_alone(notebook: OpenNotebook) -> None:
    composer = notebook.composer()
    root, page = composer.root, notebook.page
    cells = len(notebook.cells())
    search = root.get_by_label("Add an object")
    search.focus()
    for name in ("cat", "pizza"):
        page.keyboard.type(name)
        page.keyboard.press("Enter")
        expect(root.locator(".lc-object").filter(has_text=name)).to_have_count(1)
        page.keyboard.press("Control+a")
    page.keyboard.press("Delete")
    page.keyboard.press("ArrowDown")  # into the palette
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(composer.object("dog")).to_have_count(1)
    composer.settle()

    # Back with Shift+Tab to the objects, last one first.
    for _ in range(12):
        page.keyboard.press("Shift+Tab")
        if page.evaluate("() => document.activeElement.classList.contains('lc-object')"):
            break
    expect(composer.object("dog")).to_be_focused()
    page.keyboard.press("Delete")
    expect(composer.object("dog")).to_have_count(0)
    expect(composer.object("pizza")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    expect(composer.object("cat")).to_be_focused()

    before = _by_name(composer.objects())["cat"]
    for key in ("ArrowDown", "ArrowDown", "ArrowLeft", "Shift+ArrowUp", "+", "+", "-"):
        page.keyboard.press(key)
    expect(root.locator(".lc-notice")).to_contain_text(
        f"column {before['x'] - 2}, row {before['y'] - 7}, {before['side'] + 2} pixels"
    )
    composer.settle()
    expect(composer.object("cat")).to_be_focused()
    composer.shot("composer_keyboard_light")
    page.keyboard.press("Control+z")  # each key pressed by itself is a step of its own
    expect(root.locator(".lc-notice")).to_contain_text("Undone")
    composer.settle()
    assert _by_name(composer.objects())["cat"]["side"] == before["side"] + 4
    page.keyboard.press("Control+y")
    expect(root.locator(".lc-notice")).to_contain_text("Done again")
    composer.settle()
    page.keyboard.press("Control+z")
    expect(root.locator(".lc-notice")).to_contain_text("Undone")
    root.get_by_text("Keep this scene").click()
    assert root.locator(".lc-code").input_value() == composer.notebook.kernel(
        f"{composer.widget}.code"
    )
    with page.expect_download() as download:
        root.get_by_role("button", name="Save as PNG").click()
    saved = np.asarray(Image.open(download.value.path()).convert("RGB"))
    composer.settle()
    assert saved.tolist() == composer.notebook.kernel(
        f"__import__('numpy').asarray({composer.widget}.picture()).tolist()"
    )
    for theme in ("light", "dark"):
        composer.notebook.theme(theme)
        assert Axe().run(page, ".labkit-composer").response["violations"] == []
    composer.notebook.theme("light")
    composer.object("cat").focus()

    # Four is all: the fifth is refused in words, and still there is a way on.
    search.focus()
    for name in ("dog", "bee", "fish"):
        page.keyboard.type(name)
        page.keyboard.press("Enter")
        page.keyboard.press("Control+a")
    expect(root.locator(".lc-notice")).to_contain_text("Remove one to add another")
    expect(root.locator(".lc-object")).to_have_count(4)
    composer.settle()
    composer.shot("composer_full_light")

    # A question typed, and one that fails: the message shows, and the next question works.
    assert notebook.kernel("released.set()") is None
    words = root.get_by_role("textbox", name="Question")
    for question, status in (
        ("Where is the unicorn?", "failed"),
        ("What is left of the pizza?", "done"),
    ):
        words.focus()  # a change of theme may take it
        page.keyboard.press("Control+a")
        page.keyboard.type(question)
        page.keyboard.press("Enter")
        composer.status(status)
        expect(words).to_be_focused()
        if status == "failed":
            expect(root.locator(".lc-live")).to_contain_text("The model does not know this word.")
            assert "Traceback" not in root.inner_text()
            notebook.theme("dark")
            composer.shot("composer_failed_dark")
    assert root.locator(".lc-live").text_content() == "A cat."
    # No key was taken for a command of the notebook.
    assert len(notebook.cells()) == cells
    assert notebook.errors() == []


def test_a_learners_visit_then_a_second_view_shows_the_same(notebook: OpenNotebook) -> None:
    assert notebook.kernel("released.set()") is None
    composer = notebook.composer()
    assert composer.visit() == "A cat."
    composer.empty()
    added = "[composer.do('add', name=name) for name in ('cat', 'bee')]"
    assert notebook.kernel(f"{added} and [o['id'] for o in composer.stage['objects']]") == [3, 4]
    composer.settle()
    revision = notebook.kernel("composer.stage['revision']")
    notebook.page.evaluate(
        """async () => {
          const {content} = jupyterapp.shell.currentWidget;
          content.activeCellIndex = 2;
          content.activeCell.model.sharedModel.setSource("composer");
          await jupyterapp.commands.execute("notebook:run-cell");
        }"""
    )
    expect(composer.root).to_have_count(2)
    second = composer.root.nth(1)
    second.get_by_role("button", name="fish", exact=True).click()
    for view in (composer.root.nth(0), second):
        expect(view.locator(".lc-object")).to_have_count(3)
        expect(view.locator("canvas")).to_have_attribute("data-revision", str(revision + 1))
