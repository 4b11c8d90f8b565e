"""What this machine is: CPU, instruction sets, cores, memory, disk, and tools found on it.

The parsers take text, so that machines nobody here owns are tested from a table.
What cannot be read is None, never a guess.
"""

import os
import platform
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from labkit.base import command, paths
from labkit.base.errors import CommandFailed

GIB = 1024**3
ARM64 = {"arm64", "aarch64"}  # what macOS and Linux call it


def _names(table: str) -> dict[str, str]:
    """Read "theirs=ours" or one name for both, in the order in which ours are shown."""
    pairs = (word.partition("=") for word in table.split())
    return {theirs: ours or theirs for theirs, _, ours in pairs}


# Only what matters to this kit, as Linux and, in small letters, macOS call it. One table for each
# architecture, because names mean different things: AMD's "sme" is a memory encryption.
X86 = _names(
    "sse4_1=sse4.1 sse4.1 avx2 fma f16c avx_vnni avx512f avx512bw avx512_vnni "
    "avx512vnni=avx512_vnni avx512_bf16 avx512_fp16 amx_tile amx_int8 amx_bf16"
)
ARM = _names(
    "asimd advsimd=asimd neon=asimd asimdhp=fp16 fp16 asimddp=dotprod dotprod i8mm bf16 "
    "sve sve2 sme sme2"
)
# Cores that people meet, by implementer and part of their main ID register: Linux names none.
ARM_CORES = _names(
    "0x41/0xd03=Cortex-A53 0x41/0xd05=Cortex-A55 0x41/0xd08=Cortex-A72 0x41/0xd0b=Cortex-A76 "
    "0x41/0xd0c=Neoverse-N1 0x41/0xd40=Neoverse-V1 0x41/0xd41=Cortex-A78 0x41/0xd44=Cortex-X1 "
    "0x41/0xd46=Cortex-A510 0x41/0xd47=Cortex-A710 0x41/0xd48=Cortex-X2 0x41/0xd49=Neoverse-N2 "
    "0x41/0xd4d=Cortex-A715 0x41/0xd4e=Cortex-X3 0x41/0xd4f=Neoverse-V2 0x41/0xd80=Cortex-A520 "
    "0x41/0xd81=Cortex-A720 0x41/0xd82=Cortex-X4"
)
BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
PLAYWRIGHT = (
    ".cache/ms-playwright/chromium-*/chrome-*/chrome",
    "Library/Caches/ms-playwright/chromium-*/chrome-*/*.app/Contents/MacOS/*",
)
CGROUP = Path("/sys/fs/cgroup")  # where a container finds its own limits


@dataclass(frozen=True, kw_only=True)
class Cpu:
    """A processor, as far as its text could be read."""

    name: str | None
    instruction_sets: tuple[str, ...] | None


@dataclass(frozen=True, kw_only=True)
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


def _values(text: str) -> defaultdict[str, list[str]]:
    """What stands behind "key:" on each line, by key; nothing for a key that is not there."""
    values: defaultdict[str, list[str]] = defaultdict(list)
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if value.strip():
            values[key.strip()].append(value.strip())
    return values


def _named(present: Iterable[str], names: Mapping[str, str]) -> tuple[str, ...]:
    """Our names of what is present, in our order, each once."""
    present = set(present)
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
    values = _values(text)
    cores = dict.fromkeys(zip(values["CPU implementer"], values["CPU part"], strict=False))
    named = (
        ARM_CORES.get(f"{maker}/{part}".lower(), f"core {maker}/{part}") for maker, part in cores
    )
    name = " + ".join(named) or next(iter(values["Model"] + values["model name"]), None)
    for key, names in (("flags", X86), ("Features", ARM)):
        if values[key]:
            common = set.intersection(*(set(line.split()) for line in values[key]))
            return Cpu(name=name, instruction_sets=_named(common, names))
    return Cpu(name=name, instruction_sets=None)


def parse_sysctl(text: str) -> Cpu:
    r"""Read what macOS prints for ``sysctl hw machdep.cpu``.

    Examples
    --------
    >>> parse_sysctl("machdep.cpu.brand_string: Apple M1\nhw.optional.arm.FEAT_DotProd: 1")
    Cpu(name='Apple M1', instruction_sets=('dotprod',))
    """
    values = _values(text)
    name = next(iter(values["machdep.cpu.brand_string"]), None)
    optional = {
        key.rpartition(".")[2].lower().removeprefix("feat_"): value == ["1"]
        for key, value in values.items()
        if key.startswith("hw.optional.")
    }
    if ARM.keys() & optional:
        has = (feature for feature, there in optional.items() if there)
        return Cpu(name=name, instruction_sets=_named(has, ARM))
    flags = [*values["machdep.cpu.features"], *values["machdep.cpu.leaf7_features"]]
    words = " ".join(flags).lower().split()
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


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def printed_by(argv: Sequence[str], timeout_s: float = 60.0) -> str:
    """What a short command prints; nothing if it fails, because then nothing is known."""
    try:
        return "\n".join(command.run(argv, timeout_s=timeout_s).lines)
    except CommandFailed:
        return ""


def _cpu() -> Cpu:
    if platform.system() == "Darwin":
        return parse_sysctl(printed_by(["sysctl", "hw", "machdep.cpu"]))
    return parse_cpuinfo(_read(Path("/proc/cpuinfo")))


def usable_cores() -> int | None:
    """Cores that this process may use: by its affinity (taskset) and its container's CPU quota."""
    affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if affinity else os.cpu_count()
    limit = parse_cpu_limit(_read(CGROUP / "cpu.max"))
    return min(cores, limit) if cores and limit else cores


def default_threads() -> int:
    """CPU threads that a model gets unless more are asked for: all usable ones, up to four."""
    return min(4, usable_cores() or 1)


def free_disk_bytes(folder: Path) -> int | None:
    """Free bytes on the disk that holds a folder, which need not exist yet; None if unknown."""
    existing = next((path for path in (folder, *folder.parents) if path.exists()), None)
    try:
        return shutil.disk_usage(existing).free if existing else None
    except OSError:
        return None


def describe() -> Machine:
    """Read this machine. Takes a few milliseconds and changes nothing."""
    import psutil

    cpu, memory = _cpu(), psutil.virtual_memory()
    limit = parse_memory_limit(_read(CGROUP / "memory.max"))
    used = parse_memory_limit(_read(CGROUP / "memory.current")) or 0
    return Machine(
        system=platform.system(),
        release=platform.release(),
        architecture=platform.machine(),
        cpu=cpu.name,
        instruction_sets=cpu.instruction_sets,
        logical_cores=usable_cores(),
        physical_cores=psutil.cpu_count(logical=False),
        memory_total_bytes=min(memory.total, limit or memory.total),
        memory_available_bytes=min(memory.available, max(0, limit - used))
        if limit
        else memory.available,
        disk_free_bytes=free_disk_bytes(paths.place("cache")),
    )


def find_browser() -> Path | None:
    """A Chromium or Chrome: ``LABKIT_BROWSER``, an installed one, or Playwright's own."""
    if wanted := os.environ.get("LABKIT_BROWSER"):
        installed = [shutil.which(wanted)]
    else:
        installed = [shutil.which(name) for name in BROWSERS]
        for pattern in PLAYWRIGHT:  # the newest first
            installed += sorted(map(str, Path.home().glob(pattern)), reverse=True)
    return next((Path(browser) for browser in installed if browser), None)
