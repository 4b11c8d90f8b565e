"""What bits, blocks and symmetry cost and what they save: points of a conversion, measured.

A point quantises one part, language model or vision tower, and leaves the other at 16 bits: what is
seen is then that part's doing.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from labkit.base import stats
from labkit.base.data import frozen
from labkit.base.records import from_json
from labkit.engine.lanes import Lane
from labkit.model.chat import Model
from labkit.model.checkpoints import Checkpoint
from labkit.model.plan import BLOCKS, OPTIONS
from labkit.proof.evaluate import Case, score_model
from labkit.proof.heads import compare_layers

GRAPHS = {"language": "llm.mnn", "vision": "visual.mnn"}


@frozen
class Point:
    """How one part's weights are stored; ``block`` 0 means one scale for a row.

    >>> print(Point(part="vision", bits=4, block=64, symmetric=True))
    int4/64 sym
    """

    part: str
    bits: int = 16
    block: int = 0
    symmetric: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """For `labkit.model.plan.ConversionPlan`; the other part keeps 16 bits."""
        names, chosen = OPTIONS[GRAPHS[self.part]], (self.bits, self.block, self.symmetric)
        return {"weight_bits": 16, "vision_bits": 16, **dict(zip(names, chosen, strict=True))}

    def __str__(self) -> str:
        if self.bits == 16:
            return "float16"
        return f"int{self.bits}/{self.block or 'row'}{' sym' if self.symmetric else ''}"


def grid(part: str) -> list[Point]:
    """All points of a part, the reference of 16 bits first."""
    choices = product((8, 4), BLOCKS[::-1], (False, True))
    quantised = [Point(part=part, bits=b, block=n, symmetric=s) for b, n, s in choices]
    return [Point(part=part), *quantised]


def points(options: Mapping[str, Any]) -> list[Point]:
    """How a conversion of these options stores the language model, and the tower."""
    return [
        Point(part=part, bits=bits, block=block, symmetric=symmetric)
        for part, graph in GRAPHS.items()
        for bits, block, symmetric in [[options[name] for name in OPTIONS[graph]]]
    ]


def stored(options: Mapping[str, Any]) -> str:
    """How a model's weights are stored: "int4/64 + int4/128", language model and tower."""
    return " + ".join(map(str, points(options)))


@frozen
class Measured:
    """A point, measured.

    Attributes
    ----------
    bytes
        Of the part's file of weights.
    scenes, wrong
        How many held-out scenes were asked about, and the numbers of those answered wrongly.
    moved
        Share of a query's attention in this part that lies elsewhere than in the original: the
        largest of all pictures, on average over heads and layers.
    layers
        How many layers KleidiAI's kernels take (``""``), and how many not, by the reason's code.
    departs
        The first stage at which parity refuses the point; empty if it passes.
    """

    point: Point
    bytes: int
    scenes: int
    wrong: tuple[int, ...]
    moved: float
    layers: Mapping[str, int]
    departs: str = ""

    @property
    def right(self) -> int:
        """How many scenes were answered rightly."""
        return self.scenes - len(self.wrong)

    @property
    def taken(self) -> bool:
        """Whether KleidiAI's kernels take every linear layer."""
        return self.layers.keys() <= {"", "kernel"}

    def against(self, other: "Measured") -> tuple[float, float, float]:
        """How much larger the share of right answers is than another's on the same scenes, and the
        95 % interval of that difference.
        """
        if self.scenes != other.scenes:
            raise ValueError(f"expected the same scenes, received {self.scenes}, {other.scenes}")
        gained, lost = set(other.wrong) - set(self.wrong), set(self.wrong) - set(other.wrong)
        interval = stats.paired(len(gained), len(lost), self.scenes)
        return (self.right - other.right) / self.scenes, *interval


@frozen
class Recorded:
    """What was measured of every point, once: where, when, and with which releases."""

    machine: str
    date: str
    tools: dict[str, str]
    rows: tuple[Measured, ...]


def read(path: Path) -> Recorded:
    """What was recorded, by hand or by ``labkit sweep``.

    Raises
    ------
    ValueError
        If the file holds something else.
    """
    return from_json(Recorded, path.read_bytes())


def frontier(rows: Sequence[Measured]) -> list[Measured]:
    """The points of one part that no other beats: none is as small and has more right, or smaller
    and has as many. From the smallest on.
    """
    best: list[Measured] = []
    for row in sorted(rows, key=lambda row: (row.bytes, -row.right)):
        if not best or row.right > best[-1].right:
            best.append(row)
    return best


def measure(
    point: Point,
    folder: Path,
    checkpoint: Checkpoint,
    cases: Sequence[Case],
    layers: Mapping[str, int],
) -> Measured:
    """Measure a converted point.

    Parameters
    ----------
    point, folder
        What was chosen, and the converted model.
    checkpoint
        What it was converted from.
    cases
        Such as `labkit.proof.evaluate.held_out_cases`.
    layers
        As `labkit.arm.kleidiai.taken` counts them.
    """
    return Measured(
        point=point,
        bytes=weights_bytes(folder)[point.part],
        scenes=len(cases),
        wrong=wrong(folder, cases),
        moved=moved(folder, checkpoint)[point.part],
        layers=layers,
    )


def weights_bytes(folder: Path) -> dict[str, int]:
    """The size of each part's file of weights."""
    return {part: (folder / f"{graph}.weight").stat().st_size for part, graph in GRAPHS.items()}


def wrong(folder: Path, cases: Sequence[Case], lane: Lane | None = None) -> tuple[int, ...]:
    """The numbers of the cases that a converted model answers wrongly, in a lane."""
    with Model(folder, lane=lane) as model:
        outcomes = score_model(model, cases).outcomes
    return tuple(number for number, o in enumerate(outcomes) if not o.right)


def moved(folder: Path, checkpoint: Checkpoint) -> dict[str, float]:
    """What `Measured.moved` says, of each part."""
    rows = compare_layers([folder], checkpoint)
    return {
        part: float(np.mean([row.moved for row in rows if row.part == part])) for part in GRAPHS
    }
