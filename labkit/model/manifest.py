"""The manifest beside a converted model: what it was made from, with what, and its files."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from labkit.base.errors import ModelError
from labkit.model.checkpoints import file_sha256

NAME = "labkit.json"
SCHEMA = 1
REQUIRED = (
    "config.json",
    "llm_config.json",
    "llm.mnn",
    "llm.mnn.weight",
    "visual.mnn",
    "visual.mnn.weight",
    "tokenizer.mtok",
)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What is known of a converted model."""

    source: dict[str, Any]
    tools: dict[str, str]
    options: dict[str, Any]
    image: dict[str, int]
    image_pad: int
    stop: tuple[int, ...]
    files: dict[str, dict[str, Any]]
    elapsed_s: float
    peak_bytes: int | None
    parity: dict[str, Any] | None = None
    schema: int = field(default=SCHEMA)

    @property
    def total_bytes(self) -> int:
        """Size of the model's files."""
        return sum(int(entry["bytes"]) for entry in self.files.values())


def kind(bits: int) -> str:
    """What weights of so many bits are: ``"int4"``, ``"int8"``, ``"float16"``."""
    return "float16" if bits == 16 else f"int{bits}"


def describe_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of each file of a model."""
    files = sorted(p for p in folder.iterdir() if p.is_file() and p.name != NAME)
    return {p.name: {"bytes": p.stat().st_size, "sha256": file_sha256(p)} for p in files}


def write(folder: Path, manifest: Manifest) -> None:
    """Write a manifest; the old one stays until the new one is whole."""
    new = folder / (NAME + ".new")
    new.write_text(json.dumps(asdict(manifest), indent=1) + "\n", encoding="utf-8")
    os.replace(new, folder / NAME)


def read(folder: Path) -> Manifest:
    """Read a manifest and check, cheaply, that every file is there at its size.

    Raises
    ------
    ModelError
        If there is none, it is of another schema, or a file is missing or of another size.
    """
    path = folder / NAME
    if not folder.is_dir():
        raise ModelError(
            f"expected a converted model in {folder}, found no such folder. Make one: labkit convert mini --out {folder}"
        )
    if not path.is_file():
        raise ModelError(
            f"expected {NAME} in {folder}, found none: not a model that labkit converted. Make one: labkit convert CHECKPOINT --out DIR"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != SCHEMA:
            raise ModelError(
                f"expected schema {SCHEMA} in {path}, found {content['schema']}. Convert the checkpoint again with this labkit."
            )
        manifest = Manifest(**{**content, "stop": tuple(content["stop"])})
        sizes = {name: entry["bytes"] for name, entry in manifest.files.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} is damaged ({error}). Convert the checkpoint again.") from error
    amiss = [
        name
        for name, size in sizes.items()
        if not (folder / name).is_file() or (folder / name).stat().st_size != size
    ]
    amiss += [name for name in REQUIRED if name not in manifest.files]
    if amiss:
        raise ModelError(
            f"the model in {folder} is not whole: {', '.join(sorted(set(amiss)))} missing or of another size. Convert the checkpoint again."
        )
    return manifest


def verify(folder: Path) -> dict[str, bool]:
    """Check every file of a model against its SHA-256.

    Returns
    -------
    dict
        For each file, whether its content is what was written.
    """
    manifest = read(folder)
    return {
        name: file_sha256(folder / name) == entry["sha256"]
        for name, entry in manifest.files.items()
    }
