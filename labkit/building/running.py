"""Carrying out a `BuildPlan`: progress, a full log, resuming, and a look into what came out.

Everything happens inside the plan's folder, and for cloned sources in labkit's cache. ``build.json`` is
written last: a folder without it holds a build that was not finished, and the same command goes on with it.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from labkit.arm import kleidiai
from labkit.base import command, hardware
from labkit.base.command import Stage
from labkit.base.errors import BuildError, CommandFailed
from labkit.building import plans
from labkit.building.plans import BuildPlan
from labkit.model.checkpoints import file_sha256

SCHEMA = 1
PLAN, RECORD, LOG = "plan.json", "build.json", "build.log"
STEP = re.compile(r"\[(\d+)/(\d+)\]")
WITHOUT = re.compile(r"(KleidiAI [^\n]*?(?:failed|mismatch|not found)[^\n]*)")
UNUSED = "Manually-specified variables were not used by the project"
SPACE = 300_000_000  # bytes of free disk; a build folder takes 25 to 60 MB
MACHINES = {"EM_AARCH64": "aarch64", "EM_X86_64": "x86_64"}
Progress = Callable[[int, int, float], None]


@dataclass(frozen=True, kw_only=True)
class Product:
    """One file that was built: its path within the build's folder, size and SHA-256."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class BuildRecord:
    """A finished build, as ``build.json`` keeps it.

    Attributes
    ----------
    kernels
        KleidiAI's micro-kernels by instruction set, counted in the ELF symbols of what was built.
    seconds
        Of configuring and of compiling, all runs of a resumed build together.
    """

    folder: Path
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
    machine: dict[str, Any]
    python: str | None = field(default=None)  # the folder of the Python module

    @property
    def engine(self) -> Path:
        """The file that holds MNN's kernels: the library, or the program where everything is in one."""
        return self.folder / self.products[0].path

    @property
    def program(self) -> Path:
        """``llm_demo``."""
        return next(self.folder / p.path for p in self.products if Path(p.path).name == "llm_demo")

    @property
    def default_on(self) -> bool:
        """Whether KleidiAI is enabled without a hint."""
        return self.options.get("MNN_KLEIDIAI_DEFAULT_ON") == "ON"

    def __str__(self) -> str:
        files = ", ".join(f"{Path(p.path).name} {p.bytes / 1e6:.1f} MB" for p in self.products)
        kernels = ", ".join(f"{name} {n}" for name, n in self.kernels.items()) or "none"
        took = " + ".join(f"{name} {s:.0f} s" for name, s in self.seconds.items())
        return (
            f"{self.variant} MNN {self.version} for {self.target} ({self.architecture}), {self.compiler}\n"
            f"{took}; {files}\nKleidiAI micro-kernels: {kernels}; enabled by default: {'yes' if self.default_on else 'no'}"
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
        content = json.loads(file.read_text(encoding="utf-8"))
        _check_schema(content.pop("schema"))
        products = tuple(Product(**row) for row in content.pop("products"))
        return BuildRecord(folder=folder.absolute(), products=products, **content)
    except FileNotFoundError as error:
        unfinished = (folder / PLAN).is_file()
        said = (
            "the build there was not finished; type its command again to go on"
            if unfinished
            else "there is no build there"
        )
        raise BuildError(f"expected the record of a build, {file}: {said}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BuildError(
            f"expected the record of a build in {file}, got something else ({error}). Build again"
        ) from error


def _check_schema(number: int) -> None:
    if number != SCHEMA:
        raise ValueError(f"schema {number}")


def run_build(
    plan: BuildPlan,
    *,
    on_stage: Callable[[Stage], None] | None = None,
    on_progress: Progress | None = None,
) -> BuildRecord:
    """Carry out a plan, or go on where it stopped; returns at once if it is finished.

    Parameters
    ----------
    on_stage
        Called after each stage.
    on_progress
        Called with (files done, files in all, seconds left) while compiling.

    Raises
    ------
    BuildError
        If something is missing, no space is left, the folder holds something else, a command fails,
        or KleidiAI was asked for and is not in the result.
    """
    if plan.missing:
        raise BuildError(
            "this build needs more than this machine has:\n"
            + "\n".join(f"  {what}. Type: {line}" for what, line in plan.missing)
        )
    _prepare(plan)
    with _alone(plan.folder):
        try:
            record = read_record(plan.folder)
            if _same(plan) and all(
                _product(plan.folder, plan.folder / p.path) == p for p in record.products
            ):
                return record
        except (BuildError, OSError):
            pass
        return _run(plan, on_stage or (lambda _: None), on_progress or (lambda *_: None))


def _prepare(plan: BuildPlan) -> None:
    """The folder, which must be ours or empty, and enough space."""
    folder = plan.folder
    cloned = [
        stage.removeprefix("clone ") for stage, _ in plan.commands if stage.startswith("clone ")
    ]
    needed = SPACE + 1_000_000 * sum(plans.DOWNLOAD_MB[name] for name in cloned)
    free = hardware.free_disk_bytes(folder)
    if free is not None and free < needed:
        raise BuildError(
            f"expected {needed / 1e6:.0f} MB of free disk at {folder}, found {free / 1e6:.0f} MB. Free some, or choose --out"
        )
    try:
        if (
            folder.is_dir()
            and {p.name for p in folder.iterdir()} - {"lock"}
            and not (folder / PLAN).is_file()
        ):
            raise BuildError(
                f"expected an empty folder, or one with a build, at {folder}, found other files. Choose --out"
            )
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BuildError(
            f"expected to be able to write to {folder}, got: {error.strerror}. Choose --out"
        ) from error


def _same(plan: BuildPlan) -> bool:
    try:
        before = json.loads((plan.folder / PLAN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    now = plan.to_dict()
    return all(
        before.get(key) == now[key]
        for key in ("source", "kleidiai_source", "options", "python", "target")
    )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BuildError(
                f"another build is running in {folder}. Wait for it, or choose --out"
            ) from error
        yield


def _run(plan: BuildPlan, on_stage: Callable[[Stage], None], on_progress: Progress) -> BuildRecord:
    if not _same(plan):  # another plan's leavings: nothing of them may decide this build
        shutil.rmtree(plan.build, ignore_errors=True)
        for name in (LOG, RECORD, "seconds.json"):
            (plan.folder / name).unlink(missing_ok=True)
    (plan.folder / RECORD).unlink(missing_ok=True)
    _write(plan.folder / PLAN, plan.to_dict())
    _wrappers(plan)
    for number, (name, argv) in enumerate(plan.commands, 1):
        begun = time.perf_counter()
        try:
            if name.startswith("clone"):
                _clone(plan, name, argv)
            elif name == "configure":
                _configure(plan, argv)
            elif name == "compile":
                _compile(plan, argv, on_progress)
            else:
                (plan.folder / "python").mkdir(exist_ok=True)
                _command(plan, name, argv)
        finally:
            taken = time.perf_counter() - begun
            _add_seconds(plan.folder, name, taken)
        on_stage(Stage(number=number, total=len(plan.commands), name=name, elapsed_s=taken))
    return _record(plan)


def _wrappers(plan: BuildPlan) -> None:
    """One executable for each of zig's tools, because CMake takes a path where zig takes a word."""
    if plan.target != "aarch64-static":
        return
    folder = plan.folder / "toolchain"
    folder.mkdir(exist_ok=True)
    for tool in set(plans.ZIG_TOOLS.values()):
        script = f"#!/bin/sh\nexec '{sys.executable}' '{Path(plans.__file__).with_name('zig_compiler.py')}' {tool} \"$@\"\n"
        (folder / tool).write_text(script, encoding="utf-8")
        (folder / tool).chmod(0o755)


def _command(
    plan: BuildPlan, stage: str, argv: tuple[str, ...], on_line: Callable[[str], None] | None = None
) -> None:
    log = plan.folder / LOG
    before = log.stat().st_size if log.is_file() else 0
    try:
        command.run(argv, log=log, on_line=on_line, env={"LC_ALL": "C", "CLICOLOR_FORCE": "0"})
    except CommandFailed as error:
        first = (
            _first_error(log.read_bytes()[before:].decode(errors="replace"))
            if not stage.startswith("clone")
            else ""
        )
        todo = "Check the network, or name a checkout you have with --source and --kleidiai-source" if stage.startswith("clone") else (
            "Mend what it says and type the same command again: what was compiled is kept"
        )  # fmt: skip
        raise BuildError(
            f"the stage {stage!r} failed, {error.reason}:\n{first or error.output}\n{todo}. The whole log: {error.log}"
        ) from error


def _first_error(said: str) -> str:
    """The first complaint of CMake or a compiler, which the last lines seldom show."""
    lines = said.splitlines()
    found = next(
        (n for n, line in enumerate(lines) if re.search(r"\berror:|CMake Error|fatal error", line)),
        None,
    )
    return "" if found is None else "\n".join(lines[found : found + 6])


def _clone(plan: BuildPlan, stage: str, argv: tuple[str, ...]) -> None:
    to = Path(argv[-1])
    part = to.with_name(to.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.parent.mkdir(parents=True, exist_ok=True)
    _command(plan, stage, (*argv[:-1], str(part)))
    part.rename(to)


def _configure(plan: BuildPlan, argv: tuple[str, ...]) -> None:
    version = plans.version_of(plan.source)
    if plan.kleidiai_source:
        plans.kleidiai_version_of(plan.kleidiai_source)
    said: list[str] = []
    _command(plan, "configure", argv, said.append)
    text = "\n".join(said)
    if UNUSED in text:
        names = [
            line.strip()
            for line in text.partition(UNUSED)[2].splitlines()[1:]
            if line.startswith("    ")
        ]
        raise BuildError(
            f"MNN {version} at {plan.source} does not know the option{'s'[: len(names) != 1]} {', '.join(names)}: it is the source of "
            f"another version than the plan's. Use release {plans.RELEASE}"
        )
    if plan.wants_kleidiai and (without := WITHOUT.search(text)):
        raise BuildError(
            f"KleidiAI was asked for, and CMake went on without it, where MNN only warns: {without[1]}. Name a checkout of KleidiAI "
            f"v{plans.KLEIDIAI} with --kleidiai-source"
        )


def _compile(plan: BuildPlan, argv: tuple[str, ...], on_progress: Progress) -> None:
    begun = time.perf_counter()

    def on_line(line: str) -> None:
        step = STEP.match(line)
        if step:
            done, total = int(step[1]), int(step[2])
            on_progress(done, total, (time.perf_counter() - begun) / max(done, 1) * (total - done))

    _command(plan, "compile", argv, on_line)


def _add_seconds(folder: Path, stage: str, seconds: float) -> None:
    file = folder / "seconds.json"
    total = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    total[stage] = round(total.get(stage, 0.0) + seconds, 1)
    _write(file, total)


# ---- what came out


def _product(folder: Path, file: Path) -> Product:
    return Product(
        path=str(file.relative_to(folder)), bytes=file.stat().st_size, sha256=file_sha256(file)
    )


def architecture(file: Path) -> str:
    """The machine that a program or library is for, by its ELF header; "unknown" if it has none, as on a Mac."""
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
        If a file is missing, is for another machine, or KleidiAI was asked for and none of it is inside.
    """
    folders = (plan.build, plan.build / "arm64-v8a", plan.folder / "python")
    names = ("_mnncengine*.so", "libMNN.so", "libMNN.dylib", "llm_demo")
    files = [hit for name in names for folder in folders for hit in sorted(folder.glob(name))]
    if not any(file.name == "llm_demo" for file in files):
        raise BuildError(
            f"expected llm_demo in {plan.build}, found none: the source did not build it. See {plan.folder / LOG}"
        )
    engine = files[0]
    machine, wanted = architecture(engine), "aarch64" if "MNN_KLEIDIAI" in plan.values else "x86_64"
    if machine not in {wanted, "unknown"}:
        raise BuildError(
            f"expected {engine.name} for {wanted}, found it for {machine}: another compiler ran than the plan's {plan.toolchain}"
        )
    kernels = kleidiai.kernels(engine) or ()
    if plan.wants_kleidiai and not kernels and machine != "unknown":
        raise BuildError(
            f"KleidiAI was asked for, and {engine.name} has no kai_ function: built, but not what was asked for. See the lines about "
            f"KleidiAI in {plan.folder / LOG}, and name a checkout of KleidiAI v{plans.KLEIDIAI} with --kleidiai-source"
        )
    if kernels and not plan.wants_kleidiai:
        raise BuildError(
            f"a baseline was asked for, and {engine.name} has {len(kernels)} KleidiAI kernels: choose another --out"
        )
    sets = Counter(kernel.instruction_set for kernel in kernels)
    return files, machine, {name: sets[name] for name in kleidiai.INSTRUCTION_SETS if sets[name]}


def _record(plan: BuildPlan) -> BuildRecord:
    files, machine, kernels = inspect(plan)
    cache = (plan.build / "CMakeCache.txt").read_text(encoding="utf-8", errors="replace")
    found = re.search(r"^CMAKE_CXX_COMPILER:[A-Z]+=(.*)$", cache, re.MULTILINE)
    compiler = (
        hardware.printed_by([found[1], "--version"]).partition("\n")[0] if found else "unknown"
    )
    about = hardware.describe()
    record = BuildRecord(
        folder=plan.folder, variant=plan.variant, target=plan.target, version=plans.version_of(plan.source), options=plan.values,
        toolchain=plan.toolchain, compiler=compiler, architecture=machine,
        seconds=json.loads((plan.folder / "seconds.json").read_text(encoding="utf-8")),
        products=tuple(_product(plan.folder, file) for file in files), kernels=kernels,
        machine={"cpu": about.cpu, "cores": about.logical_cores}, python="python" if plan.python else None,
    )  # fmt: skip
    _write(
        plan.folder / RECORD,
        {
            "schema": SCHEMA,
            **{key: value for key, value in asdict(record).items() if key != "folder"},
        },
    )
    return record


def _write(file: Path, content: dict[str, Any]) -> None:
    """Whole or not at all."""
    part = file.with_name(file.name + ".part")
    part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(part, file)
