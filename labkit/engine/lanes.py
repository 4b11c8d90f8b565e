"""Lanes: where the engine's worker runs.

Every lane runs the same worker and speaks the same protocol over pipes; a lane says which
command starts it, what files are called there, and what machine that is. Those on other machines
are `labkit.engine.remote` and `phone`; by name all of them are in `known`.

The emulated lane is an AArch64 Linux process under QEMU's user-mode emulation
(`labkit.engine.qemu`). It runs the real kernels and says nothing about seconds.
"""

import os
import platform
import re
import sys
import sysconfig
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from labkit.base import command, hardware
from labkit.base.command import Finished
from labkit.base.data import frozen
from labkit.base.errors import LaneNotReady
from labkit.base.hardware import Machine, Reading
from labkit.engine import qemu, there

CPUS = {"cortex-a53": "NEON", "cortex-a76": "NEON, dotprod", "max": "NEON, dotprod, i8mm"}
"""The ladder of emulated CPUs, and what each has."""
WORKER = {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
"""Of a worker's environment; unbuffered, what MNN prints is in the log when a reply comes."""
FEATURES = {"i8sdot": "dotprod", "fp16": "fp16", "i8mm": "i8mm", "sve2": "sve2", "sme2": "sme2"}


@frozen
class Lane:
    """One place where a worker can run.

    Attributes
    ----------
    name
        "native", "emulated", or what another machine was called when it was set up.
    cpu
        The emulated CPU, one of `CPUS`; None in the native lane.
    build
        The folder of a finished build with MNN's Python module (`labkit.building.running`), to be
        used in place of the installed one; native lane only.
    module
        What runs there as the worker; another one may speak the same protocol.
    """

    name: str
    cpu: str | None = None
    build: Path | None = None
    module: str = "labkit.engine.worker"

    @property
    def may_be_timed(self) -> bool:
        """Whether seconds measured here say something about a CPU; under emulation they do not."""
        return self.name != "emulated" and not there.emulated()

    @property
    def is_here(self) -> bool:
        """Whether it is on this machine; from another one, a worker's prints may come late."""
        return True

    @property
    def label(self) -> str:
        """For tables: the lane and what it runs on."""
        if self.cpu:
            return f"emulated, {self.cpu} ({CPUS[self.cpu]})"
        return f"native, {platform.machine()}{', own build' if self.build else ''}"

    @property
    def builds(self) -> tuple[str, ...]:
        """What a build's programs have to be for to run here: architectures, or targets."""
        return ("aarch64",) if self.name == "emulated" else (platform.machine(), "unknown")

    @property
    def library(self) -> Path:
        """The library that holds MNN's kernels, as this lane loads it."""
        if self.build or self.name == "emulated":
            folder = self.build / "python" if self.build else qemu.folder() / "site"
            return next(folder.glob("_mnncengine*.so"))
        spec = find_spec("_mnncengine")
        if not spec or not spec.origin:
            raise LaneNotReady(
                "expected MNN in this Python, found none. "
                "Set the lab up again: python3 bootstrap.py setup"
            )
        return Path(spec.origin)

    def worker_command(self, plugin: str | None = None) -> tuple[list[str], dict[str, str]]:
        """How a worker is started here: argv and what is added to the environment.

        Parameters
        ----------
        plugin
            A QEMU plugin with its options, ``"file.so,name=value"``; emulated only.
        """
        if self.name == "emulated":
            argv, env = qemu.python(qemu.folder(), self.cpu, plugin)
        else:  # MNN's own Python files stay the installed ones, also beside a build's module
            folders = [self.build / "python"] if self.build else []
            path = os.pathsep.join(map(str, [*folders, qemu.PACKAGE_PARENT]))
            argv, env = [sys.executable], {"PYTHONPATH": path, **WORKER}
        return [*argv, "-m", self.module], env

    def placed(self, path: Path) -> str:
        """How a worker here names a file or folder of this machine; another machine gets it first.

        A file brings its folder along, as those of a model need each other.
        """
        return str(path)

    def why(self, code: int, log: str) -> str:  # noqa: ARG002 - another machine's log says why
        """Why a worker ended, in words, and what to do."""
        return (
            "Open the model again to go on; if it happens again, `labkit verify DIR` tells whether "
            "the model's files are whole."
        )

    def describe(self) -> Machine:
        """The machine that this lane is on."""
        return hardware.describe()

    def default_threads(self) -> int:
        """As many CPU threads as a model gets here unless more are asked for."""
        return hardware.default_threads()

    def reading(self) -> Reading:
        """What the machine does at this moment."""
        return hardware.reading()

    def run_program(
        self,
        program: Path,
        *arguments: str,
        folder: Path,
        libraries: Sequence[Path] = (),  # noqa: ARG002 - it finds its own
        plugin: str | None = None,
    ) -> Finished:
        """Run a program built for this lane, in a folder: what it printed, and its memory.

        An emulated one finds its system's libraries in the lane's folder.

        Parameters
        ----------
        libraries
            What the build has beside it.
        plugin
            As for `worker_command`.

        Raises
        ------
        CommandFailed
            If it crashes, or takes longer than half an hour.
        """
        emulated = self.name == "emulated"
        before = qemu.emulator(self.cpu, qemu.folder() / "root", plugin) if emulated else []
        argv = [*before, str(program), *arguments]
        return command.run(argv, log=folder / "log", cwd=folder, timeout_s=1800)


@frozen
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
        The folder of a finished build with MNN's Python module, to be used in place of the
        installed one.

    Raises
    ------
    LaneNotReady
        If there is no such module there, or it is for another Python.
    """
    module = f"_mnncengine{sysconfig.get_config_var('EXT_SUFFIX')}"
    if build and not (build / "python" / module).exists():
        raise LaneNotReady(
            f"expected MNN's Python module, for this Python, in {build / 'python'}, found none. "
            "Type: labkit build accelerated --python"
        )
    return Lane(name="native", build=build and build.absolute())


def emulated(cpu: str = "max") -> Lane:
    """The emulated lane, which must have been set up (`labkit.engine.lane_setup`).

    Parameters
    ----------
    cpu
        One of `CPUS`.

    Raises
    ------
    LaneNotReady
        If there is no such CPU, or the lane was not set up, is damaged, or lacks QEMU; says what
        to type.
    """
    if cpu not in CPUS:
        raise LaneNotReady(f"expected one of the CPUs {', '.join(CPUS)}, received {cpu!r}")
    qemu.system()
    return Lane(name="emulated", cpu=cpu)


def parse_features(log: str) -> tuple[str, ...] | None:
    """CPU features as MNN sees them, from what it prints when it is loaded; None if it has not.

    >>> parse_features("The device supports: i8sdot:1, fp16:1, i8mm: 0, sve2: 0, sme2: 0")
    ('dotprod', 'fp16')
    """
    if line := re.search(r"The device supports: (.*)", log):
        has = re.findall(r"(\w+): ?1", line[1])
        return tuple(ours for theirs, ours in FEATURES.items() if theirs in has)
    return None
