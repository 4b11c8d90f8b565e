"""All exercises and quizzes that exist, by number: each module notebooks/exercises/lesson_*.py brings EXERCISES, QUIZ or both."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from labkit import paths
from labkit.lessons.exercise import Exercise
from labkit.lessons.quizzes import Quiz


def load(file: Path) -> ModuleType:
    """The module in a file that is part of no package."""
    spec = importlib.util.spec_from_file_location(f"notebooks.exercises.{file.stem}", file)
    assert spec and spec.loader  # every .py file has both
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


LESSONS = {file.stem: load(file) for file in sorted((paths.repository() / "notebooks" / "exercises").glob("lesson_*.py"))}
EXERCISES: dict[str, Exercise] = {exercise.id: exercise for lesson in LESSONS.values() for exercise in getattr(lesson, "EXERCISES", ())}
QUIZZES: dict[str, Quiz] = {lesson.QUIZ.id: lesson.QUIZ for lesson in LESSONS.values() if hasattr(lesson, "QUIZ")}
