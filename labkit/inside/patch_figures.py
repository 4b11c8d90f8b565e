"""What lesson 03 draws: patches, their embeddings, their positions, and what a probe reads there.

Each figure carries its text, made from its numbers.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_rgba

from labkit.base.draw import CYCLE, centred, finish, patch_grid, subplots, table, tiles
from labkit.base.show import Picture
from labkit.inside.attention import cosines, turned_ones
from labkit.inside.looks import Look, Reading
from labkit.inside.maps import outline, over, panels
from labkit.model.vision import FACTOR, PATCH_SIZE


def grid(pixels: np.ndarray) -> Picture:
    """A picture under its grid: thin lines between patches, thick ones between visual tokens."""
    height, width = pixels.shape[:2]
    figure, (axis,) = tiles([("", pixels)], side=4.2)
    patch_grid(axis, height, width, {PATCH_SIZE: 0.3, FACTOR: 1.0}, color="white")
    tokens = height * width // FACTOR**2
    return finish(
        figure,
        f"A picture of {width}×{height} pixels under a grid of {4 * tokens} patches, four to each "
        f"of {tokens} visual tokens.",
    )


def _coloured(weight: np.ndarray, most: float) -> np.ndarray:
    """A filter (3, rows, cols) as an image: zero is grey, ``most`` is full light."""
    return np.moveaxis(0.5 + weight / (2 * most), 0, 2)


def filters(weight: np.ndarray, *, most: int = 24) -> Picture:
    """The Conv3D's filters with the largest weights, as it sees a still picture.

    Both frames are added.

    Parameters
    ----------
    weight
        (d_model, 3, 2, 14, 14) float32.
    """
    still = weight.sum(axis=2)
    size = np.abs(still)
    strongest = np.argsort(-size.sum(axis=(1, 2, 3)))[:most]
    images = [(str(number), _coloured(still[number], size[number].max())) for number in strongest]
    figure, _ = tiles(images, side=1.05, cols=8)
    grey = np.abs(still - still.mean(axis=1, keepdims=True)).sum() / size.sum()
    return finish(
        figure,
        f"The {len(strongest)} strongest of {len(weight)} filters of 14 by 14 pixels in colour. Of "
        f"all weights, {grey:.0%} by size distinguishes colours; the rest treats red, green and "
        "blue alike.",
    )


def temporal(weight: np.ndarray, *, most: int = 6) -> Picture:
    """What the temporal pair does with a still picture.

    Filters of the first frame, of the second, and their sum.
    """
    still = weight.sum(axis=2)
    frames = {"first frame": weight[:, :, 0], "second frame": weight[:, :, 1], "sum": still}
    first, second, both = (kind.reshape(len(kind), -1) for kind in frames.values())
    alike, brightest = cosines(first, second), np.abs(both).max(axis=1)
    strongest = np.argsort(-np.linalg.norm(both, axis=1))[:most]
    images = [
        ("" if row else f"{n}: {alike[n]:+.2f}", _coloured(kind[n], brightest[n]))
        for row, kind in enumerate(frames.values())
        for n in strongest
    ]
    figure, axes = tiles(images, side=1.3, cols=most)
    for axis, name in zip(axes[::most], frames, strict=True):
        axis.set_ylabel(name)
    return finish(
        figure,
        f"Filters of both frames and their sum, for {most} filters. How alike the two frames' "
        f"filters are, as cosine, over all {len(weight)}: median {np.median(alike):.2f}, from "
        f"{alike.min():.2f} to {alike.max():.2f}. A still picture gives both frames the same "
        "pixels, so only the sum matters.",
    )


def pca(look: Look) -> Picture:
    """The three main directions of the patch embeddings as red, green and blue."""
    u, size, _ = np.linalg.svd(look.states(0), full_matrices=False)
    part = size[:3] ** 2 / np.maximum((size**2).sum(), 1e-12)
    main = (u * size)[:, :3]
    low, high = np.percentile(main, (2, 98), axis=0)
    colours = np.clip((main - low) / np.maximum(high - low, 1e-12), 0, 1)
    title = f"PCA: {', '.join(f'{share:.0%}' for share in part)} of the variance"
    maps = [(f"{look.rows}×{look.cols} patches", None), (title, colours)]
    figure, _ = panels(look, maps, side=3.6, alpha=1)
    return finish(
        figure,
        f"The picture, and its {look.rows} by {look.cols} patches coloured by the first three "
        f"principal components of their embeddings, which hold {part.sum():.0%} of the variance: "
        "patches of one colour have like embeddings.",
    )


def similarity(look: Look, query: int, *, layers: Sequence[int] = (0,)) -> Picture:
    """Cosine similarity of every patch to one of them, the mean taken off first.

    Layer 0 is the patch embedding.
    """
    where = look.place(query)
    near = {
        f"after layer {layer - 1}" if layer else "patch embeddings": cosines(states, states[query])
        for layer, states in zip(layers, map(look.states, layers), strict=True)
    }
    maps = [(f"patch at {where}", None), *near.items()]
    figure, axes = panels(look, maps, side=3.2, query=query, cmap="cividis", vmin=-1, vmax=1)
    figure.colorbar(axes[-1].images[-1], ax=axes[1:], shrink=0.85, label="cosine similarity")
    for values in near.values():
        values[query] = -2  # it is most like itself
    most = "; ".join(f"{name}: most like {look.peak(v)}, {v.max():.2f}" for name, v in near.items())
    return finish(figure, f"Similarity of all patches to the one at {where}. {most}.")


def rope(look: Look, query: int) -> Picture:
    """How alike positions are to the rotation alone, and how that falls off with the distance."""
    where = look.place(query)
    turned = turned_ones(*look.grid, look.d_head)
    line = turned_ones(1, max(look.grid), look.d_head)
    near, fall = cosines(turned, turned[query]), cosines(line, line[0])
    figure, (left, right) = subplots(1, 2, size=(8.6, 3.2), width_ratios=(1.2, 1))
    drawn = left.imshow(near.reshape(look.grid), cmap="cividis")
    outline(left, *divmod(query, look.cols))
    left.set(xlabel="column", ylabel="row", title=f"likeness to {where}")
    figure.colorbar(drawn, ax=left, shrink=0.85)
    right.plot(fall, "o-", color=CYCLE[0], markersize=4)
    right.axhline(0, color="0.6", linewidth=0.8)
    right.set(xlabel="columns apart, in one row", ylabel="cosine", title="the same with distance")
    return finish(
        figure,
        f"Likeness of positions under 2-D rotary embedding for the patch at {where}: bright along "
        f"its own row and column. One column apart it is {fall[1]:.2f}, {len(fall) - 1} apart "
        f"{fall[-1]:.2f}.",
    )


def mrope(reading: Reading) -> Picture:
    """M-RoPE ids over a whole prompt: time, height, width."""
    count, visual, ids = len(reading.ids), reading.visual, reading.positions
    figure, axis = subplots(size=(10, 3.2))
    axis.axvspan(visual.start - 0.5, visual.stop - 0.5, color="0.92", label="visual tokens")
    names = "time", "height", "width"
    for places, name, marker, colour in zip(ids, names, "_.x", CYCLE, strict=False):
        axis.plot(places, marker, color=colour, label=name)
    axis.plot(range(count), ":", color="0.6", linewidth=0.8, label="number of tokens so far")
    axis.set(xlabel="place in the sequence", ylabel="position id")
    axis.legend(frameon=False, ncols=5, loc="upper left", bbox_to_anchor=(0, 1.18))
    return finish(
        figure,
        f"Position ids of {count} tokens. Text counts on, the three ids together. The "
        f"{len(visual)} visual tokens share one time, {ids[0, visual.start]}, while height spans "
        f"{reading.rows} ids and width {reading.cols}; the text after them goes on from "
        f"{ids[0, visual.stop]}, not from {visual.stop}.",
    )


def confusion(matrix: np.ndarray, names: Sequence[str], *, title: str) -> Picture:
    """What was taken for what; kinds that are always right are left out.

    Parameters
    ----------
    matrix
        (n, n) counts, rows the truth.
    """
    wrong = matrix - np.diag(np.diag(matrix))
    mixed = np.flatnonzero((wrong + wrong.T).any(axis=0)).tolist()
    size = 0.9 + 0.22 * max(len(mixed), 16), 0.7 + 0.2 * max(len(mixed), 12)
    figure, axis = subplots(size=size)
    if mixed:
        part, labels = matrix[np.ix_(mixed, mixed)], [names[i] for i in mixed]
        dark = 0.6 * part.max()
        table(axis, part, labels, labels, lambda n: f"{n:.0f}" if n else "", dark=dark)
        axis.tick_params("x", rotation=90)
        axis.tick_params(labelsize=8)
        axis.set(xlabel="taken for", ylabel="is")
    else:
        centred(axis, 0.5, 0.5, "no mistakes")
        axis.axis("off")
    axis.set_title(title)
    pairs = [(wrong[i, j], names[i], names[j]) for i, j in np.argwhere(wrong)]
    commonest = [f"{a} taken for {b}, {n} times" for n, a, b in sorted(pairs, reverse=True)[:5]]
    return finish(
        figure,
        f"{title}: {np.trace(matrix)} of {matrix.sum()} right. {len(names) - len(mixed)} "
        "kinds without any mistake are left out. Commonest mistakes: "
        f"{'; '.join(commonest) or 'none'}.",
    )


def segmentation(pixels: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> Picture:
    """The picture, and what each visual token was taken for.

    Parameters
    ----------
    labels
        (rows, cols) numbers of names; 0 is background.
    """
    figure, axes = tiles([("", pixels)] * 2, side=3.5)
    painted, side = np.zeros((*labels.shape, 4)), pixels.shape[1] / labels.shape[1]
    ground = {"facecolor": "black", "alpha": 0.6, "pad": 2, "edgecolor": "none"}
    counts: list[str] = []
    for label in np.unique(labels[labels > 0]).tolist():
        there = labels == label
        painted[there] = to_rgba(f"C{len(counts)}", 0.62)
        row, col = (np.argwhere(there).mean(axis=0) + 0.5) * side
        centred(axes[1], col, row, names[label], color="white", bbox=ground)
        counts.append(f"{names[label]} {there.sum()}")
    over(axes[1], pixels, painted, alpha=None)
    return finish(
        figure,
        "Visual tokens by what a linear probe takes each for: "
        f"{', '.join(counts) or 'nothing'}; the rest, of {labels.size}, background.",
    )
