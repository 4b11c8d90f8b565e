"""Figures of scores."""

from collections.abc import Mapping, Sequence

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


TAKEN = {"label": "KleidiAI's kernels take it", "marker": "o", "markersize": 8}
NOT_TAKEN = {"label": "they do not", "marker": "s", "markersize": 6, "markerfacecolor": "white"}


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
        best = frontier(rows)
        for row in rows:
            difference, low, high = (100 * share for share in row.against(rows[0]))
            look = TAKEN if row.layers.get("") else NOT_TAKEN
            colour = CYCLE[0] if row in best else "0.6"
            around = [[difference - low], [high - difference]] if row is not rows[0] else None
            place = row.bytes / 1e6, difference
            axis.errorbar(*place, yerr=around, color=colour, linewidth=1.2, **look)
            if row in best:
                beside = {"xytext": (5, 7), "textcoords": "offset points", "fontsize": 9}
                axis.annotate(str(row.point), place, **beside)
        line = [(row.bytes / 1e6, 100 * row.against(rows[0])[0]) for row in best]
        axis.step(*zip(*line, strict=True), where="post", color=CYCLE[0], linewidth=1, zorder=0)
        axis.axhline(0, color="0.8", linewidth=1, zorder=0)
        axis.set(title=title, xlabel="weights, MB")
        edge = ", ".join(
            f"{row.point} {x:.2f} MB {y:+.1f}" for row, (x, y) in zip(best, line, strict=True)
        )
        alt.append(f"{title}, {len(rows)} points, on the frontier {edge}")
    grid[0][0].set(ylabel="right answers beside float16, points of 100")
    axis.errorbar([], [], color="0.3", linestyle="none", **TAKEN)
    legend_below(figure, axis, 2)
    return finish(figure, f"Size against right answers. {'; '.join(alt)}.")
