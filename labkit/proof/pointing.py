"""Pointing score: how often a head, at the word for an object, looks at the object.

For each word of question and answer that names an object in the scene, and each head of the
language model, the visual token with the most attention either lies in that object's box or it does
not.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import field

import numpy as np

from labkit.base.data import frozen
from labkit.base.stats import wilson
from labkit.inside.probes import Probe
from labkit.model.vision import FACTOR
from labkit.proof.evaluate import Case
from labkit.world.drawing import render
from labkit.world.scenes import NAMES, Scene
from labkit.world.words import plural

SUPERVISED = ((1, 0), (2, 0))
"""Heads of the embedded checkpoint that were shown where to look when it was trained (layer, head).
"""
CALLED = {form: name for name in NAMES for form in (name, plural(name))}
KINDS = ("asked", "said")
"""A word of the question; a word of the answer, seen from where it is chosen."""


@frozen
class Pointing:
    """The score of every head for one kind of word.

    Attributes
    ----------
    hits
        (layers, heads, words) bool.
    chance
        (words,) float: how often a visual token drawn at random would lie in the box.
    """

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
        hits = int(rest.sum())
        return hits, rest.size, *wilson(hits, rest.size)


def tokens_of(scene: Scene) -> tuple[int, int]:
    """Rows and columns of a scene's visual tokens."""
    return scene.height // FACTOR, scene.width // FACTOR


def inside(scene: Scene, name: str) -> np.ndarray:
    """Which visual tokens have their middle in a box of this object: (n_visual_tokens,) bool, row
    by row.
    """
    rows, cols = tokens_of(scene)
    y, x = (np.indices((rows, cols)).reshape(2, -1) + 0.5) * FACTOR
    within = np.zeros(rows * cols, bool)
    for o in scene.named(name):
        within |= (o.x <= x) & (x < o.x + o.side) & (o.y <= y) & (y < o.y + o.side)
    return within


def pointing(probe: Probe, cases: Iterable[Case]) -> dict[str, Pointing]:
    """Score every head of the language model.

    Parameters
    ----------
    probe
        Into a converted checkpoint of the emoji world.
    cases
        Scenes and questions, such as `labkit.proof.evaluate.held_out_cases`; one after the other.

    Returns
    -------
    dict
        A `Pointing` for ``"asked"`` and one for ``"said"``. Words for what is not in the scene, or
        whose box covers the middle of no visual token, do not count.
    """
    hits, chance = defaultdict(list), defaultdict(list)
    for case in cases:
        reading = probe.read(render(case.scene), case.question.text, max_new_tokens=24)
        top = np.stack(
            [reading.text_to_patch(layer).argmax(axis=-1) for layer in range(reading.layers)]
        )  # layers, heads, words
        for at, word in enumerate(reading.words):
            name = CALLED.get(word.strip().lower())
            box = inside(case.scene, name) if name else None
            if box is not None and box.any():
                kind = KINDS[at >= len(reading.words) - reading.said]
                hits[kind].append(box[top[:, :, at]])
                chance[kind].append(box.mean())
    return {
        kind: Pointing(hits=np.stack(hits[kind], axis=-1), chance=np.array(chance[kind]))
        for kind in KINDS
        if kind in hits
    }
