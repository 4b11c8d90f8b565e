"""What the figures of all rooms share: colours, and the way from a figure to a picture with its words."""

from __future__ import annotations

import io

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from labkit.base.show import Picture

CYCLE = [plt.get_cmap("viridis")(v) for v in (0.12, 0.42, 0.68, 0.9)]


def finish(figure: Figure, alt: str) -> Picture:
    """Draw a figure to PNG and close it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight", facecolor="white")
    plt.close(figure)
    return Picture(buffer.getvalue(), alt)
