"""Figures and tables of the lessons. Every one carries its text for those who cannot see it."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from labkit.stats import wilson
from labkit.vision import FACTOR, PATCH_SIZE, merge_order

if TYPE_CHECKING:
    from labkit.mini.evaluate import Score
    from labkit.weights import QuantizedLinear

CYCLE = [plt.get_cmap("viridis")(v) for v in (0.12, 0.42, 0.68, 0.9)]


@dataclass(frozen=True)
class Picture:
    """A drawn figure with its alternative text; a notebook shows it as a cell's last value."""

    png: bytes
    alt: str

    def __repr__(self) -> str:
        return f"[figure: {self.alt}]"

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        text = {"image/png": base64.b64encode(self.png).decode(), "text/plain": repr(self)}
        return text, {"image/png": {"alt": self.alt}}


@dataclass(frozen=True)
class Table:
    """Rows under a header; text in a shell, a table in a notebook. Numbers are formatted by the caller."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __repr__(self) -> str:
        widths = [max(len(str(row[i])) for row in [self.header, *self.rows]) for i in range(len(self.header))]
        return "\n".join(
            "  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [self.header, *self.rows]
        )

    def _repr_html_(self) -> str:
        head = "".join(f"<th scope='col' style='text-align:left'>{html.escape(str(c))}</th>" for c in self.header)
        body = "".join(
            "<tr>" + "".join(f"<td style='text-align:left'>{html.escape(str(c))}</td>" for c in row) + "</tr>" for row in self.rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def finish(figure: Figure, alt: str) -> Picture:
    """Draw a figure to PNG and close it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight", facecolor="white")
    plt.close(figure)
    return Picture(buffer.getvalue(), alt)


def enlarged(image: Image.Image, alt: str, *, times: int = 3) -> Picture:
    """A small picture, each pixel ``times`` as large on a side, with its alternative text."""
    buffer = io.BytesIO()
    image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST).save(buffer, format="png")
    return Picture(buffer.getvalue(), alt)


