"""Questions about a scene: what can be asked, in which words, and the one right answer.

What stands on a button for each task, and its wordings, are in ``questions.json``.

The world's rules make every question that is asked have exactly one right answer:

* *left of / right of / above / below X*: X stands there once, and at most one object
  lies in the quarter of the plane on that side of X; none there is "Nothing.";
* lists run from left to right (by the leftmost copy of each kind);
* a pair is described with its left, or upper, object first.

A question whose answer would be ambiguous (two objects on a diagonal, two equal
left edges) has the answer `None` and is never asked in training or scoring.
"""

import re
from collections.abc import Sequence
from functools import cache
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

from labkit.base.errors import SceneError
from labkit.base.records import from_json
from labkit.world.scenes import MOST, NAMES, Placed, Scene, check_known

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


ZONES = (
    ("top left", "top", "top right"),
    ("left", "middle", "right"),
    ("bottom left", "bottom", "bottom right"),
)


def true_answer(scene: Scene, task: str, subject: str | None = None) -> str | None:
    """The one right answer, or None where the world's rules leave it open.

    Parameters
    ----------
    scene
        What is in the picture.
    task
        One of ``TASKS``.
    subject
        The object asked about; not used by ``describe`` and ``which``.

    Raises
    ------
    SceneError
        If there is no such task, or it asks about one object and none was named.
    """
    check_question(task, subject)
    if not 0 < len(scene.objects) <= MOST:
        return None
    words = _answer(scene, task, scene.named(subject))
    return sentence(words) if words else None


def judge(scene: Scene, question: str, text: str) -> tuple[str, str]:
    """What the world's rules say about an answer: a word and a sentence."""
    meaning = understand(question)
    if meaning is None:
        return "Your own words", "The rules of this world know no answer to compare with."
    right = true_answer(scene, *meaning)
    if right is None:
        return "Open", "The rules leave this open: as the scene stands, no answer is beyond doubt."
    verdict = "Right" if text.strip() == right else "Wrong"
    return verdict, f"By the rules of this world the answer is “{right}”"


def _answer(scene: Scene, task: str, copies: list[Placed]) -> str | None:
    match task, copies:
        case "describe", _:
            return _description(scene)
        case "which", _:
            return ", ".join(scene.kinds) if _in_order(scene) else None
        case "is_there", _:
            return "yes" if copies else "no"
        case "how_many", [_, *_]:
            return NUMBERS[len(copies)]
        case "where", [only]:
            return _zone(scene, only)
        case _, [only] if task in RELATIONS:
            return _neighbour(scene, task, only)
    return None


def _description(scene: Scene) -> str | None:
    if len(scene.objects) == len(scene.kinds) == 2:
        for one, other in permutations(scene.objects):
            side = _side_of(other, one)
            if side in ("left_of", "above"):
                return f"{article(one.name)} {RELATIONS[side]} {article(other.name)}"
        return None
    return listed(scene) if _in_order(scene) else None


def _in_order(scene: Scene) -> bool:
    """True when the left-to-right order of kinds is beyond doubt."""
    return all(right - left >= 9 for left, right in pairwise(scene.columns.values()))


def _neighbour(scene: Scene, task: str, centre: Placed) -> str | None:
    sides = [(_side_of(centre, o), o.name) for o in scene.objects if o is not centre]
    names = [name for side, name in sides if side == task]
    if len(names) > 1 or any(side is None for side, _ in sides):
        return None
    return article(names[0]) if names else "nothing"


def _side_of(centre: Placed, o: Placed) -> str | None:
    """On which side of ``centre`` the other lies; None on a diagonal."""
    (x, y), (u, v) = centre.centre, o.centre
    across, down = abs(u - x), abs(v - y)
    if across >= 1.35 * down and across > 12:
        return "right_of" if u > x else "left_of"
    if down >= 1.35 * across and down > 12:
        return "below" if v > y else "above"
    return None


def _zone(scene: Scene, o: Placed) -> str | None:
    thirds = [3 * at / side for at, side in zip(o.centre, scene.size, strict=True)]
    if any(abs(third - edge) < 0.12 for third in thirds for edge in (1, 2)):
        return None
    column, row = (min(int(third), 2) for third in thirds)
    return ZONES[row][column]
