"""Checkpoints: where they come from, and whether they are a whole Qwen2-VL."""

import json
import math
import re
from collections import ChainMap, Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from labkit.base import paths
from labkit.base.data import frozen
from labkit.base.errors import CheckpointError

MINI, TWIN = "mini", "twin:"
ALIASES = {"qwen2-vl-2b": "Qwen/Qwen2-VL-2B-Instruct"}
LARGE = 2**28
"""More parameters than these are not held in memory at once, nor shown a whole photo unasked."""
HUB_ID = re.compile(r"^\w[\w.-]*/\w[\w.-]*$")
FLOATS = {"F16", "BF16", "F32"}
INDEX = "model.safetensors.index.json"
WANTED = ("*.json", "*.safetensors", "*.txt", "*.jinja")
REFUSED = {
    "auto_map": "asks to run code of its own, which labkit never does",
    "quantization_config": "is of weights that were quantised already; MNN takes unquantised ones",
}
"""What a configuration may not ask for, and why."""


@frozen
class Checkpoint:
    """A Qwen2-VL checkpoint on this disk, looked at but not loaded."""

    name: str
    folder: Path
    config: dict[str, Any]
    dtype: str
    parameters: int
    weights_bytes: int
    image: dict[str, int]  # min_pixels and max_pixels of a picture
    stop: tuple[int, ...]

    @property
    def image_pad(self) -> int:
        """Id of the token that a picture's visual tokens replace."""
        return int(self.config["image_token_id"])


def resolve(source: str | Path, *, on_step: Callable[..., None] | None = None) -> Checkpoint:
    """Find a checkpoint and look whether it is whole.

    Parameters
    ----------
    source
        ``"mini"`` for the embedded one, ``"twin:2b"`` for one of the real dimensions with random
        weights (`labkit.model.twin`), a folder, or a hub id or one of `ALIASES`, such as
        ``"qwen2-vl-2b"``, which is downloaded at first use (`labkit.model.hub`).
    on_step
        Called with how many files are written or downloaded, of how many, and the last one's name.

    Raises
    ------
    CheckpointError
        If it is not there, not Qwen2-VL, or not whole; the message says what is amiss.
    """
    name = str(source)
    if name == MINI:
        return inspect(paths.data_dir() / "mini-qwen2-vl", name=MINI)
    if name.startswith(TWIN):
        from labkit.model import twin

        return inspect(twin.cached(name, on_step=on_step), name=name)
    folder = Path(source).expanduser()
    if folder.is_dir():
        return inspect(folder, name=folder.resolve().name)
    if hub_id := named_on_hub(source):
        from labkit.model import hub

        kept = hub.kept(hub_id)
        offer = kept or hub.look(hub_id)
        if offer.converted:
            raise CheckpointError(
                f"expected a checkpoint, found a model that others converted under {hub_id}. "
                f"Type: labkit fetch {hub_id}, labkit ask PICTURE QUESTION --model {hub_id}"
            )
        return inspect(offer.folder if kept else hub.take(offer, on_step=on_step), name=hub_id)
    raise CheckpointError(
        f"expected 'mini', 'twin:2b', {', '.join(map(repr, ALIASES))}, a folder, or a hub id like "
        f"'Qwen/Qwen2-VL-2B-Instruct', received {name!r}, which is none of them."
    )


def named_on_hub(source: str | Path) -> str | None:
    """The hub id that a name stands for; None for every other name, and where a file has it."""
    if not isinstance(source, str) or Path(source).expanduser().exists():
        return None
    return ALIASES.get(source) or (source if HUB_ID.match(source) else None)


def inspect(folder: Path, *, name: str | None = None) -> Checkpoint:
    """Look at a folder without loading it: configuration, shards, headers, types.

    Raises
    ------
    CheckpointError
        If anything that a conversion needs is missing, damaged or of another kind.
    """
    config, stop = configuration(folder)
    if not (folder / "tokenizer.json").is_file() and not (folder / "vocab.json").is_file():
        raise CheckpointError(
            f"expected a tokenizer (tokenizer.json, or vocab.json and merges.txt) in {folder}, "
            "found none."
        )
    content = tensors(folder)
    kinds = Counter(kind for kind, _ in content.values())
    if wrong := sorted(kinds.keys() - FLOATS):
        raise CheckpointError(
            f"expected weights of type {', '.join(sorted(FLOATS))} in {folder}, "
            f"found {', '.join(wrong)}. Take the unquantised checkpoint."
        )
    if not any(name.endswith("visual.patch_embed.proj.weight") for name in content):
        raise CheckpointError(
            f"expected a vision tower (…visual.patch_embed.proj.weight) in {folder}'s weights, "
            f"found none among {len(content)} tensors."
        )
    return Checkpoint(
        name=name or folder.name,
        folder=folder,
        config=config,
        dtype=kinds.most_common(1)[0][0],
        parameters=sum(count for _, count in content.values()),
        weights_bytes=sum(file.stat().st_size for file in weight_files(folder)),
        image=picture_bounds(_json(folder, "preprocessor_config.json")),
        stop=stop,
    )


