"""The mechanism of the lessons: cards, attempts, progress, the path, quizzes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest

from labkit import lessons
from labkit.base import paths
from labkit.lessons import path_map, store
from labkit.lessons.cards import TEXT_WIDTH, Card, Fold, entries, inline, make_widget
from labkit.lessons.catalogue import EXERCISES, LESSONS, QUIZZES
from labkit.lessons.exercise import (
    Attempt,
    Diagnosis,
    Untried,
    describe,
    explain,
    is_empty,
    real_number,
    whole_number,
)
from labkit.lessons.store import Progress


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Progress of its own for every test, and no hints shown yet."""
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    monkeypatch.setattr(lessons, "_hints_shown", {})
    return tmp_path


def solved(number: str) -> Any:
    namespace: dict[str, Any] = {}
    exec(EXERCISES[number].solution_source, namespace)
    return namespace[EXERCISES[number].name]


def written(source: str, name: str = "answer", file: str = "<cell>") -> Any:
    """A learner's function, from a cell of its own."""
    import linecache

    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    namespace: dict[str, Any] = {"np": np}
    exec(compile(source, file, "exec"), namespace)
    return namespace[name]


def flat(text: object) -> str:
    """A text without its line breaks."""
    return " ".join(str(text).split())


# -- what a learner sees ------------------------------------------------------------------------------


