"""The one place that writes: a file or a folder gets its name when it is whole, or not at all."""

import errno
import fcntl
import glob
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from labkit.base.errors import FolderError


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
        Its folder is made.
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

    The content is on the disk before it gets its name, so that no power cut leaves half of it. What
    a process that was killed has left there is removed by the next one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield new
        with new.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


@contextmanager
def alone(
    folder: Path, on_wait: Callable[[], None] | None = None, *, shared: bool = False
) -> Iterator[None]:
    """Wait until no other process or thread is in such a block with this folder.

    The system ends the claim with its process, however that ends. Where the folder's file system
    knows no locks, nobody waits.

    Parameters
    ----------
    on_wait
        Called when another one is there.
    shared
        Whether others that share may be there, too.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    file = os.open(folder, os.O_RDONLY)
    try:
        if _is_claimed(file, kind):
            if on_wait:
                on_wait()
            fcntl.flock(file, kind)
        yield
    finally:
        os.close(file)


def _is_claimed(file: int, kind: int = fcntl.LOCK_EX) -> bool:
    """Claim an open folder, unless another one has done so."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    return False


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
    FolderError
        If another process is making it at this moment.
    """
    out = out.absolute()
    work = out.with_name(f".{out.name}.{os.getpid()}")
    new, old = work / "new", work / "old"
    out.parent.mkdir(parents=True, exist_ok=True)
    with alone(out.parent):
        _sweep(out)
        work.mkdir()
        try:
            new.mkdir()
        except OSError:
            work.rmdir()
            raise
        claim = os.open(work, os.O_RDONLY)
        _is_claimed(claim)
    try:
        yield new
        if out.exists() and not replace:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(out))
        if out.exists():
            os.replace(out, old)
        os.replace(new, out)
    finally:
        _clear(work, out)
        os.close(claim)


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
    """Clear what processes that are gone have left beside ``out``; refuse what is being made."""
    for work in out.parent.glob(f".{glob.escape(out.name)}.*"):
        pid = work.suffix[1:]
        if not pid.isdigit():
            continue
        with suppress(FileNotFoundError):  # its process is just removing it
            claim = os.open(work, os.O_RDONLY)
            claimed = _is_claimed(claim)
            os.close(claim)
            if claimed:
                raise FolderError(
                    f"expected to be the only one to make {out}; the process {pid} is at it. Wait "
                    "until it is done and use that, or choose another name with --out."
                )
            if int(pid) == os.getpid() or _is_gone(pid):
                _clear(work, out)


def _clear(work: Path, out: Path) -> None:
    """Remove what was worked in; what it had set aside goes back where its place is free."""
    if work.is_file():
        work.unlink(missing_ok=True)
    if (work / "old").exists() and not out.exists():
        os.replace(work / "old", out)
    shutil.rmtree(work, ignore_errors=True)
