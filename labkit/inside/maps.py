"""What figures of a look are made of: maps over its picture."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from labkit.base.draw import tiles
from labkit.inside.looks import Inside

OPACITY = 0.72


def over(axis: Axes, pixels: np.ndarray, values: np.ndarray, **options: Any) -> None:
    """Draw a map over the picture that an axis shows, cell for cell.

    Parameters
    ----------
    values
        (rows, cols), or with colours last.
    options
        As ``Axes.imshow``.
    """
    height, width = pixels.shape[:2]
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    style = {"alpha": OPACITY, "vmin": 0, "interpolation": "nearest", **options}
    axis.imshow(values, extent=extent, **style)


def outline(axis: Axes, row: int, col: int, side: int = 1) -> None:
    """Outline one cell of so many pixels a side, in black and white, to be seen on any ground."""
    corner = col * side - 0.5, row * side - 0.5
    for line, colour in ((3.0, "black"), (1.4, "white")):
        axis.add_patch(Rectangle(corner, side, side, fill=False, linewidth=line, edgecolor=colour))


def panels(
    inside: Inside,
    maps: Sequence[tuple[str, np.ndarray | None]],
    *,
    side: float,
    cols: int | None = None,
    query: int | None = None,
    **options: Any,
) -> tuple[Figure, np.ndarray]:
    """Maps in rows of panels, each over the picture and under its title.

    Parameters
    ----------
    maps
        Titles and what they stand above: (n_cells,), with colours last, or None for the picture
        alone.
    side, cols
        As `labkit.base.draw.tiles`.
    query
        A cell to outline in each.
    options
        As ``Axes.imshow``, for the maps.
    """
    pictures = [(title, inside.pixels) for title, _ in maps]
    figure, axes = tiles(pictures, side=side, cols=cols)
    for axis, (_, values) in zip(axes, maps, strict=True):
        if values is not None:
            cells = values.reshape(*inside.grid, *values.shape[1:])
            over(axis, inside.pixels, cells, **options)
        if query is not None:
            outline(axis, *divmod(query, inside.cols), inside.cell)
    return figure, axes
