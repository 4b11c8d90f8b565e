"""Exercises that check themselves, with hints and solutions, quizzes, and the progress along the path.

>>> from labkit import lessons
>>> print(lessons.check("00.1", None).title)
○ Not tried yet: 00.1 How many visual tokens?
"""

from labkit.lessons.desk import check, exercises, hint, progress, quiz, reset, restore, solution

__all__ = ["check", "exercises", "hint", "progress", "quiz", "reset", "restore", "solution"]
