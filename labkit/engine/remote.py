"""Lanes on other machines, over SSH: the same worker and protocol, on what was copied there once.

``lane.json`` in a folder of the cache says what stands where; it is written once a worker has run
there. All that is copied lies in one folder of that machine (`labkit.engine.there.home`).
"""

import os
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from labkit.base import files, hardware, paths
from labkit.base.command import OnStage, Stages
from labkit.base.data import frozen
from labkit.base.errors import CommandFailed, EngineCrashed, EngineError, LaneNotReady
from labkit.base.hardware import Machine, Reading
from labkit.base.records import from_json, to_json
from labkit.engine import link as links
from labkit.engine import phone
from labkit.engine.lane_setup import wheels
from labkit.engine.lanes import WORKER, Lane, Status
from labkit.engine.link import Link
from labkit.engine.qemu import PACKAGE_PARENT

MODULE = "labkit.engine.worker"
ENGINE = (
    "__init__",
    *(f"engine/{name}" for name in ("__init__", "graph", "mnn_llm", "protocol", "worker")),
)
"""What the worker is made of."""
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")
CLOCK_S = 120
STAYS = ("node", "system", "architecture", "emulated", "cores", "python")
"""Of what a machine says of itself, what is written down."""


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
        folder, about = _folder(self.name), self.link.ask("module", site=self.site)
        file = folder / f"_mnncengine-{about['sha256'][:16]}.so"
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
        engine = _copied(
            self.link,
            "engine",
            tuple((f"labkit/{n}.py", PACKAGE_PARENT / "labkit" / f"{n}.py") for n in ENGINE),
        )
        path = os.pathsep.join(filter(None, (engine, self.site)))
        env = WORKER | {"PYTHONPATH": path}
        words = (f"{name}={value}" for name, value in env.items())
        return self.link.argv("env", *words, self.link.python, "-m", MODULE), {}

    def placed(self, path: Path) -> str:
        """As `Lane.placed`."""
        folder = path if path.is_dir() else path.parent
        inside = [file for file in sorted(folder.rglob("*")) if file.is_file()]
        there = _copied(self.link, "models", tuple((str(f.relative_to(folder)), f) for f in inside))
        return there if folder == path else f"{there}/{path.name}"

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
def _copied(link: Link, kind: str, given: tuple[tuple[str, Path], ...]) -> str:
    """Where files stand there; asked once by each process, for it takes a moment."""
    return link.copy(kind, dict(given))


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


def _folder(name: str) -> Path:
    return paths.place("cache") / "lanes" / name


