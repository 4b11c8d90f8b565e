"""Pointing score: how often a head, at the word for an object, looks at the object.

For each word of question and answer that names an object in the scene, and each head of the
language model, the visual token with the most attention either lies in that object's box or it does
not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from labkit.base.stats import wilson
from labkit.inside.probes import Probe
from labkit.model.vision import FACTOR
from labkit.proof.evaluate import Case
from labkit.world.drawing import render
from labkit.world.scenes import Scene
from labkit.world.sprites import NAMES
from labkit.world.words import plural

SUPERVISED = ((1, 0), (2, 0))
"""Heads of the embedded checkpoint that were shown where to look when it was trained (layer, head).
"""
CALLED = {form: name for name in NAMES for form in (name, plural(name))}
KINDS = (
    "asked",
    "said",
)  # a word of the question; a word of the answer, seen from where it is chosen


@dataclass(frozen=True, kw_only=True)
class Pointing:
    """The score of every head for one kind of word.

    Attributes
    ----------
    hits
        (layers, heads, words) bool.
    chance
        (words,) float: how often a visual token drawn at random would lie in the box.
    """

    kind: str
    hits: np.ndarray = field(repr=False)
    chance: np.ndarray = field(repr=False)

    @property
    def score(self) -> np.ndarray:
        """(layers, heads) share of words at which the head points at the object."""
        share: np.ndarray = self.hits.mean(axis=-1)
        return share

    def best(self, *, leave_out: Sequence[tuple[int, int]] = SUPERVISED) -> tuple[int, int]:
        """The best head, chosen on every other word; `held_out` scores it on the rest."""
        share = self.hits[:, :, ::2].mean(axis=-1)
        for head in leave_out:
            share[head] = -1
        layer, head = divmod(int(share.argmax()), share.shape[1])
        return layer, head

    def held_out(self, layer: int, head: int) -> tuple[int, int, float, float]:
        """Hits, words, and the 95 % interval (Wilson) of one head, on the words that `best` does
        not see.
        """
        rest = self.hits[layer, head, 1::2]
        return int(rest.sum()), rest.size, *wilson(int(rest.sum()), rest.size)


def inside(scene: Scene, name: str) -> np.ndarray:
    """Which visual tokens have their middle in a box of this object: (n_visual_tokens,) bool, row
    by row.
    """
    rows, cols = scene.height // FACTOR, scene.width // FACTOR
    row, col = np.divmod(np.arange(rows * cols), cols)
    y, x = (row + 0.5) * FACTOR, (col + 0.5) * FACTOR
    boxes = [
        (o.x <= x) & (x < o.x + o.side) & (o.y <= y) & (y < o.y + o.side) for o in scene.named(name)
    ]
    return np.any(boxes, axis=0) if boxes else np.zeros(rows * cols, bool)


def pointing(
    probe: Probe, cases: Sequence[Case], *, on_case: Callable[[int], None] | None = None
) -> dict[str, Pointing]:
    """Score every head of the language model.

    Parameters
    ----------
    probe
        Into a converted checkpoint of the emoji world.
    cases
        Scenes and questions, such as `labkit.proof.evaluate.held_out_cases`.
    on_case
        Called with how many are done.

    Returns
    -------
    dict
        A `Pointing` for ``"asked"`` and one for ``"said"``. Words for what is not in the scene, or
        whose box covers the middle of no visual token, do not count.
    """
    hits: dict[str, list[np.ndarray]] = {kind: [] for kind in KINDS}
    chance: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for number, case in enumerate(cases, 1):
        reading = probe.read(render(case.scene), case.question.text, max_new_tokens=24)
        named = [
            (at, inside(case.scene, CALLED[w.strip().lower()]))
            for at, w in enumerate(reading.words)
            if w.strip().lower() in CALLED
        ]
        named = [(at, box) for at, box in named if box.any()]
        if named:
            top = np.stack(
                [reading.text_to_patch(layer).argmax(axis=-1) for layer in range(reading.layers)]
            )  # layers, heads, words
            for at, box in named:
                kind = KINDS[at >= len(reading.words) - reading.tokens.said]
                hits[kind].append(box[top[:, :, at]])
                chance[kind].append(float(box.mean()))
        if on_case:
            on_case(number)
    return {
        k: Pointing(kind=k, hits=np.stack(hits[k], axis=-1), chance=np.array(chance[k]))
        for k in KINDS
        if hits[k]
    }
