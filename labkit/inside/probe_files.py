"""What a probe found, as files: pictures, and arrays by name, for those without a notebook."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from labkit.base.errors import ProbeError
from labkit.base.show import Picture
from labkit.inside import figures
from labkit.inside.looks import Look, Reading

ALL_PATTERNS_BYTES = 64_000_000
"""Up to this, all patterns of the tower are written; beyond it, those of the heads that are named."""
ARRAYS = {
    "grid_thw": "(3,) grid in patches: time, height, width",
    "patch_embeddings": "(n_patches, d_model) float32, row by row over the picture",
    "attention_pattern": "(layers, heads, n_patches, n_patches) float32; rows are queries, columns keys; each row sums to 1",
    "heads": "(n, 2) layer and head of each pattern, where not all are written; attention_pattern is (n, n_patches, n_patches) then",
    "image_embeds": "(n_visual_tokens, d_model) float32, row by row over the picture",
    "text_to_patch": "(layers, heads, n_words, n_visual_tokens) float32, shares of each word's attention",
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
    patches = look.rows * look.cols
    size = 4 * look.layers * look.heads * patches**2
    if not heads and size > ALL_PATTERNS_BYTES:
        raise ProbeError(
            f"expected all patterns to take at most {ALL_PATTERNS_BYTES / 1e6:.0f} MB; {look.layers} layers × {look.heads} heads × "
            f"{patches}² patches take {size / 1e6:,.0f} MB. "
            "Name the heads that you want (--heads L0H3,L2H1), or shrink the picture (--max-pixels)."
        )
    found = {
        "grid_thw": np.array(look.grid_thw),
        "patch_embeddings": look.patch_embeddings,
        "image_embeds": look.image_embeds,
    }
    if heads:
        found |= {
            "heads": np.array(heads),
            "attention_pattern": np.stack([look.pattern(layer, head) for layer, head in heads]),
        }
    else:
        found["attention_pattern"] = np.stack(list(look.patterns()))
    if reading:
        found |= {
            "text_to_patch": np.stack([reading.text_to_patch(layer) for layer in reading.q]),
            "words": np.array(reading.words), "said": np.array(reading.tokens.said),
        }  # fmt: skip
    return found


def pictures(look: Look, reading: Reading | None, reference: Look | None) -> dict[str, Picture]:
    """Figures of one probe by file name."""
    middle = look.rows // 2 * look.cols + look.cols // 2
    drawn = {
        "patch_embeddings_pca.png": figures.pca(look),
        "patch_similarity.png": figures.similarity(look, middle, layers=(0, look.layers)),
        "attention_heads.png": figures.heads(look, middle),
        "attention_received.png": figures.heads(look),
        "attention_rollout.png": figures.rollout(look, middle),
        "heads_entropy_distance.png": figures.head_numbers(look),
    }
    if reference:
        drawn["quantisation_drift.png"] = figures.drift([reference, look], middle, max(look.q), 0)
    if reading:
        drawn["text_to_patch.png"] = figures.words(reading, reading.layers - 1, 0)
        drawn["mrope.png"] = figures.mrope(reading)
    return drawn


def write(
    out: Path, look: Look, reading: Reading | None = None, *, reference: tuple[Look, Reading | None] | None = None,
    heads: Sequence[tuple[int, int]] = (), about: dict[str, Any] | None = None,
) -> Path:  # fmt: skip
    """Write ``probe.npz``, ``probe.json`` (what each array and picture is) and the pictures into a new folder.

    Raises
    ------
    ProbeError
        If ``out`` exists, or all patterns are too large.
    """
    require_free(out)
    found = arrays(look, reading, heads)
    if reference:
        found |= {
            f"reference_{name}": array
            for name, array in arrays(*reference, heads).items()
            if array.dtype == np.float32
        }
    drawn = pictures(look, reading, reference[0] if reference else None)
    out.parent.mkdir(parents=True, exist_ok=True)
    half = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        np.savez_compressed(half / "probe.npz", **found)  # type: ignore[arg-type]
        for name, picture in drawn.items():
            (half / name).write_bytes(picture.png)
        told = {name: ARRAYS[name.removeprefix("reference_")] for name in found}
        content = {
            "schema": 1,
            **(about or {}),
            "arrays": told,
            "pictures": {name: picture.alt for name, picture in drawn.items()},
        }
        (half / "probe.json").write_text(
            json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        half.chmod(0o755)
        half.rename(out)
    except BaseException:
        shutil.rmtree(half, ignore_errors=True)
        raise
    return out
