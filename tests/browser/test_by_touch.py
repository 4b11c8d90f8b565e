"""The widgets by touch alone: a tap places and chooses, a finger drags."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import nbformat
import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from conftest import OpenNotebook

pytestmark = pytest.mark.browser
COMPOSER = "from labkit.world.composer import Composer\nComposer(lambda *_, **__: 'A cat.')"
EXPLORER = """
import numpy as np
import labkit
from labkit.inside import explorer, probes

look = probes.Probe(labkit.open_model("mini")).look(np.zeros((112, 112, 3), np.uint8))
one = explorer.attention(look)
one
""".strip()


def test_a_tap_places_asks_and_chooses_and_a_finger_drags(
    open_notebook: Callable[..., OpenNotebook],
) -> None:
    cells = [nbformat.v4.new_code_cell(source) for source in (COMPOSER, EXPLORER)]
    notebook = open_notebook(nbformat.v4.new_notebook(cells=cells), width=900, touch=True)
    notebook.hide_sidebar()
    notebook.run_all()
    page, composer = notebook.page, notebook.composer()
    composer.root.get_by_role("button", name="cat", exact=True).tap()
    expect(composer.root.locator(".lc-object")).to_have_count(1)
    composer.settle()

    cat, before = composer.object("cat"), composer.objects()[0]
    cat.scroll_into_view_if_needed()
    box = cat.bounding_box()
    assert box
    finger = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    touch = page.context.new_cdp_session(page)
    for kind, by in (("touchStart", 0), ("touchMove", 15), ("touchMove", 30), ("touchEnd", None)):
        points = [] if by is None else [{"x": finger["x"] - by, "y": finger["y"] - by}]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    expect(composer.root.locator(".lc-notice")).to_contain_text("Cat: column")
    composer.settle()
    after = composer.objects()[0]
    assert (after["x"], after["y"]) == (before["x"] - 10, before["y"] - 10)

    composer.root.get_by_role("button", name="Describe").tap()
    composer.root.get_by_role("button", name="Ask").tap()
    composer.status("done")
    expect(composer.root.locator(".lc-live")).to_have_text("A cat.")

    canvas = page.locator(".labkit-explorer canvas[role=img]").first
    canvas.scroll_into_view_if_needed()
    size = canvas.bounding_box()
    assert size
    canvas.tap(position={"x": size["width"] * 2.5 / 8, "y": size["height"] * 6.5 / 8})
    expect(page.locator(".le-readout")).to_contain_text("Patch row 6, column 2")
    assert notebook.kernel("one.query") == 6 * 8 + 2
    assert notebook.errors() == []
