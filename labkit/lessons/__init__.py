"""Exercises that check themselves, hints, solutions, quizzes, and the progress along the path.

Nothing here raises: all is said in cards.

>>> from labkit import lessons
>>> print(lessons.check("00.1", None).title)
○ Not tried yet: 00.1 How many visual tokens?
"""

import difflib
from collections.abc import Iterable

from labkit.lessons import board, store
from labkit.lessons.cards import Card, Fold, Quiz
from labkit.lessons.catalogue import EXERCISES, QUIZZES
from labkit.lessons.path_map import PathMap
from labkit.lessons.store import Progress

__all__ = [
    "check",
    "hint",
    "progress",
    "quiz",
    "reset",
    "restore",
    "share",
    "solution",
    "unshare",
]
_hints_shown: dict[str, int] = {}  # in memory: a restarted notebook begins with the first again


def check(exercise_id: str, answer: object = None) -> Card:
    """Judge the learner's function for an exercise ("02.1").

    Says *not tried yet*, *right* with the why, or *wrong* with a diagnosis.
    """
    if not (exercise := EXERCISES.get(str(exercise_id))):
        return _unknown("exercise", exercise_id, EXERCISES)
    verdict = exercise.judge(answer)
    text = verdict.text
    if verdict.status in {"right", "wrong"}:
        board.note(exercise.id, solved=verdict.status == "right")
    if verdict.status == "right":
        title, text, more = "✔ Right", exercise.why_right, store.record(exercise.id).note
    elif verdict.status == "wrong":
        title = "✘ Not right yet"
        more = (
            "Change your cell, run it, then run this one again. "
            f'Stuck? `lessons.hint("{exercise.id}")`'
        )
    else:
        title = "○ Not tried yet"
        more = (
            f"Replace the body of `{exercise.name}` in the cell above, run that cell, then this "
            f"one. About {exercise.minutes} minutes."
        )
    text = f"{text}\n\n{more}"
    return Card(title=f"{title}: {exercise.heading}", text=text, tone=verdict.status)


def hint(exercise_id: str) -> Card:
    """Show the next hint of an exercise, and those shown before, folded."""
    if not (exercise := EXERCISES.get(str(exercise_id))):
        return _unknown("exercise", exercise_id, EXERCISES)
    total = len(exercise.hints)
    shown = _hints_shown[exercise.id] = min(_hints_shown.get(exercise.id, 0) + 1, total)
    board.note(exercise.id, hints=shown)
    # The very first hint stays folded: it is also what a reader of the executed notebook sees.
    folds = tuple(
        Fold(summary=f"Hint {i} of {total}", text=text, open=i == shown > 1)
        for i, text in enumerate(exercise.hints[:shown], 1)
    )
    more = "Run the cell again for the next one."
    if shown == total:
        more = f'The last one. After it comes `lessons.solution("{exercise.id}")`.'
    return Card(title=f"Hint {shown} of {total}: {exercise.heading}", text=more, folds=folds)


def solution(exercise_id: str) -> Card:
    """Show the solution of an exercise, folded, with its explanation."""
    if not (exercise := EXERCISES.get(str(exercise_id))):
        return _unknown("exercise", exercise_id, EXERCISES)
    fold = Fold(summary="Show the solution", text=exercise.why_right, code=exercise.solution_source)
    return Card(title=f"One solution: {exercise.heading}", folds=(fold,))


def quiz(quiz_id: str) -> Quiz | Card:
    """Show the quiz of a notebook: a widget where a kernel runs, else folded answers."""
    return QUIZZES.get(str(quiz_id)) or _unknown("quiz", quiz_id, QUIZZES)


def progress() -> PathMap:
    """Show the path through the notebooks with what is done."""
    return PathMap(progress=store.load())


def reset(lesson: str = "") -> Card:
    """Begin a lesson ("03") anew, or the whole path; `restore` brings back what you had."""
    if lesson and lesson not in QUIZZES:
        return _unknown("lesson", lesson, QUIZZES)
    for number in EXERCISES:
        if number.startswith(lesson):
            _hints_shown.pop(number, None)
    return _changed("reset", store.load(), store.reset(lesson))


def restore() -> Card:
    """Undo all resets; what was done since is kept too."""
    return _changed("restored", store.load(), store.restore())


def share(name: str = "") -> Card:
    """In a class: let the teacher see which exercises you tried and solved, and your hints.

    No answers, and no name unless you give one. `unshare` takes it all back.
    """
    try:
        entry = board.share(name)
    except OSError as error:
        text = f"The class's folder could not be written to ({error}). Tell your teacher."
        return Card(title="Nothing is shared", text=text, tone="wrong")
    if not entry:
        return Card(
            title="Nothing is shared",
            text="You are not in a class that has a board (LABKIT_BOARD is not set).",
        )
    return Card(
        title=f"You share as {entry.name or 'somebody'}",
        text="Your teacher sees which exercises you tried and solved, and how many hints you took: "
        "no answers. Take it back with `lessons.unshare()`.",
    )


def unshare() -> Card:
    """Take back what `share` shows the teacher."""
    try:
        board.unshare()
    except OSError as error:
        text = f"Your file could not be taken back ({error}). Tell your teacher."
        return Card(title="Still shared", text=text, tone="wrong")
    return Card(title="Nothing is shared", text="Your file is gone from the teacher's board.")


def _changed(what: str, before: Progress, after: Progress) -> Card:
    changed = before.done ^ after.done
    note = before.note or after.note
    if note or not changed:
        text = note or f"There is nothing that could be {what}."
        return Card(title=f"Nothing was {what}", text=text)
    listed = ", ".join(f"`{number}`" for number in sorted(changed))
    undo = "Undo with `lessons.restore()`." if before.done > after.done else ""
    return Card(title=f"Progress {what}", text=f"Of exercises and quizzes: {listed}. {undo}")


def _unknown(what: str, asked: object, known: Iterable[str]) -> Card:
    listed = ", ".join(f"`{name}`" for name in sorted(known))
    close = difflib.get_close_matches(str(asked), sorted(known), n=1)
    text = " ".join([f"Expected one of {listed}.", *(f"Did you mean `{name}`?" for name in close)])
    return Card(title=f"No {what} {str(asked)!r}", text=text, tone="wrong")
