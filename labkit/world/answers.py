"""The one right answer to each question about a scene.

The world's rules make every question that is asked have exactly one right answer:

* *left of / right of / above / below X*: X stands there once, and at most one object
  lies in the quarter of the plane on that side of X; none there is "Nothing.";
* lists run from left to right (by the leftmost copy of each kind);
* a pair is described with its left, or upper, object first.

A question whose answer would be ambiguous (two objects on a diagonal, two equal
left edges) has the answer `None` and is never asked in training or scoring.
"""

from itertools import pairwise, permutations

from labkit.world.scenes import MOST, Placed, Scene
from labkit.world.words import (
    NUMBERS,
    RELATIONS,
    article,
    check_question,
    listed,
    sentence,
    understand,
)

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
