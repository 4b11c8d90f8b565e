"""What this machine is: CPU, instruction sets, cores, memory, disk, and tools found on it.

The parsers take text, so that machines nobody here owns are tested from a table.
What cannot be read is None, never a guess.
"""

import json
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

from labkit.base import command, paths
from labkit.base.data import frozen
from labkit.base.errors import CommandFailed
from labkit.base.files import read

GIB = 1024**3
ARM64 = {"arm64", "aarch64"}  # what macOS and Linux call it


# Instruction sets that matter to this kit, as Linux and, in small letters, macOS call them, in the
# order in which ours are shown. One table for each architecture, because names mean different
# things: AMD's "sme" is a memory encryption. Then cores that people meet, by implementer and part
# of their main ID register, since Linux names none; and where browsers are.
X86, ARM, ARM_CORES, BROWSERS, PLAYWRIGHT = json.loads(
    Path(__file__).with_suffix(".json").read_text(encoding="utf-8")
).values()
USED = ("user", "nice", "system", "irq", "softirq", "steal")
CGROUP = Path("/sys/fs/cgroup")  # where a container finds its own limits


@frozen
class Cpu:
    """A processor, as far as its text could be read."""

    name: str | None
    instruction_sets: tuple[str, ...] | None


@frozen
class Machine:
    """The machine this runs on. None means "could not be read".

    Attributes
    ----------
    logical_cores
        Those that this process may use; in a container or under taskset fewer than there are.
    memory_total_bytes, memory_available_bytes
        Those that this process may use, as well.
    """

    system: str
    release: str
    architecture: str
    cpu: str | None
    instruction_sets: tuple[str, ...] | None
    logical_cores: int | None
    physical_cores: int | None
    memory_total_bytes: int | None
    memory_available_bytes: int | None
    disk_free_bytes: int | None

    @property
    def is_arm64(self) -> bool:
        """Whether AArch64 programs run here without emulation."""
        return self.architecture in ARM64

    @property
    def can_run_kleidiai(self) -> bool | None:
        """Whether MNN's KleidiAI kernels run here (dotprod and i8mm, or SME2); None if unknown."""
        if not self.is_arm64:
            return False
        if self.instruction_sets is None:
            return None
        return {"dotprod", "i8mm"} <= set(self.instruction_sets) or "sme2" in self.instruction_sets


@frozen
class Reading:
    """What a machine does at one moment.

    Attributes
    ----------
    used_s, own_s
        Seconds of CPU time since it began: of all programs, and of this one with all it started.
    clock_mhz, celsius
        Of the fastest core, and of the warmest sensor.
    throttled
        Whether the machine says that it is slowed down because it is warm.
    """

    time_s: float
    used_s: float | None = None
    own_s: float | None = None
    clock_mhz: float | None = None
    celsius: float | None = None
    throttled: bool = False

    @property
    def others_s(self) -> float:
        """Of other programs; 0 if it cannot be told."""
        return (self.used_s or 0) - self.own_s if self.own_s else 0


def _values(text: str, key: str) -> list[str]:
    """What stands behind "key:", line by line; ``key`` is a regular expression."""
    return re.findall(rf"^{key}\s*:[ \t]*(.*\S)", text, re.MULTILINE)


def _named(present: set[str], names: Mapping[str, str]) -> tuple[str, ...]:
    """Our names of what is present, in our order, each once."""
    return tuple(dict.fromkeys(ours for theirs, ours in names.items() if theirs in present))


def parse_cpuinfo(text: str) -> Cpu:
    r"""Read Linux's ``/proc/cpuinfo``.

    Where cores differ (big.LITTLE), only what every core can do counts.

    Examples
    --------
    >>> parse_cpuinfo("CPU implementer : 0x41\nCPU part : 0xd0b\nFeatures : fp asimd asimdhp")
    Cpu(name='Cortex-A76', instruction_sets=('asimd', 'fp16'))
    >>> parse_cpuinfo("")
    Cpu(name=None, instruction_sets=None)
    """
    makers, parts = _values(text, "CPU implementer"), _values(text, "CPU part")
    cores = dict.fromkeys(map("{}/{}".format, makers, parts))
    named = " + ".join(ARM_CORES.get(core.lower(), f"core {core}") for core in cores)
    name = named or next(iter(_values(text, "Model") + _values(text, "model name")), None)
    for key, names in (("flags", X86), ("Features", ARM)):
        if lines := _values(text, key):
            common = set.intersection(*(set(line.split()) for line in lines))
            return Cpu(name=name, instruction_sets=_named(common, names))
    return Cpu(name=name, instruction_sets=None)


