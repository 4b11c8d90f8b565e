"""A look as files: pictures, and arrays by name, for those without a notebook."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from labkit.base.errors import ProbeError
from labkit.base.files import new_folder
from labkit.base.records import to_json
from labkit.base.show import Picture
from labkit.inside import attention_figures, patch_figures
from labkit.inside.looks import Look, Reading

ALL_PATTERNS_BYTES = 64_000_000
"""Up to this, all patterns of the tower are written; beyond it, those of named heads."""
ARRAYS = {
    "grid_thw": "(3,) grid in patches: time, height, width",
    "patch_embeddings": "(n_patches, d_model) float32, row by row over the picture",
    "attention_pattern": "(layers, heads, n_patches, n_patches) float32; rows are queries, "
    "columns keys; each row sums to 1",
    "heads": "(n, 2) layer and head of each pattern, where not all are written; "
    "attention_pattern is (n, n_patches, n_patches) then",
    "image_embeds": "(n_visual_tokens, d_model) float32, row by row over the picture",
    "text_to_patch": "(layers, heads, n_words, n_visual_tokens) float32, shares of each word's "
    "attention",
    "words": "(n_words,) text of each word of question and answer",
    "said": "number of words, at the end, that are the answer",
}


def require_free(out: Path) -> None:
    """Raise a ProbeError if a folder is taken."""
    if out.exists():
        raise ProbeError(f"expected {out} to be free; choose another folder, or remove it first")


def arrays(
    look: Look, reading: Reading | None, heads: Sequence[tuple[int, int]]
) -> dict[str, np.ndarray]:
    """The arrays of one probe by name, as `ARRAYS` describes them.

    Raises
    ------
    ProbeError
        If all patterns would take over `ALL_PATTERNS_BYTES` and no heads are named.
    """
    n = look.rows * look.cols
    size = 4 * look.layers * look.heads * n**2
    if not heads and size > ALL_PATTERNS_BYTES:
        raise ProbeError(
            f"expected all patterns to take at most {ALL_PATTERNS_BYTES / 1e6:.0f} MB; "
            f"{look.layers} layers × {look.heads} heads × {n}² patches take {size / 1e6:,.0f} MB. "
            "Name the heads that you want (--heads L0H3,L2H1), or shrink the picture "
            "(--max-pixels)."
        )
    patterns = [look.pattern(*head) for head in heads] or list(look.patterns())
    named = {
        "grid_thw": np.array([1, *look.grid]),
        "patch_embeddings": look.patch_embeddings,
        "image_embeds": look.image_embeds,
        "attention_pattern": np.stack(patterns),
    }
    if heads:
        named["heads"] = np.array(heads)
    if reading:
        named["text_to_patch"] = np.stack([reading.text_to_patch(layer) for layer in reading.q])
        named["words"], named["said"] = np.array(reading.words), np.array(reading.said)
    return named


def pictures(look: Look, reading: Reading | None, reference: Look | None) -> dict[str, Picture]:
    """Figures of one probe by file name."""
    middle = look.middle
    drawn = {
        "patch_embeddings_pca": patch_figures.pca(look),
        "patch_similarity": patch_figures.similarity(look, middle, layers=(0, look.layers)),
        "attention_heads": attention_figures.heads(look, middle),
        "attention_received": attention_figures.heads(look),
        "attention_rollout": attention_figures.rollout(look, middle),
        "heads_entropy_distance": attention_figures.head_numbers(look),
    }
    if reference:
        looks = [reference, look]
        drawn["quantisation_drift"] = attention_figures.drift(looks, middle, max(look.q), 0)
    if reading:
        drawn["text_to_patch"] = attention_figures.words(reading, reading.layers - 1, 0)
        drawn["mrope"] = patch_figures.mrope(reading)
    return {f"{name}.png": picture for name, picture in drawn.items()}


def write(
    out: Path,
    look: Look,
    reading: Reading | None = None,
    *,
    reference: tuple[Look, Reading | None] | None = None,
    heads: Sequence[tuple[int, int]] = (),
    **about: Any,
) -> None:
    """Write ``probe.npz``, ``probe.json`` (what each array and picture is) and the pictures.

    ``about`` stands in ``probe.json``, too.

    Raises
    ------
    ProbeError
        If the folder ``out`` exists, or all patterns are too large.
    """
    require_free(out)
    named = arrays(look, reading, heads)
    if reference:
        original = arrays(*reference, heads)
        named |= {f"reference_{n}": a for n, a in original.items() if a.dtype == np.float32}
    drawn = pictures(look, reading, reference[0] if reference else None)
    content = {
        "schema": 1,
        **about,
        "arrays": {name: ARRAYS[name.removeprefix("reference_")] for name in named},
        "pictures": {name: picture.alt for name, picture in drawn.items()},
    }
    with new_folder(out) as folder:
        np.savez_compressed(folder / "probe.npz", **named)  # type: ignore[arg-type]
        for name, picture in drawn.items():
            (folder / name).write_bytes(picture.png)
        (folder / "probe.json").write_text(to_json(content), encoding="utf-8")
