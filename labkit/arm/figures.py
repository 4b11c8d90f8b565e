"""The ladder of instruction sets as a picture: executed instructions by class, rung by rung."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import matplotlib.pyplot as plt
import numpy as np

from labkit.arm.counting import CLASSES, Counts
from labkit.base.draw import finish
from labkit.base.show import Picture, Table

NAMES = {
    "smmla": "smmla (32 multiply-adds)", "sdot": "sdot (16 multiply-adds)", "int_simd": "other integer vectors",
    "fp_simd": "floating point", "load": "loads", "store": "stores", "branch": "branches", "scalar": "addresses, counters",
}  # fmt: skip
# What multiplies is dark and hatched, so that it is found in grey print as well.
COLOURS = {
    "smmla": "#440154", "sdot": "#31688e", "int_simd": "#1f9e89", "fp_simd": "#6ece58",
    "load": "#c9c9c9", "store": "#d9d9d9", "branch": "#e6e6e6", "scalar": "#f1f1f1",
}  # fmt: skip
HATCHES = {"smmla": "xx", "sdot": "//"}


class Counted(Protocol):
    """What can stand on the ladder: a label, and counts of some parts."""

    @property
    def label(self) -> str: ...  # noqa: D102
    @property
    def parts(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def counts(self) -> tuple[Counts, ...]: ...  # noqa: D102


def ladder(rungs: Sequence[Counted]) -> Picture:
    """Stacked bars of millions of executed instructions: one panel for each part, one bar for each rung.

    Parameters
    ----------
    rungs
        From `labkit.arm.counting.ladder`, or builds from `labkit.bench.builds`; the same parts in each.
    """
    parts = rungs[0].parts
    figure, axes = plt.subplots(
        1,
        len(parts),
        figsize=(4.3 * len(parts), 0.5 * len(rungs) + 1.5),
        sharey=True,
        layout="constrained",
    )
    told = []
    for number, (axis, part) in enumerate(zip(np.atleast_1d(axes), parts, strict=True)):
        lefts = np.zeros(len(rungs))
        mixes = [rung.counts[number].by_class() for rung in rungs]
        for name in CLASSES:
            values = np.array([mix[name] for mix in mixes]) / 1e6
            axis.barh(
                range(len(rungs)), values, left=lefts, color=COLOURS[name], edgecolor="white" if name in HATCHES else "0.55",
                linewidth=0.4, hatch=HATCHES.get(name), label=NAMES[name],
            )  # fmt: skip
            lefts += values
        for y, total in enumerate(lefts):
            axis.text(
                total,
                y,
                f" {total:.1f}" if lefts.max() > 10 else f" {total:.2f}",
                va="center",
                fontsize=9,
            )
        axis.set(title=part, xlim=(0, lefts.max() * 1.17), xlabel="million instructions")
        axis.set_yticks(range(len(rungs)), [rung.label for rung in rungs])
        axis.spines[["top", "right"]].set_visible(False)
        told.append(
            f"{part}: "
            + ", ".join(
                f"{rung.label} {total:.2f}" for rung, total in zip(rungs, lefts, strict=True)
            )
        )
    np.atleast_1d(axes)[0].invert_yaxis()
    handles, labels = np.atleast_1d(axes)[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return finish(
        figure,
        "Bars of executed instructions, in millions, not time, cut by class. "
        + "; ".join(told)
        + ".",
    )


def top_functions(counts: Counts, *, most: int = 8) -> Table:
    """Where the instructions were executed: share, function, library."""
    rows = [
        [
            f"{n / counts.total:.1%}",
            f"{n:,}",
            name if len(name) < 78 else f"{name[:36]} … {name[-38:]}",
            library,
        ]
        for (library, name), n in counts.by_function()[:most]
    ]
    return Table(["share", "instructions", "function", "library"], rows)
