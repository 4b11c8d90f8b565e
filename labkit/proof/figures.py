"""Figures of scores."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np

from labkit.base.draw import CYCLE, finish
from labkit.base.show import Picture
from labkit.base.stats import wilson
from labkit.proof.evaluate import Score


def scores(results: Sequence[Score]) -> Picture:
    """Share of right answers per task, side by side, with intervals (Wilson, 95 %)."""
    tasks = [*dict.fromkeys(o.task for o in results[0].outcomes), "all"]
    figure, axis = plt.subplots(figsize=(10, 3.6), layout="constrained")
    wide = 0.8 / len(results)
    told = []
    for number, (score, colour) in enumerate(zip(results, CYCLE, strict=False)):
        counts = [score.accuracy(None if task == "all" else task) for task in tasks]
        share = np.array([right / total for right, total in counts])
        low, high = np.array([wilson(right, total) for right, total in counts]).T
        x = np.arange(len(tasks)) + (number - (len(results) - 1) / 2) * wide
        whiskers = np.clip(np.stack([share - low, high - share]), 0, None)
        axis.bar(
            x,
            share,
            wide * 0.92,
            yerr=whiskers,
            label=score.engine,
            color=colour,
            error_kw={"linewidth": 1, "ecolor": "0.3"},
        )
        told.append(f"{score.engine} {counts[-1][0]} of {counts[-1][1]} right")
    axis.set_xticks(np.arange(len(tasks)), tasks)
    axis.set(ylim=(0, 1.05), ylabel="share right")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, 1.2), ncols=len(results), frameon=False)
    return finish(figure, f"Bars of right answers per task with intervals: {'; '.join(told)}.")
