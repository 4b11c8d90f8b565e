"""labkit.base.hardware on machines that are not here."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from labkit.base import command, hardware
from labkit.base.hardware import (
    Cpu,
    Machine,
    parse_cpu_limit,
    parse_cpuinfo,
    parse_memory_limit,
    parse_sysctl,
)

LAPTOP = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Core(TM) i5-8250U CPU @ 1.60GHz
flags\t\t: fpu vme sse sse2 ssse3 fma cx16 sse4_1 sse4_2 popcnt aes xsave avx f16c rdrand bmi1 \
avx2 bmi2 erms
bugs\t\t: spectre_v1 avx512f
"""
SERVER = """processor\t: 0
model name\t: Intel(R) Xeon(R) Platinum 8480+
flags\t\t: fpu sse4_1 fma f16c avx2 avx512f avx512bw avx_vnni avx512_bf16 avx512_vnni amx_bf16 \
avx512_fp16 amx_tile amx_int8
"""
CASCADE_LAKE = """model name\t: Intel(R) Xeon(R) Gold 6248
flags\t\t: fpu sse4_1 fma f16c avx2 avx512f avx512bw avx512_vnni
"""
EPYC = """model name\t: AMD EPYC 7763 64-Core Processor
flags\t\t: fpu sse4_1 fma f16c avx2 sme sev sev_es
"""
RASPBERRY_PI_5 = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc \
dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1

Revision\t: d04170
Model\t\t: Raspberry Pi 5 Model B Rev 1.0
"""
GRAVITON3 = """processor\t: 0
Features\t: fp asimd evtstrm aes fphp asimdhp asimdrdm lrcpc sha3 asimddp sve asimdfhm svei8mm \
svebf16 i8mm bf16 rng
CPU implementer\t: 0x41
CPU part\t: 0xd40
"""
GRAVITON4 = """processor\t: 0
Features\t: fp asimd fphp asimdhp asimddp sve asimdfhm sve2 sveaes svei8mm svebf16 i8mm bf16 dgh \
rng bti
CPU implementer\t: 0x41
CPU part\t: 0xd4f
"""
PHONE = """processor\t: 0
Features\t: fp asimd asimdhp asimddp i8mm
CPU implementer\t: 0x41
CPU part\t: 0xd46

