"""Executed instructions, by function and by class. They are not time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from labkit.arm.classes import CLASSES


@dataclass(frozen=True)
class Counts:
    """Executed instructions of each function.

    Attributes
    ----------
    functions
        For each (library, function) its instructions of each of `CLASSES`, (classes,) float64.
    """

    functions: Mapping[tuple[str, str], np.ndarray]

    @property
    def total(self) -> float:
        """All instructions."""
        return float(sum(row.sum() for row in self.functions.values()))

    def by_class(self) -> dict[str, int]:
        """Instructions of each class."""
        whole = sum(self.functions.values(), np.zeros(len(CLASSES)))
        return dict(zip(CLASSES, np.rint(whole).astype(int).tolist(), strict=True))

    def by_function(self) -> list[tuple[tuple[str, str], int]]:
        """Functions with their instructions, most first."""
        totals = {function: float(row.sum()) for function, row in self.functions.items()}
        most_first = sorted(totals, key=totals.__getitem__, reverse=True)
        return [(function, int(totals[function])) for function in most_first if totals[function]]

    def inside(self, *prefixes: str) -> Counts:
        """Those in functions whose names begin with one of some prefixes, such as ``"kai_"``."""
        return Counts({f: row for f, row in self.functions.items() if f[1].startswith(prefixes)})

    def share(self, prefix: str) -> float:
        """Share of the instructions `inside` some functions, 0 to 1."""
        return self.inside(prefix).total / self.total if self.total else 0.0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "instructions": round(self.total),
            "by_class": self.by_class(),
            "kai_share": self.share("kai_"),
            "top_functions": [
                {"library": library, "function": name, "instructions": n}
                for (library, name), n in self.by_function()[:20]
            ],
        }


def difference(more: Counts, less: Counts, by: float = 1.0) -> Counts:
    """What one run executed beyond another, function by function, divided by ``by``.

    Noise below zero becomes zero.
    """
    rows = dict(more.functions)
    for function, row in less.functions.items():
        rows[function] = rows.get(function, 0) - row
    return Counts({function: np.maximum(row, 0) / by for function, row in rows.items()})
