"""The peaks of this machine: measured natively, compiled for Arm as well, and named errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit.arm.plugin import compiled
from labkit.base import command
from labkit.base.errors import KernelError
from labkit.engine import qemu
from labkit.kernels import roof
from labkit.kernels.roof import Peak, Roof
from labkit.kernels.toolchain import toolchain

LOW = Roof(
    machine="a CPU",
    threads=2,
    instructions="sdot",
    peaks={
        "int8": Peak(median=200e9, low=190e9, high=205e9),
        "float32": Peak(median=50e9, low=49e9, high=51e9),
        "memory": Peak(median=10e9, low=9e9, high=11e9),
    },
)


def test_the_peaks_of_this_machine() -> None:
    measured = roof.measure(2, mebibytes=16)
    assert {"float32", "memory"} <= measured.peaks.keys()
    for peak in measured.peaks.values():
        assert 1e7 < peak.low <= peak.median <= peak.high < 1e14
    assert measured.threads == 2
    assert "float32 multiply-adds" in str(measured)


def test_under_the_slope_memory_decides_and_arithmetic_under_the_top() -> None:
    assert (LOW.at(1), LOW.at(20), LOW.at(1000)) == (10e9, 200e9, 200e9)
    assert "int8 dot products      200 GOP/s  190 to 205" in str(LOW)


@pytest.mark.parametrize(
    ("extra", "cpu", "instruction"),
    [("", "cortex-a53", ""), ("+dotprod", "cortex-a76", "sdot"), ("+i8mm", "max", "smmla")],
)
def test_on_arm_the_best_instruction_is_taken(extra: str, cpu: str, instruction: str) -> None:
    tools = toolchain()
    target = tools.target(extra and f"+dotprod{extra}".replace("+dotprod+dotprod", "+dotprod"))
    text = {"roof.c": roof.SOURCE.read_text(encoding="utf-8")}
    argv = [*tools.compiler, *roof.OPTIONS, "-Wall", "-Wextra", "-Werror", "-static", target]
    program = compiled("roof", [*argv, "roof.c"], text)
    emulator = [] if tools.native else qemu.emulator(cpu, Path("/"))
    said = command.run([*emulator, str(program), "2", "1", "1"]).lines
    kinds = {line.split()[0]: line for line in said}
    assert kinds.get("with", "") == (instruction and f"with {instruction}")
    assert kinds.keys() - {"with"} == {"float32", "memory", *["int8"] * bool(instruction)}
    work, seconds = map(float, kinds["float32"].split()[1:])
    assert work % (2 * 16 * 4 * 2) == 0
    assert seconds > 0


def test_without_a_compiler_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roof, "c_compiler", lambda: None)
    monkeypatch.setattr(roof, "find_spec", lambda _: None)
    with pytest.raises(KernelError, match=r"found none\. Type: sudo apt-get install gcc"):
        roof.measure(1)