def test_check_says_not_tried_wrong_right() -> None:
    assert str(lessons.check("00.1")).startswith("○ Not tried yet: 00.1 How many visual tokens?")
    wrong = str(lessons.check("00.1", lambda height, width: (height // 14) * (width // 14)))
    assert wrong.startswith("✘ Not right yet: 00.1")
    assert "You count patches" in wrong
    assert 'lessons.hint("00.1")' in wrong
    right = str(lessons.check("00.1", solved("00.1")))
    assert right.startswith("✔ Right: 00.1")
    assert EXERCISES["00.1"].why_right in flat(right)


def test_a_forgotten_return_is_told_from_an_empty_stub() -> None:
    forgotten = written(
        "def visual_tokens(height, width):\n    tokens = height * width // 784\n", "visual_tokens"
    )
    assert "`return` is missing" in flat(lessons.check("00.1", forgotten))
    empty = written('def visual_tokens(height, width):\n    """To do."""\n', "visual_tokens")
    assert "is missing" not in flat(lessons.check("00.1", empty))


def test_every_card_has_text_and_html() -> None:
    cards = [
        lessons.check("00.1"),
        lessons.check("00.1", 3),
        lessons.check("00.1", solved("00.1")),
        lessons.hint("00.1"),
        lessons.solution("00.1"),
        lessons.quiz("00"),
        lessons.progress(),
        lessons.reset(),
        lessons.restore(),
        lessons.check("no such"),
    ]
    for card in cards:
        bundle = card._repr_mimebundle_(include=None, exclude=None)
        assert bundle["text/plain"] == str(card) == repr(card)
        page = ET.fromstring(bundle["text/html"])  # every tag closed
        assert "".join(page.itertext()).strip()
        assert "<script" not in bundle["text/html"]
        assert "<svg" not in bundle["text/html"]  # pages that show notebooks drop it


@pytest.mark.parametrize("asked", ["02.9", "3.1", 3.1, None, "", "<b>", object])
def test_unknown_numbers_are_answered(asked: Any) -> None:
    for call in (lessons.check, lessons.hint, lessons.solution, lessons.quiz):
        text = str(call(asked))
        assert "Expected one of" in text
    assert "Did you mean `02.2`?" in " ".join(
        str(lessons.check("3.1")).split()
    )  # however its lines are broken
    assert "<b>" not in lessons.check("<b>")._repr_html_()


def test_hints_come_one_after_the_other() -> None:
    total = len(EXERCISES["02.2"].hints)
    for number in range(1, total + 1):
        card = lessons.hint("02.2")
        assert card.title.startswith(f"Hint {number} of {total}: 02.2")
        assert [fold.text for fold in card.folds] == list(EXERCISES["02.2"].hints[:number])
    assert str(lessons.hint("02.2")) == str(card)  # the last one stays
    assert 'lessons.solution("02.2")' in str(card)
    assert "Hint 1 of" in str(lessons.hint("02.1"))  # each exercise counts for itself


def test_the_first_hint_and_the_solution_are_folded() -> None:
    assert "<details><summary>Hint 1 of 3</summary>" in lessons.hint("00.1")._repr_html_()
    assert (
        '<details open="open"><summary>Hint 2 of 3</summary>' in lessons.hint("00.1")._repr_html_()
    )
    page = lessons.solution("00.1")._repr_html_()
    before, _, folded = page.partition("<details>")
    assert "def visual_tokens" not in before
    assert "def visual_tokens" in folded


def test_cards_escape_and_mark_code() -> None:
    card = Card(
        title="a < b",
        text="x `y < z` & more\n\nsecond",
        folds=(Fold(summary="s", code="if a < b:\n    c()"),),
    )
    page = card._repr_html_()
    assert "<strong>a &lt; b</strong>" in page
    assert "<p>x <code>y &lt; z</code> &amp; more</p><p>second</p>" in page
    assert "<pre><code>if a &lt; b:\n    c()</code></pre>" in page
    assert str(card) == "a < b\n\nx `y < z` & more\n\nsecond\n\ns\n\n    if a < b:\n        c()"
    assert inline("no code") == "no code"


def test_text_fits_an_output_cell() -> None:
    for exercise in EXERCISES.values():
        text = str(lessons.check(exercise.id, solved(exercise.id)))
        assert max(len(line) for line in text.splitlines()) <= TEXT_WIDTH


# -- a learner's function -----------------------------------------------------------------------------


def test_an_exception_names_itself_and_the_learners_line() -> None:
    answer = written(
        "def helper(x):\n    return x / 0\n\ndef answer(x):\n    y = x + 1\n    return helper(y)\n"
    )
    with pytest.raises(Diagnosis) as caught:
        Attempt(answer, "answer(x)")(3)
    assert (
        caught.value.text
        == "`answer(3)` stopped with `ZeroDivisionError`: division by zero, in line 2 of your cell: `return x / 0`."
    )


def test_an_exception_inside_numpy_points_at_the_learners_line() -> None:
    answer = written(
        "def answer(x):\n    y = x + 1\n    return np.zeros(2).reshape(7, 7) + np.linalg.inv(np.zeros((2, 3)))\n"
    )
    with pytest.raises(Diagnosis, match=r"`ValueError`.*in line 3 of your cell: `return np\.zeros"):
        Attempt(answer, "answer(x)")(3)
    answer = written("def answer(x):\n    return np.linalg.inv(np.zeros((2, 3)))\n")
    with pytest.raises(Diagnosis, match=r"`LinAlgError`.*in line 2 of your cell"):
        Attempt(answer, "answer(x)")(3)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("raise ValueError", "`ValueError`, in line 2"),
        ("raise ValueError('first\\nsecond')", "`ValueError`: first, in line 2"),
        ("raise KeyError(object())", "0x…"),
        ("raise SystemExit(3)", "`SystemExit`"),
        ("exit()", "`SystemExit`|`NameError`"),
        ("return answer(x)", "`RecursionError`"),
        ("assert x == 4, 'no'", "`AssertionError`: no"),
        ("return missing", "`NameError`: name 'missing' is not defined"),
        ("raise BaseException('odd')", "`BaseException`: odd"),
    ],
)
def test_whatever_is_raised_becomes_a_diagnosis(body: str, expected: str) -> None:
    answer = written(f"def answer(x):\n    {body}\n")
    with pytest.raises(Diagnosis, match=expected) as caught:
        Attempt(answer, "answer(x)")(3)
    assert caught.value.kind == "raised"
    assert not re.search(r"0x[0-9a-f]{4}", caught.value.text)


def test_the_stop_button_still_stops() -> None:
    answer = written("def answer(x):\n    raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        Attempt(answer, "answer(x)")(3)


def test_an_answer_that_bites_becomes_a_diagnosis() -> None:
    class Biting:
        def __eq__(self, other: object) -> bool:
            raise RuntimeError("ouch")

        __hash__ = None  # type: ignore[assignment]

        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError("ouch")

    for number in EXERCISES:
        card = str(lessons.check(number, lambda *arguments: Biting()))
        assert "Not right yet" in card


def test_parameters_are_checked_before_the_call() -> None:
    with pytest.raises(
        Diagnosis, match=r"called as `answer\(x, y\)`, received one with the parameters `\(x\)`"
    ):
        Attempt(lambda x: x, "answer(x, y)")(1, 2)
    assert Attempt(lambda *anything: 7, "answer(x, y)")(1, 2) == 7
    assert Attempt(max, "answer(x, y)")(1, 2) == 2  # tells no signature


def test_not_implemented_later_is_a_diagnosis() -> None:
    attempt = Attempt(
        written(
            "def answer(x):\n    if x == 1:\n        return 1\n    raise NotImplementedError\n"
        ),
        "answer(x)",
    )
    assert attempt(1) == 1
    with pytest.raises(Diagnosis, match="NotImplementedError"):
        attempt(2)
    attempt = Attempt(written("def answer(x):\n    if x == 1:\n        return 1\n"), "answer(x)")
    assert attempt(1) == 1
    with pytest.raises(Diagnosis, match="Does every branch"):
        attempt(2)
    with pytest.raises(Untried):
        Attempt(written("def answer(x):\n    raise NotImplementedError\n"), "answer(x)")(1)


def test_a_learner_cannot_change_our_data() -> None:
    block = np.arange(4.0)
    Attempt(written("def answer(x):\n    x[:] = 0\n    return 1\n"), "answer(x)")(block)
    assert block.tolist() == [0, 1, 2, 3]


def test_warnings_are_kept_and_not_shown() -> None:
    attempt = Attempt(
        written("def answer(x):\n    return np.float64(x) / np.float64(0)\n"), "answer(x)"
    )
    attempt(1)  # pytest turns a warning that gets out into a failure
    assert any("divide" in warning for warning in attempt.warnings)


def test_empty_bodies_are_recognised() -> None:
    for body in ("...", "pass", "'''text'''", "'''text'''\n    ...", "return None", "return ..."):
        assert is_empty(written(f"def answer(x):\n    {body}\n")), body
    for body in ("y = x", "return x", "print(x)"):
        assert not is_empty(written(f"def answer(x):\n    {body}\n")), body
    assert not is_empty(max)


def test_an_error_without_a_cell_has_no_line() -> None:
    assert explain(ValueError("plain")) == "`ValueError`: plain."


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.zeros((2, 3), np.float32), "an array of shape (2, 3), float32"),
        (np.float32(1.5), "the float32 `1.5`"),
        ("cat", "the str `'cat'`"),
        ((1, 2), "a tuple of 2"),
        (None, "a value of type `NoneType`"),
        (object(), "a value of type `object`"),
        ({"a": object()}, "the dict `{'a': <object object at 0x…>}`"),
    ],
)
def test_describe(value: object, words: str) -> None:
    assert describe(value) == words


