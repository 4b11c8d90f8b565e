"""Exercises that check themselves, hints, solutions, quizzes, and the progress along the path. Nothing here raises: all is said in cards.

>>> from labkit import lessons
>>> print(lessons.check("00.1", None).title)
○ Not tried yet: 00.1 How many visual tokens?
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from labkit.lessons import path_map, store
from labkit.lessons.cards import Card, Fold, Quiz
from labkit.lessons.catalogue import EXERCISES, QUIZZES
from labkit.lessons.path_map import PathMap

__all__ = ["check", "hint", "progress", "quiz", "reset", "restore", "solution"]
DOCTOR = "`labkit doctor` looks at the folders."
_hints_shown: dict[
    str, int
] = {}  # in memory: a restarted notebook begins with the first hint again


def check(exercise_id: str, answer: object = None) -> Card:
    """Say of the learner's function for an exercise ("02.1"): *not tried yet*, *right* with the why, or *wrong* with a diagnosis."""
    if not (exercise := EXERCISES.get(str(exercise_id))):
        return _unknown("exercise", exercise_id, EXERCISES)
    verdict = exercise.judge(answer)
    name = f"{exercise.id} {exercise.title}"
    if verdict.status == "right":
        note = store.record(exercises=[exercise.id]).note
        return Card(title=f"✔ Right: {name}", text=f"{exercise.why_right}\n\n{note}", tone="right")
    if verdict.status == "not tried":
        todo = f"Replace the body of `{exercise.name}` in the cell above, run that cell, then this one. About {exercise.minutes} minutes."
        return Card(title=f"○ Not tried yet: {name}", text=f"{verdict.text}\n\n{todo}")
    stuck = (
        f'Change your cell, run it, then run this one again. Stuck? `lessons.hint("{exercise.id}")`'
    )
    return Card(title=f"✘ Not right yet: {name}", text=f"{verdict.text}\n\n{stuck}", tone="wrong")


def hint(exercise_id: str) -> Card:
    """Show the next hint of an exercise, and those shown before, folded."""
    if not (exercise := EXERCISES.get(str(exercise_id))):
        return _unknown("exercise", exercise_id, EXERCISES)
    total = len(exercise.hints)
    shown = _hints_shown[exercise.id] = min(_hints_shown.get(exercise.id, 0) + 1, total)
    # The very first hint stays folded: it is also what a reader of the executed notebook sees.
    folds = [
        Fold(summary=f"Hint {i} of {total}", text=text, open=i == shown > 1)
        for i, text in enumerate(exercise.hints[:shown], 1)
    ]
    more = (
        "Run the cell again for the next one."
        if shown < total
        else f'The last one. After it comes `lessons.solution("{exercise.id}")`.'
    )
    return Card(
        title=f"Hint {shown} of {total}: {exercise.id} {exercise.title}",
        text=more,
        folds=tuple(folds),
    )


def solution(exercise_id: str) -> Card:
    """Show the solution of an exercise, folded, with its explanation."""
    if not (exercise := EXERCISES.get(str(exercise_id))):
        return _unknown("exercise", exercise_id, EXERCISES)
    fold = Fold(summary="Show the solution", text=exercise.why_right, code=exercise.solution_source)
    return Card(title=f"One solution: {exercise.id} {exercise.title}", folds=(fold,))


def quiz(quiz_id: str) -> Quiz | Card:
    """Show the quiz of a notebook: a widget where a kernel runs, else questions with folded answers."""
    return QUIZZES.get(str(quiz_id)) or _unknown("quiz", quiz_id, QUIZZES)


def progress() -> PathMap:
    """Show the path through the notebooks with what is done."""
    done = store.load()
    return PathMap(
        stations=path_map.stations(EXERCISES, QUIZZES, done, path_map.notebooks_here()),
        note=done.note,
    )


def reset() -> Card:
    """Begin anew. The progress so far is kept in a backup file; `restore` brings it back."""
    _hints_shown.clear()
    try:
        backup = store.move_away()
    except Exception as error:  # noqa: BLE001 - a learner gets a card, whatever the file system says
        return Card(
            title="Nothing was reset",
            text=f"{type(error).__name__}: {error}. {DOCTOR}",
            tone="wrong",
        )
    if backup is None:
        return Card(title="Nothing to reset", text="There is no progress yet.")
    return Card(
        title="Progress reset",
        text=f"What you had is kept in `{backup}`. Undo with `lessons.restore()`.",
    )


def restore() -> Card:
    """Undo the latest reset; what was done since is kept too."""
    try:
        restored = store.bring_back()
    except Exception as error:  # noqa: BLE001 - as above
        return Card(
            title="Nothing was restored",
            text=f"{type(error).__name__}: {error}. {DOCTOR}",
            tone="wrong",
        )
    if restored is None:
        return Card(
            title="Nothing to restore",
            text="There is no backup: no reset was made, or it was undone already.",
        )
    backup, done = restored
    counts = f"exercises done: {len(done.exercises)}, quizzes done: {len(done.quizzes)}."
    return Card(title="Progress restored", text=f"From `{backup.name}`: {counts}\n\n{done.note}")


def _unknown(what: str, asked: object, known: Iterable[str]) -> Card:
    meant = "".join(
        f" Did you mean `{name}`?"
        for name in difflib.get_close_matches(str(asked), sorted(known), n=1)
    )
    listed = ", ".join(f"`{name}`" for name in sorted(known))
    return Card(
        title=f"No {what} {str(asked)!r}", text=f"Expected one of {listed}.{meant}", tone="wrong"
    )
