"""Attention, layer by layer: where each head of a converted model looks elsewhere than the
original's.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from labkit.base.data import frozen
from labkit.base.show import Table
from labkit.inside.looks import Inside
from labkit.inside.probes import Probe
from labkit.inside.reference import Reference
from labkit.model.chat import Model
from labkit.model.checkpoints import Checkpoint
from labkit.model.images import ImageLike
from labkit.proof.parity import cosine, examples


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
