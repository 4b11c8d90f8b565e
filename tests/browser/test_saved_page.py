"""An explorer that was saved: one file, opened from the disk, with no kernel and no network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, expect

from labkit.inside import explorer
from labkit.inside.probes import Probe
from labkit.inside.widget import Explorer
from labkit.proof.parity import examples
from labkit.proof.ready import open_model

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def explorers() -> dict[str, Explorer]:
    picture, _ = examples()[1]
    with open_model("mini") as model, Probe(model) as probe:
        look = probe.look(picture)
        return {"attention": explorer.attention(look), "patches": explorer.similarity(look)}


def agrees(root: Locator, made: Explorer, layer: int, head: int, query: int) -> None:
    """What the page draws is what NumPy computes for this choice."""
    made.layer, made.head, made.query = layer, head, query
    expect(root).to_have_attribute("data-drawn", f"{layer},{head},{query}")
    drawn = json.loads(root.locator("canvas[role=img]").get_attribute("data-values") or "[]")
    assert np.abs(np.array(drawn) - made.values().ravel()).max() < 2e-5


@pytest.mark.parametrize("name", ["attention", "patches"])
def test_it_works_from_the_disk(
    browser: Browser, explorers: dict[str, Explorer], tmp_path: Path, screenshots: Path, name: str
) -> None:
    made = explorers[name]
    query = made.query
    file = made.save(tmp_path / f"{name}.html")
    context = browser.new_context(viewport={"width": 700, "height": 500}, offline=True)
    page = context.new_page()
    troubles: list[str] = []
    asked: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda message: troubles.append(message.text))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    root = page.locator(".labkit-explorer")
    agrees(root, made, 0, 0, query)
    root.get_by_label("Layer").select_option("2")
    agrees(root, made, 2, 0, query)
    if name == "attention":
        root.get_by_label("Head").select_option("3")
        agrees(root, made, 2, 3, query)
    root.locator("canvas[role=img]").press("ArrowUp")
    agrees(root, made, 2, made.head, query - made.inside.cols)
    expect(root.get_by_role("button", name="Save as a page")).to_be_hidden()
    with page.expect_download() as download:
        root.get_by_role("button", name="Save as a picture").click()
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")
    assert Axe().run(page).response["violations"] == []
    page.screenshot(path=screenshots / f"saved_{name}.png")
    assert troubles == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    context.close()