def test_numbers() -> None:
    for good in (7, np.int32(7), np.array(7)):
        assert whole_number(good, "it") == 7
    with pytest.raises(Diagnosis, match=r"received the float `7\.0`.*divide with `//`"):
        whole_number(7.0, "it")
    for bad in (True, "7", None, np.zeros(2, int), [7]):
        with pytest.raises(Diagnosis, match="Expected it as a whole number"):
            whole_number(bad, "it")
    for good in (7, 7.0, np.float16(7), np.array([7.0])):
        assert real_number(good, "it") == 7.0
    for bad in (True, "7", None, np.zeros(2)):
        with pytest.raises(Diagnosis, match="Expected it as one number"):
            real_number(bad, "it")


def test_a_judge_never_raises() -> None:
    def broken(attempt: Attempt) -> None:
        raise RuntimeError("a fault of ours")

    verdict = replace(EXERCISES["00.1"], examine=broken).judge(max)
    assert (verdict.status, verdict.kind) == ("wrong", "unreadable")


# -- what the exercises are made of ----------------------------------------------------------------------


def test_every_lesson_file_is_found() -> None:
    files = {
        path.stem for path in (paths.repository() / "notebooks" / "exercises").glob("lesson_*.py")
    }
    assert set(LESSONS) == files >= {"lesson_00", "lesson_02"}
    for name, lesson in LESSONS.items():
        number = name.removeprefix("lesson_")
        assert [exercise.id for exercise in lesson.EXERCISES] == [
            known for known in EXERCISES if known.startswith(f"{number}.")
        ]
        assert all(EXERCISES[exercise.id] is exercise for exercise in lesson.EXERCISES)
        assert QUIZZES[number] is lesson.QUIZ


