"""Runs KleidiAI's own kernels out of MNN's wheel on one problem: ``python -m labkit.kernels.in_wheel LIBRARY JOB.npz OUT.npz``.

`labkit.kernels.wheel` starts it inside the emulated lane; it imports NumPy and nothing else.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

BLOCK, OUTPUTS, KR, SR = 32, 4, 16, 2
SNAPSHOT = 0x4C41424B  # as in labkit/arm/counting.c


def main(library: str, job: str, out: str) -> None:
    """Pack weights; quantise, pack and multiply between two snapshots; write all of it down."""
    given = np.load(job)
    x, tile = given["x"], int(given["rows_packed"])
    (m, k), n = x.shape, len(given["rhs"])
    ctypes.CDLL(library)
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    base = min(int(line.split("-")[0], 16) for line in maps.splitlines() if line.endswith(library))

    def call(name: str, *arguments: Any) -> None:
        places = [
            a.ctypes.data_as(ctypes.c_void_p) if isinstance(a, np.ndarray) else a for a in arguments
        ]
        sizes = [ctypes.c_size_t(a) if isinstance(a, int) else a for a in places]
        ctypes.CFUNCTYPE(None)(base + int(given[f"at_{name}"]))(*sizes)

    def mark() -> None:
        with contextlib.suppress(OSError):  # there is no such process; the counter has heard it
            os.getpgid(SNAPSHOT)

    packed = np.zeros(
        (-(-n // OUTPUTS), k // BLOCK * 96 + 16), np.uint8
    )  # the last 16 bytes are the bias
    call(
        "rhs",
        1,
        n,
        k,
        OUTPUTS,
        KR,
        SR,
        BLOCK,
        given["rhs"],
        given["zero"],
        None,
        given["scale"],
        packed,
        0,
        np.array([1, 8], np.int8),
    )
    activations = np.zeros(-(-m // tile) * tile * k // BLOCK * (BLOCK + 8), np.uint8)
    result = np.zeros((m, n), np.float32)
    mark()
    call("lhs", m, k, BLOCK, tile, KR, SR, 0, x, 4 * k, activations)
    call(
        "kernel",
        m,
        n,
        k,
        BLOCK,
        activations,
        packed,
        result,
        4 * n,
        4,
        ctypes.c_float(-3e38),
        ctypes.c_float(3e38),
    )
    mark()
    np.savez(out, packed=packed, result=result, maps=np.array(maps))


if __name__ == "__main__":
    main(*sys.argv[1:])
