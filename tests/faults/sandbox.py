"""A place for commands that are hurt, in which all that they leave is seen."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import psutil
import pytest
from loopback_hub import LoopbackHub

from labkit.base import paths

REPOSITORY = Path(__file__).parents[2]
INJECT = Path(__file__).with_name("inject.py")
LONG = os.environ.get("LABKIT_FAULTS") == "long"
SEED = int(os.environ.get("LABKIT_FAULTS_SEED", "2026"))
MARK = "LABKIT_FAULTS_PLACE"
TRIAL = re.compile(r"[a-z0-9_]{8}")
NUMBERS = re.compile(r"\d{3,}")
TALLY: Counter[tuple[str, str, str]] = Counter()
"""What was tried: part, subject and outcome, and how often."""


def rounds(short: int, long: int) -> int:
    """How often something is tried."""
    return long if LONG else short


def chance(*about: object) -> Random:
    """Chance that is the same in every run with this seed."""
    return Random(f"{SEED} {about}")


@dataclass(frozen=True, kw_only=True)
class Done:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def kind(self) -> str:
        """The outcome in a word; whatever is none of the good ones fails the test."""
        assert "Traceback" not in self.err, self.err
        if self.code == 0:
            return "answer"
        if self.code < 0:
            return "killed"
        words = self.err.rpartition("labkit: ")[2].rstrip()
        assert self.code in (1, 130), self
        assert words, self
        assert not words.endswith("'"), f"no next step: {words}"
        return "named error"


class Sandbox:
    """A home, a folder for temporary files and one for results; ``run`` runs labkit in them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home, self.tmp, self.out = (folder / name for name in ("home", "tmp", "out"))
        for made in (self.home, self.tmp, self.out):
            made.mkdir(parents=True, exist_ok=True)
        self.env = {
            **os.environ,
            "LABKIT_HOME": str(self.home),
            "TMPDIR": str(self.tmp),
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONDONTWRITEBYTECODE": "1",
            MARK: str(folder),
        }

    def start(
        self,
        *argv: str,
        fault: str = "",
        before: tuple[str, ...] = (),
        limits: Callable[[], None] | None = None,
    ) -> subprocess.Popen[str]:
        """Start ``labkit …``, or a line of Python; ``before`` stands before it, as ``unshare``."""
        program = ["-m", "labkit", *argv[1:]] if argv[0] == "labkit" else ["-c", *argv]
        if fault:
            program = [str(INJECT), str(self.folder), fault, *argv]
        return subprocess.Popen(
            [*before, sys.executable, *program],
            env=self.env,
            cwd=self.out,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=limits,  # noqa: PLW1509 - no thread of ours runs in these tests
        )

    def run(self, *argv: str, timeout_s: float = 900, **how: object) -> Done:
        """Run it to its end."""
        return self.wait(self.start(*argv, **how), timeout_s)  # type: ignore[arg-type]

    def wait(self, process: subprocess.Popen[str], timeout_s: float = 900) -> Done:
        """Wait for what was started; then no process of it may be left for long."""
        try:
            out, err = process.communicate(timeout=timeout_s)
        finally:
            process.kill()
            self.require_no_process()
        return Done(code=process.returncode, out=out, err=err)

    def processes(self) -> list[psutil.Process]:
        """Everything that runs here, whoever its parent is."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == str(self.folder):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def require_no_process(self, within_s: float = 15) -> None:
        """What lost its parent ends by itself, soon."""
        end = time.monotonic() + within_s
        while left := self.processes():
            if time.monotonic() > end:
                words = [" ".join(process.cmdline()) for process in left]
                for process in left:
                    process.kill()
                raise AssertionError(f"still running after {within_s} s: {words}")
            time.sleep(0.05)

    def left(self) -> list[str]:
        """All files and folders here, without what differs between two runs: numbers in names.

        Nor with what Python has tried this folder for temporary files with, where it was killed
        between that file and its end; by its name nobody can tell whose it is.
        """
        for path in self.tmp.iterdir():
            if TRIAL.fullmatch(path.name) and path.read_bytes() in (b"", b"blat"):
                path.unlink()
        names = (str(path.relative_to(self.folder)) for path in self.folder.rglob("*"))
        return sorted({NUMBERS.sub("N", name) for name in names})


@contextmanager
def a_place(folder: Path) -> Iterator[Sandbox]:
    """An empty place with a hub on loopback; this process looks into its home, too."""
    place, mini = Sandbox(folder), paths.data_dir() / "mini-qwen2-vl"
    with pytest.MonkeyPatch.context() as patch, LoopbackHub(mini) as hub:
        patch.setenv("LABKIT_HOME", str(place.home))
        place.env["HF_ENDPOINT"] = hub.url
        yield place
    shutil.rmtree(folder)
