"""Figures of scores."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from labkit.base.draw import CYCLE, finish, legend_below, subplots
from labkit.base.show import Picture
from labkit.base.stats import wilson
from labkit.proof.evaluate import Score
from labkit.proof.tradeoffs import Measured, frontier


def scores(results: Sequence[Score]) -> Picture:
    """Share of right answers per task, side by side, with intervals (Wilson, 95 %)."""
    tasks = dict.fromkeys(outcome.task for outcome in results[0].outcomes)
    figure, axis = subplots(size=(10, 3.6))
    width, summary = 0.8 / len(results), []
    for number, (score, colour) in enumerate(zip(results, CYCLE, strict=False)):
        counts = [score.accuracy(task) for task in (*tasks, None)]
        share = np.array([right / total for right, total in counts])
        low, high = np.array([wilson(right, total) for right, total in counts]).T
        axis.bar(
            np.arange(len(counts)) + (number - (len(results) - 1) / 2) * width,
            share,
            width * 0.92,
            yerr=np.clip([share - low, high - share], 0, None),
            label=score.engine,
            color=colour,
            error_kw={"linewidth": 1, "ecolor": "0.3"},
        )
        summary.append(f"{score.engine} {counts[-1][0]} of {counts[-1][1]} right")
    axis.set_xticks(range(len(tasks) + 1), [*tasks, "all"])
    axis.set(ylim=(0, 1.05), ylabel="share right")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, 1.2), ncols=len(results), frameon=False)
    return finish(figure, f"Bars of right answers per task with intervals: {'; '.join(summary)}.")


# Shape says whether KleidiAI's kernels take a point, colour whether it is on the frontier.
MARKS: dict[str, dict[str, Any]] = {
    "KleidiAI's kernels take every linear layer": {"marker": "o", "markersize": 8},
    "not every one": {"marker": "s", "markersize": 6, "markerfacecolor": "white"},
}


def pareto(parts: Mapping[str, Sequence[Measured]]) -> Picture:
    """Size against right answers, a panel for each part; whiskers are paired 95 % intervals.

    Parameters
    ----------
    parts
        By title, the points of one part, first the one that the others are compared with.
    """
    figure, grid = subplots(1, len(parts), size=(5.6 * len(parts), 4.4), squeeze=False, sharey=True)
    alt = []
    for axis, (title, rows) in zip(grid[0], parts.items(), strict=True):
        best, edge = frontier(rows), []
        for row in sorted(rows, key=lambda row: row in best):  # the frontier on top
            y, low, high = (100 * share for share in row.against(rows[0]))
            look = list(MARKS.values())[not row.taken]
            around = None if row is rows[0] else [[y - low], [high - y]]
            place, colour = (row.bytes / 1e6, y), CYCLE[0] if row in best else "0.65"
            axis.errorbar(*place, yerr=around, color=colour, linewidth=1.2, **look)
            edge += [place] * (row in best)
            if row in (*best, rows[0]):
                beside = {"xytext": (4, 6), "textcoords": "offset points", "fontsize": 9}
                axis.annotate(str(row.point), place, **beside)
        axis.axhline(0, color="0.8", linewidth=1, zorder=0)
        axis.set(title=title, xlabel="weights, MB")
        words = (
            f"{row.point} {row.bytes / 1e6:.2f} MB {100 * row.against(rows[0])[0]:+.1f}"
            for row in best
        )
        alt.append(f"{title}, on the frontier of {len(rows)} points {', '.join(words)}")
        axis.step(
            *zip(*sorted(edge), strict=True),
            where="post",
            color=CYCLE[0],
            label="dark: the frontier",
        )
    for label, look in MARKS.items():
        axis.plot([], [], color="0.3", linestyle="none", label=label, **look)
    grid[0][0].set(ylabel="right answers beside float16, points of 100")
    legend_below(figure, axis, 3)
    return finish(figure, f"Size against right answers, with intervals: {'; '.join(alt)}.")
