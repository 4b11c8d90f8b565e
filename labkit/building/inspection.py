"""What came out of a build: its files, the machine they are for, and the kernels inside."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from labkit.arm import kleidiai
from labkit.base.errors import BuildError
from labkit.building.plans import BuildPlan
from labkit.building.record import Product
from labkit.building.sources import KLEIDIAI
from labkit.model.checkpoints import file_sha256

LOG = "build.log"
MACHINES = {"EM_AARCH64": "aarch64", "EM_X86_64": "x86_64"}
FILES = ("_mnncengine*.so", "libMNN.so", "libMNN.dylib", "llm_demo")


def product(folder: Path, file: Path) -> Product:
    """One file of a build, as it is now."""
    path = str(file.relative_to(folder))
    return Product(path=path, bytes=file.stat().st_size, sha256=file_sha256(file))


def architecture(file: Path) -> str:
    """The machine that a program or library is for, by its ELF header.

    Returns
    -------
    str
        Such as "aarch64"; "unknown" if there is no such header, as on a Mac.
    """
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    with file.open("rb") as opened:
        try:
            machine = str(ELFFile(opened).header["e_machine"])
        except ELFError:
            return "unknown"
    return MACHINES.get(machine, machine)


def inspect(plan: BuildPlan) -> tuple[list[Path], str, dict[str, int]]:
    """Files, architecture and KleidiAI's kernels by instruction set of what a plan has built.

    Raises
    ------
    BuildError
        If a file is missing, is for another machine, or KleidiAI was asked for and none of it is
        inside.
    """
    folders = (plan.build, plan.build / "arm64-v8a", plan.folder / "python")
    files = [hit for name in FILES for folder in folders for hit in sorted(folder.glob(name))]
    if "llm_demo" not in {file.name for file in files}:
        raise BuildError(
            f"expected llm_demo in {plan.build}, found none: the source did not build it. "
            f"See {plan.folder / LOG}"
        )
    engine = files[0]
    machine, wanted = architecture(engine), "aarch64" if "MNN_KLEIDIAI" in plan.values else "x86_64"
    if machine not in {wanted, "unknown"}:
        raise BuildError(
            f"expected {engine.name} for {wanted}, found it for {machine}: another compiler ran "
            f"than the plan's {plan.toolchain}"
        )
    kernels = kleidiai.kernels(engine) or ()
    if plan.wants_kleidiai and not kernels and machine != "unknown":
        raise BuildError(
            f"KleidiAI was asked for, and {engine.name} has no kai_ function: built, but not what "
            f"was asked for. See the lines about KleidiAI in {plan.folder / LOG}, and name a "
            f"checkout of KleidiAI v{KLEIDIAI} with --kleidiai-source"
        )
    if kernels and not plan.wants_kleidiai:
        raise BuildError(
            f"a baseline was asked for, and {engine.name} has {len(kernels)} KleidiAI kernels: "
            "choose another --out"
        )
    sets = Counter(kernel.instruction_set for kernel in kernels)
    return files, machine, {name: sets[name] for name in kleidiai.INSTRUCTION_SETS if sets[name]}
