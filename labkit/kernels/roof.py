"""What this machine can do at most, measured: the roof over everything that runs on it.

Williams, Waterman and Patterson 2009: no work is done faster than the arithmetic allows, nor
than its bytes come from memory.
"""

import platform
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from labkit.arm.plugin import c_compiler, compiled
from labkit.base import command, hardware, stats
from labkit.base.data import frozen
from labkit.base.errors import CommandFailed, KernelError
from labkit.base.show import Table

SOURCE = Path(__file__).with_suffix(".c")
OPTIONS = "-std=gnu11 -O3 -ffp-contract=fast -pthread".split()
REPEATS = stats.LEAST_PAIRS
MEBIBYTES = 512  # read each time: more than any last cache of a laptop holds
KINDS = {
    "int8": ("int8 dot products", "GOP/s"),
    "float32": ("float32 multiply-adds", "GOP/s"),
    "memory": ("bytes from memory", "GB/s"),
}


def giga(amount: float) -> str:
    """Billions, to three places.

    >>> giga(346.2e9), giga(2678e9)
    ('346', '2,680')
    """
    return f"{float(f'{amount / 1e9:.3g}'):,g}"


@frozen
class Peak:
    """Operations or bytes a second: the median, and the interval that holds it 19 times of 20."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return " to ".join(map(giga, (self.low, self.high)))


@frozen
class Roof:
    """Peaks of a machine by `KINDS`, on so many threads; ``int8`` is lacking on an old CPU."""

    machine: str
    threads: int
    instructions: str
    peaks: dict[str, Peak]

    @property
    def compute(self) -> float:
        """The most operations a second."""
        return max(self.peaks[kind].median for kind in self.peaks if kind != "memory")

    def at(self, intensity: float) -> float:
        """The most operations a second for work that has so many to a byte from memory."""
        return min(self.compute, intensity * self.peaks["memory"].median)

    def __str__(self) -> str:
        rows = [
            (KINDS[kind][0], f"{giga(peak.median)} {KINDS[kind][1]}", str(peak))
            for kind, peak in self.peaks.items()
        ]
        where = f"{self.machine}, {self.threads} threads; int8 by {self.instructions or 'nothing'}"
        return f"{where}\n{Table(('peak', 'median', '95 % interval'), rows)}"


def measure(threads: int | None = None, *, mebibytes: int = MEBIBYTES) -> Roof:
    """Measure the peaks on ``threads`` threads; by default on as many as a model gets.

    Raises
    ------
    KernelError
        Without a C compiler, or if the program does not compile or run.
    """
    threads = threads or hardware.default_threads()
    try:
        said = command.run([str(_program()), *map(str, (threads, REPEATS, mebibytes))]).lines
    except CommandFailed as error:
        raise KernelError(f"the peaks could not be measured: {error}") from error
    rates: dict[str, list[float]] = {}
    for line in said:
        if not line.startswith("with "):
            name, work, seconds = line.split()
            rates.setdefault(name, []).append(float(work) / float(seconds))
    ordered = {kind: sorted(rates[kind]) for kind in KINDS if kind in rates}
    machine = hardware.describe()
    return Roof(
        machine=f"{machine.cpu or 'unknown CPU'}, {machine.architecture}",
        threads=threads,
        instructions="".join(line[5:] for line in said if line.startswith("with ")),
        peaks={
            kind: Peak(median=of[REPEATS // 2], low=of[1], high=of[-2])
            for kind, of in ordered.items()
        },
    )


def _program() -> Path:
    """Compiled for this very CPU, kept in the cache."""
    compiler: Any = (c_compiler(),)
    if compiler == (None,):
        if not find_spec("ziglang"):
            raise KernelError(
                "a roof is measured by a small C program, which needs a compiler; expected cc, gcc "
                "or clang on PATH, found none. Type: sudo apt-get install gcc libc6-dev "
                "(macOS: xcode-select --install)"
            )
        compiler = (sys.executable, "-m", "ziglang", "cc")
    here = "-march=native" if platform.machine() in {"x86_64", "AMD64"} else "-mcpu=native"
    sources = {SOURCE.name: SOURCE.read_text(encoding="utf-8")}
    return compiled("roof", [*compiler, *OPTIONS, here, SOURCE.name], sources)
