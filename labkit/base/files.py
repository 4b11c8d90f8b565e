"""The one place that writes: a file or a folder gets its name when it is whole, or not at all."""

import errno
import glob
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def read(path: Path) -> str:
    """What stands in a text file; nothing if it cannot be read, because then nothing is known."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def write(path: Path, content: str | bytes) -> None:
    """Write a file, whole or not at all; what stood there before stays until then.

    Parameters
    ----------
    path
        Its folder must exist.
    content
        Text is written as UTF-8.

    Raises
    ------
    OSError
        If it cannot be written, such as on a full disk. Nothing half-written is left.
    """
    with replacing(path) as new:
        new.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write a file to, which becomes ``path`` if the block ends well.

    The content is on the disk before it gets its name, so that no power cut leaves half of it.
    """
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield new
        with new.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


@contextmanager
def new_folder(out: Path, *, replace: bool = False) -> Iterator[Path]:
    """An empty folder beside ``out`` to fill, which becomes ``out`` if the block ends well.

    It stands, as ``new``, in ``.NAME.PROCESS``. What a process that was killed has left there is
    removed by the next one; an old folder that it had set aside gets its name back.

    Parameters
    ----------
    out
        The folder's name; its parents are made.
    replace
        Whether a folder of that name steps aside, once the new one is whole.

    Yields
    ------
    pathlib.Path
        Absolute.

    Raises
    ------
    FileExistsError
        If something has the name, and ``replace`` is not set.
    """
    out = out.absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    _sweep(out)
    work = out.with_name(f".{out.name}.{os.getpid()}")
    new, old = work / "new", work / "old"
    new.mkdir(parents=True)
    try:
        yield new
        if out.exists() and not replace:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(out))
        if out.exists():
            os.replace(out, old)
        os.replace(new, out)
    finally:
        _clear(work, out)


@contextmanager
def temporary(kind: str) -> Iterator[Path]:
    """An empty folder that is gone after the block.

    Its name holds ``kind`` and this process. What processes that were killed have left of such
    folders is removed first.
    """
    for left in Path(tempfile.gettempdir()).glob("labkit-*"):
        named = re.fullmatch(r"labkit-[a-z]+-(\d+)-\w+", left.name)
        if named and _is_gone(named[1]):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"labkit-{kind}-{os.getpid()}-") as folder:
        yield Path(folder)


def _is_gone(pid: str) -> bool:
    import psutil

    return not psutil.pid_exists(int(pid))


def _sweep(out: Path) -> None:
    """Clear what processes that are gone have left beside ``out``."""
    for work in out.parent.glob(f".{glob.escape(out.name)}.*"):
        pid = work.suffix[1:]
        if pid.isdigit() and (int(pid) == os.getpid() or _is_gone(pid)):
            _clear(work, out)


def _clear(work: Path, out: Path) -> None:
    """Remove a working folder; what it had set aside goes back where its place is free."""
    if (work / "old").exists() and not out.exists():
        os.replace(work / "old", out)
    shutil.rmtree(work, ignore_errors=True)
