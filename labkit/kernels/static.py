"""Cycles of a kernel's hot loop on cores that nobody here owns, by ``llvm-mca``: a static model, not a measurement.

The model knows a core's ports, latencies and width, as LLVM's authors wrote them down. It knows no caches, no memory and no
branches that go wrong, and takes every load as a hit in the first cache: it says what the core could do at best.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from labkit import command, counting, hardware
from labkit.errors import CommandFailed, KernelError

CORES = {
    "cortex-a55": "in order, 2017", "cortex-a510": "in order, 2021", "cortex-a78": "2020", "cortex-x2": "2021", "neoverse-n1": "2019",
    "neoverse-n2": "2021", "neoverse-v1": "2020", "neoverse-v2": "2022", "apple-m1": "2020",
}  # fmt: skip
SCHEDULES = {"CortexA55": "cortex-a55", "CortexA510": "cortex-a510", "A57": "cortex-a57", "Cy": "Apple's Cyclone of 2013",
             "N1": "neoverse-n1", "N2": "neoverse-n2", "V1": "neoverse-v1", "V2": "neoverse-v2"}  # fmt: skip
OLDEST, INSTALL = 17, "sudo apt-get install llvm-19"
ITERATIONS = 200


@dataclass(frozen=True, kw_only=True)
class Model:
    """What the static model says of one loop on one core.

    Attributes
    ----------
    cycles
        Of one turn of the loop, in the long run; None where the core lacks an instruction.
    scheduled_as
        The core whose description LLVM takes: some have none of their own.
    busiest, busy
        The port that is taken for most of the time, and its share of the cycles.
    """

    kernel: str
    core: str
    macs: int
    cycles: float | None
    scheduled_as: str = ""
    busiest: str = ""
    busy: float = 0

    @property
    def per_cycle(self) -> float | None:
        """Multiply-adds to a cycle, at best."""
        return None if self.cycles is None else self.macs / self.cycles


@lru_cache(maxsize=1)
def tools() -> tuple[str, str, str]:
    """``llvm-mca``, the ``llvm-mc`` beside it, and their version.

    Raises
    ------
    KernelError
        If there is none that knows the cores; says what to install.
    """
    for name in [*(f"llvm-mca-{number}" for number in range(19, 30)), "llvm-mca-18", "llvm-mca-17", "llvm-mca"]:
        version = re.search(r"version (\d+)[\d.]*", hardware.printed_by([name, "--version"])) if shutil.which(name) else None
        if version and int(version[1]) >= OLDEST and shutil.which(name.replace("mca", "mc")):
            return name, name.replace("mca", "mc"), f"LLVM {version[0].removeprefix('version ')}"
    raise KernelError(f"expected llvm-mca and llvm-mc of LLVM {OLDEST} or newer on PATH, found none. Type: {INSTALL}")


def hot_loop(program: Path, function: str, *, around: bool = False) -> np.ndarray:
    """The instructions of a function's longest innermost loop, or of the loop around it.

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
    """
    words = _code(program, function)
    back = []
    for at, word in enumerate(words.astype(np.int64)):
        bits = (
            19 if word & 0xFF000010 == 0x54000000 or word & 0x7E000000 == 0x34000000
            else 14 if word & 0x7E000000 == 0x36000000 else 26 if word & 0xFC000000 == 0x14000000 else 0
        )  # fmt: skip
        if bits:
            field = (word >> (0 if bits == 26 else 5)) & ((1 << bits) - 1)
            to = at + field - ((field >> (bits - 1)) << bits)
            back += [(int(to), at)] if 0 <= to < at else []
    inner = [a for a in back if not any(a != b and a[0] <= b[0] and b[1] <= a[1] for b in back)]
    if not inner:
        raise KernelError(f"expected a loop in {function} of {program.name}, found none")
    start, end = max(inner, key=lambda loop: loop[1] - loop[0])
    if around:
        start, end = min((loop for loop in back if loop[0] <= start and end < loop[1]), key=lambda loop: loop[1] - loop[0])
    return words[start:end]


def _code(program: Path, function: str) -> np.ndarray:
    from elftools.elf.elffile import ELFFile

    with program.open("rb") as file:
        elf = ELFFile(file)
        table = elf.get_section_by_name(".symtab")
        for symbol in (table.get_symbol_by_name(function) if table else None) or ():
            section = elf.get_section(symbol["st_shndx"])
            start = symbol["st_value"] - section["sh_addr"]
            return np.frombuffer(section.data()[start : start + symbol["st_size"]], "<u4")
    raise KernelError(f"expected a function {function} in {program.name}, found none")


def multiply_adds(kernel: str, words: np.ndarray) -> int:
    """Useful multiply-adds of one turn of a loop, by its best kind of instruction: smmla, sdot, smull and smlal, madd."""
    classes = counting.classify(words)
    vectors = np.count_nonzero(np.isin(words & 0xBF20FC00, (0x0E20C000, 0x0E208000)))
    scalars = np.count_nonzero(words & 0x7FE08000 == 0x1B000000)
    tiles, dots = (np.count_nonzero(classes == counting.CLASSES.index(name)) for name in ("smmla", "sdot"))
    return int(tiles * (16 if kernel == "i8mm_gemv" else 32) or dots * 16 or vectors * 8 or scalars)


def model(kernel: str, words: np.ndarray, cores: Sequence[str] = tuple(CORES)) -> list[Model]:
    """What ``llvm-mca`` says of a loop on each core.

    Parameters
    ----------
    kernel
        Its name.
    words
        From `hot_loop`.
    """
    mca, mc, _ = tools()
    macs = multiply_adds(kernel, words)
    with tempfile.TemporaryDirectory(prefix="labkit-mca-") as folder:
        code, listing = Path(folder) / "code", Path(folder) / "loop.s"
        code.write_text(",".join(f"0x{byte:02x}" for byte in words.astype("<u4").tobytes()), encoding="utf-8")
        lines = _said([mc, "-disassemble", "-triple=aarch64", "-mattr=+v8.6a", str(code)], Path(folder) / "log")
        listing.write_text("\n".join(line for line in lines if line.startswith("\t")), encoding="utf-8")
        return [_model(kernel, macs, core, mca, listing) for core in cores]


def _model(kernel: str, macs: int, core: str, mca: str, listing: Path) -> Model:
    argv = [mca, "-mtriple=aarch64", f"-mcpu={core}", f"-iterations={ITERATIONS}", "-instruction-info=0", str(listing)]
    try:
        text = "\n".join(_said(argv, listing.with_name(core)))
    except CommandFailed as error:
        if "instruction requires" in listing.with_name(core).read_text():
            return Model(kernel=kernel, core=core, macs=macs, cycles=None)
        raise KernelError(f"llvm-mca refused the loop of {kernel} on {core}: {error.output}") from error
    total = re.search(r"Total Cycles: +(\d+)", text)
    names = re.findall(r"^\[[\d.]+\] +- (\w+)$", text, re.MULTILINE)
    pressure = re.search(r"pressure per iteration:\n[^\n]+\n([^\n]+)", text)
    assert total is not None and pressure is not None
    cycles = int(total[1]) / ITERATIONS
    taken = [0.0 if word == "-" else float(word) for word in pressure[1].split()]
    most = int(np.argmax(taken))
    owner, _, port = names[most].partition("Unit")
    described = SCHEDULES.get(owner, owner)
    return Model(kernel=kernel, core=core, macs=macs, cycles=cycles, scheduled_as=described, busiest=port, busy=round(taken[most] / cycles, 2))


def _said(argv: Sequence[str], log: Path) -> list[str]:
    lines: list[str] = []
    command.run(argv, log=log, timeout_s=60, on_line=lines.append)
    return lines
