"""All exercises and quizzes that exist, by number."""

from __future__ import annotations

from labkit.lessons import lesson_00, lesson_03
from labkit.lessons.exercise import Exercise
from labkit.lessons.quizzes import Quiz

EXERCISES: dict[str, Exercise] = {exercise.id: exercise for exercise in (*lesson_00.EXERCISES, *lesson_03.EXERCISES)}
QUIZZES: dict[str, Quiz] = {quiz.id: quiz for quiz in (lesson_00.QUIZ, lesson_03.QUIZ)}