def test_a_lesson_that_is_added_is_found(tmp_path: Path) -> None:
    exercises = paths.repository() / "notebooks" / "exercises"
    copy = tmp_path / "checkout"
    shutil.copytree(
        paths.repository() / "labkit", copy / "labkit", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copytree(
        exercises, copy / "notebooks" / "exercises", ignore=shutil.ignore_patterns("__pycache__")
    )
    (copy / "data").mkdir()
    added = (
        (exercises / "lesson_00.py")
        .read_text(encoding="utf-8")
        .replace('"00', '"03')
        .replace("Quiz 00", "Quiz 03")
    )
    (copy / "notebooks" / "exercises" / "lesson_03.py").write_text(added, encoding="utf-8")
    code = "from labkit import lessons; print(lessons.check('03.2').title); print(lessons.quiz('03').title)"
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=copy,
        encoding="utf-8",
    )
    assert run.stdout.splitlines() == [
        "○ Not tried yet: 03.2 Read the prompt",
        "Quiz 03: before you set out",
    ]


def test_entries_are_lines_with_indented_lines_below() -> None:
    assert entries("\nfirst\n    says more,\n    and more\nsecond\n") == [
        ("first", "says more, and more"),
        ("second", ""),
    ]


def test_a_usual_mistake_must_explain_every_answer() -> None:
    mistakes = {
        "double": ("return 2 * x", "You double."),
        "other": ("return 0", "For {x} you give {answer}."),
        "float": ("return x / 1", ""),
    }
    attempt = Attempt(max, "answer(x)", mistakes)
    cases = [(1,), (2,), (3,)]
    with pytest.raises(Diagnosis, match="You double") as caught:
        attempt.misses(cases, [2, 4, 6], [1, 2, 3])
    assert caught.value.kind == "double"
    assert attempt.misses(cases, [2, 4, 7], [1, 2, 3]) == [((1,), 2, 1), ((2,), 4, 2), ((3,), 7, 3)]
    assert attempt.misses(cases, [0, 2, 0], [1, 2, 3]) == [((1,), 0, 1), ((3,), 0, 3)]
    assert attempt.misses(cases, [2, 4, 6], [2, 4, 6]) == []  # right answers are never a mistake
    assert str(attempt.wrong("other", x=1, answer=0)) == "For 1 you give 0."


# -- progress -----------------------------------------------------------------------------------------


def test_progress_grows_and_stays(home: Path) -> None:
    assert store.load() == Progress()
    lessons.check("00.1", solved("00.1"))
    lessons.check("00.1", lambda height, width: 0)  # wrong later does not take it away
    lessons.check("02.1", solved("02.1"))
    assert json.loads((home / "progress" / "progress.json").read_text()) == {
        "schema": 1,
        "exercises": ["00.1", "02.1"],
        "quizzes": [],
    }
    assert store.load().exercises == {"00.1", "02.1"}
    assert sorted(path.name for path in (home / "progress").iterdir()) == ["progress.json"]


def test_only_right_answers_write(home: Path) -> None:
    lessons.check("00.1")
    lessons.check("00.1", lambda height, width: 0)
    lessons.hint("00.1")
    lessons.solution("00.1")
    lessons.progress()
    assert not (home / "progress" / "progress.json").exists()


def test_what_a_later_version_recorded_is_kept() -> None:
    store.record(exercises=("07.1",), quizzes=("07",))
    lessons.check("00.1", solved("00.1"))
    assert store.load().exercises == {"00.1", "07.1"}
    assert "07" not in str(lessons.progress())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"[]",
        b"null",
        b'{"schema": 2, "exercises": [], "quizzes": []}',
        b'{"schema": 1, "exercises": "abc", "quizzes": []}',
        b'{"schema": 1, "exercises": [1], "quizzes": []}',
        b'{"schema": 1}',
        b"[" * 100_000,
    ],
    ids=range(10),
)
def test_a_corrupt_file_is_set_aside_unchanged(home: Path, content: bytes) -> None:
    path = paths.progress_dir() / "progress.json"
    path.write_bytes(content)
    card = str(lessons.check("00.1", solved("00.1")))
    assert card.startswith("✔ Right")
    assert "progress.unreadable-1.json" in card
    assert (home / "progress" / "progress.unreadable-1.json").read_bytes() == content
    assert store.load().exercises == {"00.1"}
    path.write_bytes(content)
    assert "progress.unreadable-2.json" in str(lessons.progress())
    assert (home / "progress" / "progress.unreadable-1.json").read_bytes() == content


