"""What the book is made of; ``python3 bootstrap.py book`` builds it and checks its links."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from labkit import cli
from labkit.lessons.catalogue import EXERCISES, QUIZZES, load
from labkit.lessons.path_map import NOTEBOOKS

FOLDER = Path(__file__).parents[2] / "notebooks"


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    module: ModuleType = load(FOLDER / "book" / "pages.py")
    return module


@pytest.fixture(scope="module")
def build() -> ModuleType:
    module: ModuleType = load(FOLDER / "book" / "build.py")
    return module


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_lesson_reads_well_without_a_kernel(pages: ModuleType, name: str) -> None:
    lesson = pages.lesson((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    html = "".join(
        output.data["text/html"]
        for cell in lesson.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "text/html" in output.get("data", {})
    )
    for exercise in EXERCISES.values():
        if exercise.id[:2] == name[:2]:
            total = len(exercise.hints)
            for i in range(1, total + 1):
                assert f"<details><summary>Hint {i} of {total}</summary>" in html
            assert f"One solution: {exercise.id}" in html
    questions = QUIZZES[name[:2]].questions
    assert html.count("<summary>Answers to question") == len(questions)
    assert ".ipynb" not in html
    for cell in lesson.cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                assert cell.metadata.mystnb.image.alt


def test_the_explorers_stand_where_the_lessons_have_theirs(pages: ModuleType) -> None:
    framed = {
        name[:2]: re.findall(
            r'<iframe class="explorer" src="explorers/(\w+)\.html" title="[^"]+"',
            str(pages.lesson((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))),
        )
        for name in NOTEBOOKS
    }
    assert {number: names for number, names in framed.items() if names} == {
        "03": ["similarity", "positions"],
        "04": ["attention", "ask"],
    }


def test_the_reference_has_every_command_and_every_room(pages: ModuleType) -> None:
    text = pages.commands()
    for summaries in cli.COMMANDS.values():
        for name in summaries:
            assert f"## `labkit {name}`" in text
            assert f"usage: labkit {name} [-h]" in text
    rooms = {path.stem for path in (FOLDER / "book" / "rooms").glob("*.md")}
    assert rooms == set(pages.ROOMS)
    assert ".. automodule:: labkit.inside.widget\n   :members:" in pages.room("inside")


def test_the_answer_key_is_the_exercises(pages: ModuleType) -> None:
    text = pages.answer_key()
    for exercise in EXERCISES.values():
        _, _, own = text.partition(f"### {exercise.heading}\n")
        own = own.partition("\n### ")[0]
        assert exercise.solution_source.strip() in own
        assert exercise.why_right in own
        assert all(words in own for _, words in exercise.mistakes.values())


GUIDE = (FOLDER / "workshop" / "instructor_guide.md").read_text(encoding="utf-8")
ROW = r"^\| (\d\d):(\d\d) \| (\d\d):(\d\d) \| (.*?) \| (\d+) \|$"


@pytest.mark.parametrize(("heading", "hours"), [("Half a day", 3.5), ("A whole day", 7.5)])
def test_the_schedules_add_up(heading: str, hours: float) -> None:
    _, _, text = GUIDE.partition(f"### {heading}\n")
    rows = re.findall(ROW, text.partition("\n#")[0], re.MULTILINE)
    end = 9 * 60
    for begin_h, begin_min, end_h, end_min, what, minutes in rows:
        assert 60 * int(begin_h) + int(begin_min) == end, f"a gap before {what}"
        end = 60 * int(end_h) + int(end_min)
        assert end == 60 * int(begin_h) + int(begin_min) + int(minutes), what
        if (lesson := re.search(r"\.\./(\w+)\)$", what)) and "parts" not in what:
            text = (FOLDER / f"{lesson[1]}.ipynb").read_text(encoding="utf-8")
            assert f"**About {minutes} minutes.**" in text
    assert end == (9 + hours) * 60


def test_the_guide_speaks_of_every_lesson() -> None:
    for name, title in NOTEBOOKS.items():
        _, _, part = GUIDE.partition(f"### {name[:2]} {title}\n")
        for point in ("Goal", "Usually wrong", "Ask", "Skip"):
            assert f"- **{point}:** " in part.partition("\n### ")[0], f"{name}: {point}"


def test_links_that_open_the_lab_lead_to_what_is_there(
    pages: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "](" not in pages.launches()
    monkeypatch.setattr(pages, "REPOSITORY", "ann/kit")
    text = pages.launches()
    assert text.count("ann/kit") == 3
    named = re.findall(r"notebooks/[\w/]+\.ipynb", text)
    assert len(named) == 2
    assert all((FOLDER.parent / name).is_file() for name in named)
    container = json.loads((FOLDER.parent / ".devcontainer" / "devcontainer.json").read_text())
    post_build = (FOLDER.parent / ".binder" / "postBuild").read_text(encoding="utf-8")
    for text in (container["updateContentCommand"], post_build):
        assert "labkit ask data/scenes/cat_and_pizza.png" in text, "the model is converted there"


def test_what_is_wrong_with_a_page_is_found(build: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.html").write_text('<h1 id="top">B</h1> <a href="../a.html">A</a>')
    (tmp_path / "a.html").write_text(
        '<a href="sub/b.html#top">right</a> <a href="#here">right</a> <p id="here">'
        '<a href="https://example.org">a link may</a> <img src="data:image/png;base64,x" alt="A">'
        '<a href="c.html">gone</a> <a href="sub/b.html#end">no such place</a>'
        '<img src="sub/b.html"> <script src="https://example.org/x.js"></script>'
    )
    assert sorted(build.faults(tmp_path)) == [
        "a.html: a picture without words: sub/b.html",
        "a.html: leads to c.html, which is not there",
        "a.html: leads to sub/b.html#end, a place that is not there",
        "a.html: loads https://example.org/x.js from a network",
    ]


def test_the_sources_link_to_files_that_exist() -> None:
    for page in FOLDER.rglob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            place = page.parent / target
            there = (place, place.with_suffix(".md"), place.with_suffix(".ipynb"))
            assert any(path.exists() for path in there), f"{page.name}: {target}"


def test_pages_are_built_only_where_the_tools_are(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build, "find_spec", lambda _: None)
    assert build.main() == 1
    assert "python3.11 bootstrap.py book" in capsys.readouterr().out
    assert sys.version_info >= (3, 10)
