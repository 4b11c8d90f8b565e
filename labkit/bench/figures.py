"""Pictures of a benchmark: speed-ups with their intervals, and every value in the order in which it was measured."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from labkit.base.draw import CYCLE, finish
from labkit.base.show import Picture
from labkit.base.stats import MARGIN
from labkit.bench.results import Comparison, amount

MARKS = {
    "faster": ("o", "full"),
    "slower": ("s", "full"),
    "undecided": ("D", "none"),
}  # shape too: colour is not for everyone
APART = 5  # sides further apart than this share a logarithmic axis
SIDES = ((CYCLE[0], "o", "full"), (CYCLE[2], "s", "none"))


def forest(rows: Sequence[Comparison]) -> Picture:
    """The speed-up of each row as a mark in its interval, on a logarithmic axis; the line at 1 is no difference.

    Parameters
    ----------
    rows
        Of one machine (`labkit.bench.results.BenchResult.rows`).
    """
    figure, axis = plt.subplots(figsize=(9, 0.42 * len(rows) + 1.3), layout="constrained")
    axis.axvspan(1 - MARGIN, 1 + MARGIN, color="0.88", zorder=0)
    axis.axvline(1, color="0.35", linewidth=1)
    found = [row.ratio for row in rows]
    for y, ratio in enumerate(found):
        marker, fill = MARKS[ratio.verdict]
        colour = "0.4" if ratio.verdict == "undecided" else CYCLE[0]
        axis.plot(
            [ratio.low, ratio.high], [y, y], color=colour, linewidth=2.2, solid_capstyle="butt"
        )
        axis.plot(
            [ratio.low, ratio.high], [y, y], "|", color=colour, markersize=9, markeredgewidth=1.6
        )
        axis.plot(
            ratio.speedup,
            y,
            marker,
            color=colour,
            fillstyle=fill,
            markersize=7,
            markerfacecoloralt="white",
        )
        axis.annotate(
            f"{ratio}  {ratio.verdict}",
            (1.01, y),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=9,
        )
    low, high = min(0.9, *(r.low for r in found)), max(1.1, *(r.high for r in found))
    axis.set_xscale("log")
    axis.set(
        xlim=(low / 1.04, high * 1.04),
        ylim=(len(rows) - 0.4, -0.6),
        xlabel="speed-up: above 1 the candidate is faster",
    )
    ticks = [
        t
        for t in (
            0.1,
            0.2,
            0.5,
            0.7,
            0.8,
            0.9,
            1,
            1.1,
            1.25,
            1.5,
            2,
            3,
            5,
            10,
            20,
            50,
            100,
            200,
            500,
        )
        if low / 1.04 <= t <= high * 1.04
    ]
    axis.set_xticks(_apart(ticks, high / low))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}×"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_yticks(
        range(len(rows)),
        [f"{row.part}: {row.baseline.side.label} → {row.candidate.side.label}" for row in rows],
    )
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(left=False)
    told = "; ".join(
        f"{row.part}, {row.baseline.side.label} to {row.candidate.side.label}: {ratio}, {ratio.verdict}"
        for row, ratio in zip(rows, found, strict=True)
    )
    return finish(
        figure, f"Speed-ups with 95 % intervals; above 1 the candidate is faster. {told}."
    )


def _apart(ticks: list[float], span: float) -> list[float]:
    """Ticks far enough from each other to be read, 1 among them."""
    kept = [1.0]
    for tick in sorted(ticks, key=lambda t: abs(np.log(t))):
        if all(abs(np.log(tick / other)) > 0.1 * np.log(span) for other in kept):
            kept.append(tick)
    return sorted(kept)


def values(rows: Sequence[Comparison]) -> Picture:
    """Every value of each row in the order of measurement, both sides, with their medians: drift and outliers show.

    Parameters
    ----------
    rows
        The parts of one comparison.
    """
    figure, grid = plt.subplots(
        1, len(rows), figsize=(3.1 * len(rows) + 0.6, 2.9), layout="constrained", squeeze=False
    )
    told = []
    for axis, row in zip(grid[0], rows, strict=True):
        both = (row.baseline, row.candidate)
        largest = max(max(m.values_s) for m in both)
        unit, scale = (
            ("s", 1.0) if largest >= 1 else ("ms", 1e3) if largest >= 1e-3 else ("µs", 1e6)
        )
        for side, measured in enumerate(both):
            colour, marker, fill = SIDES[side]
            # Within a pair, what ran first stands left of the pair's number.
            x = np.array(
                [
                    i + 1 + (-0.15 if (pair[0] == "AB"[side]) else 0.15)
                    for i, pair in enumerate(row.order)
                ]
            )
            axis.plot(
                x,
                np.array(measured.values_s) * scale,
                marker,
                color=colour,
                fillstyle=fill,
                markersize=5,
                label=measured.side.label,
            )
            axis.axhline(
                measured.median_s * scale, color=colour, linewidth=1, linestyle=("-", "--")[side]
            )
        axis.set(title=row.part, xlabel="pair", ylabel=f"{unit} a pass")
        if 1 / APART < row.ratio.speedup < APART:
            axis.set(ylim=(0, largest * scale * 1.08))
        else:  # on a common scale the smaller side would be a flat line
            axis.set(yscale="log", ylabel=f"{unit} a pass, logarithmic")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.spines[["top", "right"]].set_visible(False)
        spans = [
            f"{m.side.label} {amount(min(m.values_s))} to {amount(max(m.values_s))}, median {amount(m.median_s)}"
            for m in both
        ]
        told.append(f"{row.part}: {'; '.join(spans)}")
    figure.legend(
        *grid[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False
    )
    return finish(
        figure,
        f"Every value of {len(rows[0].order)} pairs in the order of measurement. {'. '.join(told)}.",
    )
