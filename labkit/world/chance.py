"""Scenes and questions at random: the same state of the generator gives the same ones."""

from bisect import bisect
from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations, islice

import numpy as np

from labkit.base.data import frozen
from labkit.world.questions import RELATIONS, WORDINGS, needs_subject, true_answer, wording
from labkit.world.scenes import (
    MAX_SIDE,
    MIN_SIDE,
    NAMES,
    PATTERNS,
    SIZES,
    Background,
    Placed,
    Scene,
)

PAIRS = tuple(combinations(NAMES, 2))
HELD_OUT_PAIRS = frozenset(
    map(frozenset, np.random.default_rng(20).permutation(PAIRS)[: len(PAIRS) // 10].tolist())
)
"""One pair in ten: these two objects never stand together in a training scene."""
WEIGHTS = {"describe": 4, "relation": 6, "is_there": 5, "how_many": 3, "which": 3, "where": 5}
"""How often each kind of question is asked, out of the sum."""
LEFT_OUT = {"Nothing.": 0.75, "One.": 0.5}
"""The share of the commonest answers whose question is dropped, so that others are heard too."""


@frozen
class Question:
    """A question in words, the one right answer, and what it asks."""

    task: str
    subject: str | None
    text: str
    answer: str


def has_held_out_pair(kinds: Iterable[str]) -> bool:
    """True if two of these kinds are never together in training."""
    return any(frozenset(pair) in HELD_OUT_PAIRS for pair in combinations(kinds, 2))


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
    height, width = size or SIZES[rng.integers(len(SIZES))]
    empty = Scene(height=height, width=width)
    names = _names(rng, held_out)
    # Most pairs are beyond doubt: side by side, or one above the other.
    place = _place_pair if len(names) == 2 and rng.random() < 0.7 else _place
    objects = tuple(place(rng, empty.size, names))
    return replace(empty, objects=objects, background=random_background(rng))


def _names(rng: np.random.Generator, held_out: bool | None) -> list[str]:
    """Names of the objects of one scene: singles, pairs, more, or several of one kind."""

    def some(count: int) -> list[str]:
        return list(map(str, rng.choice(NAMES, count, replace=False)))

    if held_out:
        names = rng.choice(sorted(map(sorted, HELD_OUT_PAIRS))).tolist()
        names += [name for name in some(rng.choice([0, 0, 1, 2])) if name not in names]
    elif (case := rng.random()) < 0.30:  # several of one kind, maybe others beside them
        kind, *others = some(3)
        copies = int(rng.integers(2, 5))
        names = [kind] * copies + others[: rng.integers(0, min(3, 5 - copies))]
    else:
        names = some(1 + bisect((0.38, 0.68, 0.88), case))
    if held_out is False and has_held_out_pair(set(names)):
        return _names(rng, held_out)
    return list(map(str, rng.permutation(names)))


def _place_pair(rng: np.random.Generator, size: tuple[int, int], names: list[str]) -> list[Placed]:
    width, height = size
    across = rng.random() < (0.5 if height == width else 0.8 if width > height else 0.2)
    placed = []
    for name, third in zip(names, (0.27, 0.73), strict=True):
        side = int(rng.integers(MIN_SIDE, MAX_SIDE + 1))
        middle = third + rng.uniform(-0.06, 0.06), rng.uniform(0.25, 0.75)
        x, y = np.floor(np.multiply(middle if across else middle[::-1], size) - side / 2)
        placed.append(Placed(name=name, x=x, y=y, side=side).within(size))
    return placed


def _place(
    rng: np.random.Generator, size: tuple[int, int], names: list[str], largest: int = MAX_SIDE
) -> list[Placed]:
    """Anywhere, as long as no two overlap by more than a sliver; smaller if they do not fit."""

    def anywhere(name: str) -> Placed:
        side = int(rng.integers(MIN_SIDE, largest + 1))
        x, y = (int(rng.integers(0, length - side + 1)) for length in size)
        return Placed(name=name, x=x, y=y, side=side)

    placed: list[Placed] = []
    for name in names:
        tries = (anywhere(name) for _ in range(12))
        free = (o for o in tries if all(o.room(old, share=0.9) >= 0 for old in placed))
        placed.extend(islice(free, 1))
    if len(placed) == len(names):
        return placed
    return _place(rng, size, names, max(MIN_SIDE, largest - 4))


def random_background(rng: np.random.Generator) -> Background:
    """A plain or softly patterned ground."""
    colour = rng.integers(40, 256, 3)
    second = np.clip(colour + rng.integers(-40, 41, 3), 0, 255)
    return Background(
        colour=tuple(colour.tolist()),
        second=tuple(second.tolist()),
        pattern=str(rng.choice([*PATTERNS])) if rng.random() < 0.7 else "plain",
        period=int(rng.integers(8, 33)),
        seed=int(rng.integers(1 << 30)),
    )


def random_question(rng: np.random.Generator, scene: Scene) -> Question:
    """One question with one right answer about this scene."""
    weights = np.array([*WEIGHTS.values()], float)
    while True:
        task = str(rng.choice([*WEIGHTS], p=weights / weights.sum()))
        subject: str | None = str(rng.choice(scene.kinds))
        if task == "relation":
            task = str(rng.choice([*RELATIONS]))
        elif task == "is_there" and rng.random() < 0.5:
            subject = str(rng.choice(NAMES))
        elif not needs_subject(task):
            subject = None
        answer = true_answer(scene, task, subject)
        if answer is None or (answer in LEFT_OUT and rng.random() < LEFT_OUT[answer]):
            continue
        text = wording(task, subject, int(rng.integers(len(WORDINGS[task]))))
        return Question(task=task, subject=subject, text=text, answer=answer)
