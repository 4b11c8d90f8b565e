"""A learner's own picture in a real JupyterLab: chosen, pasted, dropped; both answers; by touch."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import TYPE_CHECKING

import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from labkit.base import paths

if TYPE_CHECKING:
    from conftest import OpenNotebook

pytestmark = pytest.mark.browser
SCENE = paths.data_dir() / "scenes" / "cat_and_pizza.png"
CELL = "from labkit.proof.own_picture import OwnPicture\nown = OwnPicture()\nown"
HAND_OVER = """
(node, [kind, text]) => {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const held = new DataTransfer();
  held.items.add(new File([bytes], "scene.png", {type: "image/png"}));
  const how = {bubbles: true, cancelable: true};
  node.dispatchEvent(kind === "paste"
    ? new ClipboardEvent("paste", {...how, clipboardData: held})
    : new DragEvent("drop", {...how, dataTransfer: held}));
}
"""


def test_chosen_pasted_dropped_and_asked(open_notebook: Callable[..., OpenNotebook]) -> None:
    notebook = open_notebook(
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)]), width=1100
    )
    notebook.hide_sidebar()
    notebook.run_all()
    assert notebook.errors() == []
    page, root = notebook.page, notebook.page.locator(".labkit-own")
    expect(root.locator(".lo-hint")).to_be_visible()
    notebook.shot("own_picture_empty")
    root.get_by_role("button", name="Ask").click()
    expect(root.get_by_role("status")).to_contain_text("there is none yet")

    content = base64.b64encode(SCENE.read_bytes()).decode()
    root.get_by_label("Choose a picture").set_input_files(
        {"name": "no.png", "mimeType": "image/png", "buffer": b"not a picture"}
    )
    expect(root.get_by_role("status")).to_contain_text("none of these. Save it as PNG")
    root.get_by_label("Choose a picture").set_input_files(SCENE)
    expect(root.locator(".lo-words")).to_contain_text("8×8 patches")
    for kind in ("paste", "drop"):
        notebook.kernel("own.show(__import__('numpy').zeros((56, 84, 3), 'uint8'))")
        expect(root.locator(".lo-words")).to_contain_text("84×56 pixels")
        root.locator(".lo-drop").evaluate(HAND_OVER, [kind, content])
        expect(root.locator(".lo-words")).to_contain_text("112×112 pixels")

    question = root.get_by_role("textbox", name="Question")
    question.fill("What is left of the pizza?")
    question.press("Enter")
    for engine in ("MNN", "transformers"):
        answer = root.locator(f"article[data-engine={engine}]")
        expect(answer.locator(".lc-live")).to_have_text("A cat.")
        expect(answer.locator(".lc-numbers")).to_contain_text("Tokens")
    expect(root.get_by_role("button", name="Ask")).to_be_visible()
    for theme in ("light", "dark"):
        notebook.theme(theme)
        notebook.shot(f"own_picture_{theme}")
        assert Axe().run(page, ".labkit-own").response["violations"] == []
    root.get_by_label("Ask the original, too").uncheck()
    question.press("Enter")
    expect(root.locator("article")).to_have_count(1)
    page.set_viewport_size({"width": 480, "height": 900})
    assert root.evaluate("(root) => root.scrollWidth <= root.clientWidth + 1")
    notebook.shot("own_picture_narrow")
    assert notebook.errors() == []
