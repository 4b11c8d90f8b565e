"""What `labkit tune` chose for a model on this machine, where every run of the model finds it.

It stands beside other measurements, not with the model: a folder that is copied to another machine
is not tuned there.
"""

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from labkit.base import files, hardware, paths
from labkit.base.records import from_json, to_json
from labkit.engine.lanes import Lane, native
from labkit.model.manifest import Manifest

FOLDER = "tuned"
USUAL: dict[str, Any] = {
    "precision": "normal",
    "memory": "low",
    "attention": 8,
    "rounding": 0,
    "mmap": 0,
}
"""What holds unless it was tuned; and as many threads as `labkit.base.hardware.default_threads`."""


def place(about: Manifest) -> Path:
    """The file of a choice: another one for other weights, another CPU, or another MNN."""
    machine = hardware.describe()
    mnn = metadata.version("mnn")
    name = paths.named(about.contents, machine.cpu, machine.logical_cores, mnn)
    return paths.place("results") / FOLDER / f"{name}.json"


def read(about: Manifest) -> dict[str, Any]:
    """The options chosen for a model here, by name; empty if it was not tuned."""
    if not (paths.place("results") / FOLDER).is_dir():  # then the machine need not be looked at
        return {}
    try:
        chosen: dict[str, Any] = from_json(dict[str, Any], place(about).read_bytes())
    except (OSError, ValueError):  # none, or damaged: as untuned
        return {}
    return {name: value for name, value in chosen.items() if name in {"threads", *USUAL}}


def usual(lane: Lane | None = None) -> dict[str, Any]:
    """All options by name, as they are in a lane of a model that was not tuned."""
    return {"threads": (lane or native()).default_threads(), **USUAL}


def write(about: Manifest, chosen: Mapping[str, Any]) -> Path:
    """Keep a choice; the file."""
    paths.results_dir()
    file = place(about)
    files.write(file, to_json(dict(chosen)))
    return file


def undo(about: Manifest) -> bool:
    """Take a choice out; whether there was one."""
    file = place(about)
    there = file.is_file()
    file.unlink(missing_ok=True)
    return there


def words(options: Mapping[str, Any]) -> str:
    """Options in words.

    >>> words({"threads": 2, "attention": 0})
    'threads 2, attention 0'
    """
    return ", ".join(f"{name} {value}" for name, value in options.items())