def picture_bounds(picture: dict[str, Any]) -> dict[str, int]:
    """``min_pixels`` and ``max_pixels``, from what ``preprocessor_config.json`` says.

    Raises
    ------
    CheckpointError
        If these are no areas of pictures.
    """
    size = picture.get("size")
    size = size if isinstance(size, dict) else {}
    least = picture.get("min_pixels") or size.get("shortest_edge") or 3136
    most = picture.get("max_pixels") or size.get("longest_edge") or 12845056
    if not (type(least) is type(most) is int and 0 < least <= most):
        raise CheckpointError(
            f"expected areas in pixels as 'min_pixels' and 'max_pixels' in preprocessor_config.json"
            f", found {least!r} and {most!r}. Take the original checkpoint's file."
        )
    return {"min_pixels": least, "max_pixels": most}


def configuration(folder: Path) -> tuple[dict[str, Any], tuple[int, ...]]:
    """A Qwen2-VL's ``config.json``, and the tokens that end an answer.

    Raises
    ------
    CheckpointError
        If it is another model's, or asks for what labkit does not do.
    """
    path, config = folder / "config.json", _json(folder, "config.json")
    if config.get("model_type") != "qwen2_vl":
        raise CheckpointError(
            f"expected model_type 'qwen2_vl' in {path}, found {config.get('model_type')!r}. "
            "This path is for Qwen2-VL."
        )
    text = config.get("text_config")
    text = text if isinstance(text, dict) else {}
    for key, why in REFUSED.items():
        if key in config or key in text:
            raise CheckpointError(f"{path} {why} ({key!r}). Take the original checkpoint.")
    generation = "generation_config.json"
    own = _json(folder, generation) if (folder / generation).exists() else {}
    stop: Any = ChainMap(own, config, text).get("eos_token_id")
    stop = stop if isinstance(stop, list) else [stop]
    for key, ids in (("image_token_id", [config.get("image_token_id")]), ("eos_token_id", stop)):
        if not ids or not all(type(token) is int for token in ids):
            raise CheckpointError(
                f"expected the id of a token as {key!r} in {path}, found {ids or None}. "
                "Take the original checkpoint's file."
            )
    return config, tuple(stop)


def _json(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    if not path.is_file():
        raise CheckpointError(
            f"expected {name} in {folder}, found none. Is this the folder of a Qwen2-VL checkpoint?"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(
            f"expected JSON in {path}: {error}. Copy or download the file again."
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"expected a JSON object in {path}, found {type(content).__name__}.")
    return content


def leads_out(folder: Path, file: str | Path) -> bool:
    """Whether a file that a folder names is outside it: absolute, above it, by a link, or no name.

    A hub's cache keeps contents in ``blobs``, two above the folder, and links to them; that is
    inside.
    """
    home, path = folder.resolve(), folder / file
    homes = [home, home.parents[1] / "blobs"] if home.parent.name == "snapshots" else [home]
    named = path.is_relative_to(folder) and ".." not in path.relative_to(folder).parts
    try:
        path.exists()  # which refuses what is too long for a name
        return not (named and any(path.resolve().is_relative_to(place) for place in homes))
    except (OSError, RuntimeError, ValueError):  # links in a circle, characters that no name has
        return True


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint, from its index where there is one."""
    files = [folder / name for name in sorted(set(_index(folder).values()))] or [
        folder / "model.safetensors"
    ]
    if outside := [file for file in files if leads_out(folder, file)]:
        raise CheckpointError(
            f"expected every file of weights in {folder}, found {outside[0]}, which is outside. "
            "Copy the checkpoint with its files into one folder."
        )
    missing = [file.name for file in files if not file.is_file()]
    if missing and not files[1:] and any(folder.glob("*.bin")):
        raise CheckpointError(
            f"expected safetensors in {folder}, found pickled weights (.bin), which can run code. "
            "Take the safetensors version."
        )
    if missing:
        raise CheckpointError(
            f"expected the weights {', '.join(missing)} in {folder}, found no such file. Copy or "
            "download it again."
        )
    return files


def _index(folder: Path) -> dict[str, str]:
    """Which file holds which tensor; empty where one file holds them all."""
    if not (folder / INDEX).is_file():
        return {}
    where = _json(folder, INDEX).get("weight_map")
    if not (
        isinstance(where, dict) and where and all(isinstance(name, str) for name in where.values())
    ):
        raise CheckpointError(
            f"expected names of files under 'weight_map' in {folder / INDEX}, found none. Copy or "
            "download it again."
        )
    return where


def tensors(folder: Path) -> dict[str, tuple[str, int]]:
    """Type and number of elements of every tensor, from the headers of the weight files alone.

    Raises
    ------
    CheckpointError
        If a file is missing, cut off, or not safetensors.
    """
    content: dict[str, tuple[str, int]] = {}
    for file in weight_files(folder):
        try:
            with safe_open(file, framework="np") as opened:
                names = opened.keys()
                for name in names:
                    part = opened.get_slice(name)
                    content[name] = part.get_dtype(), math.prod(part.get_shape())
        except SafetensorError as error:
            raise CheckpointError(
                f"{file} ({file.stat().st_size:,} bytes) is damaged or cut off, or not "
                f"safetensors: {error}. Copy or download it again."
            ) from error
    if absent := sorted(_index(folder).keys() - content.keys()):
        raise CheckpointError(
            f"expected {absent[0]} in {folder}'s weights, as {INDEX} says, found no such tensor: "
            "files of two checkpoints?"
        )
    return content
