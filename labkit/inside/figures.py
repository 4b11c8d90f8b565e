"""Figures of what stands inside: patches, positions, attention. Each carries its text, made from its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from labkit.base.draw import CYCLE, finish
from labkit.base.errors import ProbeError
from labkit.base.show import Picture
from labkit.inside.attention import (
    attention_distance,
    attention_entropy,
    attention_received,
    attention_rollout,
    rope_2d,
    rotate,
)
from labkit.inside.looks import Inside, Look, Reading

OPACITY = 0.72


def _over(
    axis: Axes,
    inside: Inside,
    values: np.ndarray,
    grid: tuple[int, int],
    *,
    cmap: str = "viridis",
    vmin: float = 0,
    vmax: float | None = None,
) -> AxesImage:
    """Draw a map over the picture, cell for cell."""
    height, width = inside.pixels.shape[:2]
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axis.imshow(inside.pixels, extent=extent)
    shown = values.reshape(grid)
    image = axis.imshow(
        shown,
        extent=extent,
        cmap=cmap,
        alpha=OPACITY,
        interpolation="nearest",
        vmin=vmin,
        vmax=vmax,
    )
    axis.set(xticks=[], yticks=[])
    return image


def _mark(axis: Axes, inside: Inside, query: int) -> None:
    """Outline one patch, in black and white, so that it is seen on any ground."""
    size = inside.pixels.shape[0] / inside.rows
    row, col = divmod(query, inside.cols)
    for width, colour in ((3.0, "black"), (1.4, "white")):
        axis.add_patch(
            Rectangle(
                (col * size - 0.5, row * size - 0.5),
                size,
                size,
                fill=False,
                linewidth=width,
                edgecolor=colour,
            )
        )


def _panels(
    inside: Inside, rows: int, cols: int, *, side: float = 2.6, extra: float = 0.35
) -> tuple[Figure, np.ndarray]:
    """Axes in rows and columns, each as high as the picture needs."""
    height, width = inside.pixels.shape[:2]
    figure, axes = plt.subplots(
        rows,
        cols,
        figsize=(side * cols, (side * height / width + extra) * rows),
        layout="constrained",
        squeeze=False,
    )
    return figure, axes


def _place(inside: Inside, patch: int) -> str:
    row, col = divmod(patch, inside.cols)
    return f"row {row}, column {col}"


def _query(inside: Inside, query: int) -> None:
    if not 0 <= query < inside.rows * inside.cols:
        raise ProbeError(
            f"expected a patch from 0 to {inside.rows * inside.cols - 1}, received {query}"
        )


def grid(pixels: np.ndarray) -> Picture:
    """A picture under its grid: thin lines between patches, thick ones between visual tokens."""
    height, width = pixels.shape[:2]
    figure, axis = plt.subplots(figsize=(4.2, 4.2 * height / width), layout="constrained")
    axis.imshow(pixels)
    for step, line in ((14, 0.3), (28, 1.0)):
        axis.hlines(
            np.arange(0, height + 1, step) - 0.5, -0.5, width - 0.5, color="white", linewidth=line
        )
        axis.vlines(
            np.arange(0, width + 1, step) - 0.5, -0.5, height - 0.5, color="white", linewidth=line
        )
    axis.axis("off")
    tokens = height * width // 28**2
    return finish(
        figure,
        f"A picture of {width}×{height} pixels under a grid of {4 * tokens} patches, four to each of {tokens} visual tokens.",
    )


def pca(look: Look) -> Picture:
    """The three main directions of the patch embeddings as red, green and blue."""
    states = look.patch_embeddings - look.patch_embeddings.mean(axis=0)
    u, size, _ = np.linalg.svd(states, full_matrices=False)
    part = size**2 / max(float((size**2).sum()), 1e-12)
    main = np.zeros((len(states), 3), np.float32)
    main[:, : min(3, u.shape[1])] = (u * size)[:, :3]
    low, high = np.percentile(main, (2, 98), axis=0)
    colours = np.clip((main - low) / np.maximum(high - low, 1e-12), 0, 1).reshape(
        look.rows, look.cols, 3
    )
    figure, axes = _panels(look, 1, 2, side=3.6)
    axes[0, 0].imshow(look.pixels)
    axes[0, 0].set(xticks=[], yticks=[], title=f"{look.rows}×{look.cols} patches")
    axes[0, 1].imshow(colours, interpolation="nearest")
    axes[0, 1].set(
        xticks=[],
        yticks=[],
        title=f"PCA: {part[0]:.0%}, {part[1]:.0%}, {part[2]:.0%} of the variance"
        if len(part) > 2
        else "PCA",
    )
    return finish(
        figure,
        f"The picture, and its {look.rows} by {look.cols} patches coloured by the first three principal components of their embeddings, "
        f"which hold {part[:3].sum():.0%} of the variance: patches of one colour have like embeddings.",
    )


def similarity(look: Look, query: int, *, layers: Sequence[int] = (0,)) -> Picture:
    """Cosine similarity of every patch to one of them, the mean taken off first; layer 0 is the patch embedding."""
    _query(look, query)
    figure, axes = _panels(look, 1, len(layers) + 1, side=3.2)
    axes[0, 0].imshow(look.pixels)
    axes[0, 0].set(xticks=[], yticks=[], title=f"patch at {_place(look, query)}")
    _mark(axes[0, 0], look, query)
    told = []
    for axis, layer in zip(axes[0, 1:], layers, strict=True):
        states = look.hidden[layer] - look.hidden[layer].mean(axis=0)
        states /= np.maximum(np.linalg.norm(states, axis=1, keepdims=True), 1e-12)
        near = states @ states[query]
        image = _over(axis, look, near, (look.rows, look.cols), vmin=-1, vmax=1, cmap="cividis")
        _mark(axis, look, query)
        axis.set_title("patch embeddings" if layer == 0 else f"after layer {layer - 1}")
        near[query] = -2
        told.append(
            f"{axis.get_title()}: most like {_place(look, int(near.argmax()))}, {near.max():.2f}"
        )
    figure.colorbar(image, ax=axes[0, 1:], shrink=0.85, label="cosine similarity")
    return finish(
        figure, f"Similarity of all patches to the one at {_place(look, query)}. {'; '.join(told)}."
    )


def filters(weight: np.ndarray, *, most: int = 24) -> Picture:
    """The Conv3D's filters with the largest weights, as it sees a still picture: both frames added.

    Parameters
    ----------
    weight
        (d_model, 3, 2, 14, 14) float32.
    """
    still = weight.sum(axis=2)
    strongest = np.argsort(-np.abs(still).reshape(len(still), -1).sum(axis=1))[:most]
    cols = 8
    figure, axes = plt.subplots(
        -(-len(strongest) // cols),
        cols,
        figsize=(cols * 1.05, -(-len(strongest) // cols) * 1.2),
        layout="constrained",
    )
    for axis in axes.flat:
        axis.axis("off")
    for axis, number in zip(axes.flat, strongest, strict=False):
        rgb = still[number].transpose(1, 2, 0)
        axis.imshow(0.5 + rgb / (2 * np.abs(rgb).max()))
        axis.set_title(str(number), fontsize=8, pad=2)
    grey = np.abs(still - still.mean(axis=1, keepdims=True)).sum() / np.abs(still).sum()
    return finish(
        figure,
        f"The {len(strongest)} strongest of {len(weight)} filters of 14 by 14 pixels in colour. Of all weights, {grey:.0%} by size "
        "distinguishes colours; the rest treats red, green and blue alike.",
    )


def temporal(weight: np.ndarray, *, most: int = 6) -> Picture:
    """What the temporal pair does with a still picture: filters of the first frame, of the second, and their sum."""
    first, second = weight[:, :, 0], weight[:, :, 1]
    flat = [w.reshape(len(w), -1) for w in (first, second)]
    alike = (flat[0] * flat[1]).sum(axis=1) / np.maximum(
        np.linalg.norm(flat[0], axis=1) * np.linalg.norm(flat[1], axis=1), 1e-12
    )
    strongest = np.argsort(-np.linalg.norm(flat[0] + flat[1], axis=1))[:most]
    figure, axes = plt.subplots(3, most, figsize=(most * 1.3, 4.2), layout="constrained")
    for row, (name, kind) in enumerate(
        (("first frame", first), ("second frame", second), ("sum", first + second))
    ):
        for axis, number in zip(axes[row], strongest, strict=True):
            rgb = kind[number].transpose(1, 2, 0)
            axis.imshow(0.5 + rgb / (2 * np.abs((first + second)[number]).max()))
            axis.set(xticks=[], yticks=[])
            if row == 0:
                axis.set_title(f"{number}: {alike[number]:+.2f}", fontsize=8)
        axes[row, 0].set_ylabel(name)
    return finish(
        figure,
        f"Filters of both frames and their sum, for {most} filters. How alike the two frames' filters are, as cosine, over all "
        f"{len(weight)}: median {np.median(alike):.2f}, from {alike.min():.2f} to {alike.max():.2f}. A still picture gives both "
        "frames the same pixels, so only the sum matters.",
    )


def rope(look: Look, query: int) -> Picture:
    """How alike positions are to the rotation alone, and how that falls off with rows and columns."""
    _query(look, query)
    width = look.qk(next(iter(look.q)))[0].shape[2]
    turned = rotate(
        np.ones((look.rows * look.cols, width), np.float32), rope_2d(look.rows, look.cols, width)
    )
    near = turned @ turned[query] / width
    far = np.arange(max(look.rows, look.cols))
    line = rotate(np.ones((len(far), width), np.float32), rope_2d(1, len(far), width))
    fall = line @ line[0] / width
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(8.6, 3.2), layout="constrained", width_ratios=(1.2, 1)
    )
    image = left.imshow(near.reshape(look.rows, look.cols), cmap="cividis")
    row, col = divmod(query, look.cols)
    left.add_patch(
        Rectangle((col - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="white", linewidth=2)
    )
    left.set(xlabel="column", ylabel="row", title=f"likeness to {_place(look, query)}")
    figure.colorbar(image, ax=left, shrink=0.85)
    right.plot(far, fall, "o-", color=CYCLE[0], markersize=4)
    right.axhline(0, color="0.6", linewidth=0.8)
    right.set(xlabel="columns apart, in one row", ylabel="cosine", title="the same with distance")
    right.spines[["top", "right"]].set_visible(False)
    return finish(
        figure,
        f"Likeness of positions under 2-D rotary embedding for the patch at {_place(look, query)}: bright along its own row and column. "
        f"One column apart it is {fall[1]:.2f}, {len(far) - 1} apart {fall[-1]:.2f}."
        if len(far) > 1
        else "One position only.",
    )


def mrope(reading: Reading) -> Picture:
    """M-RoPE ids over a whole prompt: time, height, width."""
    ids, tokens = reading.tokens.positions, reading.tokens
    count = tokens.grid[0] * tokens.grid[1]
    figure, axis = plt.subplots(figsize=(10, 3.2), layout="constrained")
    axis.axvspan(
        tokens.visual.start - 0.5,
        tokens.visual.start + count - 0.5,
        color="0.92",
        label="visual tokens",
    )
    for row, name, marker, colour in zip(
        ids,
        ("time", "height", "width"),
        ("_", ".", "x"),
        (CYCLE[0], CYCLE[1], CYCLE[2]),
        strict=True,
    ):
        axis.plot(row, marker, color=colour, label=name, markersize=6, linestyle="none")
    axis.plot(
        np.arange(len(tokens.ids)),
        color="0.6",
        linewidth=0.8,
        linestyle=":",
        label="number of tokens so far",
    )
    axis.set(xlabel="place in the sequence", ylabel="position id")
    axis.legend(frameon=False, ncols=5, loc="upper left", bbox_to_anchor=(0, 1.18))
    axis.spines[["top", "right"]].set_visible(False)
    after = int(ids[0, tokens.visual.start + count])
    return finish(
        figure,
        f"Position ids of {len(tokens.ids)} tokens. Text counts on, the three ids together. The {count} visual tokens share one time, "
        f"{ids[0, tokens.visual.start]}, while height spans {tokens.grid[0]} ids and width {tokens.grid[1]}; the text after them goes on "
        f"from {after}, not from {tokens.visual.start + count}.",
    )


def heads(look: Look, query: int | None = None) -> Picture:
    """All layers and heads as small multiples: where one patch looks or, without a query, what every patch receives."""
    if query is not None:
        _query(look, query)
    layers = list(look.q)
    figure, axes = _panels(look, len(layers), look.heads, side=1.9, extra=0.28)
    told = []
    for axis_row, layer in zip(axes, layers, strict=True):
        pattern = look.pattern(layer)
        for head, axis in enumerate(axis_row):
            values = attention_received(pattern[head]) if query is None else pattern[head, query]
            _over(axis, look, values, (look.rows, look.cols))
            if query is not None:
                _mark(axis, look, query)
            axis.set_title(
                f"L{layer}H{head}  {values.max():.0%}"
                if query is not None
                else f"L{layer}H{head}  {values.max():.1f}×",
                fontsize=9,
            )
            told.append(
                f"L{layer}H{head} {_place(look, int(values.argmax()))} ({values.max():.0%})"
                if query is not None
                else f"L{layer}H{head} {_place(look, int(values.argmax()))}"
            )
    what = (
        f"Where the patch at {_place(look, query)} looks"
        if query is not None
        else "What each patch receives, as a multiple of its even share"
    )
    return finish(
        figure,
        f"{what}, one map for each of {len(layers)} layers and {look.heads} heads. Largest: {'; '.join(told)}.",
    )


def rollout(look: Look, query: int) -> Picture:
    """One patch: the last layer's mean attention, rollout with the residual path, and rollout without it."""
    _query(look, query)
    last = look.pattern(max(look.q)).mean(axis=0)[query]
    maps = {"last layer, mean of heads": last, "rollout": attention_rollout(look.patterns())[query]}
    maps["rollout without the residual"] = attention_rollout(look.patterns(), residual=0)[query]
    figure, axes = _panels(look, 1, 3, side=3.1)
    for axis, (name, values) in zip(axes[0], maps.items(), strict=True):
        _over(axis, look, values, (look.rows, look.cols))
        _mark(axis, look, query)
        axis.set_title(name)
    told = "; ".join(
        f"{name}: {values[query]:.1%} on itself, at most {values.max():.1%}"
        for name, values in maps.items()
    )
    return finish(
        figure, f"Three accounts of where the patch at {_place(look, query)} looks. {told}."
    )


