"""Arranging a scene by hand: pure functions from one `Stage` to the next, named as in the browser.

Whatever is asked for, the result keeps the world's rules: at most four objects, whole
inside the picture, 32 to 52 pixels wide. `SceneError` says what cannot be had.
"""

from collections.abc import Callable
from dataclasses import asdict, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from labkit.base.data import frozen
from labkit.base.errors import SceneError
from labkit.base.records import from_json
from labkit.world.questions import RELATIONS, article, listed, sentence, true_answer
from labkit.world.scenes import (
    MAX_SIDE,
    MIN_SIDE,
    MOST,
    NAMES,
    SIZES,
    Background,
    Placed,
    Scene,
    check_known,
)

USUAL_SIDE = 44
PICTURES = {f"{w} × {h}": {"height": h, "width": w} for h, w in SIZES}
FULL = "Four objects are the most this model can see. Remove one to add another."
BACKGROUNDS = from_json(
    dict[str, Background], Path(__file__).with_name("backgrounds.json").read_bytes()
)


@frozen
class Stage:
    """A scene whose objects have numbers: each keeps its identity while others come and go."""

    ground: Scene  # without objects
    objects: dict[int, Placed] = field(default_factory=dict)
    last: int = field(default=0, compare=False)  # the highest number given so far
    said: str = field(default="", compare=False)  # what the latest step did, in words

    @property
    def scene(self) -> Scene:
        """The scene with its objects."""
        return replace(self.ground, objects=tuple(self.objects.values()))

    @property
    def count(self) -> str:
        """How many objects stand there, as a sentence."""
        return f"{len(self.objects)} of {MOST} objects."

    def placed(self, number: int) -> Placed:
        """The object with this number."""
        if number not in self.objects:
            raise SceneError(
                f"There is no object number {number} in the scene, only {list(self.objects)}. "
                "It may have been removed."
            )
        return self.objects[number]

    def state(self) -> dict[str, Any]:
        """The stage as JSON-able data, for the browser."""
        names = (name for name, known in BACKGROUNDS.items() if known == self.ground.background)
        return {
            "height": self.ground.height,
            "width": self.ground.width,
            "background": next(names, "Custom"),
            "objects": [{"id": number, **asdict(o)} for number, o in self.objects.items()],
        }


def stage_of(scene: Scene, last: int = 0) -> Stage:
    """Number the objects of a scene from ``last + 1`` on; check that the composer can hold it."""
    if len(scene.objects) > MOST:
        raise SceneError(
            f"A scene holds at most {MOST} objects, this one has {len(scene.objects)}. "
            "Leave some out."
        )
    if min(scene.height, scene.width) < MAX_SIDE:
        raise SceneError(
            f"A scene is at least {MAX_SIDE} pixels high and wide, "
            f"this one is {scene.width} × {scene.height}. "
            "Choose one of labkit.world.scenes.SIZES."
        )
    return Stage(
        ground=replace(scene, objects=()),
        objects={n: _within(scene, o) for n, o in enumerate(scene.objects, last + 1)},
        last=last + len(scene.objects),
        said=f"A new scene: {in_words(scene)}.",
    )


def in_words(scene: Scene) -> str:
    """What stands in the scene, in one line, such as ``"a cat and 2 pizzas"``."""
    return listed(scene, "01234") if scene.objects else "nothing yet"


def add(stage: Stage, name: str) -> Stage:
    """Put one more object at a free place."""
    if len(stage.objects) >= MOST:
        raise SceneError(FULL)
    number = stage.last + 1
    objects = {**stage.objects, number: _free_place(stage.scene, name)}
    stage = replace(stage, objects=objects, last=number)
    return replace(stage, said=f"{sentence(article(name) + ' stands in the scene')} {stage.count}")


def move(stage: Stage, number: int, x: int, y: int, side: int | None = None) -> Stage:
    """Put an object's top left corner at column ``x``, row ``y``; it stays within the picture."""
    o = stage.placed(number)
    o = _within(stage.ground, replace(o, x=x, y=y, side=side or o.side))
    said = f"{o.name.capitalize()}: column {o.x}, row {o.y}, {o.side} pixels wide."
    return replace(stage, objects={**stage.objects, number: o}, said=said)


