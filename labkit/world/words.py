"""The words of the emoji world: what can be asked, in which wordings, and how things are called.

What stands on a button for each task, and its wordings, are in ``words.json``.
"""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from labkit.base.errors import SceneError
from labkit.base.records import from_json
from labkit.world.scenes import NAMES, Scene, check_known

RELATIONS = {"left_of": "left of", "right_of": "right of", "above": "above", "below": "below"}
_WORDS = from_json(dict[str, dict[str, Any]], Path(__file__).with_suffix(".json").read_bytes())
LABELS: dict[str, str] = _WORDS["labels"]
WORDINGS: dict[str, list[str]] = _WORDS["wordings"]
TASKS = tuple(WORDINGS)
NUMBERS = ("zero", "one", "two", "three", "four")
PLURALS = {"fish": "fish", "butterfly": "butterflies"}


def needs_subject(task: str) -> bool:
    """True for a task that asks about one object."""
    return "{" in WORDINGS[task][0]


def check_question(task: str, subject: str | None) -> None:
    """Raise a SceneError unless this can be asked: a task, and an object where it is about one."""
    check_known(task, TASKS, "tasks")
    if needs_subject(task) and subject not in NAMES:
        raise SceneError(
            f"The task {task!r} asks about one object, but {subject!r} came. "
            "Give the name of one, such as 'cat'."
        )


def wording(task: str, subject: str | None = None, index: int = 0) -> str:
    """A question in words.

    Raises
    ------
    SceneError
        If there is no such task, or it asks about one object and none was named.
    """
    check_question(task, subject)
    template = WORDINGS[task][index % len(WORDINGS[task])]
    if not subject:
        return template
    return template.format(x=subject, ax=article(subject), xs=plural(subject))


@cache
def wordings() -> dict[str, dict[str, list[str]]]:
    """All wordings, by task and subject (``""`` where a task has none)."""
    return {
        task: {
            subject: [wording(task, subject, i) for i in range(len(variants))]
            for subject in (NAMES if needs_subject(task) else ("",))
        }
        for task, variants in WORDINGS.items()
    }


@cache
def _meanings() -> dict[str, tuple[str, str | None]]:
    return {
        _plain(question): (task, subject or None)
        for task, subjects in wordings().items()
        for subject, questions in subjects.items()
        for question in questions
    }


def _plain(question: str) -> str:
    return re.sub(r"[\s?.!]+", " ", question).strip().casefold()


def understand(question: str) -> tuple[str, str | None] | None:
    """The task and subject of a question in the world's own words, else None.

    >>> understand("what is left of the  pizza")
    ('left_of', 'pizza')
    """
    return _meanings().get(_plain(question))


def article(name: str) -> str:
    """``"a cat"``, ``"an apple"``.

    >>> article("apple"), article("cat")
    ('an apple', 'a cat')
    """
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def plural(name: str) -> str:
    """More than one of a kind.

    >>> plural("bus"), plural("cat"), plural("fish")
    ('buses', 'cats', 'fish')
    """
    ending = "es" if name.endswith(("s", "x", "ch", "sh")) else "s"
    return PLURALS.get(name, name + ending)


def sentence(words: str) -> str:
    """``"A cat."`` from ``"a cat"``."""
    return f"{words[0].upper()}{words[1:]}."


def listed(scene: Scene, numbers: Sequence[str] = NUMBERS) -> str:
    """What stands in the scene from left to right, such as ``"two cats and an apple"``."""
    counts = {kind: len(scene.named(kind)) for kind in scene.kinds}
    *others, last = (
        article(kind) if count == 1 else f"{numbers[count]} {plural(kind)}"
        for kind, count in counts.items()
    )
    return f"{', '.join(others)} and {last}" if others else last