def test_a_write_that_fails_leaves_the_old_file(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lessons.check("00.1", solved("00.1"))
    before = (home / "progress" / "progress.json").read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    card = str(lessons.check("02.1", solved("02.1")))
    assert card.startswith("✔ Right")
    assert "No space left on device" in card
    assert (home / "progress" / "progress.json").read_bytes() == before
    assert sorted(path.name for path in (home / "progress").iterdir()) == ["progress.json"]


def test_a_folder_that_cannot_be_made_does_not_stop_a_lesson(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "file").write_text("in the way")
    monkeypatch.setenv("LABKIT_HOME", str(home / "file"))
    for card in (
        lessons.check("00.1", solved("00.1")),
        lessons.progress(),
        lessons.reset(),
        lessons.restore(),
    ):
        assert "labkit doctor" in str(card)
    assert str(lessons.check("00.1", solved("00.1"))).startswith("✔ Right")


def test_a_file_that_cannot_be_read_is_not_written_over(home: Path) -> None:
    path = paths.progress_dir() / "progress.json"
    path.mkdir()  # reading a folder fails for every user, root too
    card = str(lessons.check("00.1", solved("00.1")))
    assert card.startswith("✔ Right")
    assert "could not be read" in card
    assert path.is_dir()


def test_reset_keeps_a_backup_and_restore_brings_it_back(home: Path) -> None:
    assert "Nothing to reset" in str(lessons.reset())
    assert "Nothing to restore" in str(lessons.restore())
    store.record(exercises=("00.1",), quizzes=("00",))
    card = str(lessons.reset())
    assert str(home / "progress" / "progress.backup-1.json") in card
    assert store.load() == Progress()
    store.record(exercises=("02.2",))
    assert "progress.backup-2.json" in str(lessons.reset())
    store.record(exercises=("02.1",))
    assert "exercises done: 2, quizzes done: 0" in str(
        lessons.restore()
    )  # the latest reset first, and what came after it
    assert "exercises done: 3, quizzes done: 1" in str(lessons.restore())
    assert "Nothing to restore" in str(lessons.restore())
    assert store.load() == Progress(
        exercises=frozenset({"00.1", "02.2", "02.1"}), quizzes=frozenset({"00"})
    )


def test_a_reset_begins_hints_anew() -> None:
    lessons.hint("00.1")
    lessons.reset()
    assert "Hint 1 of" in str(lessons.hint("00.1"))


def test_a_corrupt_backup_is_left_where_it_is(home: Path) -> None:
    backup = paths.progress_dir() / "progress.backup-1.json"
    backup.write_text("{")
    assert "Nothing was restored" in str(lessons.restore())
    assert backup.read_text() == "{"


# -- the path -----------------------------------------------------------------------------------------


HERE = ("00_start_here", "02_convert_qwen2_vl", "03_patch_embeddings")


def made_map(done: Progress, existing: tuple[str, ...] = HERE) -> path_map.PathMap:
    exercises = [
        number for number in EXERCISES if not number.startswith("03.")
    ]  # a notebook may have none
    return path_map.PathMap(
        stations=path_map.stations(
            exercises, [q for q in QUIZZES if q != "03"], done, frozenset(existing)
        )
    )


def test_the_path_says_where_the_learner_stands() -> None:
    done = Progress(
        exercises=frozenset({"00.1", "00.2", "02.2", "99.9"}), quizzes=frozenset({"00"})
    )
    found = {
        station.notebook[:2]: (station.state, station.words) for station in made_map(done).stations
    }
    assert found == {
        "00": ("done", "2 of 2 exercises, quiz done"),
        "01": ("to come", "to come"),
        "06": ("to come", "to come"),
        "02": ("begun", "1 of 3 exercises, quiz open"),
        "03": ("open", "to read"),
        "04": ("to come", "to come"),
        "05": ("to come", "to come"),
    }
    assert made_map(done).summary == "Your path: 1 of 3 notebooks done, 3 of 5 exercises solved."


def test_only_exercises_of_notebooks_that_exist_count() -> None:
    assert (
        made_map(Progress(), ("00_start_here",)).summary
        == "Your path: 0 of 1 notebooks done, 0 of 2 exercises solved."
    )


def test_the_path_as_picture_table_and_text() -> None:
    shown = made_map(
        Progress(exercises=frozenset({"00.1", "00.2", "02.2"}), quizzes=frozenset({"00"}))
    )
    page = shown._repr_html_()
    source = re.search(r'src="data:image/svg\+xml;charset=utf-8,([^"]+)"', page)
    assert source
    drawing = ET.fromstring(unquote(source[1]))
    space = "{http://www.w3.org/2000/svg}"
    assert drawing.findtext(f"{space}title") == shown.summary
    assert len(drawing.findall(f"{space}circle")) == 7
    assert (
        sum("stroke-dasharray" in circle.attrib for circle in drawing.findall(f"{space}circle"))
        == 4
    )
    assert sum(text.text == "✔" for text in drawing.findall(f"{space}text")) == 1
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
    for title in path_map.NOTEBOOKS.values():
        lines = path_map._two_lines(title)
        assert " ".join(lines) == title
        assert max(map(len, lines)) <= 15


# -- quizzes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quiz", QUIZZES.values(), ids=lambda quiz: quiz.id)
def test_a_quiz_without_a_kernel_has_folded_answers(quiz: Any) -> None:
    bundle = lessons.quiz(quiz.id)._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    page = bundle["text/html"]
    assert page.count("</details>") == len(quiz.questions)
    open_text = re.sub(r"<details.*?</details>", "", page)
    for question in quiz.questions:
        for option in question.options:
            assert inline(option.text) in open_text
            assert inline(option.why) not in open_text
            assert inline(option.why) in page


def test_a_quiz_is_done_when_every_question_was_right_once() -> None:
    pytest.importorskip("anywidget")
    quiz = QUIZZES["02"]
    places = [
        [option.right for option in question.options].index(True) for question in quiz.questions
    ]
    wrong = [(place + 1) % 3 for place in places]
    widget = make_widget(quiz)
    assert widget.message == ""
    widget.chosen = [places[0], None, None, None]
    assert widget.solved == [True, False, False, False]
    widget.chosen = [wrong[0], places[1], wrong[2], places[3]]  # right once is enough
    assert widget.solved == [True, True, False, True]
    widget.chosen = [99, -1, "x", None]  # whatever a browser sends
    assert widget.solved == [True, True, False, True]
    assert not store.load().quizzes
    widget.chosen = [None, None, places[2], None]
    assert store.load().quizzes == {"02"}
    assert "this quiz is done" in widget.message
    assert "finished this quiz before" in make_widget(quiz).message


# -- in a notebook ------------------------------------------------------------------------------------


def test_importing_lessons_is_light() -> None:
    heavy = "torch", "MNN", "ipywidgets", "anywidget", "IPython", "matplotlib", "transformers"
    code = f"import sys; from labkit import lessons; print([name for name in {heavy} if name in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=paths.repository(),
    )
    assert run.stdout.strip() == "[]"


