"""All exercises and quizzes, by number: each notebooks/exercises/lesson_*.py brings its own."""

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
    # Dataclasses look their module up there.
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FOLDER = paths.repository() / "notebooks" / "exercises"
LESSONS = {file.stem: load(file) for file in sorted(FOLDER.glob("lesson_*.py"))}
EXERCISES: dict[str, Exercise] = {
    exercise.id: exercise for lesson in LESSONS.values() for exercise in lesson.EXERCISES
}
QUIZZES: dict[str, Quiz] = {lesson.QUIZ.id: lesson.QUIZ for lesson in LESSONS.values()}