def nudge(stage: Stage, number: int, dx: int = 0, dy: int = 0, by: int = 0) -> Stage:
    """Move an object by some pixels, or make it wider by ``by`` about its middle."""
    o = stage.placed(number)
    side = _allowed(o.side + by)
    shift = (side - o.side) // 2
    return move(stage, number, o.x + dx - shift, o.y + dy - shift, side)


def remove(stage: Stage, number: int) -> Stage:
    """Take an object away."""
    name = stage.placed(number).name
    stage = replace(stage, objects={n: o for n, o in stage.objects.items() if n != number})
    return replace(stage, said=f"The {name} is removed. {stage.count}")


def clear(stage: Stage) -> Stage:
    """Take all objects away."""
    return replace(stage, objects={}, said="The scene is empty.")


def resize(stage: Stage, height: int, width: int) -> Stage:
    """Another picture size, one of the world's; objects keep their relative places."""
    check_known(f"{width} × {height}", PICTURES, "picture sizes (width × height)")
    ground = replace(stage.ground, height=height, width=width)
    objects = {}
    for number, o in stage.objects.items():
        x, y = np.multiply(o.centre, ground.size) / stage.ground.size - o.side / 2
        objects[number] = replace(o, x=x, y=y).within(ground.size)
    said = f"The picture is {width} × {height} pixels now."
    return replace(stage, ground=ground, objects=objects, said=said)


def paint(stage: Stage, background: str) -> Stage:
    """Another background, by its name in `BACKGROUNDS`."""
    check_known(background, BACKGROUNDS, "backgrounds")
    ground = replace(stage.ground, background=BACKGROUNDS[background])
    return replace(stage, ground=ground, said=f"Background: {background}.")


STEPS: dict[str, Callable[..., Stage]] = {
    step.__name__: step for step in (add, move, nudge, remove, clear, resize, paint)
}


def _within(scene: Scene, o: Placed) -> Placed:
    """The object with an allowed size, whole in the picture."""
    check_known(o.name, NAMES, "objects")
    return replace(o, side=_allowed(o.side)).within(scene.size)


def _allowed(side: int) -> int:
    return int(np.clip(side, MIN_SIDE, MAX_SIDE))


def _free_place(scene: Scene, name: str) -> Placed:
    """Where one more object fits best.

    The first two stand side by side (in a tall picture, one above the other), because
    then "left of" has a clear answer; later ones go where the most questions about
    sides keep one, and among those places to the roomiest nearest to the pair's middle.
    """
    tall = scene.height > scene.width
    tries: list[tuple[int, Any]] = []  # sides and top left corners, the preferred ones first
    if len(scene.objects) < 2:
        slots = np.array([(0.27, 0.5), (0.73, 0.5)])  # along the longer side, and across
        corners = slots[:, :: -1 if tall else 1] * scene.size - USUAL_SIDE / 2
        tries.append((USUAL_SIDE, corners))
    for side in range(USUAL_SIDE, MIN_SIDE - 1, -4):
        columns, rows = (range(0, length - side + 1, 4) for length in scene.size)
        tries.append((side, [(x, y) for y in rows for x in columns]))

    def room(new: Placed) -> float:
        return min(map(new.room, scene.objects), default=0)

    def merit(new: Placed) -> tuple[int, float, float]:
        full = replace(scene, objects=(*scene.objects, new))
        answers = [true_answer(full, task, kind) for task in RELATIONS for kind in full.kinds]
        off_middle = abs(new.centre[tall] - scene.size[tall] / 2)
        return len(answers) - answers.count(None), room(new), -off_middle

    for side, corners in tries:
        spots = [_within(scene, Placed(name=name, x=x, y=y, side=side)) for x, y in corners]
        free = [spot for spot in spots if room(spot) >= 0]
        if free:
            return max(free, key=merit)
    return max(spots, key=room)  # nowhere free: where it covers least
