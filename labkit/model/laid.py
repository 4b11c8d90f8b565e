"""Weights as this CPU's kernels want them, kept on the disk: then a model is ready at once.

MNN lays out every weight anew whenever it loads. Where it may do so in a mapped file
(``use_mmap``), it finds them there the next time. The file is made by a process of its own, and
gets its name when it is whole; who reads it changes nothing in it, so several may at once.
"""

import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from labkit.base import files, hardware, paths
from labkit.base.errors import EngineCrashed, EngineError, FolderError
from labkit.engine.client import EngineProcess
from labkit.model import manifest
from labkit.model.manifest import Manifest


def place(about: Manifest) -> Path:
    """The folder of all that is kept of a model here."""
    return paths.place("cache") / "laid" / paths.named(about.contents)


def free(about: Manifest) -> None:
    """Delete all of it."""
    shutil.rmtree(place(about), ignore_errors=True)


def laid(folder: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as the engine takes them: ``mmap``, if it is chosen, names the place.

    What is missing there is made now, which takes as long as loading does and as many bytes as the
    model has. Where there is no room for twice as many, ``mmap`` is left out.
    """
    engine = dict(options)
    if not engine.pop("mmap", 0):
        return engine
    about, machine = manifest.read(folder), hardware.describe()
    key = sorted(engine.items()), machine.cpu, machine.instruction_sets, metadata.version("mnn")
    out = place(about) / paths.named(*key)
    if not out.exists():
        if (hardware.free_disk_bytes(out) or 0) < 2 * about.total_bytes:
            return engine
        try:
            with files.new_folder(out) as new, EngineProcess() as one:
                one.request("load_chat", directory=folder.resolve(), **engine, mmap=new)
        except (EngineCrashed, EngineError, FolderError, OSError):
            return engine
    return engine | {"mmap": out}
