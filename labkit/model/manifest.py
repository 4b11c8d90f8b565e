"""The manifest beside a converted model: what it was made from, with what, and its files."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Literal

from labkit.base import files
from labkit.base.data import frozen
from labkit.base.errors import ModelError
from labkit.base.records import from_json, to_json
from labkit.model.checkpoints import TWIN, leads_out
from labkit.model.digest import file_sha256

NAME = "labkit.json"
SCHEMA: Final = 1
REQUIRED = (
    "config.json",
    "llm_config.json",
    "llm.mnn",
    "llm.mnn.weight",
    "visual.mnn",
    "visual.mnn.weight",
    "tokenizer.mtok",
)
PATHS = re.compile(r".*_(model|weight|file|path|dir|config)")
"""The keys under which MNN-LLM's configuration names files and folders."""

CONVERTED = "converted by others, no parity: nobody here compared it with its original"


@frozen
class File:
    """One file of a model, as it was written."""

    bytes: int
    sha256: str


@frozen
class Manifest:
    """What is known of a converted model."""

    source: dict[str, Any]
    tools: dict[str, str]
    options: dict[str, Any]
    image: dict[str, int]
    image_pad: int
    stop: tuple[int, ...]
    files: dict[str, File]
    elapsed_s: float
    peak_bytes: int | None = None
    parity: dict[str, Any] | None = None
    schema: Literal[1] = SCHEMA

    def __post_init__(self) -> None:
        bits = [self.options.get(option) for option in ("weight_bits", "vision_bits")]
        area = [self.image.get(bound, 0) for bound in ("min_pixels", "max_pixels")]
        known = type(self.source.get("name")) is str, type(self.source.get("parameters")) is int
        if not (all(known) and {*map(type, bits)} == {int} and 0 < area[0] <= area[1]):
            raise ValueError("name, parameters, bits or sizes of pictures are missing or no such")

    @property
    def total_bytes(self) -> int:
        """Size of the model's files."""
        return sum(file.bytes for file in self.files.values())

    @property
    def contents(self) -> list[tuple[str, str]]:
        """Name and SHA-256 of each file: what tells this model from every other."""
        return sorted((name, file.sha256) for name, file in self.files.items())

    def kind(self, option: str) -> str:
        """What weights are by ``"weight_bits"`` or ``"vision_bits"``: ``"int4"``, ``"float16"``."""
        bits = self.options[option]
        return "float16" if bits == 16 else f"int{bits}"

    @property
    def caveat(self) -> str:
        """What to know before its words are believed; empty where there is nothing."""
        if self.source["name"].startswith(TWIN):
            return "a twin with random weights: its words are noise"
        return CONVERTED if self.source.get("converted") else ""


def describe_files(folder: Path) -> dict[str, File]:
    """Size and SHA-256 of each file of a model."""
    inside = sorted(p for p in folder.iterdir() if p.is_file() and p.name != NAME)
    return {p.name: File(bytes=p.stat().st_size, sha256=file_sha256(p)) for p in inside}


def write(folder: Path, manifest: Manifest) -> None:
    """Write a manifest; the old one stays until the new one is whole."""
    files.write(folder / NAME, to_json(manifest))


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
            f"expected a converted model in {folder}, found no such folder. "
            f"Make one: labkit convert mini --out {folder}"
        )
    if not path.is_file():
        raise ModelError(
            f"expected {NAME} in {folder}, found none: not a model that labkit converted. "
            "Make one: labkit convert CHECKPOINT --out DIR"
        )
    try:
        manifest = from_json(Manifest, path.read_bytes())
    except ValueError as error:
        raise ModelError(
            f"{path} is damaged, or not of schema {SCHEMA} ({error}). "
            "Convert the checkpoint again with this labkit."
        ) from error
    require_inside(folder, manifest.files)
    sizes = {p.name: p.stat().st_size for p in folder.iterdir() if p.is_file()}
    amiss = {name for name, file in manifest.files.items() if sizes.get(name) != file.bytes}
    amiss |= required(folder) - manifest.files.keys()
    if amiss:
        raise ModelError(
            f"the model in {folder} is not whole: {', '.join(sorted(amiss))} missing or of another "
            "size. Convert the checkpoint again."
        )
    return manifest


def tokenizer(folder: Path) -> str:
    """The name of the file that MNN-LLM reads as tokenizer."""
    return str(_configuration(folder, "config.json").get("tokenizer_file", "tokenizer.txt"))


def required(folder: Path) -> set[str]:
    """The files without which MNN-LLM cannot open a model; which tokenizer, the model says."""
    own = tokenizer(folder) if (folder / "config.json").is_file() else REQUIRED[-1]
    return {*REQUIRED[:-1], own}


def require_inside(folder: Path, names: Iterable[str] = ()) -> None:
    """Check that these files, and all that the model's configuration names, are the folder's own.

    Raises
    ------
    ModelError
        If one is elsewhere, or a configuration is not JSON.
    """
    _all_inside(folder, NAME, names)
    config = _configuration(folder, "config.json")
    more = str(config.get("llm_config", "llm_config.json"))
    _all_inside(folder, "config.json", [more, *_paths(config)])
    _all_inside(folder, more, _paths(_configuration(folder, more)))


def _all_inside(folder: Path, file: str, names: Iterable[str]) -> None:
    for name in names:
        if leads_out(folder, name):
            raise ModelError(
                f"{folder / file} names {name!r}, expected a file in its own folder. "
                "Convert the checkpoint again, or copy the model with its files into one folder."
            )


def _configuration(folder: Path, name: str) -> dict[str, Any]:
    """One of MNN-LLM's files; empty where there is none, which is said with all that is missing."""
    try:
        return from_json(dict[str, Any], (folder / name).read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ModelError(
            f"expected JSON in {folder / name}: {error}. Convert the checkpoint again."
        ) from error


def _paths(content: Any) -> Iterator[str]:
    """What stands under `PATHS`, however deep."""
    for key, value in content.items() if isinstance(content, dict) else ():
        if isinstance(value, str) and PATHS.fullmatch(key):
            yield value
        yield from _paths(value)


def verify(folder: Path) -> dict[str, bool]:
    """Check every file of a model against its SHA-256.

    Returns
    -------
    dict
        For each file, whether its content is what was written.
    """
    written = read(folder).files
    return {name: file_sha256(folder / name) == file.sha256 for name, file in written.items()}
