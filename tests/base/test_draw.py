"""What figures share: axes, frames, grids, numbers in cells."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.text import Text

from labkit.base import draw


def test_axes_are_open_and_images_framed() -> None:
    figure, axes = draw.subplots(1, 2, size=(4, 2))
    draw.image(axes[1], np.zeros((2, 3, 3), np.uint8), title="dark")
    shown = [[axis.spines[side].get_visible() for side in ("top", "left")] for axis in axes]
    assert shown == [[False, True], [True, True]]
    assert (axes[1].get_title(), list(axes[1].get_xticks())) == ("dark", [])
    _, axis = plt.subplots()
    assert axis.spines["top"].get_visible(), "other people's figures are as they were"
    plt.close()
    assert not plt.get_fignums(), "nobody else keeps our figures"
    assert figure.get_size_inches().tolist() == [4, 2]


def test_tiles_stand_in_rows_under_their_titles() -> None:
    pixels = np.zeros((2, 4, 3), np.uint8)
    figure, axes = draw.tiles([(name, pixels) for name in "abcde"], side=2, cols=3)
    figure.canvas.draw()
    assert [axis.get_title() for axis in axes] == list("abcde")
    boxes = [axis.get_position() for axis in axes]
    assert boxes[0].y0 == boxes[2].y0 > boxes[3].y1
    assert boxes[3].x0 == boxes[0].x0
    unused = [axis for axis in figure.axes if axis not in axes]
    assert [axis.axison for axis in unused] == [False]


def test_a_grid_of_patches_and_visual_tokens() -> None:
    _, axis = draw.subplots(size=(2, 2))
    draw.patch_grid(axis, 28, 56, {14: 0.3, 28: 1}, color="black")
    ruled = [
        (len(lines.get_segments()), lines.get_linewidth()[0])  # type: ignore[attr-defined]
        for lines in axis.collections
    ]
    assert ruled == [(3, 0.3), (5, 0.3), (2, 1), (3, 1)]
    ends = axis.collections[0].get_segments()[-1]
    assert ends.tolist() == [[-0.5, 27.5], [55.5, 27.5]]


def test_numbers_in_cells_can_be_read_on_their_ground() -> None:
    _, axis = draw.subplots(size=(2, 2))
    draw.table(axis, np.array([[0.1, 0.9]]), ["L0"], ["H0", "H1"], "{:.0%}".format, dark=0.5)
    written = [(text.get_text(), text.get_color(), text.get_position()) for text in axis.texts]
    assert written == [("10%", "white", (0, 0)), ("90%", "black", (1, 0))]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["H0", "H1"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["L0"]


def test_a_finished_figure_is_a_picture_with_its_words() -> None:
    figure, _ = draw.subplots(size=(2, 1))
    finished = draw.finish(figure, "Nothing.")
    assert finished.png.startswith(b"\x89PNG")
    assert repr(finished) == "[figure: Nothing.]"


@pytest.mark.parametrize("word", ["\x1f", "中文", r"$\unknown$", "a $5 or a $6 one"])
def test_every_word_can_be_drawn_as_it_is(word: str) -> None:
    figure, axis = draw.subplots(size=(2, 1))
    axis.set(yscale="log", ylim=(1, 1000), title=word)
    axis.set_xticks([0], [word])
    draw.finish(figure, word)
    ways = {text.get_text(): text.get_parse_math() for text in figure.findobj(Text)}
    assert ways[word] is False
    assert [text for text, math in ways.items() if math and "10^{3}" in text]


def test_stacked_bars_lie_one_behind_the_other_with_their_totals() -> None:
    _, axis = draw.subplots(size=(2, 2))
    parts = {"a": np.array([1.0, 4.0]), "b": np.array([2.0, 0.0])}
    cuts = draw.stacked_bars(axis, ["up", "down"], parts, [{"color": "red"}, {}], "{:.1f} MB")
    assert [[bar.get_x() for bar in cut] for cut in cuts] == [[0, 0], [1, 4]]
    assert [text.get_text() for text in axis.texts] == ["3.0 MB", "4.0 MB"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["up", "down"]
    bottom, top = axis.get_ylim()
    assert bottom > top, "the first bar lies on top"
