"""The emoji world: scenes, questions about them, and the one right answer to each.

A scene is a background and one to four objects. Its rules make every question
that is asked have exactly one right answer:

* *left of / right of / above / below X*: X stands there once, and at most one object
  lies in the quarter of the plane on that side of X; none there is "Nothing.";
* lists run from left to right (by the leftmost copy of each kind);
* a pair is described with its left, or upper, object first.

A question whose answer would be ambiguous (two objects on a diagonal, two equal
left edges) has the answer `None` and is never asked in training or scoring.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from PIL import Image

from labkit.world.sprites import NAMES, sprite

RELATIONS = {"left_of": "left of", "right_of": "right of", "above": "above", "below": "below"}
WORDINGS: dict[str, tuple[str, ...]] = {
    "describe": ("Describe the image.", "What do you see?", "What is in the picture?"),
    "left_of": (
        "What is left of the {x}?",
        "What is to the left of the {x}?",
        "Which object is left of the {x}?",
    ),
    "right_of": (
        "What is right of the {x}?",
        "What is to the right of the {x}?",
        "Which object is right of the {x}?",
    ),
    "above": (
        "What is above the {x}?",
        "What do you see above the {x}?",
        "Which object is above the {x}?",
    ),
    "below": (
        "What is below the {x}?",
        "What do you see below the {x}?",
        "Which object is below the {x}?",
    ),
    "is_there": ("Is there {ax}?", "Do you see {ax}?", "Is there {ax} in the picture?"),
    "how_many": ("How many {xs} are there?", "How many {xs} do you see?", "Count the {xs}."),
    "which": ("Which objects are there?", "Name the objects.", "List all objects."),
    "where": ("Where is the {x}?", "In which part of the picture is the {x}?"),
}
TASKS: tuple[str, ...] = tuple(WORDINGS)
NUMBERS = ("Zero", "One", "Two", "Three", "Four")
ZONES = (
    ("Top left", "Top", "Top right"),
    ("Left", "Middle", "Right"),
    ("Bottom left", "Bottom", "Bottom right"),
)
PLURALS = {"fish": "fish", "butterfly": "butterflies"}
SIZES: tuple[tuple[int, int], ...] = (  # (height, width) in pixels, multiples of 28
    (112, 112), (112, 140), (140, 112), (84, 168), (168, 84), (140, 140), (112, 168), (168, 112),
)  # fmt: skip
MIN_SIDE, MAX_SIDE = 32, 52


@dataclass(frozen=True, kw_only=True)
class Placed:
    """One object in a scene: its name and its square, in pixels from the top left."""

    name: str
    x: int
    y: int
    side: int

    @property
    def centre(self) -> tuple[float, float]:
        """Column and row of the middle, in pixels."""
        return self.x + self.side / 2, self.y + self.side / 2


@dataclass(frozen=True, kw_only=True)
class Background:
    """How the ground is drawn: a colour, a second one, and a pattern between them."""

    colour: tuple[int, int, int] = (236, 240, 241)
    second: tuple[int, int, int] = (236, 240, 241)
    pattern: str = "plain"
    period: int = 16
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A picture before it is drawn."""

    height: int
    width: int
    objects: tuple[Placed, ...]
    background: Background = Background()

    def named(self, name: str) -> list[Placed]:
        """All objects of one kind."""
        return [o for o in self.objects if o.name == name]

    @property
    def kinds(self) -> list[str]:
        """The kinds in the scene, from left to right by the leftmost copy of each."""
        first = {o.name: o.centre[0] for o in sorted(self.objects, key=lambda o: -o.centre[0])}
        return sorted(first, key=lambda name: first[name])


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question in words, the one right answer, and what it asks."""

    task: str
    subject: str | None
    text: str
    answer: str


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
    if name in PLURALS:
        return PLURALS[name]
    return name + ("es" if name.endswith(("s", "x", "ch", "sh")) else "s")


def wording(task: str, subject: str | None = None, index: int = 0) -> str:
    """A question in words."""
    template = WORDINGS[task][index % len(WORDINGS[task])]
    if "{" not in template:
        return template
    if subject is None:
        raise ValueError(f"the task {task!r} asks about one object: give its name")
    return template.format(x=subject, ax=article(subject), xs=plural(subject))


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:] + "."


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _side_of(a: Placed, b: Placed) -> str | None:
    """On which side of ``a`` ``b`` lies; None on a diagonal."""
    dx, dy = b.centre[0] - a.centre[0], b.centre[1] - a.centre[1]
    if abs(dx) >= 1.35 * abs(dy) and abs(dx) > 12:
        return "right_of" if dx > 0 else "left_of"
    if abs(dy) >= 1.35 * abs(dx) and abs(dy) > 12:
        return "below" if dy > 0 else "above"
    return None


def _ordered(scene: Scene) -> bool:
    """True when the left-to-right order of kinds is beyond doubt."""
    columns = sorted(min(o.centre[0] for o in scene.named(kind)) for kind in scene.kinds)
    return all(right - left >= 9 for left, right in pairwise(columns))


def _describe(scene: Scene) -> str | None:
    kinds = scene.kinds
    if len(scene.objects) == 2 and len(kinds) == 2:
        a, b = sorted(scene.objects, key=lambda o: o.centre)
        side = _side_of(a, b)
        if side is None:
            return None
        if side == "above":  # b is above a
            a, b = b, a
        relation = "left of" if side == "right_of" else "above"
        return _sentence(f"{article(a.name)} {relation} {article(b.name)}")
    if not _ordered(scene):
        return None
    counts = [len(scene.named(kind)) for kind in kinds]
    return _sentence(
        _listed(
            [
                article(k) if n == 1 else f"{NUMBERS[n].lower()} {plural(k)}"
                for k, n in zip(kinds, counts, strict=True)
            ]
        )
    )


def _relation(scene: Scene, task: str, subject: str) -> str | None:
    if len(scene.named(subject)) != 1:
        return None
    centre = scene.named(subject)[0]
    sides = {o: _side_of(centre, o) for o in scene.objects if o is not centre}
    if None in sides.values():
        return None
    there = [o for o, side in sides.items() if side == task]
    if len(there) > 1:
        return None
    return _sentence(article(there[0].name)) if there else "Nothing."


def _where(scene: Scene, subject: str) -> str | None:
    if len(scene.named(subject)) != 1:
        return None
    x, y = scene.named(subject)[0].centre
    u, v = 3 * x / scene.width, 3 * y / scene.height
    if any(abs(w - edge) < 0.12 for w in (u, v) for edge in (1, 2)):
        return None
    return ZONES[min(int(v), 2)][min(int(u), 2)] + "."


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
    """
    if task not in WORDINGS:
        raise KeyError(f"{task!r} is not one of the tasks: {', '.join(TASKS)}")
    if not scene.objects or len(scene.objects) > 4:
        return None
    if task == "describe":
        return _describe(scene)
    if task == "which":
        return _sentence(", ".join(scene.kinds)) if _ordered(scene) else None
    if subject is None:
        raise ValueError(f"the task {task!r} asks about one object: give its name")
    if task == "is_there":
        return "Yes." if scene.named(subject) else "No."
    if task == "how_many":
        return NUMBERS[len(scene.named(subject))] + "." if scene.named(subject) else None
    if task == "where":
        return _where(scene, subject)
    return _relation(scene, task, subject)


