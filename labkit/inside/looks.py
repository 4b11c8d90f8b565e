"""What a probe returns, whichever model it looked into: a look at the tower, a reading of words.

All of it is in picture order, row by row, not in the model's 2×2 merge order. Attention patterns
are computed from Q and K when they are asked for, so that few are held at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any, ClassVar

import numpy as np

from labkit.base.data import frozen
from labkit.base.errors import ProbeError
from labkit.inside.attention import attention_pattern
from labkit.model.vision import FACTOR, PATCH_SIZE, grid, mrope_positions, to_grid

Arrays = Mapping[int, np.ndarray]


def chosen(layers: Sequence[int] | None, count: int) -> tuple[int, ...]:
    """The layers to keep, in order; None are all of them.

    Raises
    ------
    ProbeError
        If one is not among the ``count`` that there are.
    """
    kept = tuple(sorted(set(range(count) if layers is None else layers)))
    if not set(kept) <= set(range(count)):
        received = ", ".join(map(str, kept))
        raise ProbeError(f"expected layers from 0 to {count - 1}, received {received}")
    return kept


@frozen
class Inside:
    """Q and K of the layers that were asked for, over one picture.

    Attributes
    ----------
    name
        The model's numbers and where it ran.
    layers
        How many the model has.
    pixels
        (height, width, 3) uint8, as the model sees it.
    q, k
        By layer number, (heads, n, d_head) float32, after rotation; K has fewer heads where some
        share it.
    """

    name: str
    layers: int
    pixels: np.ndarray = field(repr=False)
    q: Arrays = field(repr=False)
    k: Arrays = field(repr=False)
    cell: ClassVar[int] = PATCH_SIZE  # side of what is looked at, in pixels
    causal: ClassVar[bool] = False

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of what is looked at: of patches, or of visual tokens in a `Reading`."""
        return grid(self.pixels, self.cell)

    @property
    def rows(self) -> int:
        """From top to bottom."""
        return self.grid[0]

    @property
    def cols(self) -> int:
        """From left to right."""
        return self.grid[1]

    @property
    def middle(self) -> int:
        """The cell in the middle of the picture."""
        return self.rows // 2 * self.cols + self.cols // 2

    def place(self, cell: int) -> str:
        """Where a cell is, in words.

        Raises
        ------
        ProbeError
            If the picture has no such cell.
        """
        most = self.rows * self.cols - 1
        if not 0 <= cell <= most:
            raise ProbeError(f"expected a patch from 0 to {most}, received {cell}")
        return f"row {cell // self.cols}, column {cell % self.cols}"

    def peak(self, values: np.ndarray) -> str:
        """Where a map (n_cells,) is largest, in words."""
        return self.place(int(values.argmax()))

    @property
    def heads(self) -> int:
        """Heads of each layer."""
        return len(next(iter(self.q.values())))

    @property
    def d_head(self) -> int:
        """Width of a query and of a key."""
        return int(next(iter(self.q.values())).shape[-1])

    def qk(self, layer: int) -> tuple[np.ndarray, np.ndarray]:
        """Rotated Q and K of one layer: two arrays (heads, n, d_head) float32.

        K is repeated for the heads that share it.

        Raises
        ------
        ProbeError
            If the model has no such layer, or it was not asked for.
        """
        if layer not in self.q:
            held = f"{', '.join(map(str, self.q))} of {self.layers}"
            raise ProbeError(
                f"expected one of the layers that were looked at ({held}), received {layer}; "
                f"pass layers=[{layer}]"
            )
        q, k = self.q[layer], self.k[layer]
        return q, np.repeat(k, len(q) // len(k), axis=0)

    def pattern(
        self, layer: int, head: int | None = None, *, queries: np.ndarray | None = None
    ) -> np.ndarray:
        """Attention of one head (n_queries, n), or of all heads of a layer (heads, n_queries, n).

        Rows are queries, all of them or those that are named; columns are keys; each row sums to 1.
        """
        q, k = self.qk(layer)
        if head is not None:
            if not 0 <= head < len(q):
                raise ProbeError(f"expected a head from 0 to {len(q) - 1}, received {head}")
            q, k = q[head], k[head]
        keys = np.arange(q.shape[-2])
        queries = keys if queries is None else queries
        mask = keys <= queries[:, None] if self.causal else None
        return attention_pattern(q[..., queries, :], k, mask=mask)

    def row(self, layer: int, query: int) -> np.ndarray:
        """Where one cell looks, in each head: (heads, n)."""
        return self.pattern(layer, queries=np.array([query])).squeeze(1)

    def patterns(self) -> Iterator[np.ndarray]:
        """The patterns (heads, n, n) of all layers that were asked for, one layer at a time."""
        return map(self.pattern, self.q)


@frozen
class Look(Inside):
    """What stands inside the vision tower for one picture.

    Attributes
    ----------
    hidden
        By layer number, what that layer reads: (n_patches, d_vision) float32; number ``layers`` is
        what the last one leaves. The first and the last are always there.
    image_embeds
        (n_visual_tokens, d_model) float32.
    """

    hidden: Arrays = field(repr=False)
    image_embeds: np.ndarray = field(repr=False)

    @classmethod
    def from_sequence(
        cls, *, pixels: np.ndarray, hidden: Arrays, q: Arrays, k: Arrays, **other: Any
    ) -> Look:
        """Put into picture order what a tower computed in its own, 2×2 merge order.

        Parameters
        ----------
        hidden
            (n_patches, d_vision) by layer number.
        q, k
            (heads, n_patches, d_head) by layer number.
        """

        def ordered(arrays: Arrays, axis: int) -> Arrays:
            return {i: to_grid(array, *grid(pixels), axis=axis) for i, array in arrays.items()}

        states = ordered(hidden, 0)
        return cls(pixels=pixels, hidden=states, q=ordered(q, 1), k=ordered(k, 1), **other)

    @property
    def patch_embeddings(self) -> np.ndarray:
        """(n_patches, d_vision) float32: what the first layer reads."""
        return self.hidden[0]

    def states(self, layer: int) -> np.ndarray:
        """Hidden states (n_patches, d_vision) less their mean: what all share tells none apart."""
        states: np.ndarray = self.hidden[layer] - self.hidden[layer].mean(axis=0)
        return states


@frozen
class Reading(Inside):
    """What stands inside the language model for one picture, question and answer, token by token.

    What it looks at are visual tokens.

    Attributes
    ----------
    q, k
        As `Inside`, over the whole sequence.
    ids, pieces
        Token ids of the whole sequence, template and all, and the text of each.
    said
        How many of them, at the end, are the answer.
    pad, stop
        Ids of a visual token, and of the marks that end a turn.
    """

    ids: tuple[int, ...]
    pieces: tuple[str, ...]
    said: int
    pad: int
    stop: tuple[int, ...]
    cell: ClassVar[int] = FACTOR
    causal: ClassVar[bool] = True

    @property
    def visual(self) -> range:
        """Places of the visual tokens in the sequence.

        Raises
        ------
        ProbeError
            If there are not as many as the picture has.
        """
        count, present = self.rows * self.cols, self.ids.count(self.pad)
        if present != count:
            raise ProbeError(f"expected {count} visual tokens in the prompt, found {present}")
        first = self.ids.index(self.pad)
        return range(first, first + count)

    @property
    def positions(self) -> np.ndarray:
        """(3, n) int32: M-RoPE ids."""
        after = len(self.ids) - self.visual.stop
        return mrope_positions(self.visual.start, *self.grid, after).astype(np.int32)

    @property
    def places(self) -> np.ndarray:
        """(n_words,) int: where the words of the question and of the answer stand."""
        count, begin = len(self.ids), self.visual.stop + 1  # after the mark that ends the picture
        end = next(at for at in range(begin, count) if self.ids[at] in self.stop)
        return np.array([*range(begin, end), *range(count - self.said, count)])

    @property
    def queries(self) -> np.ndarray:
        """(n_words,) int: the place from which each word looks.

        A word of the question looks from its own place; a word of the answer from the place before
        it, where it is chosen.
        """
        return self.places - (self.places >= len(self.ids) - self.said)

    @property
    def words(self) -> tuple[str, ...]:
        """Text of each token of the question, then of the answer."""
        return tuple(self.pieces[at] for at in self.places)

    @property
    def answer(self) -> str:
        """The answer's text."""
        return "".join(self.pieces[len(self.ids) - self.said :])

    def text_to_patch(self, layer: int) -> np.ndarray:
        """What each word takes from each visual token: (heads, n_words, n_visual_tokens) float32.

        They are shares of the word's whole attention.
        """
        return self.pattern(layer, queries=self.queries)[:, :, self.visual]
