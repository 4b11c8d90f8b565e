"""``python inject.py FOLDER FAULT ARGV…``: a command of labkit that is hurt at one of its steps.

A step is what changes the disk below FOLDER: a file opened to be written, its content brought to
the disk, a folder, a new name, and (for kills alone) a deletion. They come in the same order in
every run, so that what happened once can be had again.

FAULT is ``KILL:n`` (killed at the n-th step), ``EIO:n`` (the n-th fails), ``ENOSPC:n`` (it fails,
and so do all after it), or ``COUNT:0``, which tells the number of steps on stderr.
"""

import errno
import os
import signal
import sys
from pathlib import Path
from typing import Any

CHANGES = {"os.mkdir": 0, "os.rename": 1, "os.link": 1, "os.symlink": 1}  # where the name stands
DELETES = {"os.remove", "os.rmdir"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Steps:
    """Counts them, and hurts."""

    def __init__(self, folder: str, fault: str) -> None:
        self.folder, (self.kind, _, number) = folder, fault.partition(":")
        self.number, self.count, self.sync = int(number), 0, os.fsync

    def watch(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = args
            if flags & WRITES:
                self.step(path)
        elif event in CHANGES:
            self.step(args[CHANGES[event]])
        elif event in DELETES and self.kind == "KILL":
            self.step(args[0])

    def fsync(self, file: int) -> None:
        self.step(self.folder)
        self.sync(file)

    def step(self, path: Any) -> None:
        name = str(Path(os.fsdecode(path)).absolute()) if not isinstance(path, int) else ""
        if not name.startswith(self.folder):
            return
        self.count += 1
        if self.kind == "KILL" and self.count == self.number:
            os.kill(os.getpid(), signal.SIGKILL)
        again = self.kind == "ENOSPC" and self.count > self.number
        if self.kind[0] == "E" and (self.count == self.number or again):
            code = getattr(errno, self.kind)
            raise OSError(code, os.strerror(code), name)


def main(folder: str, fault: str, *argv: str) -> int:
    steps = Steps(folder, fault)
    os.fsync = steps.fsync
    sys.addaudithook(steps.watch)
    try:
        if argv[0] == "labkit":
            from labkit import cli

            return cli.main(argv[1:])
        exec(argv[0], {})
        return 0
    finally:
        if steps.kind == "COUNT":
            sys.stderr.write(f"steps: {steps.count}\n")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
