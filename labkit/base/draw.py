"""What the figures of all rooms share: colours, axes, images, numbers in cells.

Each ends in `finish`: a picture with its words.
"""

import io
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.text import Text

from labkit.base.show import Picture

CYCLE = [colormaps["viridis"](v) for v in (0.12, 0.42, 0.68, 0.9)]
POWER = r"$\mathdefault{"  # how matplotlib begins the number of a logarithmic axis


def subplots(
    rows: int = 1, cols: int = 1, *, size: tuple[float, float], **options: Any
) -> tuple[Figure, Any]:
    """A figure and its axes, as ``plt.subplots``; nothing overlaps, no box around the axes.

    It belongs to nobody else: no pyplot keeps it when drawing it fails.

    Parameters
    ----------
    size
        Width and height of the figure in inches.
    """
    figure = Figure(figsize=size, layout="constrained")
    with rc_context({"axes.spines.top": False, "axes.spines.right": False}):
        return figure, figure.subplots(rows, cols, **options)


def image(axis: Axes, pixels: np.ndarray, *, title: str = "", **options: Any) -> AxesImage:
    """Draw an image in a frame, without ticks; options as ``Axes.imshow``."""
    axis.spines[:].set_visible(True)
    axis.set(xticks=[], yticks=[], title=title)
    return axis.imshow(pixels, **options)


def tiles(
    images: Sequence[tuple[str, np.ndarray]], *, side: float, cols: int | None = None
) -> tuple[Figure, np.ndarray]:
    """Images of one shape in rows, each under its title; the figure, and the images' axes.

    Parameters
    ----------
    images
        Titles, and (height, width, 3).
    side
        Width of an image in inches; below three, titles are smaller.
    cols
        Images in a row; None puts all into one.
    """
    cols = cols or len(images)
    rows = -(-len(images) // cols)
    height, width = images[0][1].shape[:2]
    fontsize = 8 if side < 1.5 else 9 if side < 3 else 12
    lines = 1 + max(title.count("\n") for title, _ in images)
    size = side * cols, (side * height / width + lines * fontsize / 34) * rows
    figure, grid = subplots(rows, cols, size=size, squeeze=False)
    axes, unused = np.split(grid.ravel(), [len(images)])
    for axis in unused:
        axis.axis("off")
    for axis, (title, pixels) in zip(axes, images, strict=True):
        image(axis, pixels)
        axis.set_title(title, fontsize=fontsize)
    return figure, axes


def patch_grid(
    axis: Axes, height: int, width: int, lines: Mapping[int, float], *, color: str
) -> None:
    """Rule an image of ``height`` × ``width`` pixels.

    Parameters
    ----------
    lines
        Width of the lines by their distance in pixels.
    """
    for step, line in lines.items():
        style: dict[str, Any] = {"color": color, "linewidth": line}
        axis.hlines(np.arange(0, height + 1, step) - 0.5, -0.5, width - 0.5, **style)
        axis.vlines(np.arange(0, width + 1, step) - 0.5, -0.5, height - 0.5, **style)


def centred(axis: Axes, x: float, y: float, text: str, **options: Any) -> None:
    """Write a text whose middle stands at a place; options as ``Axes.text``."""
    axis.text(x, y, text, ha="center", va="center", **options)


def table(
    axis: Axes,
    values: np.ndarray,
    rows: Sequence[str],
    cols: Sequence[str],
    form: Callable[[Any], str],
    *,
    dark: float,
    **options: Any,
) -> AxesImage:
    """Draw numbers (rows, cols) as coloured cells that carry them; options as ``Axes.imshow``.

    Parameters
    ----------
    rows, cols
        What they are called.
    form
        From a number to what is written.
    dark
        Below it, it is written in white.
    """
    drawn = image(axis, values, **options)
    axis.set_xticks(range(len(cols)), cols)
    axis.set_yticks(range(len(rows)), rows)
    for (row, col), value in np.ndenumerate(values):
        colour = "white" if value < dark else "black"
        centred(axis, col, row, form(value), fontsize=8, color=colour)
    return drawn


def stacked_bars(
    axis: Axes,
    labels: Sequence[str],
    parts: Mapping[str, np.ndarray],
    styles: Iterable[Mapping[str, Any]],
    total: str,
) -> list[BarContainer]:
    """Lying bars, the first on top, cut into parts, with the total behind each.

    Parameters
    ----------
    axis
        Where.
    labels
        One for each bar.
    parts
        The length of each part in each bar, (bars,), by the part's name in the legend.
    styles
        For each part what matplotlib's ``barh`` takes: a colour, a hatch.
    total
        A format, such as ``" {:.2f} MB"``.

    Returns
    -------
    list
        The bars of each part, as matplotlib has them.
    """
    places, ends, cuts = range(len(labels)), np.zeros(len(labels)), []
    for (name, lengths), style in zip(parts.items(), styles, strict=True):
        cuts.append(axis.barh(places, lengths, left=ends, label=name, **style))
        ends = ends + lengths
    axis.bar_label(cuts[-1], [total.format(end) for end in ends], fontsize=9)
    axis.set_yticks(places, labels)
    axis.set_ylim(len(labels) - 0.5, -0.5)
    axis.margins(x=0.16)  # for the totals
    return cuts


def legend_below(figure: Figure, axis: Axes, cols: int) -> None:
    """Below a figure, in columns, what the marks on one of its axes mean."""
    marks = axis.get_legend_handles_labels()
    figure.legend(*marks, loc="outside lower center", ncols=cols, frameon=False, fontsize=9)


def finish(figure: Figure, alt: str) -> Picture:
    """Draw a figure to PNG: a label's dollars stay dollars, its unknown letters are boxes."""
    for axes in figure.axes:
        for axis in axes.xaxis, axes.yaxis:
            axis.get_ticklabels(which="both")  # has them written
    for text in figure.findobj(Text):
        text.set_parse_math(text.get_text().startswith(POWER))
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")
        figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight", facecolor="white")
    return Picture(buffer.getvalue(), alt)
