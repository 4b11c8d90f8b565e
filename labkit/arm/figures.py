"""Executed instructions as a picture, rung by rung of the ladder, and as a table of functions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes

from labkit.arm.counts import Counts
from labkit.base.draw import finish, legend_below, stacked_bars, subplots
from labkit.base.records import from_json
from labkit.base.show import Picture, Table

LOOKS = from_json(
    dict[str, tuple[str, dict[str, Any]]], Path(__file__).with_suffix(".json").read_bytes()
)
"""Name and style of each class. What multiplies is dark and hatched, for grey print."""


class Counted(Protocol):
    """What can stand on the ladder: a label, and the counts of each part by its name."""

    @property
    def label(self) -> str: ...  # noqa: D102
    @property
    def counts(self) -> Mapping[str, Counts]: ...  # noqa: D102


def class_bars(
    axis: Axes, labels: Sequence[str], mixes: Sequence[Mapping[str, float]], total: str
) -> None:
    """`labkit.base.draw.stacked_bars` cut by class; a mix has a number for each class."""
    parts = {name: np.array([mix[key] for mix in mixes]) for key, (name, _) in LOOKS.items()}
    stacked_bars(axis, labels, parts, [style for _, style in LOOKS.values()], total)


def ladder(rungs: Sequence[Counted]) -> Picture:
    """Bars of millions of executed instructions: a panel for each part, a bar for each rung.

    Parameters
    ----------
    rungs
        From `labkit.arm.counting.ladder`, or builds from `labkit.bench.builds`; all of the same
        parts.
    """
    labels, parts = [rung.label for rung in rungs], rungs[0].counts
    size = (4.3 * len(parts), 0.5 * len(rungs) + 1.5)
    figure, (axes,) = subplots(1, len(parts), size=size, sharey=True, squeeze=False)
    panels = []
    for axis, part in zip(axes, parts, strict=True):
        counts = [rung.counts[part] for rung in rungs]
        mixes = [{name: n / 1e6 for name, n in c.by_class().items()} for c in counts]
        long = max(c.total for c in counts) > 1e7
        class_bars(axis, labels, mixes, " {:.1f}" if long else " {:.2f}")
        axis.set(title=part, xlabel="million instructions")
        bars = (f"{rung.label} {rung.counts[part].total / 1e6:.2f}" for rung in rungs)
        panels.append(f"{part}: {', '.join(bars)}")
    legend_below(figure, axis, 4)
    words = "Bars of executed instructions, in millions, not time, cut by class. "
    return finish(figure, f"{words}{'; '.join(panels)}.")


def top_functions(counts: Counts, *, most: int = 8) -> Table:
    """Where the instructions were executed: share, function, library."""
    rows = [
        (
            f"{n / counts.total:.1%}",
            f"{n:,}",
            name if len(name) < 78 else f"{name[:36]} … {name[-38:]}",
            library,
        )
        for (library, name), n in counts.by_function()[:most]
    ]
    return Table(("share", "instructions", "function", "library"), rows)
