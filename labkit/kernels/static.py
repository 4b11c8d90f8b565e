"""Cycles of a kernel's hot loop on cores that nobody here owns, by ``llvm-mca``: a static model, not a measurement.

It knows a core's ports, latencies and width, as LLVM's authors wrote them down. It knows no caches, no memory and no branches
that go wrong, and takes every load as a hit in the first cache: it says what the core could do at best.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from labkit.arm.classes import CLASSES, classify
from labkit.base import command, hardware
from labkit.base.errors import CommandFailed, KernelError

CORES = {
    "cortex-a55": "in order, 2017", "cortex-a510": "in order, 2021", "cortex-a78": "2020", "cortex-x2": "2021", "neoverse-n1": "2019",
    "neoverse-n2": "2021", "neoverse-v1": "2020", "neoverse-v2": "2022", "apple-m1": "2020",
}  # fmt: skip
SCHEDULES = {"A57": "cortex-a57", "Cy": "Apple's Cyclone of 2013"} | {
    re.sub("cortex-a", "CortexA", core)
    .removeprefix("neoverse-")
    .upper()
    .replace("CORTEXA", "CortexA"): core
    for core in CORES
}
OLDEST, ITERATIONS = 17, 200


@dataclass(frozen=True, kw_only=True)
class Model:
    """What the static model says of one loop on one core.

    Attributes
    ----------
    macs
        Useful multiply-adds of one turn of the loop.
    cycles
        Of one turn, in the long run; None where the core lacks an instruction.
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


def tools() -> tuple[str, str, str]:
    """``llvm-mca``, the ``llvm-mc`` beside it, and their version.

    Raises
    ------
    KernelError
        If there is none that knows the cores; says what to install.
    """
    for name in [
        "llvm-mca-19",
        *(f"llvm-mca-{number}" for number in (20, 21, 22, 18, 17)),
        "llvm-mca",
    ]:
        version = (
            re.search(r"LLVM version (\d+)[\d.]*", hardware.printed_by([name, "--version"]))
            if shutil.which(name)
            else None
        )
        if version and int(version[1]) >= OLDEST and shutil.which(name.replace("mca", "mc")):
            return name, name.replace("mca", "mc"), version[0]
    raise KernelError(
        f"expected llvm-mca and llvm-mc of LLVM {OLDEST} or newer on PATH, found none. Type: sudo apt-get install llvm-19"
    )


def symbol(program: Path, function: str) -> tuple[int, np.ndarray]:
    """Address and instructions of a function of an ELF file with symbols.

    Raises
    ------
    KernelError
        If there is no such function, or the file is of another format.
    """
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    with program.open("rb") as file:
        try:
            elf = ELFFile(file)
            for found in elf.get_section_by_name(".symtab").get_symbol_by_name(function) or ():  # type: ignore[union-attr]
                section = elf.get_section(found["st_shndx"])
                start = found["st_value"] - section["sh_addr"]
                return found["st_value"], np.frombuffer(
                    section.data()[start : start + found["st_size"]], "<u4"
                )
        except (ELFError, AttributeError):
            pass
    raise KernelError(
        f"expected a function {function} in {program.name}, found none: another compiler, or another MNN?"
    )


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
    words, back = symbol(program, function)[1], []
    for at, word in enumerate(words.astype(np.int64)):
        bits, low = (
            (19, 5) if word & 0xFF000010 == 0x54000000 or word & 0x7E000000 == 0x34000000
            else (14, 5) if word & 0x7E000000 == 0x36000000 else (26, 0) if word & 0xFC000000 == 0x14000000 else (0, 0)
        )  # fmt: skip
        field = (word >> low) & ((1 << bits) - 1)
        to = int(at + field - ((field >> max(bits - 1, 0)) << bits))
        back += [(to, at)] if 0 <= to < at else []
    inner = [a for a in back if not any(a != b and a[0] <= b[0] and b[1] <= a[1] for b in back)]
    if not inner:
        raise KernelError(f"expected a loop in {function} of {program.name}, found none")
    start, end = max(inner, key=lambda loop: loop[1] - loop[0])
    if around:
        start, end = min(
            (loop for loop in back if loop[0] <= start and end < loop[1]),
            key=lambda loop: loop[1] - loop[0],
        )
    return words[start:end]


def multiply_adds(kernel: str, words: np.ndarray) -> int:
    """Useful multiply-adds of one turn of a loop, by its best kind of instruction: smmla, sdot, smull and smlal, madd."""
    tiles, dots = (
        np.count_nonzero(classify(words) == CLASSES.index(name)) for name in ("smmla", "sdot")
    )
    vectors = np.count_nonzero(np.isin(words & 0xBF20FC00, (0x0E20C000, 0x0E208000)))
    return int(
        tiles * (16 if kernel == "i8mm_gemv" else 32)
        or dots * 16
        or vectors * 8
        or np.count_nonzero(words & 0x7FE08000 == 0x1B000000)
    )


def model(kernel: str, words: np.ndarray, cores: Sequence[str] = tuple(CORES)) -> list[Model]:
    """What ``llvm-mca`` says of a loop, from `hot_loop`, on each core."""
    mca, mc, _ = tools()
    macs, found = multiply_adds(kernel, words), []
    with tempfile.TemporaryDirectory(prefix="labkit-mca-") as folder:
        code, listing, log = (Path(folder) / name for name in ("code", "loop.s", "log"))
        code.write_text(
            ",".join(f"0x{byte:02x}" for byte in words.astype("<u4").tobytes()), encoding="utf-8"
        )
        lines: list[str] = []
        command.run(
            [mc, "-disassemble", "-triple=aarch64", "-mattr=+v8.6a", str(code)],
            log=log,
            timeout_s=60,
            on_line=lines.append,
        )
        listing.write_text(
            "\n".join(line for line in lines if line.startswith("\t")), encoding="utf-8"
        )
        for core in cores:
            log.write_bytes(b"")
            try:
                argv = [
                    mca,
                    "-mtriple=aarch64",
                    f"-mcpu={core}",
                    f"-iterations={ITERATIONS}",
                    "-instruction-info=0",
                    str(listing),
                ]
                command.run(argv, log=log, timeout_s=60)
                found.append(_read(kernel, core, macs, log.read_text()))
            except CommandFailed as error:
                if "instruction requires" not in log.read_text():
                    raise KernelError(
                        f"llvm-mca refused the loop of {kernel} on {core}: {error.output}"
                    ) from error
                found.append(Model(kernel=kernel, core=core, macs=macs, cycles=None))
    return found


def _read(kernel: str, core: str, macs: int, text: str) -> Model:
    cycles = float(re.findall(r"Total Cycles: +(\d+)", text)[0]) / ITERATIONS
    names = re.findall(r"^\[[\d.]+\] +- (\w+)$", text, re.MULTILINE)
    pressure = re.findall(r"pressure per iteration:\n[^\n]+\n([^\n]+)", text)[0].split()
    taken = [0.0 if word == "-" else float(word) for word in pressure]
    owner, _, port = names[int(np.argmax(taken))].partition("Unit")
    described, busy = SCHEDULES.get(owner, owner), round(max(taken) / cycles, 2)
    return Model(
        kernel=kernel,
        core=core,
        macs=macs,
        cycles=cycles,
        scheduled_as=described,
        busiest=port,
        busy=busy,
    )
