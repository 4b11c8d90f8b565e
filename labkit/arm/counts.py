"""Executed instructions, by function and by class. They are not time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from labkit.arm.classes import CLASSES


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Executed instructions, one row for each function, one column for each of `CLASSES`.

    Attributes
    ----------
    functions
        (library, function) of each row.
    table
        (functions, classes) float64.
    """

    functions: tuple[tuple[str, str], ...]
    table: np.ndarray

    @property
    def total(self) -> float:
        """All instructions."""
        return float(self.table.sum())

    def by_class(self) -> dict[str, int]:
        """Instructions of each class."""
        return dict(zip(CLASSES, np.rint(self.table.sum(0)).astype(int).tolist(), strict=True))

    def by_function(self) -> list[tuple[tuple[str, str], int]]:
        """Functions with their instructions, most first."""
        rows = self.table.sum(1)
        return [(self.functions[i], int(rows[i])) for i in np.argsort(-rows) if rows[i] > 0]

    def inside(self, *prefixes: str) -> Counts:
        """Those in functions whose names begin with one of some prefixes, such as ``"kai_"``."""
        rows = [i for i, (_, name) in enumerate(self.functions) if name.startswith(prefixes)]
        return Counts(functions=tuple(self.functions[i] for i in rows), table=self.table[rows])

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
    functions = tuple(dict.fromkeys([*more.functions, *less.functions]))
    rows = {function: row for row, function in enumerate(functions)}
    table = np.zeros((len(functions), len(CLASSES)))
    for counts, sign in ((more, 1.0), (less, -1.0)):
        np.add.at(table, [rows[function] for function in counts.functions], sign * counts.table)
    return Counts(functions=functions, table=np.maximum(table, 0.0) / by)
