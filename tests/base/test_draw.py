"""Shared pieces of figures."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np

from labkit.base.draw import stacked_bars


def test_stacked_bars_lie_one_behind_the_other_with_their_totals() -> None:
    figure, axis = plt.subplots()
    parts = {"a": np.array([1.0, 4.0]), "b": np.array([2.0, 0.0])}
    cuts = stacked_bars(axis, ["up", "down"], parts, [{"color": "red"}, {}], "{:.1f} MB")
    lefts = [[bar.get_x() for bar in cut] for cut in cuts]
    assert lefts == [[0, 0], [1, 4]]
    assert [text.get_text() for text in axis.texts] == ["3.0 MB", "4.0 MB"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["up", "down"]
    bottom, top = axis.get_ylim()
    assert bottom > top, "the first bar lies on top"
    plt.close(figure)
