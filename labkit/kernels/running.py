"""The C kernels compiled, run and counted: natively on Arm, else cross-compiled and run under QEMU."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from labkit.arm import plugin, snapshots
from labkit.arm.classes import CLASSES
from labkit.arm.counts import Counts
from labkit.arm.snapshots import Mapping as MappedFile
from labkit.base import command, paths
from labkit.base.errors import CommandFailed, KernelError
from labkit.kernels import reference
from labkit.model.weights import QuantizedLinear

KERNELS = (
    "scalar_gemv",
    "scalar_gemm",
    "neon_gemv",
    "neon_gemm",
    "dotprod_gemv",
    "dotprod_gemm",
    "i8mm_gemv",
    "i8mm_gemm",
)
LIMITS = {
    "scalar": 1,
    "neon": 8,
    "dotprod": 16,
    "i8mm": 32,
    "kleidiai_gemv": 16,
    "kleidiai_gemm": 32,
}
"""Multiply-adds of the best instruction that a kernel uses: madd, smlal, sdot, smmla."""
FOLDER = Path(__file__).parent
SOURCES = {"neon.c": "", "main.c": "", "dotprod.c": "+dotprod", "i8mm.c": "+i8mm"}
# No fused float operations, so that results have the same bits everywhere; and no vectors but those that are written out.
OPTIONS = (
    "-std=gnu11",
    "-O3",
    "-fno-tree-vectorize",
    "-fno-tree-slp-vectorize",
    "-ffp-contract=off",
    "-Wall",
    "-Wextra",
)
INSTALL = "sudo apt-get install g++-aarch64-linux-gnu qemu-user"


@dataclass(frozen=True, kw_only=True)
class Toolchain:
    """A compiler for AArch64, and QEMU, which counts, and runs the programs where the name is not "native"."""

    name: str
    compiler: tuple[str, ...]
    qemu: str | None

    def target(self, extra: str) -> str:
        """The option for a CPU that has NEON and ``extra``; gcc and ziglang know it by other names."""
        return (
            f"-mcpu=generic{extra}"
            if self.name == "ziglang"
            else f"-march=armv8{'.2' if extra else ''}-a{extra}"
        )


def toolchain() -> Toolchain:
    """The way to compile and run AArch64 code on this machine.

    Raises
    ------
    KernelError
        If there is none; says what to install.
    """
    qemu, cross = shutil.which("qemu-aarch64"), shutil.which("aarch64-linux-gnu-gcc")
    if platform.machine() in {"aarch64", "arm64"}:
        if found := next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None):
            return Toolchain(name="native", compiler=(found,), qemu=qemu)
        raise KernelError(
            "expected a C compiler on PATH, found none. Type: sudo apt-get install gcc libc6-dev (macOS: xcode-select --install)"
        )
    if qemu and cross:
        return Toolchain(name="aarch64-linux-gnu-gcc", compiler=(cross,), qemu=qemu)
    if qemu and find_spec("ziglang"):
        return Toolchain(
            name="ziglang",
            compiler=(sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-musl"),
            qemu=qemu,
        )
    lacking = "a compiler for AArch64" if qemu else "QEMU, which runs AArch64 programs,"
    raise KernelError(
        f"expected {lacking} on this {platform.machine()} machine, found none. Type: {INSTALL}"
    )


def build(changed: Mapping[str, str] | None = None) -> Path:
    """The compiled program; every source is compiled once and kept in the cache.

    Parameters
    ----------
    changed
        Other text for some of the sources, by file name.

    Raises
    ------
    KernelError
        Without a compiler, or if it refuses; with what it says.
    """
    tools = toolchain()
    texts = {
        name: (FOLDER / name).read_text(encoding="utf-8") for name in ("kernels.h", *SOURCES)
    } | dict(changed or {})
    folder = paths.cache_dir() / "kernels"
    folder.mkdir(exist_ok=True)

    def made(work: Path, stem: str, *words: str) -> str:
        key = repr((tools, words, [texts[name] for name in ("kernels.h", stem) if name in texts]))
        result = folder / f"{stem}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.o"
        if not result.is_file():
            try:
                command.run(
                    [*tools.compiler, *words, "-o", "made.o"],
                    log=work / "log",
                    timeout_s=300,
                    cwd=work,
                    env={"LC_ALL": "C"},
                )
            except CommandFailed as error:
                said = [line for line in error.output.splitlines() if " error: " in line] or [
                    error.output
                ]
                raise KernelError(f"the kernels did not compile: {said[0]}") from error
            os.replace(work / "made.o", result)
        return str(result)

    with tempfile.TemporaryDirectory(dir=folder) as name:
        for source, text in texts.items():
            (Path(name) / source).write_text(text, encoding="utf-8")
        objects = [
            made(Path(name), source, *OPTIONS, tools.target(extra), "-c", source)
            for source, extra in SOURCES.items()
        ]
        return Path(
            made(
                Path(name),
                "kernels",
                *(["-static"] if platform.system() == "Linux" else []),
                *objects,
            )
        )


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something to compute: a kernel of `KERNELS` or "best", activations (rows, columns) float32, quantised weights."""

    kernel: str
    x: np.ndarray
    linear: QuantizedLinear

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, outputs, columns."""
        return len(self.x), len(self.linear.codes), self.x.shape[1]

    def to_bytes(self) -> bytes:
        """As ``main.c`` reads it."""
        x, packed = reference.whole_blocks(self.x), reference.pack(self.linear)
        number = -1 if self.kernel == "best" else KERNELS.index(self.kernel)
        head = np.array(
            [number, len(x), packed.shape[1], packed.shape[0] * reference.OUTPUTS], np.int32
        )
        return head.tobytes() + x.tobytes() + packed.tobytes()


def example(rows: int, outputs: int, width: int, *, kernel: str = "best", seed: int = 0) -> Problem:
    """A problem of a shape, with normally distributed activations and weights."""
    rng = np.random.default_rng(seed)
    linear = reference.quantize_weights(rng.standard_normal((outputs, width), np.float32))
    return Problem(kernel=kernel, x=rng.standard_normal((rows, width), np.float32), linear=linear)


def solve(
    problems: Sequence[Problem],
    *,
    cpu: str = "max",
    program: Path | None = None,
    plugin: str = "",
    timeout_s: float = 300,
) -> list[tuple[str, np.ndarray]]:
    """Run problems in one process.

    Parameters
    ----------
    problems
        What to compute.
    cpu
        The emulated CPU, of `labkit.engine.lanes.CPUS`; natively it is the CPU that is there.
    program
        From `build`; by default of the unchanged sources.
    plugin
        A QEMU plugin with its options.
    timeout_s
        After so long it is ended.

    Returns
    -------
    list
        For each problem the kernel that was taken, and (rows, outputs) float32.

    Raises
    ------
    KernelError
        If the program does not run: a CPU without the kernel's instructions, say.
    """
    tools, program = toolchain(), program or build()
    with tempfile.TemporaryDirectory(prefix="labkit-kernels-") as folder:
        given, got, log = (Path(folder) / name for name in ("in", "out", "log"))
        given.write_bytes(b"".join(problem.to_bytes() for problem in problems))
        emulated = [str(tools.qemu), "-cpu", cpu, *(["-plugin", plugin] if plugin else [])]
        names: list[str] = []
        try:
            argv = [
                *(emulated if plugin or tools.name != "native" else []),
                str(program),
                str(given),
                str(got),
            ]
            command.run(
                argv, log=log, timeout_s=timeout_s, on_line=names.append, cwd=log.parent
            )  # where a core may fall
        except CommandFailed as error:
            raise KernelError(
                f"the kernels' program did not end well on {cpu}: {error.reason}. It said: {error.output or 'nothing'}"
            ) from error
        numbers, found = np.fromfile(got, np.float32), []
    for name, problem in zip(names, problems, strict=True):
        rows, outputs, _ = problem.shape
        size = rows * (outputs + -outputs % reference.OUTPUTS)
        found.append((name, numbers[:size].reshape(rows, -1)[:, :outputs]))
        numbers = numbers[size:]
    return found


@dataclass(frozen=True, kw_only=True)
class Count:
    """Executed instructions of one kernel on one shape, by class, and those of quantising and packing its activations."""

    kernel: str
    rows: int
    outputs: int
    width: int
    by_class: Mapping[str, int]
    quantise: int

    @property
    def macs(self) -> int:
        """Multiply-adds that the product needs."""
        return self.rows * self.outputs * self.width

    @property
    def instructions(self) -> int:
        """All of the kernel's."""
        return sum(self.by_class.values())

    @property
    def per_instruction(self) -> float:
        """Multiply-adds to an instruction."""
        return self.macs / self.instructions

    @property
    def limit(self) -> int:
        """Multiply-adds of the best instruction that the kernel uses."""
        return next(limit for name, limit in LIMITS.items() if self.kernel.startswith(name))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {
            "macs": self.macs,
            "macs_per_instruction": round(self.per_instruction, 3),
            "limit": self.limit,
        }