processor\t: 7
Features\t: fp asimd asimdhp asimddp i8mm sve sve2 bf16
CPU implementer\t: 0x41
CPU part\t: 0xd48
"""
UNKNOWN_ARM = """Features\t: fp asimd asimddp
CPU implementer\t: 0x61
CPU part\t: 0x032
"""
M1 = """hw.ncpu: 8
hw.optional.neon: 1
hw.optional.AdvSIMD: 1
hw.optional.arm.FEAT_DotProd: 1
hw.optional.arm.FEAT_FP16: 1
hw.optional.arm.FEAT_I8MM: 0
hw.optional.arm.FEAT_BF16: 0
machdep.cpu.brand_string: Apple M1
"""
M2 = M1.replace("I8MM: 0", "I8MM: 1").replace("BF16: 0", "BF16: 1").replace("M1", "M2")
M4 = M2.replace("M2", "M4") + "hw.optional.arm.FEAT_SME: 1\nhw.optional.arm.FEAT_SME2: 1\n"
INTEL_MAC = """hw.optional.avx2_0: 1
machdep.cpu.brand_string: Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz
machdep.cpu.features: FPU SSE4.1 FMA AVX1.0 F16C
machdep.cpu.leaf7_features: AVX2 BMI2
"""


@pytest.mark.parametrize(
    ("text", "name", "sets"),
    [
        pytest.param(
            LAPTOP,
            "Intel(R) Core(TM) i5-8250U CPU @ 1.60GHz",
            "sse4.1 avx2 fma f16c",
            id="laptop with AVX2 only",
        ),
        pytest.param(
            SERVER,
            "Intel(R) Xeon(R) Platinum 8480+",
            "sse4.1 avx2 fma f16c avx_vnni avx512f avx512bw avx512_vnni avx512_bf16 avx512_fp16 "
            "amx_tile amx_int8 amx_bf16",
            id="server with AMX",
        ),
        pytest.param(
            CASCADE_LAKE,
            "Intel(R) Xeon(R) Gold 6248",
            "sse4.1 avx2 fma f16c avx512f avx512bw avx512_vnni",
            id="server with AVX-512 VNNI",
        ),
        pytest.param(
            EPYC,
            "AMD EPYC 7763 64-Core Processor",
            "sse4.1 avx2 fma f16c",
            id="AMD, whose sme is a memory encryption",
        ),
        pytest.param(RASPBERRY_PI_5, "Cortex-A76", "asimd fp16 dotprod", id="Raspberry Pi 5"),
        pytest.param(GRAVITON3, "Neoverse-V1", "asimd fp16 dotprod i8mm bf16 sve", id="Graviton 3"),
        pytest.param(
            GRAVITON4, "Neoverse-V2", "asimd fp16 dotprod i8mm bf16 sve sve2", id="Graviton 4"
        ),
        pytest.param(
            PHONE,
            "Cortex-A510 + Cortex-X2",
            "asimd fp16 dotprod i8mm",
            id="big.LITTLE: what every core can do",
        ),
        pytest.param(
            UNKNOWN_ARM, "core 0x61/0x032", "asimd dotprod", id="a core that is not in the table"
        ),
    ],
)
def test_linux_machines(text: str, name: str, sets: str) -> None:
    assert parse_cpuinfo(text) == Cpu(name=name, instruction_sets=tuple(sets.split()))


@pytest.mark.parametrize(
    ("text", "name", "sets"),
    [
        pytest.param(M1, "Apple M1", "asimd fp16 dotprod", id="M1"),
        pytest.param(M2, "Apple M2", "asimd fp16 dotprod i8mm bf16", id="M2"),
        pytest.param(M4, "Apple M4", "asimd fp16 dotprod i8mm bf16 sme sme2", id="M4"),
        pytest.param(
            INTEL_MAC,
            "Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz",
            "sse4.1 avx2 fma f16c",
            id="Intel",
        ),
    ],
)
def test_macs(text: str, name: str, sets: str) -> None:
    assert parse_sysctl(text) == Cpu(name=name, instruction_sets=tuple(sets.split()))


@pytest.mark.parametrize(
    "text", ["", "\x00\xff garbage", "processor : 0\nBogoMIPS : 48.00\n", "hw.ncpu: 8\n"]
)
def test_what_cannot_be_read_is_unknown_not_empty(text: str) -> None:
    assert parse_cpuinfo(text).instruction_sets is None
    assert parse_sysctl(text).instruction_sets is None


@pytest.mark.parametrize(
    ("text", "expected"), [("max\n", None), ("2147483648\n", 2**31), ("", None), ("-1", None)]
)
def test_memory_limit_of_a_container(text: str, expected: int | None) -> None:
    assert parse_memory_limit(text) == expected


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("max 100000\n", None),
        ("200000 100000\n", 2),
        ("250000 100000\n", 2),
        ("50000 100000\n", 1),
        ("", None),
        ("100000 0\n", None),
        ("-1", None),
    ],
)
def test_cpu_quota_of_a_container(text: str, cores: int | None) -> None:
    assert parse_cpu_limit(text) == cores


@pytest.fixture
def container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where a made-up container finds its limits; it has none yet."""
    monkeypatch.setattr(hardware, "CGROUP", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("affinity", "quota", "usable", "threads"),
    [
        pytest.param(64, None, 64, 4, id="server"),
        pytest.param(64, "max 100000", 64, 4, id="container without a quota"),
        pytest.param(64, "300000 100000", 3, 3, id="container with three cores"),
        pytest.param(64, "50000 100000", 1, 1, id="container with half a core"),
        pytest.param(2, "800000 100000", 2, 2, id="pinned to two, allowed eight"),
        pytest.param(1, None, 1, 1, id="pinned to one"),
    ],
)
def test_cores_and_threads_are_those_that_this_process_may_use(
    monkeypatch: pytest.MonkeyPatch,
    container: Path,
    *,
    affinity: int,
    quota: str | None,
    usable: int,
    threads: int,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    if quota:
        (container / "cpu.max").write_text(f"{quota}\n")
    assert hardware.describe().logical_cores == usable
    assert hardware.default_threads() == threads


def test_a_machine_without_affinities_counts_its_cores(
    monkeypatch: pytest.MonkeyPatch, container: Path
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    for cores, threads in ((8, 4), (3, 3), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        assert (hardware.usable_cores(), hardware.default_threads()) == (cores, threads)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="pins itself as taskset does")
def test_a_process_that_is_pinned_to_one_core_starts_one_thread() -> None:
    script = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from labkit.base import hardware; print(hardware.default_threads())"
    )
    assert command.run([sys.executable, "-c", script]).lines == ("1",)


def test_memory_of_a_container_is_what_its_limit_leaves(container: Path) -> None:
    (container / "memory.current").write_text("90000000\n")
    whole = hardware.describe()
    (container / "memory.max").write_text("100000000\n")
    limited = hardware.describe()
    assert (limited.memory_total_bytes, limited.memory_available_bytes) == (10**8, 10**7)
    assert whole.memory_total_bytes == psutil.virtual_memory().total


def machine(
    architecture: str = "x86_64", sets: tuple[str, ...] | None = ("avx2",), system: str = "Linux"
) -> Machine:
    return replace(
        hardware.describe(), system=system, architecture=architecture, instruction_sets=sets
    )


@pytest.mark.parametrize(
    ("cpu", "architecture", "expected"),
    [
        (parse_cpuinfo(SERVER), "x86_64", False),
        (parse_cpuinfo(RASPBERRY_PI_5), "aarch64", False),
        (parse_cpuinfo(GRAVITON3), "aarch64", True),
        (parse_sysctl(M1), "arm64", False),
        (parse_sysctl(M2), "arm64", True),
        (parse_sysctl(M4), "arm64", True),
        (parse_cpuinfo(""), "aarch64", None),
    ],
)
def test_where_kleidiai_can_run(cpu: Cpu, architecture: str, expected: bool | None) -> None:
    assert machine(architecture, cpu.instruction_sets).can_run_kleidiai is expected


def test_this_machine_is_described() -> None:
    here = hardware.describe()
    assert here.logical_cores is not None
    assert here.logical_cores >= 1
    assert here.memory_total_bytes is not None
    assert here.memory_available_bytes is not None
    assert 0 < here.memory_available_bytes <= here.memory_total_bytes
    assert here.disk_free_bytes is not None


def test_free_disk_of_a_folder_that_does_not_exist_yet(tmp_path: Path) -> None:
    assert hardware.free_disk_bytes(tmp_path / "a" / "b") is not None


def test_the_browser_that_was_named_is_taken_or_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    browser = tmp_path / "my chrome"
    browser.write_text("#!/bin/sh\n")
    browser.chmod(0o755)
    monkeypatch.setenv("LABKIT_BROWSER", str(browser))
    assert hardware.find_browser() == browser
    monkeypatch.setenv("LABKIT_BROWSER", str(tmp_path / "missing"))
    assert hardware.find_browser() is None


def test_a_browser_that_playwright_keeps_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("LABKIT_BROWSER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(hardware, "BROWSERS", hardware.BROWSERS[:1])
    assert hardware.find_browser() is None
    chrome = tmp_path / ".cache" / "ms-playwright" / "chromium-1200" / "chrome-linux" / "chrome"
    chrome.parent.mkdir(parents=True)
    chrome.write_text("")
    assert hardware.find_browser() is None, "it cannot be run"
    chrome.chmod(0o755)
    assert hardware.find_browser() == chrome


def test_a_command_that_fails_says_nothing() -> None:
    assert hardware.printed_by(["false"]) == ""
    assert hardware.printed_by(["a-program-that-is-not-there"]) == ""
    assert hardware.printed_by(["echo", "ä b"]) == "ä b"
