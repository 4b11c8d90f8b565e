"""The explorer in a real JupyterLab: what is drawn is what NumPy computes, drawn at once."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, expect

if TYPE_CHECKING:
    from conftest import OpenNotebook

pytestmark = pytest.mark.browser
MOST_DELAY_MS = 150

SET_UP = """
import labkit
from IPython.display import display
from labkit.inside import explorer
from labkit.proof.parity import examples
from labkit.inside.probes import Probe

model = labkit.open_model("mini")
probe = Probe(model)
picture, _ = examples()[1]  # 168 by 112: wider than high
look = probe.look(picture)
""".strip()
CELLS = {
    "attention": "one = explorer.attention(look)\none",
    "drift": "two = explorer.attention(look, look, difference=True, layer=2, head=1)\ntwo",
    "similarity": "alike = explorer.similarity(look)\nalike",
    "words": (
        "question = 'How many trees are there?'\n"
        "said = explorer.ask(probe, picture, question, show=display, layer=3, head=3)"
    ),
}


@pytest.fixture
def notebook(
    open_notebook: Callable[..., OpenNotebook], request: pytest.FixtureRequest
) -> OpenNotebook:
    cells = [nbformat.v4.new_code_cell(source) for source in (SET_UP, *CELLS.values())]
    opened = open_notebook(
        nbformat.v4.new_notebook(cells=cells),
        width=request.param if hasattr(request, "param") else 1100,
    )
    opened.theme("light")
    opened.hide_sidebar()
    opened.run_all()
    expect(opened.page.locator(".labkit-explorer")).to_have_count(len(CELLS))
    expect(opened.page.locator(".labkit-explorer[data-drawn]")).to_have_count(len(CELLS))
    assert opened.errors() == []
    return opened


def _drawn(root: Locator, panel: int = 0) -> list[float]:
    values = (
        root.locator("canvas[role=img]")
        .nth(panel)
        .evaluate("(canvas) => JSON.parse(canvas.dataset.values)")
    )
    assert isinstance(values, list)
    return values


def _agrees(notebook: OpenNotebook, root: Locator, name: str, panel: int = 0) -> None:
    """The browser's map is the kernel's, which NumPy computes, a moment after a choice."""
    end = time.monotonic() + 20
    while (chosen := notebook.kernel(f"[{name}.layer, {name}.head, {name}.query]")) != _chosen(
        root
    ):
        assert time.monotonic() < end, f"the kernel has {chosen}, the browser {_chosen(root)}"
    expected = notebook.kernel(f"{name}.values({panel}).ravel().tolist()")
    assert np.abs(np.array(_drawn(root, panel)) - expected).max() < 2e-5


def _chosen(root: Locator) -> list[int]:
    return [int(part) for part in (root.get_attribute("data-drawn") or "").split(",") if part]


def _point(root: Locator, row: int, col: int, rows: int, cols: int, *, click: bool = False) -> None:
    canvas = root.locator("canvas[role=img]").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box
    place = {"x": (col + 0.5) * box["width"] / cols, "y": (row + 0.5) * box["height"] / rows}
    if click:
        canvas.click(position=place)
    else:
        canvas.hover(position=place)


def test_attention_by_mouse_and_keyboard(
    notebook: OpenNotebook, capsys: pytest.CaptureFixture[str]
) -> None:
    root = notebook.page.locator(".labkit-explorer").nth(0)
    _agrees(notebook, root, "one")
    before = notebook.kernel("one.query")
    _point(root, 1, 9, 8, 12)
    expect(root.locator(".le-readout")).to_contain_text("Patch row 1, column 9")
    assert notebook.kernel("one.query") == before, "pointing chooses nothing"
    _point(root, 5, 8, 8, 12, click=True)
    _agrees(notebook, root, "one")
    assert notebook.kernel("one.query") == 5 * 12 + 8
    canvas = root.locator("canvas[role=img]").first
    for key, query in (("ArrowUp", 56), ("ArrowLeft", 55), ("ArrowDown", 67), ("ArrowRight", 68)):
        canvas.press(key)
        _agrees(notebook, root, "one")
        assert notebook.kernel("one.query") == query
    canvas.press("[")  # before L0H0 comes the last one
    _agrees(notebook, root, "one")
    assert notebook.kernel("[one.layer, one.head]") == [3, 3]
    root.get_by_label("Layer").select_option("1")
    root.get_by_label("Head").select_option("2")
    _agrees(notebook, root, "one")
    expect(root.locator(".le-readout")).to_contain_text("L1H2 looks most at")
    expect(canvas).to_have_attribute(
        "aria-label", root.locator(".le-readout").inner_text().rstrip(".")
    )

    delays = []
    for _ in range(48):  # each layer and head three times
        canvas.press("]")
        delays.append(float(root.get_attribute("data-delay") or "nan"))
    worst = statistics.quantiles(delays, n=20)[-1]
    with capsys.disabled():
        sys.stdout.write(
            "\nexplorer: a change of layer or head is drawn in "
            f"{statistics.median(delays):.1f} ms, p95 {worst:.1f} ms\n"
        )
    assert worst < MOST_DELAY_MS
    with notebook.page.expect_download() as download:
        root.get_by_role("button", name="Save as a page").click()
    assert notebook.kernel("one._page()") == Path(download.value.path()).read_text("utf-8")
    notebook.shot("explorer_attention_light")
    notebook.theme("dark")
    notebook.shot("explorer_attention_dark")


def test_drift_similarity_and_words(notebook: OpenNotebook) -> None:
    drift, alike, words = (notebook.page.locator(".labkit-explorer").nth(n) for n in (1, 2, 3))
    _agrees(notebook, drift, "two", 0)
    _agrees(notebook, drift, "two", 1)
    expect(drift.locator("figcaption")).to_have_text(
        ["int4 in MNN", "int4 in MNN", "difference, last − first"]
    )
    assert set(_drawn(drift, 2)) == {0}
    drift.scroll_into_view_if_needed()
    notebook.shot("explorer_drift")
    alike.scroll_into_view_if_needed()
    alike.get_by_label("Layer").select_option("4")
    _agrees(notebook, alike, "alike")
    assert max(_drawn(alike)) == pytest.approx(1, abs=1e-5), "a patch is most like itself"
    notebook.shot("explorer_similarity")

    expect(words.locator(".le-words button")).to_have_text(
        [*notebook.kernel("[w.strip() for w in said.spec['words']]")]
    )
    _agrees(notebook, words, "said")
    assert notebook.kernel("said.query") == notebook.kernel("len(said.spec['words']) - 1")
    word = words.get_by_role("option", name="trees")
    word.click()
    _agrees(notebook, words, "said")
    word.press("ArrowLeft")
    _agrees(notebook, words, "said")
    expect(words.get_by_role("option", name="many")).to_be_focused()
    expect(words.locator(".le-readout")).to_contain_text("“many”, L3H3 looks most at")
    words.scroll_into_view_if_needed()
    notebook.shot("explorer_words")
    for theme in ("light", "dark"):
        notebook.theme(theme)
        assert Axe().run(notebook.page, ".labkit-explorer").response["violations"] == []


@pytest.mark.parametrize("notebook", [560], indirect=True)
def test_in_a_narrow_window(notebook: OpenNotebook) -> None:
    for n, name in enumerate(CELLS):
        root = notebook.page.locator(".labkit-explorer").nth(n)
        root.scroll_into_view_if_needed()
        assert root.evaluate("(root) => root.scrollWidth <= root.clientWidth + 1"), name
    notebook.shot("explorer_narrow")
