"""Figures of scores."""

from collections.abc import Sequence

import numpy as np

from labkit.base.draw import CYCLE, finish, subplots
from labkit.base.show import Picture
from labkit.base.stats import wilson
from labkit.proof.evaluate import Score


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