def names() -> list[str]:
    """The machines that were set up."""
    return sorted(
        file.parent.name
        for file in _folder("").glob("*/lane.json")
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
        known = from_json(RemoteLane, (_folder(name) / "lane.json").read_bytes())
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


def setup(
    name: str, ssh: str, *, python: str | None = None, on_stage: OnStage = None
) -> RemoteLane:
    """Set a lane up on another machine, or mend it.

    What was copied is kept between attempts. Its Python is used as it is where it has MNN in the
    version that is here, and NumPy; else it gets their wheels from here, in a folder of labkit's.

    Parameters
    ----------
    name
        What it shall be called.
    ssh
        ``user@host:port``, as `labkit.engine.link.link`.
    python
        The Python to use there; by default ``python3``.
    on_stage
        Called after each stage.

    Raises
    ------
    LaneNotReady
        If something stands in the way there; says what, and what to type.
    """
    from labkit.engine.client import EngineProcess

    if name in {"native", "emulated", *phone.names()} or not NAME.fullmatch(name):
        raise LaneNotReady(
            f"expected a name of small letters, digits and hyphens for a machine, received "
            f"{name!r}. Such as: labkit lane setup pi --ssh pi@raspberrypi.local"
        )
    stages = Stages(["connection", "MNN and NumPy", "try it"], on_stage)
    link = links.link(ssh, python)
    look = link.ask("look")
    stages.end("connection")
    site = _site(name, link, look)
    stages.end("MNN and NumPy")
    said = {key: look[key] for key in STAYS}
    made = RemoteLane(name=name, link=link, site=site, machine=said)
    try:
        with EngineProcess(made) as engine:
            made = replace(made, machine=said | engine.machine, features=engine.features)
    except (EngineCrashed, EngineError) as error:
        raise LaneNotReady(
            f"the worker did not come up on {name} ({look['system']} {look['architecture']}, "
            f"Python {look['python']}): {error}"
        ) from error
    folder = _folder(name)
    folder.mkdir(parents=True, exist_ok=True)
    files.write(folder / "lane.json", to_json(made))
    stages.end("try it")
    return made


def _site(name: str, link: Link, look: dict[str, Any]) -> str | None:
    """Where MNN and NumPy stand there; None if its Python has them."""
    if look["packages"]["MNN"] == metadata.version("MNN") and look["packages"]["numpy"]:
        return None
    with suppress(LaneNotReady):
        known = lane(name)
        if known.link == link and link.ask("module", site=known.site):
            return known.site
    return _brought(link, look)


def _brought(link: Link, look: dict[str, Any]) -> str:
    """NumPy and MNN for another machine's Python, copied there; the folder there."""
    what = f"{look['system']} {look['architecture']}, Python {look['python']}"
    if look["bits"] != 64:
        raise LaneNotReady(
            f"expected a system of 64 bits on {link.target}, its Python has {look['bits']}: MNN "
            "has no wheel for it. Install the 64-bit system, or name another Python: --python PATH"
        )
    libc, version = look["libc"]
    if look["system"] == "Linux" and libc != "glibc":
        raise LaneNotReady(
            f"expected glibc on {link.target}, found another C library (musl?): MNN has no wheel "
            "for that. Use a system with glibc, such as Debian, in place of Alpine; or install "
            f"MNN {metadata.version('MNN')} there from source"
        )
    try:
        with files.temporary("wheels") as folder:
            wheels(folder, look["python"], _platforms(look), folder / "log")
            (folder / "log").unlink()
            inside = {str(f.relative_to(folder)): f for f in folder.rglob("*") if f.is_file()}
            return link.copy("site", inside)
    except CommandFailed as error:
        raise LaneNotReady(
            f"expected wheels of MNN {metadata.version('MNN')} and NumPy for {what} "
            f"({libc} {version}), got none: {error}\nIf this machine has no network, mend that; "
            "else name another Python there: --python PATH"
        ) from error


def _platforms(look: dict[str, Any]) -> list[str]:
    """The names of platforms whose wheels run there."""
    machine = look["architecture"]
    if look["system"] == "Darwin":
        return [f"macosx_{look['macos'].partition('.')[0]}_0_{machine}"]
    has = tuple(map(int, look["libc"][1].split(".")))
    return [f"manylinux_2_{minor}_{machine}" for minor in (17, 27, 28) if has >= (2, minor)]


def remove(name: str, *, forget: bool = False) -> int:
    """Delete what stands on another machine, and its record here; the bytes freed there.

    Parameters
    ----------
    forget
        Only the record: the machine is not asked.

    Raises
    ------
    LaneNotReady
        If there is no such lane, or the machine cannot be reached.
    """
    folder, freed = _folder(name), 0
    if not forget:
        link = lane(name).link
        try:
            freed = link.ask("remove")["bytes"]
        except LaneNotReady as error:
            raise LaneNotReady(
                f"{error}\nTo take it out here without that: labkit lane remove {name} --forget "
                f"(what was copied stays there, in ~/.cache/labkit/guest)"
            ) from error
    shutil.rmtree(folder, ignore_errors=True)
    _copied.cache_clear()
    return freed


def status() -> tuple[Status, ...]:
    """The other machines as they stand, each asked now."""
    with ThreadPoolExecutor() as pool:
        return tuple(pool.map(_status, names()))


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
