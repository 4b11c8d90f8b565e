"""Lanes on other machines, over SSH: the same worker and protocol, on what was copied there once.

``lane.json`` in a folder of the cache says what stands where; it is written once a worker has run
there. All that is copied lies in one folder of that machine (`labkit.engine.there.home`).
"""

import os
import re
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from labkit.base import hardware, paths
from labkit.base.data import frozen
from labkit.base.errors import LaneNotReady
from labkit.base.hardware import Machine, Reading
from labkit.base.records import from_json
from labkit.engine import link as links
from labkit.engine.lanes import WORKER, Lane, Status
from labkit.engine.link import Link
from labkit.engine.qemu import PACKAGE_PARENT

MODULE = "labkit.engine.worker"
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")
ENGINE = (
    "labkit/__init__.py",
    *(f"labkit/engine/{name}.py" for name in "__init__ graph mnn_llm protocol worker".split()),
)
"""What the worker is made of."""
CLOCK_S = 120


@frozen
class RemoteLane(Lane):
    """Another machine, as it stood when it was set up.

    Attributes
    ----------
    link
        How it is reached.
    site
        The folder there that has NumPy and MNN; None where its Python has them.
    machine
        What it said of itself (`labkit.engine.there.look`) and what the worker did.
    features
        Of its CPU, as MNN sees it.
    """

    schema: Literal[1] = 1
    link: Link
    site: str | None
    machine: dict[str, Any]
    features: tuple[str, ...] | None = None

    @property
    def may_be_timed(self) -> bool:
        """As `Lane.may_be_timed`; by the word of its Python, which may run under emulation."""
        return not self.machine["emulated"]

    @property
    def is_here(self) -> bool:
        """No."""
        return False

    @property
    def label(self) -> str:
        """For tables."""
        how = " under emulation" if self.machine["emulated"] else ""
        return f"{self.name}, {self.machine['architecture']}{how}, over SSH"

    @property
    def builds(self) -> tuple[str, ...]:
        """None."""
        raise LaneNotReady(
            f"expected this machine, the emulated lane or a phone for a build's own program, "
            f"received {self.name}, a machine over SSH"
        )

    @property
    def library(self) -> Path:
        """That machine's library with MNN's kernels, brought here once."""
        about = self.link.ask("module", site=self.site)
        file = folder(self.name) / f"_mnncengine-{about['sha256'][:16]}.so"
        if not file.exists():
            self.link.fetch(about["file"], file)
        return file

    def worker_command(self, plugin: str | None = None) -> tuple[list[str], dict[str, str]]:
        """As `Lane.worker_command`: what the worker is made of is brought there first."""
        if plugin or self.build or self.module != MODULE:
            raise LaneNotReady(
                f"expected MNN as it is published, found something else to run on {self.name}: "
                "builds of one's own, transformers and other engines run on this machine only"
            )
        engine = self._copied("engine", {n: PACKAGE_PARENT / n for n in ENGINE})
        path = os.pathsep.join(filter(None, (engine, self.site)))
        env = WORKER | {"PYTHONPATH": path}
        words = (f"{name}={value}" for name, value in env.items())
        return self.link.argv("env", *words, self.link.python, "-m", MODULE), {}

    def placed(self, path: Path) -> str:
        """As `Lane.placed`."""
        home = path if path.is_dir() else path.parent
        inside = {str(f.relative_to(home)): f for f in home.rglob("*") if f.is_file()}
        there = self._copied("models", inside)
        return there if home == path else f"{there}/{path.name}"

    def _copied(self, kind: str, given: Mapping[str, Path]) -> str:
        return copied(self.link, kind, tuple((n, f, links.stamp(f)) for n, f in given.items()))

    def why(self, code: int, log: str) -> str:
        """As `Lane.why`."""
        return self.link.why(code, log) if code in {126, 127, 255} else super().why(code, log)

    def describe(self) -> Machine:
        """As `Lane.describe`, as it is now."""
        return machine(self.link.ask("look"))

    def default_threads(self) -> int:
        """As `Lane.default_threads`."""
        return min(4, self.machine["cores"] or 1)

    def reading(self) -> Reading:
        """As `Lane.reading`."""
        return Reading(**self.link.ask("reading"))


