"""The path: where the learner stands."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from urllib.parse import unquote

import pytest

from labkit import lessons
from labkit.base import paths
from labkit.lessons import path_map
from labkit.lessons.catalogue import EXERCISES, QUIZZES

HERE = ("00_start_here", "02_convert_qwen2_vl", "03_patch_embeddings")


def made_map(done: set[str], here: tuple[str, ...] = HERE) -> path_map.PathMap:
    known = [n for n in (*EXERCISES, *QUIZZES) if n[:2] != "03"]  # a notebook may have none
    return path_map.PathMap(stations=path_map.stations(known, done, here))


def picture(shown: path_map.PathMap) -> ET.Element:
    source = re.search(r'src="data:image/svg\+xml;charset=utf-8,([^"]+)"', shown._repr_html_())
    assert source
    return ET.fromstring(unquote(source[1]))


def test_the_path_says_where_the_learner_stands() -> None:
    done = {"00", "00.1", "00.2", "02.2", "99.9"}
    assert {s.notebook[:2]: (s.state, s.words) for s in made_map(done).stations} == {
        "00": ("done", "2 of 2 exercises, quiz done"),
        "01": ("to come", "to come"),
        "02": ("begun", "1 of 3 exercises, quiz open"),
        "03": ("open", "to read"),
        "04": ("to come", "to come"),
        "05": ("to come", "to come"),
        "06": ("to come", "to come"),
    }
    assert made_map(done).summary == "Your path: 1 of 3 notebooks done, 3 of 5 exercises solved."


def test_only_exercises_of_notebooks_that_exist_count() -> None:
    assert (
        made_map(set(), ("00_start_here",)).summary
        == "Your path: 0 of 1 notebooks done, 0 of 2 exercises solved."
    )


def test_the_path_as_picture_table_and_text() -> None:
    shown = made_map({"00", "00.1", "00.2", "02.2"})
    page = shown._repr_html_()
    drawing = picture(shown)
    space = "{http://www.w3.org/2000/svg}"
    assert drawing.findtext(f"{space}title") == shown.summary
    circles = drawing.findall(f".//{space}circle")
    assert len(circles) == 7
    assert sum("stroke-dasharray" in circle.attrib for circle in circles) == 4
    assert sum(text.text == "✔" for text in drawing.iter(f"{space}text")) == 1
    alt = re.search(r'<img alt="([^"]+)"', page)
    assert alt
    assert "Start here: 2 of 2 exercises, quiz done" in alt[1]
    assert '<a href="00_start_here.ipynb">00 Start here</a>' in page
    assert '01_build_mnn_with_kleidiai.ipynb"' not in page  # nothing to open yet
    for station in shown.stations:
        assert station.notebook in str(shown)


def test_the_path_of_this_checkout() -> None:
    here = {path.stem for path in (paths.repository() / "notebooks").glob("*.ipynb")}
    assert path_map.notebooks_here() == here
    assert here <= set(path_map.NOTEBOOKS)


def test_without_a_checkout_all_is_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise paths.FolderError("no checkout")

    monkeypatch.setattr(paths, "repository", nowhere)
    assert {station.state for station in lessons.progress().stations} == {"to come"}


def test_labels_fit_their_places() -> None:
    groups = picture(lessons.progress()).iter("{http://www.w3.org/2000/svg}g")
    labels = [[t.text or "" for t in group if t.get("font-size") == "15"] for group in groups]
    assert [" ".join(lines) for lines in labels] == list(path_map.NOTEBOOKS.values())
    assert max(map(len, labels)) == 2
    assert max(len(line) for lines in labels for line in lines) <= 15
