"""Figures of what goes in and of what is stored: patches, sizes, one quantised block."""

from collections.abc import Mapping

import numpy as np

from labkit.base.draw import CYCLE, centred, finish, image, patch_grid, stacked_bars, subplots
from labkit.base.show import Picture
from labkit.model.vision import FACTOR, PATCH_SIZE, grid, merge_order
from labkit.model.weights import QuantizedLinear


def patches(pixels: np.ndarray) -> Picture:
    """A picture, its patches in the order of the sequence, and its visual tokens.

    Parameters
    ----------
    pixels
        (height, width, 3) uint8, both sides multiples of 28.
    """
    height, width = pixels.shape[:2]
    rows, cols = grid(pixels)
    figure, axes = subplots(1, 3, size=(10.8, 3.6 * height / width + 0.5))
    image(axes[0], pixels, title=f"{width}×{height} pixels")
    patches_, tokens = (
        f"{rows * cols} patches of 14×14, in order",
        f"{rows * cols // 4} visual tokens",
    )
    for axis, title, cell, order, lines, fontsize in (
        (axes[1], patches_, PATCH_SIZE, merge_order(rows, cols), {PATCH_SIZE: 0.4, FACTOR: 1.6}, 8),
        (axes[2], tokens, FACTOR, np.arange(rows * cols // 4), {FACTOR: 1.6}, 13),
    ):
        image(axis, pixels, title=title, alpha=0.45)
        patch_grid(axis, height, width, lines, color="black")
        y, x = (np.divmod(order, width // cell) + np.array(0.5)) * cell - 0.5
        for number in range(len(order)):
            centred(axis, x[number], y[number], str(number), fontsize=fontsize)
    alt = (
        f"Three views of one picture of {width}×{height} pixels: the picture; its {rows} by {cols} "
        "patches, numbered in blocks of two by two (0 and 1 above 2 and 3, then the next block to "
        f"the right); and its {rows // 2} by {cols // 2} visual tokens, one for each block."
    )
    return finish(figure, alt)


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
    totals = [
        f"{version} {sum(bar.values()) / 1e6:.2f} MB "
        f"({', '.join(f'{part} {bar[part] / 1e6:.2f}' for part in names)})"
        for version, bar in bars.items()
    ]
    return finish(figure, f"Bars of the model's size by part: {'; '.join(totals)}.")


def block_levels(weights: np.ndarray, quantized: QuantizedLinear) -> Picture:
    """One block of weights, and the levels that its codes can reach.

    Parameters
    ----------
    weights
        (block_size,) float32.
    quantized
        The same block, as a matrix of one row and one block.
    """
    step, lowest = quantized.scale[0, 0], quantized.minimum[0, 0]
    levels = step * np.arange(2**quantized.bits) + lowest
    nearest = quantized.dequantized()[0]
    errors, places = nearest - weights, np.arange(len(weights))
    figure, (top, bottom) = subplots(2, 1, size=(9.5, 4.6), height_ratios=(3, 1), sharex=True)
    if len(levels) <= 16:
        top.hlines(levels, -1, len(weights), color="0.85", linewidth=0.8, zorder=0)
    top.vlines(places, weights, nearest, color=CYCLE[1], linewidth=1.5)
    top.plot(places, weights, "o", color=CYCLE[0], markersize=4, label="weight")
    label = f"nearest of {len(levels)} levels"
    top.plot(places, nearest, "_", color=CYCLE[2], markersize=9, markeredgewidth=2.5, label=label)
    top.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
    top.set_ylabel("value")
    bottom.bar(places, errors, color=CYCLE[1])
    bottom.axhline(0, color="black", linewidth=0.8)
    for half_a_step in (-step / 2, step / 2):
        bottom.axhline(half_a_step, color="0.5", linestyle="--", linewidth=0.8)
    bottom.set(ylabel="error", xlabel="weight within the block")
    alt = (
        f"{len(weights)} weights of one block as dots between {weights.min():.3f} and "
        f"{weights.max():.3f}, each joined to the nearest of {len(levels)} evenly spaced levels; "
        f"below, the errors, at most {np.abs(errors).max():.4f}, within half a step of {step:.4f}."
    )
    return finish(figure, alt)
