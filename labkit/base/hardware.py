"""What this machine is: CPU, instruction sets, cores, memory, disk, and tools found on it.

The parsers take text, so that machines nobody here owns are tested from a table.
What cannot be read is None, never a guess.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from labkit.base import command, paths
from labkit.base.errors import CommandFailed

GIB = 1024**3
ARM64 = {"arm64", "aarch64"}  # what macOS and Linux call it
# Only what matters to this kit, in the order in which it is shown; (name in the kernel's text, our name).
X86_FLAGS = {
    "sse4_1": "sse4.1",
    "avx2": "avx2",
    "fma": "fma",
    "f16c": "f16c",
    "avx_vnni": "avx_vnni",
    "avx512f": "avx512f",
    "avx512bw": "avx512bw",
    "avx512_vnni": "avx512_vnni",
    "avx512_bf16": "avx512_bf16",
    "avx512_fp16": "avx512_fp16",
    "amx_tile": "amx_tile",
    "amx_int8": "amx_int8",
    "amx_bf16": "amx_bf16",
}
ARM_FEATURES = {
    "asimd": "asimd",
    "asimdhp": "fp16",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
    "bf16": "bf16",
    "sve": "sve",
    "sve2": "sve2",
    "sme": "sme",
    "sme2": "sme2",
}
MAC_ARM = {
    "hw.optional.AdvSIMD": "asimd",
    "hw.optional.neon": "asimd",
    "hw.optional.arm.FEAT_FP16": "fp16",
    "hw.optional.arm.FEAT_DotProd": "dotprod",
    "hw.optional.arm.FEAT_I8MM": "i8mm",
    "hw.optional.arm.FEAT_BF16": "bf16",
    "hw.optional.arm.FEAT_SME": "sme",
    "hw.optional.arm.FEAT_SME2": "sme2",
}
MAC_X86 = {
    "SSE4.1": "sse4.1",
    "AVX2": "avx2",
    "FMA": "fma",
    "F16C": "f16c",
    "AVX512F": "avx512f",
    "AVX512BW": "avx512bw",
    "AVX512VNNI": "avx512_vnni",
}
# Main ID register: (implementer, part) of cores that people meet. Linux on Arm gives no name.
ARM_CORES = {
    ("0x41", "0xd03"): "Cortex-A53",
    ("0x41", "0xd05"): "Cortex-A55",
    ("0x41", "0xd08"): "Cortex-A72",
    ("0x41", "0xd0b"): "Cortex-A76",
    ("0x41", "0xd0c"): "Neoverse-N1",
    ("0x41", "0xd40"): "Neoverse-V1",
    ("0x41", "0xd41"): "Cortex-A78",
    ("0x41", "0xd44"): "Cortex-X1",
    ("0x41", "0xd46"): "Cortex-A510",
    ("0x41", "0xd47"): "Cortex-A710",
    ("0x41", "0xd48"): "Cortex-X2",
    ("0x41", "0xd49"): "Neoverse-N2",
    ("0x41", "0xd4d"): "Cortex-A715",
    ("0x41", "0xd4e"): "Cortex-X3",
    ("0x41", "0xd4f"): "Neoverse-V2",
    ("0x41", "0xd80"): "Cortex-A520",
    ("0x41", "0xd81"): "Cortex-A720",
    ("0x41", "0xd82"): "Cortex-X4",
}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER_FILES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
PLAYWRIGHT_FILES = ("chromium-*/chrome-*/chrome", "chromium-*/chrome-*/*.app/Contents/MacOS/*")


@dataclass(frozen=True, kw_only=True)
class Cpu:
    """A processor, as far as its text could be read; ``instruction_sets`` is None if it could not."""

    name: str | None
    instruction_sets: tuple[str, ...] | None


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The machine this runs on. None means "could not be read"."""

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
        """Whether MNN's KleidiAI kernels can run here (dotprod and i8mm, or SME2); None if unknown."""
        if not self.is_arm64:
            return False
        if self.instruction_sets is None:
            return None
        return {"dotprod", "i8mm"} <= set(self.instruction_sets) or "sme2" in self.instruction_sets


def _named(found: Iterable[str], names: dict[str, str]) -> tuple[str, ...]:
    """Our names of what was found, in our order, each once."""
    present = set(found)
    return tuple(dict.fromkeys(ours for theirs, ours in names.items() if theirs in present))


