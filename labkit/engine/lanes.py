"""Lanes: where the engine's worker runs.

Every lane runs the same worker and speaks the same protocol over pipes; a lane only
says which command starts it. A remote one would be one more `Lane.worker_command`.

The emulated lane is an AArch64 Linux process under QEMU's user-mode emulation: Python
from the distribution's arm64 packages, NumPy and MNN as the wheels that an Arm server
installs. It runs the real kernels and says nothing about seconds.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import shutil
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from labkit.base import command, hardware, paths
from labkit.base.command import Stage
from labkit.base.errors import CommandFailed, LaneNotReady

PACKAGE_PARENT = Path(__file__).parents[2]
CPUS = {"cortex-a53": "NEON", "cortex-a76": "NEON, dotprod", "max": "NEON, dotprod, i8mm"}
"""The ladder of emulated CPUs, and what each has."""
OLDEST_QEMU = (7, 0)
NEEDED_BYTES = 400_000_000
SCHEMA = 1
FEATURES = {"i8sdot": "dotprod", "fp16": "fp16", "i8mm": "i8mm", "sve2": "sve2", "sme2": "sme2"}
PACKAGES = ("python3-minimal", "libpython3-stdlib", "libstdc++6", "zlib1g", "libgomp1")
SOURCES = "LABKIT_APT_SOURCES"  # a file in the form of apt's sources.list, to be used instead of the system's
SETUP = "labkit lane setup emulated"
UBUNTU = f"Ubuntu keeps arm64 packages on other servers than amd64: name them in a file in the form of sources.list and set {SOURCES} to it."
QEMU = "sudo apt-get install qemu-user"


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One place where a worker can run.

    Attributes
    ----------
    name
        "native" or "emulated".
    cpu
        The emulated CPU, one of `CPUS`; None in the native lane.
    build
        The folder of a finished build with MNN's Python module (`labkit.building.running`), to be used in place of the
        installed one; native lane only.
    """

    name: str
    cpu: str | None = None
    build: Path | None = None

    @property
    def may_be_timed(self) -> bool:
        """Whether seconds measured here say something about a CPU; under emulation they do not."""
        return self.name != "emulated"

    @property
    def label(self) -> str:
        """For tables: the lane and what it runs on."""
        own = ", own build" if self.build else ""
        return (
            f"native, {platform.machine()}{own}"
            if self.cpu is None
            else f"emulated, {self.cpu} ({CPUS[self.cpu]})"
        )

    @property
    def library(self) -> Path:
        """The library that holds MNN's kernels, as this lane loads it."""
        if self.build:
            return next((self.build / "python").glob("_mnncengine*.so"))
        if self.name == "native":
            found = find_spec("_mnncengine")
            if found is None or found.origin is None:
                raise LaneNotReady(
                    "expected MNN in this Python, found none. Set the lab up again: python3 bootstrap.py setup"
                )
            return Path(found.origin)
        return next((_folder() / "site").glob("_mnncengine*.so"))

    def worker_command(self, plugin: str | None = None) -> tuple[list[str], dict[str, str]]:
        """How a worker is started here: argv and what is added to the environment.

        Parameters
        ----------
        plugin
            A QEMU plugin with its options, ``"file.so,name=value"``; emulated only.
        """
        if self.name == "native":
            safe = ["-P"] if sys.version_info >= (3, 11) else []
            first = (
                [str(self.build / "python")] if self.build else []
            )  # MNN's own Python files stay the installed ones
            return [sys.executable, *safe, "-m", "labkit.engine.worker"], {
                "PYTHONPATH": os.pathsep.join([*first, str(PACKAGE_PARENT)])
            }
        qemu, about = _qemu(), _read(_folder())
        extra = ["-plugin", plugin] if plugin else []
        return _guest(
            [qemu, "-cpu", str(self.cpu), *extra],
            _folder(),
            about["executable"],
            ["-m", "labkit.engine.worker"],
        )

    def program_command(
        self, program: Path, *arguments: str, plugin: str | None = None
    ) -> list[str]:
        """How a program built for this lane is started; an emulated one finds its system's libraries in the lane's folder."""
        if self.name == "native":
            return [str(program), *arguments]
        extra = ["-plugin", plugin] if plugin else []
        return [
            _qemu(),
            "-cpu",
            str(self.cpu),
            *extra,
            "-L",
            str(_folder() / "root"),
            str(program),
            *arguments,
        ]


