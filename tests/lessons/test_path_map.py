"""The path: where the learner stands."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from urllib.parse import unquote

from labkit import lessons
from labkit.base import paths
from labkit.lessons import path_map
from labkit.lessons.catalogue import EXERCISES, QUIZZES
from labkit.lessons.path_map import PathMap
from labkit.lessons.store import Progress


def made_map(*done: str) -> PathMap:
    return PathMap(progress=Progress(done=frozenset(done)))


def picture(shown: PathMap) -> ET.Element:
    source = re.search(r'src="data:image/svg\+xml;charset=utf-8,([^"]+)"', shown._repr_html_())
    assert source
    return ET.fromstring(unquote(source[1]))


def test_the_path_says_where_the_learner_stands() -> None:
    shown = made_map("00", "00.1", "00.2", "02.2", "03", "99.9")
    assert {s.notebook[:2]: (s.state, s.words) for s in shown.stations} == {
        "00": ("done", "2 of 2 exercises, quiz done"),
        "01": ("open", "0 of 3 exercises, quiz open"),
        "02": ("begun", "1 of 3 exercises, quiz open"),
        "03": ("begun", "0 of 3 exercises, quiz done"),
        "04": ("open", "0 of 3 exercises, quiz open"),
        "05": ("open", "0 of 3 exercises, quiz open"),
        "06": ("open", "0 of 3 exercises, quiz open"),
        "07": ("open", "0 of 3 exercises, quiz open"),
        "08": ("open", "0 of 3 exercises, quiz open"),
    }
    assert shown.summary == "Your path: 1 of 9 notebooks done, 3 of 26 exercises solved."


def test_all_done_is_all_done() -> None:
    shown = made_map(*EXERCISES, *QUIZZES)
    assert {station.state for station in shown.stations} == {"done"}
    assert shown.summary == "Your path: 9 of 9 notebooks done, 26 of 26 exercises solved."


def test_the_path_as_picture_table_and_text() -> None:
    shown = made_map("00", "00.1", "00.2", "02.2")
    page = shown._repr_html_()
    drawing = picture(shown)
    space = "{http://www.w3.org/2000/svg}"
    assert drawing.findtext(f"{space}title") == shown.summary
    assert len(list(drawing.iter(f"{space}circle"))) == 9
    assert len(list(drawing.iter(f"{space}path"))) == 1, "one is half done"
    assert sum(text.text == "✔" for text in drawing.iter(f"{space}text")) == 1
    alt = re.search(r'<img alt="([^"]+)"', page)
    assert alt
    assert "Start here: 2 of 2 exercises, quiz done" in alt[1]
    assert '<a href="00_start_here.ipynb">00 Start here</a>' in page
    for station in shown.stations:
        assert station.notebook in str(shown)


def test_the_path_of_this_checkout() -> None:
    here = {path.stem for path in (paths.repository() / "notebooks").glob("*.ipynb")}
    assert here == set(path_map.NOTEBOOKS)
    assert {number[:2] for number in EXERCISES} == {name[:2] for name in here} == set(QUIZZES)


def test_labels_fit_their_places() -> None:
    groups = picture(lessons.progress()).iter("{http://www.w3.org/2000/svg}g")
    labels = [[t.text or "" for t in group if t.get("font-size") == "15"] for group in groups]
    assert [" ".join(lines) for lines in labels] == list(path_map.NOTEBOOKS.values())
    assert max(map(len, labels)) == 2
    assert max(len(line) for lines in labels for line in lines) <= 15
