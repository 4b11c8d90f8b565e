"""Where heads look: how often at the object that a word names, and whether a conversion moves it.

The pointing score: for each word of question and answer that names an object in the scene, and each
head of the language model, the visual token with the most attention either lies in that object's
box or it does not. And layer by layer: where each head of a converted model looks elsewhere than
the original's.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import field
from pathlib import Path

import numpy as np

from labkit.base.data import frozen
from labkit.base.show import Table
from labkit.base.stats import wilson
from labkit.inside.looks import Inside
from labkit.inside.probes import Probe
from labkit.inside.reference import Reference
from labkit.model.chat import Model
from labkit.model.checkpoints import Checkpoint
from labkit.model.images import ImageLike
from labkit.model.vision import FACTOR
from labkit.proof.evaluate import Case
from labkit.proof.parity import cosine, examples
from labkit.world.questions import plural
from labkit.world.scenes import NAMES, Scene, render

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


@frozen
class LayerParity:
    """Attention of one layer, compared with the original's: the worst over all pictures.

    ``moved`` is, for each head, the share of a query's attention that lies elsewhere than in the
    original (half the sum of absolute differences of a row, averaged over queries): 0 is the same,
    1 is all of it.
    """

    model: str
    part: str
    layer: int
    cosine: float
    moved: tuple[float, ...]


def compare_layers(
    folders: Sequence[Path],
    checkpoint: Checkpoint,
    *,
    cases: list[tuple[ImageLike, str]] | None = None,
) -> list[LayerParity]:
    """Compare attention patterns layer by layer, vision tower and language model, for several
    conversions of one checkpoint.

    Both read the same pictures and the same tokens: those that the converted model says.

    Parameters
    ----------
    folders
        Converted models, such as one of 16, one of 8 and one of 4 bits.
    checkpoint
        What they were converted from.
    cases
        Pictures and questions; by default `examples`.
    """
    original, rows = Reference(checkpoint), []
    for folder in folders:
        measured = defaultdict(list)
        with Model(folder) as model, Probe(model) as probe:
            for image, question in cases or examples():
                look, reading = probe.look(image), probe.read(image, question)
                pairs: dict[str, tuple[Inside, Inside]] = {
                    "vision": (look, original.look(look.pixels)),
                    "language": (reading, original.read(reading)),
                }
                for part, (ours, theirs) in pairs.items():
                    patterns = zip(ours.patterns(), theirs.patterns(), strict=True)
                    for layer, (a, b) in enumerate(patterns):
                        moved = np.abs(a - b).sum(axis=-1).mean(axis=-1) / 2
                        measured[ours.name, part, layer].append([cosine(a, b), *moved])
        for (name, part, layer), values in measured.items():
            near, *moves = np.transpose(values)
            most = tuple(float(move.max()) for move in moves)
            least = float(near.min())
            rows.append(LayerParity(model=name, part=part, layer=layer, cosine=least, moved=most))
    return sorted(rows, key=lambda row: row.part, reverse=True)


def layers_table(rows: Sequence[LayerParity]) -> Table:
    """Rows of `compare_layers` as a table."""
    return Table(
        ("part", "model", "layer", "cosine", "attention that moved, by head"),
        [
            (r.part, r.model, r.layer, f"{r.cosine:.6f}", "  ".join(f"{m:6.2%}" for m in r.moved))
            for r in rows
        ],
    )
