"""Figures of what goes in and of what is stored: patches, sizes, one quantised block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from labkit.base.draw import CYCLE, finish, stacked_bars, subplots
from labkit.base.show import Picture
from labkit.model.vision import FACTOR, PATCH_SIZE, merge_order
from labkit.model.weights import QuantizedLinear


def patches(pixels: np.ndarray) -> Picture:
    """A picture, its patches in the order of the sequence, and its visual tokens.

    Parameters
    ----------
    pixels
        (height, width, 3) uint8, both sides multiples of 28.
    """
    height, width = pixels.shape[:2]
    rows, cols = height // PATCH_SIZE, width // PATCH_SIZE
    figure, axes = plt.subplots(
        1, 3, figsize=(3.6 * 3, 3.6 * height / width + 0.5), layout="constrained"
    )
    titles = (
        f"{width}×{height} pixels",
        f"{rows * cols} patches of 14×14, in order",
        f"{rows * cols // 4} visual tokens",
    )
    for axis, title in zip(axes, titles, strict=True):
        axis.imshow(pixels, alpha=1 if axis is axes[0] else 0.45)
        axis.set_title(title)
        axis.set(xticks=[], yticks=[])
    order = merge_order(rows, cols)
    for place, number in enumerate(order):
        row, col = divmod(int(number), cols)
        axes[1].text(
            (col + 0.5) * PATCH_SIZE - 0.5,
            (row + 0.5) * PATCH_SIZE - 0.5,
            str(place),
            ha="center",
            va="center",
            fontsize=8,
        )
    _grid(axes[1], height, width, PATCH_SIZE, 0.4)
    _grid(axes[1], height, width, FACTOR, 1.6)
    _grid(axes[2], height, width, FACTOR, 1.6)
    for number in range(rows * cols // 4):
        row, col = divmod(number, cols // 2)
        axes[2].text(
            (col + 0.5) * FACTOR - 0.5,
            (row + 0.5) * FACTOR - 0.5,
            str(number),
            ha="center",
            va="center",
            fontsize=13,
        )
    alt = (
        f"Three views of one picture of {width}×{height} pixels: the picture; its {rows} by "
        f"{cols} patches, numbered in blocks "
        "of two by two "
        f"(0 and 1 above 2 and 3, then the next block to the right); and its {rows // 2} by "
        f"{cols // 2} visual tokens, one for each block."
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
    names = list(next(iter(bars.values())))
    parts = {name: np.array([bar[name] for bar in bars.values()]) / 1e6 for name in names}
    longest = max(sum(bar.values()) for bar in bars.values()) / 1e6
    figure, axis = subplots(size=(9, 0.75 * len(bars) + 1.2))
    styles = [{"color": colour, "edgecolor": "white"} for colour in CYCLE[: len(parts)]]
    cuts = stacked_bars(axis, list(bars), parts, styles, "  {:.2f} MB")
    for cut, values, colour in zip(cuts, parts.values(), CYCLE, strict=False):
        wide_enough = [f"{v:.2f}" if v > 0.06 * longest else "" for v in values]
        ink = "white" if colour[1] < 0.6 else "black"
        axis.bar_label(cut, wide_enough, label_type="center", color=ink, fontsize=9)
    axis.set_xlabel("megabytes")
    axis.legend(loc="lower right", frameon=False)
    told = "; ".join(
        f"{name} {sum(bar.values()) / 1e6:.2f} MB ("
        + ", ".join(f"{p} {bar[p] / 1e6:.2f}" for p in names)
        + ")"
        for name, bar in bars.items()
    )
    return finish(figure, f"Bars of the model's size by part: {told}.")


def block_levels(weights: np.ndarray, quantized: QuantizedLinear) -> Picture:
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
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(9.5, 4.6), height_ratios=(3, 1), sharex=True, layout="constrained"
    )
    if len(levels) <= 16:
        top.hlines(levels, -1, len(weights), color="0.85", linewidth=0.8, zorder=0)
    x = np.arange(len(weights))
    top.vlines(x, weights, near, color=CYCLE[1], linewidth=1.5)
    top.plot(x, weights, "o", color=CYCLE[0], markersize=4, label="weight")
    top.plot(
        x,
        near,
        "_",
        color=CYCLE[2],
        markersize=9,
        markeredgewidth=2.5,
        label=f"nearest of {len(levels)} levels",
    )
    top.legend(loc="upper right", ncols=2, frameon=True)
    top.set_ylabel("value")
    bottom.bar(x, near - weights, color=CYCLE[1])
    bottom.axhline(0, color="black", linewidth=0.8)
    for sign in (-1, 1):
        bottom.axhline(sign * quantized.scale[0, 0] / 2, color="0.5", linestyle="--", linewidth=0.8)
    bottom.set(ylabel="error", xlabel="weight within the block")
    alt = (
        f"{len(weights)} weights of one block as dots between {weights.min():.3f} and "
        f"{weights.max():.3f}, each joined "
        f"to the nearest of {len(levels)} evenly spaced levels; "
        f"below, the errors, at most {error:.4f}, within half a step of "
        f"{quantized.scale[0, 0]:.4f}."
    )
    return finish(figure, alt)
