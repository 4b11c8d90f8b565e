"""All exercises and quizzes that exist, by number: each module notebooks/exercises/lesson_*.py brings EXERCISES, a QUIZ or both."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

from labkit.base import paths
from labkit.lessons.cards import Quiz
from labkit.lessons.exercise import Exercise


def load(file: Path) -> Any:
    """The module in a file that belongs to no package."""
    spec: Any = importlib.util.spec_from_file_location(f"notebooks.exercises.{file.stem}", file)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(
        spec
    )  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


LESSONS = {
    file.stem: load(file)
    for file in sorted((paths.repository() / "notebooks" / "exercises").glob("lesson_*.py"))
}
EXERCISES: dict[str, Exercise] = {
    exercise.id: exercise
    for lesson in LESSONS.values()
    for exercise in getattr(lesson, "EXERCISES", ())
}
QUIZZES: dict[str, Quiz] = {
    lesson.QUIZ.id: lesson.QUIZ for lesson in LESSONS.values() if hasattr(lesson, "QUIZ")
}