@dataclass(frozen=True, kw_only=True)
class Status:
    """One lane: whether it works, what was found, and what to do if it does not."""

    name: str
    works: bool
    found: str
    todo: str = ""
    bytes: int = 0


def native(build: Path | None = None) -> Lane:
    """The interpreter that runs this code.

    Parameters
    ----------
    build
        The folder of a finished build with MNN's Python module, to be used in place of the installed one.

    Raises
    ------
    LaneNotReady
        If there is no such module there, or it is for another Python.
    """
    if build and not list(
        (build / "python").glob(f"_mnncengine{sysconfig.get_config_var('EXT_SUFFIX')}")
    ):
        raise LaneNotReady(
            f"expected MNN's Python module, for this Python, in {build / 'python'}, found none. Type: labkit build accelerated --python"
        )
    return Lane(name="native", build=build.absolute() if build else None)


def emulated(cpu: str = "max") -> Lane:
    """The emulated lane, which must have been set up.

    Parameters
    ----------
    cpu
        One of `CPUS`.

    Raises
    ------
    LaneNotReady
        If there is no such CPU, or the lane was not set up, is damaged, or lacks QEMU; says what to type.
    """
    if cpu not in CPUS:
        raise LaneNotReady(f"expected one of the CPUs {', '.join(CPUS)}, received {cpu!r}")
    _possible()
    _qemu()
    _read(_folder())
    return Lane(name="emulated", cpu=cpu)


def lane(name: str, cpu: str | None = None, build: Path | None = None) -> Lane:
    """A lane by its name; a build as in `native`."""
    if name == "native" and cpu is None:
        return native(build)
    if name == "emulated" and build is None:
        return emulated(cpu or "max")
    raise LaneNotReady(
        f"expected the lane 'native' (without a CPU) or 'emulated' (without a build), received {name!r} with CPU {cpu!r} and build {build}"
    )


def parse_features(log: str) -> tuple[str, ...] | None:
    """CPU features as MNN sees them, from what it prints when it is loaded; None if it has not said.

    >>> parse_features("The device supports: i8sdot:1, fp16:1, i8mm: 0, sve2: 0, sme2: 0")
    ('dotprod', 'fp16')
    """
    line = re.search(r"The device supports: (.*)", log)
    if not line:
        return None
    has = dict(re.findall(r"(\w+): ?(\d)", line[1]))
    return tuple(ours for theirs, ours in FEATURES.items() if has.get(theirs) == "1")


def status() -> tuple[Status, ...]:
    """Both lanes as they stand; changes nothing."""
    rows = [
        Status(
            name="native",
            works=True,
            found=f"{platform.system()} {platform.machine()}, MNN {metadata.version('MNN')}",
        )
    ]
    size = paths.size_bytes(_folder())
    try:
        emulated()
        about = _read(_folder())
        found = f"Python {about['python']}, MNN {about['mnn']}, {about['qemu']}"
        rows.append(Status(name="emulated", works=True, found=found, bytes=size))
    except LaneNotReady as error:
        found, _, todo = str(error).partition(". ")
        todo = todo.removeprefix("Type: ")
        rows.append(Status(name="emulated", works=False, found=found, todo=todo, bytes=size))
    return tuple(rows)


# ---- the emulated lane's folder


def _folder() -> Path:
    return paths.place("cache") / "lanes" / "emulated"


def _possible() -> None:
    if platform.system() != "Linux":
        raise LaneNotReady(
            f"the emulated lane needs Linux, this is {platform.system()}. Use a Linux machine or container"
        )


def _qemu() -> str:
    found = shutil.which("qemu-aarch64")
    if not found:
        raise LaneNotReady(f"qemu-aarch64 is not on PATH. Type: {QEMU}")
    said = qemu_version(found)
    number = re.search(r"version (\d+)\.(\d+)", said)
    if not number or (int(number[1]), int(number[2])) < OLDEST_QEMU:
        oldest = f"{OLDEST_QEMU[0]}.{OLDEST_QEMU[1]}"
        raise LaneNotReady(
            f"expected QEMU {oldest} or newer at {found}, found {said or 'one that does not run'}. Type: {QEMU}"
        )
    return found


