"""What a class needs, made once in a folder that its learners only read: by running the lessons.

Whatever a lesson makes (converted models in each width of bits, the emulated lane, compiled
kernels) is then there because the lesson has made it, and each lesson is known to run here.
"""

import atexit
import os
import platform
import shutil
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from subprocess import DEVNULL
from typing import Any
from unittest import mock

import labkit
from labkit.base import files, paths
from labkit.base.command import OnStage, Stages
from labkit.base.data import frozen
from labkit.base.errors import FolderError
from labkit.base.records import from_json, to_json
from labkit.lessons.path_map import NOTEBOOKS
from labkit.proof.ready import cached

CELL_S = 1800.0


@frozen
class Prepared:
    """What stands in a folder that a class shares; kept in it as ``shared.json``."""

    labkit: str
    mnn: str
    machine: str  # such as "x86_64"
    made: str  # the day, such as "2026-05-01"
    lessons: tuple[str, ...]
    checkpoints: tuple[str, ...]
    bytes: int


def prepare(
    folder: Path,
    *,
    lessons: Sequence[str] = tuple(NOTEBOOKS),
    checkpoints: Sequence[str] = (),
    on_stage: OnStage = None,
) -> Prepared:
    """Run lessons once, and keep what they make for everybody.

    What an earlier run has made is used again. Only the owner can write to the folder afterwards.

    Parameters
    ----------
    folder
        Made if missing; learners name it in ``LABKIT_SHARED``.
    lessons
        Names of notebooks without ending.
    checkpoints
        Converted as well: names or folders, as `labkit.model.checkpoints.resolve` takes them.
    on_stage
        Called after each of them.

    Raises
    ------
    FolderError
        If something else stands there, it cannot be written to, or a lesson fails.
    """
    folder = folder.expanduser().absolute()
    known = {"cache", "progress", "results", paths.PREPARED}
    if folder.exists() and (not folder.is_dir() or {p.name for p in folder.iterdir()} - known):
        raise FolderError(
            f"expected a new folder, or one that was prepared, received {folder}, in which other "
            "things stand. Name another one."
        )
    stages = Stages([*lessons, *checkpoints], on_stage)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with mock.patch.dict(os.environ, LABKIT_HOME=str(folder)):
            os.environ.pop("LABKIT_SHARED", None)
            for lesson in lessons:
                _run(lesson)
                stages.end(lesson)
            for source in checkpoints:
                cached(source)
                stages.end(source)
        for own in ("progress", "results", "cache/logs", "cache/paces"):
            shutil.rmtree(folder / own, ignore_errors=True)
        result = Prepared(
            labkit=labkit.__version__,
            mnn=metadata.version("mnn"),
            machine=platform.machine(),
            made=time.strftime("%Y-%m-%d"),
            lessons=tuple(lessons),
            checkpoints=tuple(checkpoints),
            bytes=paths.size_bytes(folder),
        )
        for path in (folder, *folder.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        files.write(folder / paths.PREPARED, to_json(result))
        (folder / paths.PREPARED).chmod(0o644)
    except OSError as error:
        raise FolderError(
            f"{folder} could not be prepared: {error.strerror or error}. What is done is kept: "
            "mend that and type the same again."
        ) from error
    return result


def _run(lesson: str) -> None:
    """Execute a notebook as it stands; what it prints is not kept."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    notebooks = paths.repository() / "notebooks"
    text = (notebooks / f"{lesson}.ipynb").read_text(encoding="utf-8")
    notebook: Any = nbformat.reads(text, as_version=4)  # type: ignore[no-untyped-call]
    where = {"metadata": {"path": str(notebooks)}}
    client = NotebookClient(notebook, timeout=CELL_S, resources=where, kernel_name="python3")
    try:
        with files.temporary("kernel") as folder:
            client.create_kernel_manager().connection_file = str(folder / "kernel.json")
            client.execute(stderr=DEVNULL)
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        told = f"{error.ename}: {error.evalue}" if isinstance(error, CellExecutionError) else error
        raise FolderError(
            f"the lesson {lesson} does not run here, so nothing is shared yet: {told}\n"
            "`labkit doctor` says what is missing. What is done is kept: mend that and type the "
            "same again."
        ) from error
    finally:  # of a kernel that could not begin it speaks when Python ends
        atexit.unregister(client._cleanup_kernel)  # noqa: SLF001 - nbclient forgets to


def prepared(folder: Path) -> Prepared:
    """Read what was prepared in a folder.

    Raises
    ------
    FolderError
        If nothing was, or it cannot be read.
    """
    try:
        return from_json(Prepared, (folder / paths.PREPARED).read_bytes())
    except (OSError, ValueError) as error:
        raise FolderError(
            f"expected what `labkit prepare` has made in {folder}, found none: {error}. "
            f"Type: labkit prepare --shared {folder}"
        ) from error
