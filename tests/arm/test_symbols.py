"""Functions of ELF files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labkit.arm.symbols import code, demangle, functions
from labkit.base.errors import KernelError
from labkit.engine import lanes


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