def parse_sysctl(text: str) -> Cpu:
    r"""Read what macOS prints for ``sysctl hw machdep.cpu``.

    Examples
    --------
    >>> parse_sysctl("machdep.cpu.brand_string: Apple M1\nhw.optional.arm.FEAT_DotProd: 1")
    Cpu(name='Apple M1', instruction_sets=('dotprod',))
    """
    name = next(iter(_values(text, "machdep.cpu.brand_string")), None)
    optional = r"^hw\.optional\.(?:arm\.)?(?:feat_)?(\w+): *(\d)"
    features = dict(re.findall(optional, text.lower(), re.MULTILINE))
    if ARM.keys() & features:
        has = {feature for feature, there in features.items() if there == "1"}
        return Cpu(name=name, instruction_sets=_named(has, ARM))
    words = {*" ".join(_values(text, "machdep.cpu.(?:leaf7_)?features")).lower().split()}
    return Cpu(name=name, instruction_sets=_named(words, X86) if words else None)


def parse_memory_limit(text: str) -> int | None:
    """Bytes that a container may use, from cgroup's ``memory.max``; None without a limit.

    >>> parse_memory_limit("2147483648"), parse_memory_limit("max")
    (2147483648, None)
    """
    return int(text) if re.fullmatch(r"\d+\s*", text) else None


def parse_cpu_limit(text: str) -> int | None:
    """Whole cores that a container may use, from cgroup's ``cpu.max``; None without a limit.

    Parameters
    ----------
    text
        Microseconds of CPU time in a period, and that period.

    Examples
    --------
    >>> parse_cpu_limit("250000 100000"), parse_cpu_limit("max 100000")
    (2, None)
    """
    quota = re.fullmatch(r"(\d+) ([1-9]\d*)\s*", text)
    return max(1, int(quota[1]) // int(quota[2])) if quota else None


def printed_by(argv: Sequence[str], timeout_s: float = 60.0) -> str:
    """What a short command prints; nothing if it fails, because then nothing is known."""
    try:
        return "\n".join(command.run(argv, timeout_s=timeout_s).lines)
    except CommandFailed:
        return ""


def _cpu() -> Cpu:
    if platform.system() == "Darwin":
        return parse_sysctl(printed_by(["sysctl", "hw", "machdep.cpu"]))
    return parse_cpuinfo(read(Path("/proc/cpuinfo")))


def usable_cores() -> int | None:
    """Cores that this process may use: by its affinity (taskset) and its container's CPU quota."""
    affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if affinity else os.cpu_count()
    limit = parse_cpu_limit(read(CGROUP / "cpu.max"))
    return min(cores, limit) if cores and limit else cores


def default_threads() -> int:
    """CPU threads that a model gets unless more are asked for: all usable ones, up to four.

    In a class, where many engines share a machine, ``LABKIT_THREADS`` holds how many each may take.
    """
    share = os.environ.get("LABKIT_THREADS", "")
    return min(4, usable_cores() or 1, int(share) if share.isdigit() and int(share) else 4)


def free_disk_bytes(folder: Path) -> int | None:
    """Free bytes on the disk that holds a folder, which need not exist yet; None if unknown."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        return shutil.disk_usage(existing).free
    except OSError:
        return None


def describe() -> Machine:
    """Read this machine. Takes a few milliseconds and changes nothing."""
    import psutil

    cpu, memory = _cpu(), psutil.virtual_memory()
    limit = parse_memory_limit(read(CGROUP / "memory.max")) or sys.maxsize
    used = parse_memory_limit(read(CGROUP / "memory.current")) or 0
    return Machine(
        system=platform.system(),
        release=platform.release(),
        architecture=platform.machine(),
        cpu=cpu.name,
        instruction_sets=cpu.instruction_sets,
        logical_cores=usable_cores(),
        physical_cores=psutil.cpu_count(logical=False),
        memory_total_bytes=min(memory.total, limit),
        memory_available_bytes=min(memory.available, max(0, limit - used)),
        disk_free_bytes=free_disk_bytes(paths.place("cache")),
    )


def reading() -> Reading:
    """Read what this machine does at this moment."""
    import psutil

    total, own = psutil.cpu_times(), sum(os.times()[:4])
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            own += sum(child.cpu_times()[:2])
    clock = None
    with suppress(AttributeError, NotImplementedError, OSError, RuntimeError, ValueError):
        clock = max(core.current for core in psutil.cpu_freq(percpu=True))
    return Reading(
        time_s=time.monotonic(),
        used_s=sum(getattr(total, name, 0.0) for name in USED),
        own_s=own,
        clock_mhz=clock,
    )


def find_browser() -> Path | None:
    """A Chromium or Chrome: ``LABKIT_BROWSER``, an installed one, or Playwright's own."""
    if wanted := os.environ.get("LABKIT_BROWSER"):
        names = [wanted]
    else:
        kept = (sorted(Path.home().glob(pattern), reverse=True) for pattern in PLAYWRIGHT)
        names = [*BROWSERS, *map(str, chain.from_iterable(kept))]  # the newest first
    return next((Path(browser) for browser in map(shutil.which, names) if browser), None)
