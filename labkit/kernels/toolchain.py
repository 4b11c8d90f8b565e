"""The C kernels compiled: natively on Arm, else cross-compiled to run under QEMU."""

import platform
import shutil
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from labkit.arm.plugin import c_compiler, compiled
from labkit.base.data import frozen
from labkit.base.errors import CommandFailed, KernelError

FOLDER = Path(__file__).parent
SOURCES = {"neon.c": "", "main.c": "", "dotprod.c": "+dotprod", "i8mm.c": "+i8mm"}
"""Each file, and the instructions that it may use beside NEON."""
# No fused float operations, so that results have the same bits everywhere; and no vectors but those
# that are written out.
OPTIONS = (
    "-std=gnu11 -O3 -fno-tree-vectorize -fno-tree-slp-vectorize -ffp-contract=off -Wall -Wextra"
).split()
CROSS = "aarch64-linux-gnu-gcc"
INSTALL = "sudo apt-get install g++-aarch64-linux-gnu qemu-user"


@frozen
class Toolchain:
    """A compiler for AArch64; what it makes runs here natively, or else under QEMU."""

    compiler: tuple[str, ...]
    native: bool = False

    def target(self, extra: str) -> str:
        """The option for a CPU that has NEON and ``extra``; gcc and ziglang have other names."""
        if "ziglang" in self.compiler:
            return f"-mcpu=generic{extra}"
        return f"-march=armv8{'.2' if extra else ''}-a{extra}"


def toolchain() -> Toolchain:
    """The way to compile and run AArch64 code on this machine.

    Raises
    ------
    KernelError
        If there is none; says what to install.
    """
    qemu, cross, here = shutil.which("qemu-aarch64"), shutil.which(CROSS), platform.machine()
    if here in {"aarch64", "arm64"}:
        if compiler := c_compiler():
            return Toolchain(compiler=(compiler,), native=True)
        raise KernelError(
            "expected a C compiler on PATH, found none. Type: sudo apt-get install gcc libc6-dev "
            "(macOS: xcode-select --install)"
        )
    if qemu and cross:
        return Toolchain(compiler=(cross,))
    if qemu and find_spec("ziglang"):
        zig = (sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-musl")
        return Toolchain(compiler=zig)
    lacking = "a compiler for AArch64" if qemu else "QEMU, which runs AArch64 programs,"
    raise KernelError(f"expected {lacking} on this {here} machine, found none. Type: {INSTALL}")


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
    texts = {name: (FOLDER / name).read_text(encoding="utf-8") for name in ("kernels.h", *SOURCES)}
    texts |= changed or {}
    try:
        objects = [
            compiled(
                f"{source}.o",
                [*tools.compiler, *OPTIONS, tools.target(extra), "-c", source],
                {name: texts[name] for name in ("kernels.h", source)},
            )
            for source, extra in SOURCES.items()
        ]
        static = ["-static"] if platform.system() == "Linux" else []
        return compiled("kernels", [*tools.compiler, *static, *map(str, objects)], {})
    except CommandFailed as error:
        said = [line for line in error.output.splitlines() if " error: " in line] or [error.output]
        raise KernelError(f"the kernels did not compile: {said[0]}") from error
