"""The explorer without a browser: what fits, what is chosen, what shows where no widget can."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labkit.base.errors import ProbeError
from labkit.base.show import Picture
from labkit.inside import explorer, widget
from labkit.inside.attention import attention_pattern
from labkit.inside.looks import Inside
from labkit.inside.probes import Probe
from labkit.inside.widget import Explorer, Panel

STATIC = Picture(b"\x89PNG", "A figure.")
RNG = np.random.default_rng(0)
Q, K = RNG.standard_normal((2, 3, 2, 8, 4)).astype(np.float32)  # 3 layers, 2 heads, 8 places


def panel(**other: Any) -> Panel:
    fetch = other.pop("fetch", lambda layer: (Q[layer], K[layer]))
    return Panel(**{"name": "p", "fetch": fetch, **other})


def inside(rows: int = 2, cols: int = 4) -> Inside:
    pixels = np.zeros((rows * 14, cols * 14, 3), np.uint8)
    return Inside(name="i", layers=3, pixels=pixels, q={}, k={})


def make(*panels: Panel, **other: Any) -> Explorer:
    return Explorer(inside(), panels or (panel(),), static=STATIC, **other)


def test_the_map_is_that_of_the_formula() -> None:
    made = make(query=5, layer=2, head=1)
    assert np.allclose(made.values(), attention_pattern(Q[2], K[2])[1, 5].reshape(2, 4), atol=1e-6)
    cosine = make(panel(kind="cosine"), query=5, layer=2, head=1).values().ravel()
    by_hand = [
        K[2, 1, i] @ Q[2, 1, 5] / np.linalg.norm(K[2, 1, i]) / np.linalg.norm(Q[2, 1, 5])
        for i in range(8)
    ]
    assert np.allclose(cosine, by_hand, atol=1e-6)
    maps = RNG.random((2, 3, 8)).astype(np.float32)
    given = make(
        panel(kind="given", fetch=lambda _: (maps, np.empty((2, 0)))),
        layers=["L0"],
        words=["a", "cat", "."],
        query=1,
        head=1,
    )
    assert np.array_equal(given.values().ravel(), maps[1, 1])


@pytest.mark.parametrize("choice", [{"query": 8}, {"layer": 3}, {"head": -1}])
def test_a_choice_that_is_not_there(choice: dict[str, int]) -> None:
    name, value = next(iter(choice.items()))
    with pytest.raises(ProbeError, match=f"expected a {name} from 0 to"):
        make(**choice)
    made = make()
    with pytest.raises(ProbeError, match=f"expected a {name}"):
        setattr(made, name, value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"inside": inside(3, 4)},
        {"words": ["one"]},
        {"panels": ()},
        {"panels": (panel(), panel(fetch=lambda layer: (Q[layer, :1], K[layer, :1])))},
        {"panels": (panel(kind="guess"),)},
    ],
)
def test_what_does_not_fit_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ProbeError, match="expected panels alike"):
        Explorer(**{"inside": inside(), "panels": (panel(),), "static": STATIC, **wrong})


def test_layers_are_sent_at_once_if_small_else_when_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[tuple[dict[str, Any], list[bytes]]] = []
    monkeypatch.setattr(
        Explorer, "send", lambda _, content, buffers=None: sent.append((content, buffers))
    )
    made = make()
    made._on_message(made, {"do": "hello"}, {})
    assert [content["layer"] for content, _ in sent] == [0, 1, 2]
    assert sent[1][1] == [Q[1].tobytes(), K[1].tobytes()]
    monkeypatch.setattr(widget, "ALL_AT_ONCE_BYTES", 100)
    sent.clear()
    made = make(layer=1)
    made._on_message(made, {"do": "hello"}, {})
    made._on_message(made, {"do": "layers", "layers": [2]}, {})
    assert [content["layer"] for content, _ in sent] == [1, 2]


def test_new_words_replace_the_old_ones() -> None:
    def words_panel(count: int) -> Panel:
        return panel(
            kind="given",
            fetch=lambda _: (np.zeros((2, count, 8), np.float32), np.zeros((2, 0, 0), np.float32)),
        )

    made = make(words_panel(2), words=["a", "b"], query=1)
    made.show([words_panel(3)], ["a", "b", "c"])
    assert (made.spec["words"], made.spec["run"], made.query) == (["a", "b", "c"], 2, 2)


def kept(page: Path) -> dict[str, Any]:
    """What a saved page holds: the traits, and by layer its buffers as float32."""
    (text,) = re.findall(r'id="saved">(.*?)</script>', page.read_text(encoding="utf-8"))
    saved: dict[str, Any] = json.loads(text)
    saved["layers"] = [
        [np.frombuffer(base64.b64decode(data), np.float32) for data in layer]
        for layer in saved["layers"]
    ]
    return saved


def test_a_saved_page_holds_all_and_asks_nobody(tmp_path: Path) -> None:
    words = ["</script>", "b", "c", "d", "e", "f", "g", "h"]
    made = make(words=words, query=3, layer=2, head=1)
    page = made.save(tmp_path / "page.html")
    saved = kept(page)
    assert {name: saved["traits"][name] for name in ("query", "layer", "head")} == {
        "query": 3,
        "layer": 2,
        "head": 1,
    }
    assert saved["traits"]["spec"]["words"] == words
    for layer, (q, k) in enumerate(saved["layers"]):
        assert np.array_equal(q, Q[layer].ravel())
        assert np.array_equal(k, K[layer].ravel())
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"https?://|<link|@import|url\(|\bfetch\(|\bfrom ['\"]", text)
    assert "This page holds" not in text
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_a_saved_page_without_some_layers_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(layer=2)
    page = made.save(tmp_path / "two.html", layers=[2, 0])
    assert "This page holds L0, L2 of 3 layers" in page.read_text(encoding="utf-8")
    assert kept(page)["traits"]["layer"] == 1
    with pytest.raises(ProbeError, match="expected layers from 0 to 2, received 3"):
        made.save(tmp_path / "none.html", layers=[3])
    monkeypatch.setattr(widget, "IN_A_PAGE_BYTES", 100)
    page = made.save(tmp_path / "one.html")
    assert "This page holds L2 of 3 layers" in page.read_text(encoding="utf-8")
    assert np.array_equal(kept(page)["layers"][0][0], Q[2].ravel())
    assert not (tmp_path / "none.html").exists()


def test_where_no_widget_can_be_shown_the_figure_shows(mini_model: Any) -> None:
    with Probe(mini_model) as probe:
        look = probe.look(np.full((112, 140, 3), 90, np.uint8))
    for made in (
        explorer.attention(look),
        explorer.similarity(look),
        explorer.positions(look),
        explorer.attention(look, look),
    ):
        bundle = made._repr_mimebundle_()
        assert bundle is not None
        data, about = bundle
        assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
        assert about["image/png"]["alt"] == made.static.alt
        assert "application/vnd.jupyter.widget-view+json" in data
        assert made.static.alt in repr(made)
        assert made.values().shape == (8, 10)


def test_the_slider_says_what_a_size_costs(mini_model: Any) -> None:
    with Probe(mini_model) as probe:
        box = explorer.sizes(probe, np.full((60, 90, 3), 120, np.uint8))
        slider, shown, cost = box.children
        assert "168×112 pixels</b>: 8×12 = 96 patches, 24 visual tokens" in cost.value
        assert "9,216 pairs" in cost.value
        before = shown.value
        slider.value = 336
        assert "336×224 pixels</b>: 16×24 = 384 patches, 96 visual tokens" in cost.value
        assert shown.value != before


def test_words_that_arrive_one_by_one(mini_model: Any) -> None:
    shown: list[tuple[Explorer, int]] = []
    with Probe(mini_model) as probe:
        made = explorer.ask(
            probe,
            np.full((112, 112, 3), 200, np.uint8),
            "Is there a cat?",
            show=lambda e: shown.append((e, len(e.spec["words"]))),
        )
    assert [e for e, _ in shown] == [made]
    assert len(made.spec["words"]) > shown[0][1], "it was shown before the answer was whole"
    assert made.query == len(made.spec["words"]) - 1
    assert "No." in made.static.alt
