"""The lessons are the files that are there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from labkit.base import paths
from labkit.lessons.catalogue import EXERCISES, LESSONS, QUIZZES


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
    code = (
        "from labkit import lessons; "
        "print(lessons.check('03.2').title); print(lessons.quiz('03').title)"
    )
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