def qemu_version(qemu: str) -> str:
    """QEMU's own word, such as "qemu-aarch64 version 7.2.22"; empty if it does not run."""
    return re.sub(r" \(.*", "", hardware.printed_by([qemu, "--version"]).partition("\n")[0])


def _read(folder: Path) -> dict[str, Any]:
    try:
        about: dict[str, Any] = json.loads((folder / "lane.json").read_text(encoding="utf-8"))
        whole = about["schema"] == SCHEMA and all(
            (folder / name).stat().st_size == size for name, size in about["files"].items()
        )
    except FileNotFoundError as error:
        state = "damaged (a file is missing)" if folder.is_dir() else "not set up"
        raise LaneNotReady(f"the emulated lane is {state}. Type: {SETUP}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LaneNotReady(f"the emulated lane is damaged. Type: {SETUP}") from error
    if not whole:
        raise LaneNotReady(
            f"the emulated lane is damaged (a file has another size) or of another labkit. Type: {SETUP}"
        )
    return about


def _guest(
    qemu: list[str], folder: Path, python: str, args: list[str]
) -> tuple[list[str], dict[str, str]]:
    """A command in the guest; ``qemu`` with its own options."""
    env = {
        "PYTHONPATH": os.pathsep.join([str(folder / "site"), str(PACKAGE_PARENT)]),
        "PYTHONHOME": "", "LD_LIBRARY_PATH": "", "LD_PRELOAD": "", "PYTHONDONTWRITEBYTECODE": "1", "OPENBLAS_NUM_THREADS": "1",
    }  # fmt: skip
    root = folder / "root"
    return [*qemu, "-L", str(root), str(root / "usr" / "bin" / python), *args], env


def setup_emulated(on_stage: Callable[[Stage], None] | None = None) -> Lane:
    """Set the emulated lane up, or mend it; returns at once if it stands.

    What was downloaded is kept between attempts. The lane gets its name only when a worker's
    imports have run in it.

    Parameters
    ----------
    on_stage
        Called after each stage.

    Raises
    ------
    LaneNotReady
        If it cannot work on this machine, QEMU is missing, or a stage fails; says which and why.
    """
    _possible()
    qemu = _qemu()
    with _alone():
        try:
            return emulated()
        except LaneNotReady:
            pass
        work = _folder().with_name("emulated.part")
        work.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(work).free
        if free < NEEDED_BYTES:
            raise LaneNotReady(
                f"expected {NEEDED_BYTES / 1e6:.0f} MB free for the emulated lane, found {free / 1e6:.0f} MB at {work}. "
                "Free some, or set LABKIT_HOME to a folder on another disk; then type again: "
                + SETUP
            )
        stages: list[tuple[str, Callable[[], None]]] = [
            ("arm64 packages: lists", lambda: _apt(work, "update")),
            (
                "arm64 packages: download",
                lambda: _apt(
                    work, "install", "-y", "--no-install-recommends", "--download-only", *PACKAGES
                ),
            ),
            ("arm64 packages: unpack", lambda: _unpack(work)),
            ("arm64 wheels of MNN and NumPy", lambda: _wheels(work)),
            ("try it", lambda: _finish(work, qemu)),
        ]
        for number, (name, run) in enumerate(stages, 1):
            start = time.perf_counter()
            try:
                run()
            except (CommandFailed, OSError) as error:
                raise LaneNotReady(
                    f"the emulated lane could not be set up; the stage {name!r} failed: {error}\n"
                    f"What was downloaded is kept. If the network or the disk was the cause, mend that and type again: {SETUP}\n{UBUNTU}"
                ) from error
            if on_stage:
                on_stage(
                    Stage(
                        number=number,
                        total=len(stages),
                        name=name,
                        elapsed_s=time.perf_counter() - start,
                    )
                )
    return emulated()


def remove_emulated() -> int:
    """Delete the emulated lane; returns the bytes that were freed."""
    freed = 0
    for folder in (_folder(), _folder().with_name("emulated.part")):
        freed += paths.size_bytes(folder)
        shutil.rmtree(folder, ignore_errors=True)
    return freed


@contextmanager
def _alone() -> Iterator[None]:
    """Two set-ups at once wait for each other."""
    parent = paths.cache_dir() / "lanes"
    parent.mkdir(parents=True, exist_ok=True)
    with (parent / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _apt(work: Path, *words: str) -> None:
    """The system's apt for another architecture, as an ordinary user, with lists and downloads in the lane's own folder."""
    for folder in ("lists/partial", "debs/partial"):
        (work / folder).mkdir(parents=True, exist_ok=True)
    options = {
        "APT::Architecture": "arm64", "APT::Architectures": "arm64", "APT::Sandbox::User": "", "Dir::State": str(work),
        "Dir::State::Lists": str(work / "lists"), "Dir::State::status": "/dev/null", "Dir::Cache": str(work),
        "Dir::Cache::archives": str(work / "debs"), "Acquire::Languages": "none", "Debug::NoLocking": "1",
    }  # fmt: skip
    if sources := os.environ.get(SOURCES):
        options |= {
            "Dir::Etc::sourcelist": str(Path(sources).expanduser().absolute()),
            "Dir::Etc::sourceparts": "-",
        }
    argv = [
        "apt-get",
        *(word for key, value in options.items() for word in ("-o", f"{key}={value}")),
        "-q",
        *words,
    ]
    command.run(
        argv,
        log=work / "setup.log",
        timeout_s=900,
        env={"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
    )


def _unpack(work: Path) -> None:
    shutil.rmtree(work / "root", ignore_errors=True)
    for deb in sorted((work / "debs").glob("*.deb")):
        command.run(
            ["dpkg-deb", "-x", str(deb), str(work / "root")], log=work / "setup.log", timeout_s=300
        )


def _python(work: Path) -> str:
    """The name of the lane's interpreter, such as "python3.11"."""
    found = sorted(
        p.name
        for p in (work / "root" / "usr" / "bin").glob("python3.*")
        if re.fullmatch(r"python3\.\d+", p.name)
    )
    if not found:
        raise LaneNotReady(
            "expected an arm64 Python among the distribution's packages, found none: its package lists have no arm64. "
            f"{UBUNTU} Then type again: {SETUP}"
        )
    return found[-1]


def _wheels(work: Path) -> None:
    shutil.rmtree(work / "site", ignore_errors=True)
    version = _python(work).removeprefix("python")
    platforms = [
        word
        for tag in ("manylinux2014", "manylinux_2_27", "manylinux_2_28")
        for word in ("--platform", f"{tag}_aarch64")
    ]
    same = version == f"{sys.version_info.major}.{sys.version_info.minor}"
    wanted = [
        f"MNN=={metadata.version('MNN')}",
        f"numpy=={metadata.version('numpy')}" if same else "numpy",
    ]
    argv = [
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--target", str(work / "site"),
        "--only-binary", ":all:", "--implementation", "cp", "--python-version", version, "--abi", f"cp{version.replace('.', '')}",
        *platforms, *wanted,
    ]  # fmt: skip
    command.run(argv, log=work / "setup.log", timeout_s=900)


def _finish(work: Path, qemu: str) -> None:
    python, said = _python(work), list[str]()
    code = "import platform, MNN, numpy; print('LANE', platform.python_version(), MNN.version(), numpy.__version__)"
    argv, env = _guest([qemu, "-cpu", "max"], work, python, ["-c", code])
    command.run(argv, log=work / "setup.log", timeout_s=300, env=env, on_line=said.append)
    versions = next(line.split()[1:] for line in said if line.startswith("LANE "))
    library = next((work / "site").glob("_mnncengine*.so"))
    files = [library, (work / "root" / "usr" / "bin" / python).resolve()]
    about = {
        "schema": SCHEMA, "executable": python, **dict(zip(("python", "mnn", "numpy"), versions, strict=True)), "qemu": qemu_version(qemu),
        "files": {str(file.relative_to(work)): file.stat().st_size for file in files},
    }  # fmt: skip
    (work / "lane.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(_folder(), ignore_errors=True)
    work.rename(_folder())
    for leftover in ("debs", "lists"):
        shutil.rmtree(_folder() / leftover, ignore_errors=True)