CELLS = (
    "from labkit import lessons",
    EXERCISES["00.1"].stub_source,
    'lessons.check("00.1", visual_tokens)',
    'lessons.hint("00.1")',
    'lessons.solution("00.1")',
    "def visual_tokens(height, width):\n    rows = height // 28\n    return rows / 0",
    'lessons.check("00.1", visual_tokens)',
    'lessons.quiz("00")',
    "lessons.progress()",
)


def executed(home: Path) -> list[dict[str, Any]]:
    """What the cells show in a kernel, one bundle for each that shows something."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    environment = {**os.environ, "LABKIT_HOME": str(home), "PYTHONPATH": str(paths.repository())}
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute(env=environment)
    return [dict(output["data"]) for cell in notebook.cells for output in cell.get("outputs", [])]


def test_a_notebook_shows_the_same_in_every_fresh_home(home: Path) -> None:
    pytest.importorskip("nbclient")
    first, second = executed(home / "first"), executed(home / "second")
    view = "application/vnd.jupyter.widget-view+json"
    assert [view in bundle for bundle in first] == [False, False, False, False, True, False]
    for bundle in (*first, *second):
        bundle.pop(view, None)
    assert first == second
    for bundle in first:
        assert set(bundle) == {"text/plain", "text/html"}
        assert str(home) not in str(bundle)
        assert "ipykernel" not in str(bundle)
    assert "in line 3 of your cell: `return rows / 0`" in flat(first[3]["text/plain"])
