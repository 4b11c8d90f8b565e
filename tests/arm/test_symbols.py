"""Functions of ELF files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labkit.arm.counts import disassemble
from labkit.arm.symbols import code, demangle, functions
from labkit.base.errors import KernelError
from labkit.engine import lanes
from labkit.engine.lanes import Lane


def test_names_are_read_as_in_the_source() -> None:
    assert demangle("_ZN3MNN12CPUAttention9onExecuteEv") == "MNN::CPUAttention::onExecute()"
    assert demangle("kai_run_x") == "kai_run_x"


def test_a_file_without_symbols_has_no_functions(tmp_path: Path) -> None:
    (tmp_path / "lib.so").write_bytes(b"not an ELF file")
    assert functions(tmp_path / "lib.so") is None
    with pytest.raises(KernelError, match=r"expected a function main in lib\.so"):
        code(tmp_path / "lib.so", "main")


def test_a_functions_code_begins_where_it_says() -> None:
    library = lanes.native().library
    known = functions(library)
    assert known is not None
    assert not known.fixed
    largest = known.names[int(known.sizes.argmax())]
    address, words = code(library, largest)
    assert len(words) == known.sizes.max()
    assert known.names[known.at(np.array([address + 7]), 7)[0]] == largest
    with pytest.raises(KernelError, match="found none"):
        code(library, "no such function")


def test_assembly_without_a_size_ends_where_the_next_function_begins(emulated_lane: Lane) -> None:
    name = "MNNGemmInt8AddBiasScale_ARMV86_w4_Unit"
    known = functions(emulated_lane.library)
    assert known is not None
    number = known.names.index(name)
    assert known.sizes[number] == 0
    address, words = code(emulated_lane.library, name)
    assert address + len(words) == known.addresses[number + 1]
    assert sum(line.startswith("smmla") for line in disassemble(np.frombuffer(words, "<u4"))) > 20
