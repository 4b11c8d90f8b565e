"""What lesson 04 draws: where patches and words look, head by head.

Each figure carries its text, made from its numbers.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps

from labkit.base.draw import finish, subplots, table
from labkit.base.show import Picture
from labkit.inside.attention import (
    attention_distance,
    attention_entropy,
    attention_received,
    attention_rollout,
)
from labkit.inside.looks import Look, Reading
from labkit.inside.maps import over, panels


def heads(look: Look, query: int | None = None) -> Picture:
    """All layers and heads as small multiples.

    Where one patch looks or, without a query, what every patch receives.
    """
    if query is None:
        what = "What each patch receives, as a multiple of its even share"
        title, peak = "{0}  {2:.1f}×", "{0} {1}"
    else:
        what = f"Where the patch at {look.place(query)} looks"
        title, peak = "{0}  {2:.0%}", "{0} {1} ({2:.0%})"
    titled, peaks = [], []
    for layer in look.q:
        of_layer = (
            attention_received(look.pattern(layer)) if query is None else look.row(layer, query)
        )
        for head, values in enumerate(of_layer):
            words = f"L{layer}H{head}", look.peak(values), values.max()
            titled.append((title.format(*words), values))
            peaks.append(peak.format(*words))
    figure, _ = panels(look, titled, cols=look.heads, side=1.9, query=query)
    return finish(
        figure,
        f"{what}, one map for each of {len(look.q)} layers and {look.heads} heads. "
        f"Largest: {'; '.join(peaks)}.",
    )


def rollout(look: Look, query: int) -> Picture:
    """Where one patch looks, by three accounts.

    The last layer's mean attention, rollout with the residual path, and rollout without it.
    """
    where = look.place(query)
    maps = {
        "last layer, mean of heads": look.row(max(look.q), query).mean(axis=0),
        "rollout": attention_rollout(look.patterns())[query],
        "rollout without the residual": attention_rollout(look.patterns(), residual=0)[query],
    }
    figure, _ = panels(look, list(maps.items()), side=3.1, query=query)
    accounts = [
        f"{name}: {values[query]:.1%} on itself, at most {values.max():.1%}"
        for name, values in maps.items()
    ]
    return finish(
        figure, f"Three accounts of where the patch at {where} looks. {'; '.join(accounts)}."
    )


def head_numbers(look: Look) -> Picture:
    """Entropy and distance of every head, mean over queries."""
    figure, axis = subplots(size=(6.4, 3.8))
    colours, ranges = colormaps["viridis"], []
    for number, (layer, pattern) in enumerate(zip(look.q, look.patterns(), strict=True)):
        spread, far = attention_entropy(pattern), attention_distance(pattern, *look.grid)
        marker, colour = "os^DvP*X"[number % 8], colours(number / max(len(look.q), 2))
        axis.plot(spread, far, marker, color=colour, label=f"layer {layer}")
        for head in range(look.heads):
            name = f"  L{layer}H{head}"
            axis.text(spread[head], far[head], name, fontsize=7, va="bottom")
        ranges.append(
            f"layer {layer} entropy {spread.min():.1f} to {spread.max():.1f} bits, "
            f"distance {far.min():.1f} to {far.max():.1f}"
        )
    even = np.full_like(pattern[0], 1 / pattern.shape[-1])
    point = attention_entropy(even), attention_distance(even, *look.grid)
    axis.plot(*point, "+", color="black", markersize=12, label="everywhere alike")
    axis.set(xlabel="entropy, bits", ylabel="mean distance, patches")
    axis.legend(frameon=False, fontsize=8)
    return finish(figure, f"Each head by how spread and how far it looks: {'; '.join(ranges)}.")


def words(reading: Reading, layer: int, head: int) -> Picture:
    """Where each word of question and answer looks, in one head of the language model."""
    named = [word.strip() for word in reading.words]
    maps = list(zip(named, reading.text_to_patch(layer)[head], strict=True))
    titled = [(f"{word}  {values.sum():.0%}", values) for word, values in maps]
    figure, axes = panels(reading, titled, cols=6, side=1.75)
    for axis in axes[len(maps) - reading.said :]:
        axis.title.set_fontweight("bold")
    peaks = [f"“{word}” {reading.peak(values)}" for word, values in maps]
    return finish(
        figure,
        f"L{layer}H{head} of the language model, {reading.name}: where each word of the question "
        f"and (bold) of the answer “{reading.answer}” looks. Percent: share of its attention that "
        f"goes to the picture at all. Most: {'; '.join(peaks)}.",
    )


def drift(looks: Sequence[Look], query: int, layer: int, head: int) -> Picture:
    """One head in several precisions, side by side, and the last minus the first."""
    first, where = looks[0], looks[0].place(query)
    maps = [look.row(layer, query)[head] for look in looks]
    changes = [values - maps[0] for values in maps[1:]]
    reach = max(float(np.abs(changes[-1]).max()), 1e-9)
    titled = [
        (f"{look.name}\n{values.max():.1%} at most", values)
        for look, values in zip(looks, maps, strict=True)
    ]
    change = f"last − first\nwithin ±{reach:.1%}", None
    figure, axes = panels(first, [*titled, change], side=2.7, query=query, vmax=np.max(maps))
    last = changes[-1].reshape(first.grid)
    over(axes[-1], first.pixels, last, cmap="PuOr", vmin=-reach, vmax=reach)
    moved = [
        f"{look.name}: {np.abs(change).sum() / 2:.1%} of the attention moved"
        for look, change in zip(looks[1:], changes, strict=True)
    ]
    return finish(
        figure,
        f"L{layer}H{head} for the patch at {where}, against {first.name}. {'; '.join(moved)}.",
    )


def shares(values: Mapping[str, np.ndarray], *, chance: float | None = None, label: str) -> Picture:
    """Shares for layers and heads, as coloured cells with their numbers.

    Parameters
    ----------
    values
        (layers, heads) from 0 to 1, by name; one table for each.
    chance
        What a guess would reach, for the text.
    label
        What is counted.
    """
    size = 1.2 + 3.9 * len(values), 2.9
    figure, axes = subplots(1, len(values), size=size, squeeze=False)
    best = []
    for axis, (name, share) in zip(axes[0], values.items(), strict=True):
        rows, cols = ([f"{k}{i}" for i in range(n)] for k, n in zip("LH", share.shape, strict=True))
        form = "{:.0%}".format
        drawn = table(axis, share, rows, cols, form, dark=0.55, cmap="cividis", vmin=0, vmax=1)
        axis.set_title(name)
        layer, head = divmod(int(share.argmax()), len(cols))
        best.append(f"{name}: best L{layer}H{head} {share.max():.0%}, mean {share.mean():.0%}")
    figure.colorbar(drawn, ax=axes, shrink=0.85, label=label)
    guess = "" if chance is None else f" At random {chance:.0%}."
    return finish(figure, f"{label} by layer and head. {'; '.join(best)}.{guess}")
