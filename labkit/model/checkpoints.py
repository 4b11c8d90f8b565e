"""Checkpoints: where they come from, and whether they are a whole Qwen2-VL."""

import hashlib
import json
import math
import re
from collections import ChainMap, Counter
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from labkit.base import paths
from labkit.base.data import frozen
from labkit.base.errors import CheckpointError

MINI, TWIN = "mini", "twin:"
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
    min_pixels: int
    max_pixels: int
    stop: tuple[int, ...]

    @property
    def image_pad(self) -> int:
        """Id of the token that a picture's visual tokens replace."""
        return int(self.config["image_token_id"])


def resolve(source: str | Path) -> Checkpoint:
    """Find a checkpoint and look whether it is whole.

    Parameters
    ----------
    source
        ``"mini"`` for the embedded one, ``"twin:2b"`` for one of the real dimensions with random
        weights (`labkit.model.twin`), a folder, or a hub id such as
        ``"Qwen/Qwen2-VL-2B-Instruct"``, which is downloaded (resumed if it was begun).

    Raises
    ------
    CheckpointError
        If it is not there, not Qwen2-VL, or not whole; the message says what is amiss.
    """
    if str(source) == MINI:
        return inspect(paths.data_dir() / "mini-qwen2-vl", name=MINI)
    if str(source).startswith(TWIN):
        from labkit.model import twin

        return inspect(twin.cached(str(source)), name=str(source))
    folder = Path(source).expanduser()
    if folder.is_dir():
        return inspect(folder, name=folder.resolve().name)
    if isinstance(source, str) and HUB_ID.match(source) and not folder.exists():
        return inspect(_download(source), name=source)
    raise CheckpointError(
        "expected 'mini', 'twin:2b', a folder, or a hub id like 'Qwen/Qwen2-VL-2B-Instruct', "
        f"received {str(source)!r}, which is none of them."
    )


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    where = paths.cache_dir() / "hub"
    try:
        return Path(snapshot_download(hub_id, cache_dir=where, allow_patterns=list(WANTED)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise CheckpointError(
            f"could not download {hub_id}: {type(error).__name__}: {str(error).splitlines()[0]}\n"
            f"Check the name and the network; what has come is kept in {where}, and the same "
            "command goes on from there. "
            "Without a network, use 'mini', or copy the checkpoint's folder to this machine and "
            "give its path."
        ) from error


def inspect(folder: Path, *, name: str | None = None) -> Checkpoint:
    """Look at a folder without loading it: configuration, shards, headers, types.

    Raises
    ------
    CheckpointError
        If anything that a conversion needs is missing, damaged or of another kind.
    """
    config, stop = _configuration(folder)
    if not (folder / "tokenizer.json").is_file() and not (folder / "vocab.json").is_file():
        raise CheckpointError(
            f"expected a tokenizer (tokenizer.json, or vocab.json and merges.txt) in {folder}, "
            "found none."
        )
    picture = _json(folder, "preprocessor_config.json")
    size = picture.get("size") or {}
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
        min_pixels=int(picture.get("min_pixels") or size.get("shortest_edge") or 3136),
        max_pixels=int(picture.get("max_pixels") or size.get("longest_edge") or 12845056),
        stop=stop,
    )


def _configuration(folder: Path) -> tuple[dict[str, Any], tuple[int, ...]]:
    """A Qwen2-VL's ``config.json``, and the tokens that end an answer."""
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
    """Whether a file that a folder names is outside it: absolute, above it, or by a link.

    A hub's cache keeps contents in ``blobs``, two above the folder, and links to them; that is
    inside.
    """
    home, path = folder.resolve(), folder / file
    homes = [home, home.parents[1] / "blobs"] if home.parent.name == "snapshots" else [home]
    named = path.is_relative_to(folder) and ".." not in path.relative_to(folder).parts
    return not (named and any(path.resolve().is_relative_to(place) for place in homes))


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


def fingerprint(folder: Path) -> str:
    """SHA-256 over the names and contents of everything a conversion reads."""
    read = sorted(path for pattern in WANTED for path in folder.glob(pattern))
    names = "".join(f"{path.name}\0{file_sha256(path)}\0" for path in read)
    return hashlib.sha256(names.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of one file, as hex."""
    digest = hashlib.sha256()
    with path.open("rb") as opened:
        while block := opened.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