def patches(pixels: np.ndarray) -> Picture:
    """A picture, its patches in the order of the sequence, and its visual tokens.

    Parameters
    ----------
    pixels
        (height, width, 3) uint8, both sides multiples of 28.
    """
    height, width = pixels.shape[:2]
    rows, cols = height // PATCH_SIZE, width // PATCH_SIZE
    figure, axes = plt.subplots(1, 3, figsize=(3.6 * 3, 3.6 * height / width + 0.5), layout="constrained")
    titles = (f"{width}×{height} pixels", f"{rows * cols} patches of 14×14, in order", f"{rows * cols // 4} visual tokens")
    for axis, title in zip(axes, titles, strict=True):
        axis.imshow(pixels, alpha=1 if axis is axes[0] else 0.45)
        axis.set_title(title)
        axis.set(xticks=[], yticks=[])
    order = merge_order(rows, cols)
    for place, number in enumerate(order):
        row, col = divmod(int(number), cols)
        axes[1].text((col + 0.5) * PATCH_SIZE - 0.5, (row + 0.5) * PATCH_SIZE - 0.5, str(place), ha="center", va="center", fontsize=8)
    _grid(axes[1], height, width, PATCH_SIZE, 0.4)
    _grid(axes[1], height, width, FACTOR, 1.6)
    _grid(axes[2], height, width, FACTOR, 1.6)
    for number in range(rows * cols // 4):
        row, col = divmod(number, cols // 2)
        axes[2].text((col + 0.5) * FACTOR - 0.5, (row + 0.5) * FACTOR - 0.5, str(number), ha="center", va="center", fontsize=13)
    alt = (
        f"Three views of one picture of {width}×{height} pixels: the picture; its {rows} by {cols} patches, numbered in blocks "
        "of two by two "
        f"(0 and 1 above 2 and 3, then the next block to the right); and its {rows // 2} by {cols // 2} visual tokens, one for each block."
    )
    return finish(figure, alt)


def _grid(axis: Any, height: int, width: int, step: int, line: float) -> None:
    for x in range(0, width + 1, step):
        axis.axvline(x - 0.5, color="black", linewidth=line)
    for y in range(0, height + 1, step):
        axis.axhline(y - 0.5, color="black", linewidth=line)


def sizes(bars: Mapping[str, Mapping[str, int]]) -> Picture:
    """Where the bytes go: one bar for each version, cut into parts.

    Parameters
    ----------
    bars
        For each version, bytes of each part; the same parts in each.
    """
    parts = list(next(iter(bars.values())))
    figure, axis = plt.subplots(figsize=(9, 0.75 * len(bars) + 1.2), layout="constrained")
    lefts = np.zeros(len(bars))
    for part, colour in zip(parts, CYCLE, strict=False):
        values = np.array([bar[part] for bar in bars.values()]) / 1e6
        axis.barh(list(bars), values, left=lefts, label=part, color=colour, edgecolor="white")
        for y, (left, value) in enumerate(zip(lefts, values, strict=True)):
            if value > 0.06 * max(sum(b.values()) for b in bars.values()) / 1e6:
                axis.text(
                    left + value / 2, y, f"{value:.2f}", ha="center", va="center", color="white" if colour[1] < 0.6 else "black", fontsize=9
                )
        lefts += values
    for y, total in enumerate(lefts):
        axis.text(total, y, f"  {total:.2f} MB", va="center")
    axis.invert_yaxis()
    axis.set_xlim(0, lefts.max() * 1.15)
    axis.set_xlabel("megabytes")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(loc="lower right", frameon=False)
    told = "; ".join(
        f"{name} {sum(bar.values()) / 1e6:.2f} MB (" + ", ".join(f"{p} {bar[p] / 1e6:.2f}" for p in parts) + ")"
        for name, bar in bars.items()
    )
    return finish(figure, f"Bars of the model's size by part: {told}.")


def block(weights: np.ndarray, quantized: QuantizedLinear) -> Picture:
    """One block of weights, and the levels that its codes can reach.

    Parameters
    ----------
    weights
        (block_size,) float32.
    quantized
        The same block, as a matrix of one row and one block.
    """
    levels = quantized.scale[0, 0] * np.arange(2**quantized.bits) + quantized.minimum[0, 0]
    near = quantized.dequantized()[0]
    error = float(np.abs(near - weights).max())
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(9.5, 4.6), height_ratios=(3, 1), sharex=True, layout="constrained")
    if len(levels) <= 16:
        top.hlines(levels, -1, len(weights), color="0.85", linewidth=0.8, zorder=0)
    x = np.arange(len(weights))
    top.vlines(x, weights, near, color=CYCLE[1], linewidth=1.5)
    top.plot(x, weights, "o", color=CYCLE[0], markersize=4, label="weight")
    top.plot(x, near, "_", color=CYCLE[2], markersize=9, markeredgewidth=2.5, label=f"nearest of {len(levels)} levels")
    top.legend(loc="upper right", ncols=2, frameon=True)
    top.set_ylabel("value")
    bottom.bar(x, near - weights, color=CYCLE[1])
    bottom.axhline(0, color="black", linewidth=0.8)
    for sign in (-1, 1):
        bottom.axhline(sign * quantized.scale[0, 0] / 2, color="0.5", linestyle="--", linewidth=0.8)
    bottom.set(ylabel="error", xlabel="weight within the block")
    alt = (
        f"{len(weights)} weights of one block as dots between {weights.min():.3f} and {weights.max():.3f}, each joined "
        f"to the nearest of {len(levels)} evenly spaced levels; "
        f"below, the errors, at most {error:.4f}, within half a step of {quantized.scale[0, 0]:.4f}."
    )
    return finish(figure, alt)


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
        axis.bar(x, share, wide * 0.92, yerr=whiskers, label=score.engine, color=colour, error_kw={"linewidth": 1, "ecolor": "0.3"})
        told.append(f"{score.engine} {counts[-1][0]} of {counts[-1][1]} right")
    axis.set_xticks(np.arange(len(tasks)), tasks)
    axis.set(ylim=(0, 1.05), ylabel="share right")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, 1.2), ncols=len(results), frameon=False)
    return finish(figure, f"Bars of right answers per task with intervals: {'; '.join(told)}.")
