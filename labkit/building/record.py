"""What came out of a build: looked into, and kept as ``build.json`` in its folder."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Literal

from labkit.arm import kleidiai
from labkit.base import files, hardware
from labkit.base.data import frozen
from labkit.base.errors import BuildError
from labkit.base.records import from_json, to_json
from labkit.building.plans import BuildPlan
from labkit.building.sources import KLEIDIAI, mnn_version
from labkit.model.digest import file_sha256

PLAN, RECORD, LOG = "plan.json", "build.json", "build.log"
MACHINES = {"EM_AARCH64": "aarch64", "EM_X86_64": "x86_64"}
FILES = ("_mnncengine*.so", "libMNN.so", "libMNN.dylib", "llm_demo")


@frozen
class Product:
    """One file that was built: its path within the build's folder, size and SHA-256."""

    path: str
    bytes: int
    sha256: str | None


@frozen
class BuildRecord:
    """A finished build.

    Attributes
    ----------
    folder
        Where it is now; the file does not know.
    kernels
        KleidiAI's micro-kernels by instruction set, counted in the ELF symbols of what was built.
    seconds
        Of each stage, all runs of a resumed build together.
    python
        The folder of the Python module, if there is one.
    """

    variant: str
    target: str
    version: str
    options: dict[str, str]
    toolchain: str
    compiler: str
    architecture: str
    seconds: dict[str, float]
    products: tuple[Product, ...]
    kernels: dict[str, int]
    machine: dict[str, str | int | None]
    python: str | None = None
    folder: Path = Path()
    schema: Literal[1] = 1

    @property
    def program(self) -> Path:
        """``llm_demo``."""
        return next(self.folder / p.path for p in self.products if Path(p.path).name == "llm_demo")

    @property
    def libraries(self) -> tuple[Path, ...]:
        """What ``llm_demo`` needs of the build beside it."""
        return tuple(self.folder / p.path for p in self.products if "libMNN" in p.path)

    @property
    def default_on(self) -> bool:
        """Whether KleidiAI is enabled without a hint."""
        return self.options.get("MNN_KLEIDIAI_DEFAULT_ON") == "ON"

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file by its name."""
        return {Path(product.path).name: product.bytes for product in self.products}

    def __str__(self) -> str:
        files = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in self.sizes.items())
        kernels = ", ".join(f"{name} {n}" for name, n in self.kernels.items()) or "none"
        took = " + ".join(f"{name} {s:.0f} s" for name, s in self.seconds.items())
        return (
            f"{self.variant} MNN {self.version} for {self.target} ({self.architecture}), "
            f"{self.compiler}\n{took}; {files}\nKleidiAI micro-kernels: {kernels}; "
            f"enabled by default: {'yes' if self.default_on else 'no'}"
        )


def read_record(folder: Path) -> BuildRecord:
    """The record of a finished build.

    Raises
    ------
    BuildError
        If there is none, or it cannot be read.
    """
    file = folder / RECORD
    try:
        return replace(from_json(BuildRecord, file.read_bytes()), folder=folder.absolute())
    except FileNotFoundError as error:
        state = (
            "the build there was not finished; type its command again to go on"
            if (folder / PLAN).is_file()
            else "there is no build there"
        )
        raise BuildError(f"expected the record of a build, {file}: {state}") from error
    except (OSError, ValueError) as error:
        raise BuildError(
            f"expected the record of a build in {file}, got something else ({error}). Build again"
        ) from error


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


def inspect(plan: BuildPlan, seconds: dict[str, float]) -> BuildRecord:
    """Look into what a plan has built, and write it down; ``seconds`` are those of its stages.

    Raises
    ------
    BuildError
        If a file is missing, is for another machine, or KleidiAI was asked for and none of it is
        inside.
    """
    folders = (plan.build, plan.build / "arm64-v8a", plan.folder / "python")
    built = [hit for name in FILES for folder in folders for hit in sorted(folder.glob(name))]
    if "llm_demo" not in {file.name for file in built}:
        raise BuildError(
            f"expected llm_demo in {plan.build}, found none: the source did not build it. "
            f"See {plan.folder / LOG}"
        )
    engine = built[0]
    machine, wanted = architecture(engine), "aarch64" if "MNN_KLEIDIAI" in plan.values else "x86_64"
    if machine not in {wanted, "unknown"}:
        raise BuildError(
            f"expected {engine.name} for {wanted}, found it for {machine}: another compiler ran "
            f"than the plan's {plan.toolchain}"
        )
    kernels = kleidiai.kernels(engine) or ()
    _check_kernels(plan, engine.name, len(kernels), readable=machine != "unknown")
    sets = Counter(kernel.instruction_set for kernel in kernels)
    cache = (plan.build / "CMakeCache.txt").read_text(encoding="utf-8", errors="replace")
    compiler = re.search(r"^CMAKE_CXX_COMPILER:[A-Z]+=(.*)$", cache, re.MULTILINE)
    printed = hardware.printed_by([compiler[1], "--version"]) if compiler else "unknown"
    here = hardware.describe()
    record = BuildRecord(
        variant=plan.variant,
        target=plan.target,
        version=mnn_version(plan.source),
        options=plan.values,
        toolchain=plan.toolchain,
        compiler=printed.partition("\n")[0],
        architecture=machine,
        seconds=seconds,
        products=tuple(product(plan.folder, file) for file in built),
        kernels={name: sets[name] for name in kleidiai.INSTRUCTION_SETS if sets[name]},
        machine={"cpu": here.cpu, "cores": here.logical_cores},
        python="python" if plan.python else None,
    )
    files.write(plan.folder / RECORD, to_json(record))
    return replace(record, folder=plan.folder)


def _check_kernels(plan: BuildPlan, engine: str, kernels: int, *, readable: bool) -> None:
    if plan.wants_kleidiai and not kernels and readable:
        raise BuildError(
            f"KleidiAI was asked for, and {engine} has no kai_ function: built, but not what "
            f"was asked for. See the lines about KleidiAI in {plan.folder / LOG}, and name a "
            f"checkout of KleidiAI v{KLEIDIAI} with --kleidiai-source"
        )
    if kernels and not plan.wants_kleidiai:
        raise BuildError(
            f"a baseline was asked for, and {engine} has {kernels} KleidiAI kernels: "
            "choose another --out"
        )
