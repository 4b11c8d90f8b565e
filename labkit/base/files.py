"""The one place that writes: a file or a folder gets its name when it is whole, or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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

    The content is on the disk before it gets its name, so that not even a power cut leaves half of it.
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
def new_folder(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` to fill, which becomes ``out`` if the block ends well; ``out`` must not exist.

    Raises
    ------
    FileExistsError
        If something has taken the name meanwhile.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    half = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        yield half
        half.chmod(0o755)
        if out.exists():
            raise FileExistsError(17, "File exists", str(out))
        half.rename(out)
    finally:
        shutil.rmtree(half, ignore_errors=True)
