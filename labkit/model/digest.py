"""What files contain, as one number: of a file, and of a checkpoint."""

import hashlib
import time
from contextlib import suppress
from pathlib import Path

from labkit.base import files, paths
from labkit.model.checkpoints import WANTED

SETTLED_NS = 2_000_000_000


def fingerprint(folder: Path) -> str:
    """SHA-256 over the names and contents of everything a conversion reads.

    To read gigabytes takes seconds, at each question: so it is noted in the cache, for files of
    these places, sizes and times, unless one is so new that a change might not move its time.
    """
    read = sorted(path for pattern in WANTED for path in folder.absolute().glob(pattern))
    states = [(str(path), path.stat()) for path in read]
    of = repr([(path, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for path, s in states])
    note = paths.kept("fingerprints", hashlib.sha256(of.encode()).hexdigest())
    if known := files.read(note):
        return known
    names = "".join(f"{path.name}\0{file_sha256(path)}\0" for path in read)
    digest = hashlib.sha256(names.encode()).hexdigest()
    if time.time_ns() - max((s.st_ctime_ns for _, s in states), default=0) > SETTLED_NS:
        with suppress(OSError):  # on a full disk it is read again, that is all
            files.write(note, digest)
    return digest


def file_sha256(path: Path) -> str:
    """SHA-256 of one file, as hex."""
    digest = hashlib.sha256()
    with path.open("rb") as opened:
        while block := opened.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