def parse_cpuinfo(text: str) -> Cpu:
    r"""Read Linux's ``/proc/cpuinfo``.

    Where cores differ (big.LITTLE), only what every core can do counts.

    Examples
    --------
    >>> parse_cpuinfo("CPU implementer : 0x41\nCPU part : 0xd0b\nFeatures : fp asimd asimdhp asimddp")
    Cpu(name='Cortex-A76', instruction_sets=('asimd', 'fp16', 'dotprod'))
    >>> parse_cpuinfo("")
    Cpu(name=None, instruction_sets=None)
    """
    rows = [
        (key.strip(), value.strip())
        for key, _, value in (line.partition(":") for line in text.splitlines())
    ]

    def values(wanted: str) -> list[str]:
        return [value for key, value in rows if key == wanted and value]

    flags, features = values("flags"), values("Features")
    model = next(iter(values("model name")), None)
    if flags:
        return Cpu(
            name=model,
            instruction_sets=_named(set.intersection(*(set(f.split()) for f in flags)), X86_FLAGS),
        )
    cores = dict.fromkeys(zip(values("CPU implementer"), values("CPU part"), strict=False))
    known = [
        ARM_CORES.get((maker.lower(), part.lower()), f"core {maker}/{part}")
        for maker, part in cores
    ]
    name = " + ".join(known) or next(iter(values("Model")), model)
    if features:
        return Cpu(
            name=name,
            instruction_sets=_named(
                set.intersection(*(set(f.split()) for f in features)), ARM_FEATURES
            ),
        )
    return Cpu(name=name, instruction_sets=None)


def parse_sysctl(text: str) -> Cpu:
    r"""Read what macOS prints for ``sysctl hw machdep.cpu``.

    Examples
    --------
    >>> parse_sysctl("machdep.cpu.brand_string: Apple M1\nhw.optional.AdvSIMD: 1\nhw.optional.arm.FEAT_I8MM: 0")
    Cpu(name='Apple M1', instruction_sets=('asimd',))
    """
    values = {
        key.strip(): value.strip()
        for key, _, value in (line.partition(":") for line in text.splitlines())
    }
    name = values.get("machdep.cpu.brand_string")
    if any(key in values for key in MAC_ARM):
        return Cpu(
            name=name,
            instruction_sets=_named(
                (key for key, value in values.items() if value == "1"), MAC_ARM
            ),
        )
    flags = f"{values.get('machdep.cpu.features', '')} {values.get('machdep.cpu.leaf7_features', '')}".split()
    return Cpu(name=name, instruction_sets=_named(flags, MAC_X86) if flags else None)


def parse_memory_limit(text: str) -> int | None:
    """Bytes that a container may use, from cgroup's ``memory.max``; None without a limit.

    >>> parse_memory_limit("2147483648"), parse_memory_limit("max")
    (2147483648, None)
    """
    return int(text) if re.fullmatch(r"\d+\s*", text) else None


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def printed_by(argv: Sequence[str], timeout_s: float = 60.0) -> str:
    """What a short command prints; nothing if it fails, because then nothing is known."""
    lines: list[str] = []
    with TemporaryDirectory(prefix="labkit-") as folder:
        try:
            command.run(argv, log=Path(folder) / "log", timeout_s=timeout_s, on_line=lines.append)
        except CommandFailed:
            return ""
    return "\n".join(lines)


def _cpu() -> Cpu:
    if platform.system() == "Darwin":
        return parse_sysctl(printed_by(["sysctl", "hw", "machdep.cpu"]))
    return parse_cpuinfo(_read("/proc/cpuinfo"))


def _logical_cores() -> int | None:
    """Cores that this process may use, which in a container or under taskset are fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def free_disk_bytes(folder: Path) -> int | None:
    """Free bytes on the disk that holds a folder, which need not exist yet; None if it cannot be read."""
    existing = next((p for p in (folder, *folder.parents) if p.exists()), None)
    try:
        return shutil.disk_usage(existing).free if existing else None
    except OSError:
        return None


def default_threads() -> int:
    """CPU threads that a model gets unless more are asked for: all of them, up to four."""
    return max(1, min(4, os.cpu_count() or 1))


def describe() -> Machine:
    """Read this machine. Takes a few milliseconds and changes nothing."""
    import psutil

    cpu, memory = _cpu(), psutil.virtual_memory()
    limit = parse_memory_limit(_read("/sys/fs/cgroup/memory.max"))
    used = parse_memory_limit(_read("/sys/fs/cgroup/memory.current")) or 0
    return Machine(
        system=platform.system(),
        release=platform.release(),
        architecture=platform.machine(),
        cpu=cpu.name,
        instruction_sets=cpu.instruction_sets,
        logical_cores=_logical_cores(),
        physical_cores=psutil.cpu_count(logical=False),
        memory_total_bytes=min(memory.total, limit or memory.total),
        memory_available_bytes=min(
            memory.available, max(0, limit - used) if limit else memory.available
        ),
        disk_free_bytes=free_disk_bytes(paths.place("cache")),
    )


def find_browser() -> Path | None:
    """A Chromium or Chrome: ``LABKIT_BROWSER``, one on PATH, macOS's applications, or Playwright's own."""
    wanted = os.environ.get("LABKIT_BROWSER")
    if wanted:
        named = shutil.which(wanted)
        return Path(named) if named else None
    caches = [
        Path("~/.cache/ms-playwright").expanduser(),
        Path("~/Library/Caches/ms-playwright").expanduser(),
    ]
    found = [Path(hit) for hit in map(shutil.which, BROWSERS) if hit]
    found += [Path(name) for name in BROWSER_FILES if Path(name).exists()]
    found += [
        hit
        for cache in caches
        for pattern in PLAYWRIGHT_FILES
        for hit in sorted(cache.glob(pattern), reverse=True)
    ]
    return found[0] if found else None
