"""Cycles of a kernel's hot loop on cores that nobody here owns, by ``llvm-mca``.

It is a static model, not a measurement. It knows a core's ports, latencies and width, as LLVM's
authors wrote them down. It knows no caches, no memory and no branches that go wrong, and takes
every load as a hit in the first cache: it says what the core could do at best.
"""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from labkit.arm.counts import disassemble
from labkit.arm.symbols import code
from labkit.base import command, files, hardware
from labkit.base.data import frozen
from labkit.base.errors import CommandFailed, KernelError
from labkit.base.records import from_json

CORES, SCHEDULES = from_json(
    dict[str, dict[str, str]], Path(__file__).with_suffix(".json").read_bytes()
).values()
"""What the cores are, and whose ports LLVM takes for them, by how its names of ports begin."""
MACS = {r"smmla ": 32, r"sdot ": 16, r"sm(ull|lal)2? v": 8, r"(madd|mul) [wx]": 1}
"""Multiply-adds of an instruction, the best first: a loop's own are those of its best kind."""
BRANCH = re.compile(r"(?:b(?:\.\w+)?|[ct]bn?z) .*#(\w+)")
OLDEST, ITERATIONS = 17, 200


@frozen
class CoreModel:
    """What the static model says of one loop on one core.

    Attributes
    ----------
    macs
        Useful multiply-adds of one turn of the loop.
    cycles
        Of one turn, in the long run; None where the core lacks an instruction.
    scheduled_as
        The core whose description LLVM takes: some have none of their own.
    """

    kernel: str
    core: str
    macs: int
    cycles: float | None
    scheduled_as: str = ""

    @property
    def per_cycle(self) -> float | None:
        """Multiply-adds to a cycle, at best."""
        return None if self.cycles is None else self.macs / self.cycles


def llvm_mca() -> tuple[str, str]:
    """A program ``llvm-mca`` that knows the cores, and LLVM's version.

    Raises
    ------
    KernelError
        If there is none; says what to install.
    """
    for suffix in ("-19", "-20", "-21", "-22", "-18", "-17", ""):
        program = shutil.which(f"llvm-mca{suffix}")
        printed = hardware.printed_by([program, "--version"]) if program else ""
        version = re.search(r"LLVM version (\d+)[\d.]*", printed)
        if program and version and int(version[1]) >= OLDEST:
            return program, version[0]
    raise KernelError(
        f"expected llvm-mca of LLVM {OLDEST} or newer on PATH, found none. "
        "Type: sudo apt-get install llvm-19"
    )


def loops(words: np.ndarray) -> list[range]:
    """The loops of a function: each branch back closes one, from its target to before itself."""
    closed = []
    for at, line in enumerate(disassemble(words)):
        branch = BRANCH.match(line)
        target = int(branch[1], 0) // 4 if branch else at
        closed += [range(target, at)] if target < at else []
    return closed


def hottest(every: Sequence[range], *, around: bool = False) -> range:
    """The longest of the innermost loops, or the next loop ``around`` it.

    That this is the hot one holds where innermost loops do the same work in pieces of several
    sizes, as in kernels: the longest does the largest pieces, the others what these leave over.
    """
    innermost = (loop for loop in every if not any(set(other) < set(loop) for other in every))
    hot = max(innermost, key=len)
    return min((loop for loop in every if set(hot) < set(loop)), key=len) if around else hot


def hot_loop(program: Path, function: str, *, around: bool = False) -> np.ndarray:
    """The instructions of the `hottest` loop of a function.

    Parameters
    ----------
    program
        An ELF file with symbols.
    function
        Its name.
    around
        Take the next loop outwards; right where the inner one turns once.

    Returns
    -------
    numpy.ndarray
        (n,) uint32, without the branch back.

    Raises
    ------
    KernelError
        If there is no such function, or no loop in it.
    """
    words = np.frombuffer(code(program, function)[1], "<u4")
    every = loops(words)
    if not every:
        raise KernelError(f"expected a loop in {function} of {program.name}, found none")
    hot = hottest(every, around=around)
    return words[hot.start : hot.stop]


def multiply_adds(kernel: str, words: np.ndarray) -> int:
    """Useful multiply-adds of one turn of a loop; of one row's `smmla`, half is of no use."""
    lines = disassemble(words)
    for kind, macs in MACS.items():
        if times := sum(bool(re.match(kind, line)) for line in lines):
            return macs * times // (2 if kernel == "i8mm_gemv" else 1)
    return 0


def model(kernel: str, words: np.ndarray) -> list[CoreModel]:
    """What ``llvm-mca`` says of a loop, from `hot_loop`, on each of `CORES`.

    Raises
    ------
    KernelError
        Without `llvm_mca`, or if it refuses the loop.
    """
    program, macs = llvm_mca()[0], multiply_adds(kernel, words)
    options = ("-mtriple=aarch64", f"-iterations={ITERATIONS}", "-instruction-info=0")
    models = []
    with files.temporary("mca") as folder:
        listing = folder / "loop.s"
        listing.write_text("\n".join(disassemble(words)), encoding="utf-8")
        for core in CORES:
            cycles, described = None, ""
            argv = [program, *options, f"-mcpu={core}", str(listing)]
            try:
                text = "\n".join(command.run(argv, timeout_s=60).lines)
                cycles = int(re.findall(r"Total Cycles: +(\d+)", text)[0]) / ITERATIONS
                owner = re.findall(r"^\[[\d.]+\] +- (\w+)Unit", text, re.MULTILINE)[0]
                described = SCHEDULES.get(owner, owner)
            except CommandFailed as error:
                if "instruction requires" not in error.output:
                    raise KernelError(
                        f"llvm-mca refused the loop of {kernel} on {core}: {error.output}"
                    ) from error
            models.append(
                CoreModel(
                    kernel=kernel, core=core, macs=macs, cycles=cycles, scheduled_as=described
                )
            )
    return models
