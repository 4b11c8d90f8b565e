"""Pictures of a benchmark: speed-ups in their intervals, and every value in its order."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from labkit.base.draw import CYCLE, finish, legend_below, subplots
from labkit.base.show import Picture
from labkit.base.stats import MARGIN
from labkit.bench.predict import Prediction
from labkit.bench.rows import Comparison, amount, unit_of
from labkit.bench.work import Achieved
from labkit.kernels.roof import KINDS, Roof, giga

# Shape too: colour is not for everyone.
MARKS: dict[str, dict[str, Any]] = {
    "faster": {"marker": "o", "color": CYCLE[0]},
    "slower": {"marker": "s", "color": CYCLE[0]},
    "undecided": {"marker": "D", "color": "0.4", "markerfacecolor": "white"},
}
PART_MARKS = {"vision": "o", "prefill": "s", "decode": "^"}
SIDES: tuple[dict[str, Any], ...] = (
    {"marker": "o", "color": CYCLE[0]},
    {"marker": "s", "color": CYCLE[2], "fillstyle": "none"},
)
EVIDENCE = {"rules": "D", "counts": "o", "static": "s", "counts × static": "v", "roof": "^"}
APART = 5  # sides further apart than this share a logarithmic axis


def forest(rows: Sequence[Comparison]) -> Picture:
    """The speed-up of each row as a mark in its interval, on a logarithmic axis.

    The line at 1 is no difference.

    Parameters
    ----------
    rows
        Of one machine (`labkit.bench.results.BenchResult.rows`).
    """
    figure, axis = subplots(size=(9, 0.42 * len(rows) + 1.3))
    axis.axvspan(1 - MARGIN, 1 + MARGIN, color="0.88", zorder=0)
    axis.axvline(1, color="0.35", linewidth=1)
    names, alt = [], []
    for y, row in enumerate(rows):
        ratio, before, after = row.ratio, row.baseline.side.label, row.candidate.side.label
        around = [[ratio.speedup - ratio.low], [ratio.high - ratio.speedup]]
        whiskers = {"markersize": 7, "linewidth": 2.2, "capsize": 4.5, "capthick": 1.6}
        axis.errorbar(ratio.speedup, y, xerr=around, **whiskers, **MARKS[ratio.verdict])
        beside = {"transform": axis.get_yaxis_transform(), "va": "center", "fontsize": 9}
        axis.text(1.01, y, f"{ratio}  {ratio.verdict}", **beside)
        names.append(f"{row.part}: {before} → {after}")
        alt.append(f"{row.part}, {before} to {after}: {ratio}, {ratio.verdict}")
    low = min(0.9, *(row.ratio.low for row in rows)) / 1.04
    high = max(1.1, *(row.ratio.high for row in rows)) * 1.04
    axis.set(xscale="log", xlim=(low, high), ylim=(len(rows) - 0.4, -0.6))
    axis.set(xlabel="speed-up: above 1 the candidate is faster")
    few = MaxNLocator(5) if high < 4 * low else LogLocator(subs=(1, 2, 5))
    axis.xaxis.set(major_locator=few, major_formatter="{x:g}×", minor_locator=NullLocator())
    axis.set_yticks(range(len(rows)), names)
    axis.spines["left"].set_visible(False)
    axis.tick_params(left=False)
    words = "Speed-ups with 95 % intervals; above 1 the candidate is faster."
    return finish(figure, f"{words} {'; '.join(alt)}.")


def values(rows: Sequence[Comparison]) -> Picture:
    """Every value of each row in the order of measurement, with medians: drift and outliers show.

    Parameters
    ----------
    rows
        The parts of one comparison.
    """
    figure, grid = subplots(1, len(rows), size=(3.1 * len(rows) + 0.6, 2.9), squeeze=False)
    alt = []
    for axis, row in zip(grid[0], rows, strict=True):
        largest = max(*row.baseline.values_s, *row.candidate.values_s)
        unit, scale = unit_of(largest)
        spans = []
        for measured, side, line, look in zip(row.both, "AB", ("-", "--"), SIDES, strict=True):
            taken, median = np.array(measured.values_s), measured.median_s
            # Within a pair, what ran first stands left of the pair's number.
            first = np.array([pair[0] == side for pair in row.order])
            x = np.arange(1, len(first) + 1) + np.where(first, -0.15, 0.15)
            label = measured.side.label
            axis.plot(x, taken * scale, linestyle="none", markersize=5, label=label, **look)
            axis.axhline(median * scale, color=look["color"], linewidth=1, linestyle=line)
            shown = f"{amount(taken.min())} to {amount(taken.max())}"
            spans.append(f"{label} {shown}, median {amount(median)}")
        axis.set(title=row.part, xlabel="pair", ylabel=f"{unit} a pass")
        if 1 / APART < row.ratio.speedup < APART:
            axis.set(ylim=(0, largest * scale * 1.08))
        else:  # on a common scale the smaller side would be a flat line
            axis.set(yscale="log", ylabel=f"{unit} a pass, logarithmic")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        alt.append(f"{row.part}: {'; '.join(spans)}")
    legend_below(figure, axis, 2)
    words = f"Every value of {len(rows[0].order)} pairs in the order of measurement."
    return finish(figure, f"{words} {'. '.join(alt)}.")


def roofline(roof: Roof, done: Sequence[Achieved] = ()) -> Picture:
    """Operations a second over operations to a byte, both logarithmic: the roof, and what was
    achieved under it.

    Parameters
    ----------
    done
        From `labkit.bench.work.achieved`; an engine has a colour, a part a mark.
    """
    figure, axis = subplots(size=(9, 5.2))
    least = min([one.work.intensity for one in done], default=1) / 3
    most = max([one.work.intensity for one in done], default=1e3) * 3
    x, alt = np.geomspace(least, most, 200), []
    memory, lines = roof.peaks["memory"].median, ("-", "--")
    for kind, line in zip([kind for kind in roof.peaks if kind != "memory"], lines, strict=False):
        peak = roof.peaks[kind].median
        axis.plot(x, np.minimum(peak, x * memory) / 1e9, line, color="0.3", linewidth=1.4)
        words = f"{KINDS[kind][0]}, {giga(peak)} GOP/s"
        axis.text(most, peak / 1e9, f" {words}", va="center", fontsize=9)
        alt.append(words)
    alt.append(f"memory {giga(memory)} GB/s")
    axis.text(1.6 * least, 1.1 * least * memory / 1e9, alt[-1], fontsize=9)
    engines = list(dict.fromkeys(one.engine for one in done))
    for one in done:
        colour = CYCLE[engines.index(one.engine) % len(CYCLE)]
        look = {"color": colour, "markeredgecolor": "black", "markersize": 8}
        axis.plot(one.work.intensity, one.rate / 1e9, PART_MARKS[one.part], **look)
        share = one.rate / roof.at(one.work.intensity)
        alt.append(f"{one.part}, {one.engine}: {giga(one.rate)} GOP/s, {share:.0%} of the roof")
    for engine, colour in zip(engines, CYCLE, strict=False):
        axis.plot([], [], "D", color=colour, label=engine)
    for part in dict.fromkeys(one.part for one in done):
        axis.plot([], [], PART_MARKS[part], color="white", markeredgecolor="black", label=part)
    axis.set(xscale="log", yscale="log", xlim=(least, most))
    axis.set(xlabel="operations to a byte from memory", ylabel="GOP/s")
    if done:
        legend_below(figure, axis, 4)
    return finish(figure, f"The roof of this machine on {roof.threads} threads: {'; '.join(alt)}.")


def predicted(
    predictions: Sequence[Prediction], measured: Mapping[str, float] | None = None
) -> Picture:
    """The range of each prediction, with a mark for each kind of evidence in it, on a logarithmic
    axis; and a star for what was measured, by part.
    """
    figure, axis = subplots(size=(9, 0.42 * len(predictions) + 1.6))
    axis.axvline(1, color="0.35", linewidth=1)
    names, alt, seen = [], [], [1.0]
    for y, one in enumerate(predictions):
        names.append(f"{one.part}: {one.device}")
        alt.append(f"{names[-1]}, predicted {one.range or 'nothing'}")
        if one.range:
            seen += [one.range.low, one.range.high]
            axis.plot(seen[-2:], [y, y], color="0.82", linewidth=11, solid_capstyle="butt")
        for estimate in one.estimates:
            spread = np.unique([estimate.low, estimate.high])
            colour = CYCLE[list(EVIDENCE).index(estimate.evidence) % len(CYCLE)]
            look = {"color": colour, "markeredgecolor": "black", "linewidth": 1.2}
            axis.plot(spread, spread * 0 + y, f"-{EVIDENCE[estimate.evidence]}", **look)
        if measured and one.part in measured:
            seen.append(measured[one.part])
            axis.plot(seen[-1], y, "*", color="black", markersize=13)
            alt[-1] += f", measured {seen[-1]:.2f}×"
    for evidence in dict.fromkeys(e.evidence for one in predictions for e in one.estimates):
        colour = CYCLE[list(EVIDENCE).index(evidence) % len(CYCLE)]
        axis.plot([], [], EVIDENCE[evidence], color=colour, markeredgecolor="black", label=evidence)
    if measured:
        axis.plot([], [], "*", color="black", markersize=13, linestyle="none", label="measured")
    axis.set(xscale="log", ylim=(len(names) - 0.4, -0.6))
    axis.set(xlabel="speed-up: above 1 KleidiAI is faster")
    ticks = [0.5, 0.6, 0.7, 0.8, 1, 1.2, 1.5, 2, 3, 4]
    axis.set_xticks(ticks, [f"{tick:g}×" for tick in ticks])
    axis.xaxis.set(minor_locator=NullLocator())
    axis.set(xlim=(min(seen) / 1.1, max(seen) * 1.1))
    axis.set_yticks(range(len(names)), names)
    legend_below(figure, axis, 6)
    return finish(figure, f"Predicted speed-ups; above 1 KleidiAI is faster. {'; '.join(alt)}.")