def count(problems: Sequence[Problem]) -> list[Count]:
    """Count the instructions of problems, each inside its kernel's function; under QEMU only.

    Raises
    ------
    KernelError, CountingFailed
        Without QEMU, a compiler, or the counter.
    """
    if toolchain().qemu is None:
        raise KernelError(
            "instructions are counted under QEMU, on Linux; there is none on PATH. Type: sudo apt-get install qemu-user"
        )
    with tempfile.TemporaryDirectory(prefix="labkit-kernels-") as folder:
        prefix = Path(folder) / "snapshot"
        solved = solve(problems, plugin=plugin.option(prefix))
        where = [MappedFile(build(), 0, 1 << 40)]  # static: it lies where its symbols say
        counts = [
            snapshots.between(Path(f"{prefix}.{2 * i}"), Path(f"{prefix}.{2 * i + 1}"), where)
            for i in range(len(problems))
        ]
    return [
        counted(name, p, c, inside=(name,), quantise="quantise_row")
        for (name, _), p, c in zip(solved, problems, counts, strict=True)
    ]


def counted(
    kernel: str,
    problem: Problem,
    counts: Counts,
    *,
    inside: tuple[str, ...],
    quantise: str,
) -> Count:
    """A problem's counts: of the functions whose names begin with one of ``inside``, and of the one that quantises."""
    names, (rows, outputs, width) = [name for _, name in counts.functions], problem.shape
    classes = counts.table[[name.startswith(inside) for name in names]].sum(0)
    return Count(
        kernel=kernel, rows=rows, outputs=outputs, width=width, quantise=int(counts.table[names.index(quantise)].sum()),
        by_class=dict(zip(CLASSES, (int(n) for n in classes), strict=True)),
    )  # fmt: skip