@lru_cache
def copied(link: Link, kind: str, given: tuple[tuple[str, Path, Any], ...]) -> str:
    """Where files stand there, as they are now; a process asks once, for it takes a moment."""
    return link.copy(kind, {name: file for name, file, _ in given})


def machine(look: dict[str, Any]) -> Machine:
    """A machine by what it says of itself."""
    texts = {"Darwin": (hardware.parse_sysctl, "sysctl")}
    parse, text = texts.get(look["system"], (hardware.parse_cpuinfo, "cpuinfo"))
    cpu = parse("" if look["emulated"] else look[text])  # else it is the emulator's machine
    return Machine(
        system=look["system"],
        release=look["release"],
        architecture=look["architecture"],
        cpu=cpu.name,
        instruction_sets=cpu.instruction_sets,
        logical_cores=look["cores"],
        physical_cores=None,
        memory_total_bytes=look["memory_bytes"],
        memory_available_bytes=look["available_bytes"],
        disk_free_bytes=look["disk_bytes"],
    )


def folder(name: str) -> Path:
    """Where what is known of a machine stands here, or will."""
    return paths.place("cache") / "lanes" / name


def require_name(name: str, others: Iterable[str], example: str) -> None:
    """Raise `LaneNotReady` unless a lane may have this name; ``others`` have other kinds."""
    if name in {"native", "emulated", *others} or not NAME.fullmatch(name):
        raise LaneNotReady(
            f"expected a name of small letters, digits and hyphens that no lane has, "
            f"received {name!r}. Such as: labkit lane setup {example}"
        )


def names() -> list[str]:
    """The machines that were set up."""
    return sorted(
        file.parent.name
        for file in folder("").glob("*/lane.json")
        if file.parent.name != "emulated"
    )


def lane(name: str) -> RemoteLane:
    """A machine that was set up, by the name it got then.

    Raises
    ------
    LaneNotReady
        If there is none, or it has another MNN than is here; says what to type.
    """
    try:
        known = from_json(RemoteLane, (folder(name) / "lane.json").read_bytes())
    except (OSError, ValueError) as error:
        raise LaneNotReady(
            f"expected a machine that was set up as {name!r}, found none, or one of another "
            f"labkit. Type: labkit lane setup {name} --ssh USER@HOST"
        ) from error
    if known.machine["mnn"] != metadata.version("MNN"):
        raise LaneNotReady(
            f"expected MNN {metadata.version('MNN')} on {name}, as here, found "
            f"{known.machine['mnn']}. Type: {_again(known)}"
        )
    return known


def _again(known: RemoteLane) -> str:
    port = f":{known.link.port}" if known.link.port else ""
    return f"labkit lane setup {known.name} --ssh {known.link.target}{port}"


def status(name: str | None = None) -> tuple[Status, ...]:
    """The other machines, or one of them, as they stand; they are asked now, all at once."""
    with ThreadPoolExecutor() as pool:
        return tuple(pool.map(_status, (one for one in names() if name in {None, one})))


def _status(name: str) -> Status:
    try:
        known = lane(name)
        look = known.link.ask("look")
    except LaneNotReady as error:
        return Status(name=name, works=False, found=str(error))
    return Status(
        name=name, works=True, found=facts(known, look), todo=_clock(look), bytes=look["bytes"]
    )


def facts(known: RemoteLane, look: dict[str, Any]) -> str:
    """What is known of another machine, in a line."""
    there = machine(look)
    gib = 2**30
    features = ", ".join(known.features or ()) or "none that matter here"
    words = (
        look["node"],
        there.cpu or "unknown CPU",
        f"{there.architecture}{' under emulation' if look['emulated'] else ''}",
        f"{there.logical_cores} cores",
        f"MNN sees {features}",
        there.memory_total_bytes and f"{there.memory_total_bytes / gib:.1f} GiB",
        look["celsius"] and f"{look['celsius']:.0f} °C",
        look["governor"] and f"governor {look['governor']}",
        f"Python {look['python']}, MNN {known.machine['mnn']}",
    )
    return ", ".join(word for word in words if word)


def _clock(look: dict[str, Any]) -> str:
    """What to do about a clock that is far off."""
    behind = time.time() - look["clock_s"]
    if abs(behind) < CLOCK_S:
        return ""
    way = "behind" if behind > 0 else "ahead"
    return (
        f"its clock is {abs(behind) / 60:,.0f} minutes {way}: sudo timedatectl set-ntp true, there"
    )