# ---- drawing


@lru_cache(maxsize=4096)
def _layers(name: str, side: int) -> tuple[np.ndarray, np.ndarray]:
    rgba = np.asarray(sprite(name, side), np.float32)
    alpha = rgba[:, :, 3:] / 255
    return rgba[:, :, :3] * alpha, 1 - alpha


def _ground(scene: Scene) -> np.ndarray:
    b = scene.background
    rows, cols = np.mgrid[0 : scene.height, 0 : scene.width]
    if b.pattern == "plain":
        mix = np.zeros((scene.height, scene.width))
    elif b.pattern == "gradient":
        mix = (rows / scene.height + cols / scene.width) / 2
    elif b.pattern == "stripes":
        mix = ((cols + rows) // b.period) % 2
    elif b.pattern == "checks":
        mix = (cols // b.period + rows // b.period) % 2
    elif b.pattern == "dots":
        mix = (
            ((cols % b.period) - b.period / 2) ** 2 + ((rows % b.period) - b.period / 2) ** 2
        ) < (b.period / 3.5) ** 2
    elif b.pattern == "noise":
        mix = np.random.default_rng(b.seed).random((scene.height, scene.width))
    else:
        raise KeyError(f"{b.pattern!r} is not one of the patterns: {', '.join(PATTERNS)}")
    first, second = np.array(b.colour, np.float32), np.array(b.second, np.float32)
    return np.asarray(
        first + np.asarray(mix, np.float32)[:, :, None] * (second - first), np.float32
    )


PATTERNS = ("plain", "gradient", "stripes", "checks", "dots", "noise")


def render_array(scene: Scene) -> np.ndarray:
    """Draw a scene: (height, width, 3) uint8, RGB. Objects are cut at the border."""
    canvas = _ground(scene)
    for o in scene.objects:
        colour, keep = _layers(o.name, o.side)
        top, left = max(o.y, 0), max(o.x, 0)
        bottom, right = min(o.y + o.side, scene.height), min(o.x + o.side, scene.width)
        if bottom > top and right > left:
            cut = np.s_[top - o.y : bottom - o.y, left - o.x : right - o.x]
            canvas[top:bottom, left:right] = (
                canvas[top:bottom, left:right] * keep[cut] + colour[cut]
            )
    pixels: np.ndarray = np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
    return pixels


def render(scene: Scene) -> Image.Image:
    """Draw a scene as a picture."""
    return Image.fromarray(render_array(scene))


# ---- chance

_N = len(NAMES)


def _draw_held_out() -> frozenset[frozenset[str]]:
    pairs = [(a, b) for i, a in enumerate(NAMES) for b in NAMES[i + 1 :]]
    order = np.random.default_rng(20).permutation(len(pairs))
    return frozenset(frozenset(pairs[i]) for i in order[: len(pairs) // 10])


HELD_OUT_PAIRS: frozenset[frozenset[str]] = _draw_held_out()
"""One pair in ten: these two objects never stand together in a training scene."""


def has_held_out_pair(kinds: list[str]) -> bool:
    """True if two of these kinds are never together in training."""
    return any(
        frozenset((a, b)) in HELD_OUT_PAIRS for i, a in enumerate(kinds) for b in kinds[i + 1 :]
    )


def random_background(rng: np.random.Generator) -> Background:
    """A plain or softly patterned ground."""
    colour = rng.integers(40, 256, 3)
    second = np.clip(colour + rng.integers(-40, 41, 3), 0, 255)
    return Background(
        colour=(int(colour[0]), int(colour[1]), int(colour[2])),
        second=(int(second[0]), int(second[1]), int(second[2])),
        pattern=PATTERNS[int(rng.integers(len(PATTERNS)))] if rng.random() < 0.7 else "plain",
        period=int(rng.integers(8, 33)),
        seed=int(rng.integers(1 << 30)),
    )


def _kinds(rng: np.random.Generator, held_out: bool | None) -> list[str]:
    """Names of the objects of one scene: singles, pairs, more, or several of one kind."""
    if held_out:
        pair = [sorted(p) for p in sorted(map(sorted, HELD_OUT_PAIRS))][
            int(rng.integers(len(HELD_OUT_PAIRS)))
        ]
        more = [NAMES[int(i)] for i in rng.choice(_N, int(rng.choice([0, 0, 1, 2])), replace=False)]
        names = pair + [n for n in more if n not in pair]
    else:
        case = rng.random()
        if case < 0.30:  # several of one kind, maybe others beside them
            x, *others = (NAMES[int(i)] for i in rng.choice(_N, 3, replace=False))
            copies = int(rng.integers(2, 5))
            names = [x] * copies + others[: int(rng.integers(0, min(3, 5 - copies)))]
        else:
            count = 1 if case < 0.38 else 2 if case < 0.68 else 3 if case < 0.88 else 4
            names = [NAMES[int(i)] for i in rng.choice(_N, count, replace=False)]
        if held_out is False and has_held_out_pair(sorted(set(names))):
            return _kinds(rng, held_out)
    return [names[int(i)] for i in rng.permutation(len(names))]


def random_scene(
    rng: np.random.Generator, size: tuple[int, int] | None = None, held_out: bool | None = False
) -> Scene:
    """One scene at random.

    Parameters
    ----------
    rng
        Where chance comes from: the same state gives the same scene.
    size
        (height, width) in pixels; None picks one of ``SIZES``.
    held_out
        False: no held-out pair (training). True: at least one. None: as it comes.
    """
    height, width = size or SIZES[int(rng.integers(len(SIZES)))]
    names = _kinds(rng, held_out)
    if (
        len(names) == 2 and rng.random() < 0.7
    ):  # a pair beyond doubt: side by side, or one above the other
        placed = _place_pair(rng, height, width, names)
    else:
        placed = _place(rng, height, width, names)
    return Scene(
        height=height, width=width, objects=tuple(placed), background=random_background(rng)
    )


def _place_pair(
    rng: np.random.Generator, height: int, width: int, names: list[str]
) -> list[Placed]:
    across = rng.random() < (0.5 if height == width else 0.8 if width > height else 0.2)
    placed = []
    for name, third in zip(names, (0.27, 0.73), strict=True):
        side = int(rng.integers(MIN_SIDE, MAX_SIDE + 1))
        u, v = third + rng.uniform(-0.06, 0.06), rng.uniform(0.25, 0.75)
        x, y = (u, v) if across else (v, u)
        placed.append(
            Placed(
                name=name,
                x=int(np.clip(x * width - side / 2, 0, width - side)),
                y=int(np.clip(y * height - side / 2, 0, height - side)),
                side=side,
            )
        )
    return placed


def _place(rng: np.random.Generator, height: int, width: int, names: list[str]) -> list[Placed]:
    """Anywhere, as long as no two overlap by more than a sliver."""
    largest = MAX_SIDE
    while True:
        placed: list[Placed] = []
        for name in names:
            for _ in range(12):
                side = int(rng.integers(MIN_SIDE, largest + 1))
                new = Placed(
                    name=name,
                    x=int(rng.integers(0, width - side + 1)),
                    y=int(rng.integers(0, height - side + 1)),
                    side=side,
                )
                if all(_apart(new, old) for old in placed):
                    placed.append(new)
                    break
        if len(placed) == len(names):
            return placed
        largest = max(MIN_SIDE, largest - 4)


def _apart(a: Placed, b: Placed) -> bool:
    reach = 0.9 * (a.side + b.side) / 2
    return abs(a.centre[0] - b.centre[0]) >= reach or abs(a.centre[1] - b.centre[1]) >= reach


_WEIGHTS = {"describe": 4, "relation": 6, "is_there": 5, "how_many": 3, "which": 3, "where": 5}


def random_question(rng: np.random.Generator, scene: Scene) -> Question:
    """One question with one right answer about this scene."""
    families = list(_WEIGHTS)
    weights = np.array([_WEIGHTS[f] for f in families], float)
    while True:
        family = families[int(rng.choice(len(families), p=weights / weights.sum()))]
        kinds = scene.kinds
        subject: str | None = kinds[int(rng.integers(len(kinds)))]
        task = family
        if family == "relation":
            task = list(RELATIONS)[int(rng.integers(4))]
        elif family in ("describe", "which"):
            subject = None
        elif family == "is_there" and rng.random() < 0.5:
            subject = NAMES[int(rng.integers(_N))]
        answer = true_answer(scene, task, subject)
        if answer is None or (answer == "Nothing." and rng.random() < 0.75):
            continue
        if family == "how_many" and answer == "One." and rng.random() < 0.5:
            continue
        text = wording(task, subject, int(rng.integers(len(WORDINGS[task]))))
        return Question(task=task, subject=subject, text=text, answer=answer)