def head_numbers(look: Look) -> Picture:
    """Entropy and distance of every head, mean over queries."""
    figure, axis = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    told = []
    for number, layer in enumerate(look.q):
        pattern = look.pattern(layer)
        spread, far = attention_entropy(pattern), attention_distance(pattern, look.rows, look.cols)
        axis.plot(
            spread,
            far,
            "os^DvP*X"[number % 8],
            color=plt.get_cmap("viridis")(number / max(len(look.q), 2)),
            label=f"layer {layer}",
        )
        for head in range(look.heads):
            axis.annotate(
                f"L{layer}H{head}",
                (spread[head], far[head]),
                fontsize=7,
                xytext=(4, 3),
                textcoords="offset points",
            )
        told.append(
            f"layer {layer} entropy {spread.min():.1f} to {spread.max():.1f} bits, distance {far.min():.1f} to {far.max():.1f}"
        )
    even = np.full(
        (1, look.rows * look.cols, look.rows * look.cols), 1 / (look.rows * look.cols), np.float32
    )
    axis.plot(
        attention_entropy(even),
        attention_distance(even, look.rows, look.cols),
        "+",
        color="black",
        markersize=12,
        label="everywhere alike",
    )
    axis.set(xlabel="entropy, bits", ylabel="mean distance, patches")
    axis.legend(frameon=False, fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    return finish(figure, f"Each head by how spread and how far it looks: {'; '.join(told)}.")


def words(reading: Reading, layer: int, head: int) -> Picture:
    """Where each word of question and answer looks, in one head of the language model."""
    maps = reading.text_to_patch(layer)[head]
    cols = 6
    rows = -(-len(reading.words) // cols)
    figure, axes = _panels(reading, rows, cols, side=1.75, extra=0.36)
    for axis in axes.flat[len(reading.words) :]:
        axis.axis("off")
    told = []
    for number, (axis, word, values) in enumerate(
        zip(axes.flat, reading.words, maps, strict=False)
    ):
        _over(axis, reading, values, reading.tokens.grid)
        said = number >= len(reading.words) - reading.tokens.said
        axis.set_title(
            f"{word.strip()}  {values.sum():.0%}",
            fontsize=9,
            fontweight="bold" if said else "normal",
        )
        row, col = divmod(int(values.argmax()), reading.tokens.grid[1])
        told.append(f"“{word.strip()}” row {row}, column {col}")
    return finish(
        figure,
        f"L{layer}H{head} of the language model, {reading.name}: where each word of the question "
        f"and (bold) of the answer “{reading.answer}” looks. "
        f"Percent: share of its attention that goes to the picture at all. Most: {'; '.join(told)}.",
    )


def drift(looks: Sequence[Look], query: int, layer: int, head: int) -> Picture:
    """One head in several precisions, side by side, and the difference of the last from the first."""
    _query(looks[0], query)
    maps = [look.pattern(layer, head)[query] for look in looks]
    figure, axes = _panels(looks[0], 1, len(looks) + 1, side=2.7)
    for axis, look, values in zip(axes[0], looks, maps, strict=False):
        _over(axis, look, values, (look.rows, look.cols), vmax=max(float(m.max()) for m in maps))
        _mark(axis, look, query)
        axis.set_title(f"{look.name}\n{values.max():.1%} at most", fontsize=9)
    apart = maps[-1] - maps[0]
    reach = max(float(np.abs(apart).max()), 1e-9)
    _over(
        axes[0, -1],
        looks[0],
        apart,
        (looks[0].rows, looks[0].cols),
        cmap="PuOr",
        vmin=-reach,
        vmax=reach,
    )
    axes[0, -1].set_title(f"last − first\nwithin ±{reach:.1%}", fontsize=9)
    moved = [float(np.abs(m - maps[0]).sum() / 2) for m in maps]
    told = "; ".join(
        f"{look.name}: {share:.1%} of the attention moved"
        for look, share in zip(looks[1:], moved[1:], strict=True)
    )
    return finish(
        figure,
        f"L{layer}H{head} for the patch at {_place(looks[0], query)}, against {looks[0].name}. {told}.",
    )


def shares(values: Mapping[str, np.ndarray], *, chance: float | None = None, label: str) -> Picture:
    """A table of shares for layers and heads, one for each name, as coloured cells with their numbers."""
    figure, axes = plt.subplots(
        1, len(values), figsize=(1.2 + 3.9 * len(values), 2.9), layout="constrained", squeeze=False
    )
    told = []
    for axis, (name, table) in zip(axes[0], values.items(), strict=True):
        image = axis.imshow(table, vmin=0, vmax=1, cmap="cividis")
        for (layer, head), share in np.ndenumerate(table):
            axis.text(
                head,
                layer,
                f"{share:.0%}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if share < 0.55 else "black",
            )
        axis.set(
            xticks=range(table.shape[1]), yticks=range(table.shape[0]), xticklabels=[f"H{h}" for h in range(table.shape[1])],
            yticklabels=[f"L{layer}" for layer in range(table.shape[0])], title=name,
        )  # fmt: skip
        layer, head = divmod(int(table.argmax()), table.shape[1])
        told.append(f"{name}: best L{layer}H{head} {table.max():.0%}, mean {table.mean():.0%}")
    figure.colorbar(image, ax=axes, shrink=0.85, label=label)
    return finish(
        figure,
        f"{label} by layer and head. {'; '.join(told)}."
        + (f" At random {chance:.0%}." if chance is not None else ""),
    )


def confusion(matrix: np.ndarray, names: Sequence[str], *, title: str) -> Picture:
    """What was taken for what: (n, n) counts, rows the truth; kinds that are always right are left out."""
    wrong = matrix - np.diag(np.diag(matrix))
    kept = [i for i in range(len(names)) if wrong[i].any() or wrong[:, i].any()]
    right, total = int(np.trace(matrix)), int(matrix.sum())
    figure, axis = plt.subplots(
        figsize=(0.9 + 0.22 * max(len(kept), 16), 0.7 + 0.2 * max(len(kept), 12)),
        layout="constrained",
    )
    if kept:
        part = matrix[np.ix_(kept, kept)]
        axis.imshow(part, cmap="viridis")
        for (row, col), count in np.ndenumerate(part):
            if count:
                axis.text(
                    col,
                    row,
                    str(int(count)),
                    ha="center",
                    va="center",
                    fontsize=7,
                    color="white" if count < part.max() * 0.6 else "black",
                )
        axis.set_xticks(range(len(kept)), [names[i] for i in kept], rotation=90, fontsize=8)
        axis.set_yticks(range(len(kept)), [names[i] for i in kept], fontsize=8)
        axis.set(xlabel="taken for", ylabel="is")
    else:
        axis.text(0.5, 0.5, "no mistakes", ha="center", va="center", transform=axis.transAxes)
        axis.axis("off")
    axis.set_title(title)
    most = sorted(
        ((int(wrong[i, j]), names[i], names[j]) for i, j in np.argwhere(wrong)), reverse=True
    )[:5]
    told = (
        "; ".join(f"{is_} taken for {taken}, {count} times" for count, is_, taken in most) or "none"
    )
    return finish(
        figure,
        f"{title}: {right} of {total} right. {len(names) - len(kept)} kinds without any mistake are left out. Commonest mistakes: {told}.",
    )


def segmentation(pixels: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> Picture:
    """The picture, and what each visual token was taken for: labels (rows, cols) into names, number 0 is background."""
    found = [int(i) for i in np.unique(labels) if i]
    height, width = pixels.shape[:2]
    figure, axes = plt.subplots(1, 2, figsize=(7, 3.5 * height / width + 0.3), layout="constrained")
    colours = plt.get_cmap("tab10")
    painted = np.zeros((*labels.shape, 4))
    for number, label in enumerate(found):
        painted[labels == label] = (*colours(number % 10)[:3], 0.62)
    for axis in axes:
        axis.imshow(pixels, extent=(-0.5, width - 0.5, height - 0.5, -0.5))
        axis.set(xticks=[], yticks=[])
    axes[1].imshow(painted, extent=(-0.5, width - 0.5, height - 0.5, -0.5), interpolation="nearest")
    size = width / labels.shape[1]
    for label in found:
        row, col = np.argwhere(labels == label).mean(axis=0)
        axes[1].text((col + 0.5) * size, (row + 0.5) * size, names[label], ha="center", va="center", fontsize=10, color="white",
                     bbox={"facecolor": "black", "alpha": 0.6, "pad": 2, "edgecolor": "none"})  # fmt: skip
    counts = (
        ", ".join(f"{names[label]} {int((labels == label).sum())}" for label in found) or "nothing"
    )
    return finish(
        figure,
        f"Visual tokens by what a linear probe takes each for: {counts}; the rest, of {labels.size}, background.",
    )
