"""Counts of one vision and one language block at the real width: recorded, for they take minutes.

``data/real_width.json`` is made by ``tests/benchmarks/record_real_width.py``.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from labkit.arm.counting import Rung
from labkit.arm.counts import CLASSES, Counts
from labkit.base import paths
from labkit.base.data import frozen
from labkit.base.records import from_json
from labkit.model.parts import Part

FILE = Path("real_width.json")
FUNCTIONS = 12
"""So many are named for each part; the rest is one row."""


@frozen
class Row:
    """A rung of the ladder: of each part its functions as library, name, instructions by class."""

    cpu: str
    kleidiai: bool
    parts: dict[str, tuple[tuple[str, str, tuple[int, ...]], ...]]


@frozen
class RealWidth:
    """What was counted, on which model, with which MNN.

    ``sizes`` says of each part what one pass works on.
    """

    model: str
    mnn: str
    classes: tuple[str, ...]
    sizes: dict[str, str]
    rows: tuple[Row, ...]

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """For `labkit.arm.figures.ladder` and `labkit.arm.figures.top_functions`."""
        return tuple(
            Rung(
                cpu=row.cpu,
                kleidiai=row.kleidiai,
                counts={
                    part: Counts({(lib, name): np.array(n, float) for lib, name, n in functions})
                    for part, functions in row.parts.items()
                },
            )
            for row in self.rows
        )


def record(model: str, mnn: str, parts: Sequence[Part], rungs: Sequence[Rung]) -> RealWidth:
    """What is kept of some rungs."""
    return RealWidth(
        model=model,
        mnn=mnn,
        classes=CLASSES,
        sizes={part.name: part.size for part in parts},
        rows=tuple(
            Row(
                cpu=rung.cpu,
                kleidiai=rung.kleidiai,
                parts={part: _functions(counts) for part, counts in rung.counts.items()},
            )
            for rung in rungs
        ),
    )


def _functions(counts: Counts) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
    named = [function for function, _ in counts.by_function()[:FUNCTIONS]]
    rest = [row for function, row in counts.functions.items() if function not in named]
    rows = [(*function, counts.functions[function]) for function in named]
    rows.append(("", "all others", np.sum(rest, axis=0) if rest else np.zeros(len(CLASSES))))
    return tuple((lib, name, tuple(np.rint(n).astype(int).tolist())) for lib, name, n in rows)


def real_width() -> RealWidth:
    """What was recorded."""
    return from_json(RealWidth, (paths.data_dir() / FILE).read_bytes())
