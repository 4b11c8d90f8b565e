"""Arranging a scene by hand: adding, moving, sizing and removing objects.

Pure functions from one `Stage` to the next. A stage is a scene of the emoji world
whose objects have numbers, so that an object keeps its identity (and a browser its
keyboard focus) while others come and go. Whatever is asked for, the result keeps the
world's rules: at most four objects, whole inside the picture, 32 to 52 pixels wide.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from labkit.errors import SceneError
from labkit.mini.sprites import NAMES
from labkit.mini.world import MAX_SIDE, MIN_SIDE, RELATIONS, SIZES, Background, Placed, Scene, article, plural, true_answer

MOST = 4
USUAL_SIDE = 44
FULL = "Four objects are the most this model can see. Remove one to add another."
BACKGROUNDS: dict[str, Background] = {
    "Paper": Background(),
    "Sky": Background(colour=(178, 214, 244), second=(214, 236, 250), pattern="gradient"),
    "Meadow": Background(colour=(190, 224, 166), second=(174, 212, 150), pattern="dots", period=20),
    "Sand": Background(colour=(242, 226, 190), second=(233, 213, 172), pattern="stripes", period=14),
    "Tiles": Background(colour=(228, 230, 236), second=(210, 214, 224), pattern="checks", period=28),
    "Night": Background(colour=(62, 70, 100), second=(50, 56, 84), pattern="gradient"),
}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A scene whose objects have numbers: ``ids[i]`` belongs to ``scene.objects[i]``."""

    scene: Scene
    ids: tuple[int, ...]

    def index(self, number: int) -> int:
        """Where the object with this number stands in ``scene.objects``."""
        if number not in self.ids:
            raise SceneError(f"There is no object number {number} in the scene, only {list(self.ids)}. It may have been removed.")
        return self.ids.index(number)

    def placed(self, number: int) -> Placed:
        """The object with this number."""
        return self.scene.objects[self.index(number)]


def stage_of(scene: Scene) -> Stage:
    """Number the objects of a scene, and check that the composer can hold it.

    Raises
    ------
    SceneError
        For more than four objects, an unknown name, or a picture too small for one object.
    """
    if len(scene.objects) > MOST:
        raise SceneError(f"A scene holds at most {MOST} objects, this one has {len(scene.objects)}. Leave some out.")
    if min(scene.height, scene.width) < MAX_SIDE:
        raise SceneError(
            f"A scene is at least {MAX_SIDE} pixels high and wide, this one is {scene.width} × {scene.height}. "
            "Choose one of labkit.mini.world.SIZES."
        )
    for o in scene.objects:
        _known(o.name)
    objects = tuple(within(scene, o) for o in scene.objects)
    return Stage(scene=replace(scene, objects=objects), ids=tuple(range(1, len(objects) + 1)))


def within(scene: Scene, o: Placed) -> Placed:
    """The object with an allowed size, moved as little as possible to stand whole in the picture.

    >>> within(Scene(height=112, width=112, objects=()), Placed(name="cat", x=-9, y=100, side=40))
    Placed(name='cat', x=0, y=72, side=40)
    """
    side = _between(o.side, MIN_SIDE, MAX_SIDE)
    return Placed(name=o.name, x=_between(o.x, 0, scene.width - side), y=_between(o.y, 0, scene.height - side), side=side)


def add(stage: Stage, name: str, number: int) -> Stage:
    """Put one more object at a free place, under a number of its own.

    Raises
    ------
    SceneError
        If four objects stand there, or the name is not one of the world's.
    """
    _known(name)
    scene = stage.scene
    if len(scene.objects) >= MOST:
        raise SceneError(FULL)
    new = free_place(scene, name)
    return Stage(scene=replace(scene, objects=(*scene.objects, new)), ids=(*stage.ids, number))


def place(stage: Stage, number: int, *, x: int, y: int, side: int) -> Stage:
    """Give an object a place and a size; both are brought within the rules."""
    return _with(stage, number, replace(stage.placed(number), x=x, y=y, side=side))


def nudge(stage: Stage, number: int, *, dx: int = 0, dy: int = 0) -> Stage:
    """Move an object by some pixels, as far as the border."""
    o = stage.placed(number)
    return _with(stage, number, replace(o, x=o.x + dx, y=o.y + dy))


def grow(stage: Stage, number: int, by: int) -> Stage:
    """Make an object wider by ``by`` pixels (negative: narrower) about its middle."""
    o = stage.placed(number)
    side = _between(o.side + by, MIN_SIDE, MAX_SIDE)
    shift = (side - o.side) // 2
    return _with(stage, number, Placed(name=o.name, x=o.x - shift, y=o.y - shift, side=side))


def remove(stage: Stage, number: int) -> Stage:
    """Take an object away."""
    i = stage.index(number)
    objects = stage.scene.objects
    return Stage(scene=replace(stage.scene, objects=objects[:i] + objects[i + 1 :]), ids=stage.ids[:i] + stage.ids[i + 1 :])


def clear(stage: Stage) -> Stage:
    """Take all objects away."""
    return Stage(scene=replace(stage.scene, objects=()), ids=())


