"""A checkpoint of Qwen2-VL-2B's real dimensions and vocabulary with seeded random weights.

How long a model takes, and how much memory, does not depend on what its weights are; so a
twin stands in for the real checkpoint where that is not at hand. Its words are noise.
"""

import json
import re
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from labkit.base import files, paths
from labkit.base.errors import CheckpointError

NAMES = re.compile(r"twin:2b(?:/([1-9]\d?|block))?")
WORDS = "model.embed_tokens.weight"
LAYERS = {"model.layers": 28, "visual.blocks": 32}
DIMENSIONS = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
PICTURE = "preprocessor_config.json"
RESIDUAL = ("attn.proj.weight", "mlp.fc2.weight", "o_proj.weight", "down_proj.weight")


def cached(name: str, *, on_step: Callable[..., None] | None = None) -> Path:
    """The folder of a twin in the cache; written if it is not there yet.

    Parameters
    ----------
    name
        ``"twin:2b"``, or ``"twin:2b/8"`` with one layer in eight, every width kept; or
        ``"twin:2b/block"``: one block of each part, and the embedded checkpoint's words alone.
    on_step
        Called with how many files are written, of how many, and the last one's name.

    Raises
    ------
    CheckpointError
        If there is no such twin.
    OSError
        If it cannot be written; nothing half-written is left.
    """
    known, most = NAMES.fullmatch(name), min(LAYERS.values())
    part = (known[1] or "1") if known else "0"
    share = most if part == "block" else int(part)
    if not 0 < share <= most:
        raise CheckpointError(
            f"expected twin:2b, or twin:2b/N with N up to {most} for one layer in N, "
            f"or twin:2b/block, received {name!r}."
        )
    folder = place(part)
    if not folder.is_dir():
        with files.new_folder(folder) as half:
            _write(half, share, part == "block", on_step)
    return folder


def place(part: str = "1") -> Path:
    """Where a twin stands, or will: with one layer in so many, or ``"block"``."""
    return paths.kept("twins", f"2b-{part}")


def config(share: int = 1, *, few: bool = False) -> dict[str, Any]:
    """A twin's ``config.json``: the real widths, one layer in ``share``, and few words or all."""
    source = paths.data_dir() / "mini-qwen2-vl" / "config.json"
    made: dict[str, Any] = json.loads(source.read_text(encoding="utf-8"))
    words, layers = made["text_config"]["vocab_size"], LAYERS["model.layers"] // share
    counts = {"num_hidden_layers": layers, "layer_types": ["full_attention"] * layers}
    made["text_config"] |= (
        DIMENSIONS["text_config"] | counts | ({"vocab_size": words} if few else {})
    )
    depth = {"depth": LAYERS["visual.blocks"] // share}
    made["vision_config"] |= DIMENSIONS["vision_config"] | depth
    return made | {"tie_word_embeddings": True, "dtype": "bfloat16"}


def _write(folder: Path, share: int, few: bool, on_step: Callable[..., None] | None) -> None:
    """A file for each layer, one file in memory at a time; the embedded checkpoint's words, and
    ``few``: no room for others.
    """
    from safetensors.torch import save_file

    source = paths.data_dir() / "mini-qwen2-vl"
    for file in source.iterdir():
        if file.suffix in {".json", ".txt", ".jinja"}:
            shutil.copy(file, folder)
    depth = {place: count // share for place, count in LAYERS.items()}
    picture = json.loads((source / PICTURE).read_text(encoding="utf-8"))
    files.write(folder / PICTURE, json.dumps(picture | DIMENSIONS["picture"], indent=1) + "\n")
    known_words = config(share, few=True)["text_config"]["vocab_size"]
    words = {WORDS: [known_words, *DIMENSIONS["words"][WORDS][1:]]} if few else DIMENSIONS["words"]
    files.write(folder / "config.json", json.dumps(config(share, few=few), indent=1) + "\n")
    parts = {"words": words, "ends": DIMENSIONS["ends"]}
    for place, count in depth.items():
        for number in range(count):
            shapes = {f"{place}.{number}.{n}": s for n, s in DIMENSIONS[place].items()}
            parts[f"{place.replace('.', '-')}-{number:02}"] = shapes
    where: dict[str, str] = {}
    for number, (part, shapes) in enumerate(parts.items(), 1):
        tensors = {n: values(n, shape, max(depth.values())) for n, shape in shapes.items()}
        if WORDS in tensors:  # words that the tokenizer lacks are never the likeliest
            tensors[WORDS][known_words:] *= 0.01
        save_file(tensors, folder / f"{part}.safetensors")
        where |= dict.fromkeys(shapes, f"{part}.safetensors")
        if on_step:
            on_step(number, len(parts), part)
    index = {"metadata": {}, "weight_map": where}
    files.write(folder / "model.safetensors.index.json", json.dumps(index))


def values(name: str, shape: list[int], depth: int) -> Any:
    """Random weights, scaled as a trained model's are: small where a branch joins the others.

    Uniform, because of bell-shaped ones four bits would leave too little; the same for the same
    name and shape.
    """
    import torch

    if len(shape) == 1 and name.endswith("weight"):  # of a norm
        return torch.ones(shape, dtype=torch.bfloat16)
    chance = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    scale = 0.5 if name == WORDS else torch.Size(shape[1:]).numel() ** -0.5
    if name.endswith("bias"):
        scale = 0.01
    if name.endswith(RESIDUAL):
        scale *= 0.5 * (2 * depth) ** -0.5
    filled = torch.empty(shape, dtype=torch.bfloat16)
    for rows in filled.split(4096):
        rows.copy_((torch.rand(rows.shape, generator=chance) - 0.5) * (12**0.5 * scale))
    return filled