def resize(stage: Stage, height: int, width: int) -> Stage:
    """Another picture size; objects keep their relative places.

    Raises
    ------
    SceneError
        If the size is not one of the world's.
    """
    if (height, width) not in SIZES:
        sizes = ", ".join(f"{w} × {h}" for h, w in SIZES)
        raise SceneError(f"A picture of {width} × {height} pixels is not one of the sizes to choose from: {sizes} (width × height).")
    old = stage.scene
    scene = Scene(height=height, width=width, objects=(), background=old.background)
    moved = []
    for o in old.objects:
        x, y = o.centre[0] * width / old.width - o.side / 2, o.centre[1] * height / old.height - o.side / 2
        moved.append(within(scene, replace(o, x=round(x), y=round(y))))
    return Stage(scene=replace(scene, objects=tuple(moved)), ids=stage.ids)


def paint(stage: Stage, name: str) -> Stage:
    """Another background, by its name in `BACKGROUNDS`.

    Raises
    ------
    SceneError
        If there is none of that name.
    """
    if name not in BACKGROUNDS:
        raise SceneError(f"There is no background {name!r}. Choose one of {', '.join(BACKGROUNDS)}.")
    return replace(stage, scene=replace(stage.scene, background=BACKGROUNDS[name]))


def background_name(scene: Scene) -> str:
    """The background's name, or ``"Custom"`` for one that is not on the list."""
    return next((name for name, background in BACKGROUNDS.items() if background == scene.background), "Custom")


def free_place(scene: Scene, name: str) -> Placed:
    """Where one more object fits best.

    The first two stand side by side (in a tall picture, one above the other), because
    then "left of" has a clear answer; later ones go where the most questions about
    sides keep one, and among those places to the roomiest.
    """
    if len(scene.objects) < 2:
        for third in (0.27, 0.73):
            u, v = (0.5, third) if scene.height > scene.width else (third, 0.5)
            x, y = round(u * scene.width - USUAL_SIDE / 2), round(v * scene.height - USUAL_SIDE / 2)
            slot = within(scene, Placed(name=name, x=x, y=y, side=USUAL_SIDE))
            if _room(scene, slot) >= 0:
                return slot
    for side in range(USUAL_SIDE, MIN_SIDE - 1, -4):
        rows, columns = range(0, scene.height - side + 1, 4), range(0, scene.width - side + 1, 4)
        spots = [Placed(name=name, x=x, y=y, side=side) for y in rows for x in columns]
        free = [spot for spot in spots if _room(scene, spot) >= 0]
        if free:
            return max(free, key=lambda spot: (_clear_sides(scene, spot), _room(scene, spot), -_off_middle(scene, spot)))
    return max(spots, key=lambda spot: _room(scene, spot))  # nowhere free: where it covers least


def to_state(stage: Stage) -> dict[str, Any]:
    """The stage as JSON-able data, for the browser."""
    scene = stage.scene
    return {
        "height": scene.height,
        "width": scene.width,
        "background": background_name(scene),
        "objects": [
            {"id": number, "name": o.name, "x": o.x, "y": o.y, "side": o.side} for number, o in zip(stage.ids, scene.objects, strict=True)
        ],
    }


def in_words(scene: Scene) -> str:
    """What stands in the scene, in one line.

    >>> in_words(Scene(height=112, width=112, objects=(Placed(name="cat", x=0, y=0, side=40),)))
    'a cat'
    """
    parts = []
    for kind in scene.kinds:
        count = len(scene.named(kind))
        parts.append(article(kind) if count == 1 else f"{count} {plural(kind)}")
    return "nothing yet" if not parts else parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _with(stage: Stage, number: int, o: Placed) -> Stage:
    i = stage.index(number)
    objects = stage.scene.objects
    return replace(stage, scene=replace(stage.scene, objects=(*objects[:i], within(stage.scene, o), *objects[i + 1 :])))


def _room(scene: Scene, new: Placed) -> float:
    """Pixels between a square and its nearest neighbour in the scene; negative when they overlap."""
    return min((_gap(new, o) for o in scene.objects), default=0)


def _gap(a: Placed, b: Placed) -> float:
    reach = (a.side + b.side) / 2
    return max(abs(a.centre[0] - b.centre[0]), abs(a.centre[1] - b.centre[1])) - reach


def _off_middle(scene: Scene, o: Placed) -> float:
    """Pixels from the middle between the first two: across only, which leaves room on the other side of their row."""
    return abs(o.centre[1] - scene.height / 2) if scene.height > scene.width else abs(o.centre[0] - scene.width / 2)


def _clear_sides(scene: Scene, new: Placed) -> int:
    """How many questions about sides would have one right answer."""
    full = replace(scene, objects=(*scene.objects, new))
    return sum(true_answer(full, task, kind) is not None for task in RELATIONS for kind in full.kinds)


def _between(value: int, low: int, high: int) -> int:
    return max(low, min(int(value), high))


def _known(name: str) -> None:
    if name not in NAMES:
        raise SceneError(f"{name!r} is not one of the {len(NAMES)} objects of this world. Choose one of: {', '.join(NAMES)}.")
