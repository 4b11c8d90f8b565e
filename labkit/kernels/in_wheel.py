"""Runs KleidiAI's own kernels out of MNN's wheel on one problem: ``python -m labkit.kernels.in_wheel LIBRARY JOB.npz OUT.npz``.

It is started inside the emulated lane by `labkit.kernels.wheel`, and imports NumPy and nothing else. The functions are not
exported; they are called at their address. Their parameters are those of KleidiAI 1.16.0's headers.
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
SNAPSHOT = 0x4C41424B  # as in labkit/counting.c


def main(library: str, job: str, out: str) -> None:
    """Pack weights, quantise and pack activations, multiply between two snapshots, and write all of it down."""
    given = np.load(job)
    x, rhs, zero, scale, rows_packed = (given[name] for name in ("x", "rhs", "zero", "scale", "rows_packed"))
    (m, k), n, tile = x.shape, len(rhs), int(rows_packed)
    ctypes.CDLL(library)
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    base = min(int(line.split("-")[0], 16) for line in maps.splitlines() if line.endswith(library))

    def call(name: str, *arguments: Any) -> None:
        places = [a.ctypes.data_as(ctypes.c_void_p) if isinstance(a, np.ndarray) else a for a in arguments]
        sizes = [ctypes.c_size_t(a) if isinstance(a, int) else a for a in places]
        ctypes.CFUNCTYPE(None)(base + int(given[f"at_{name}"]))(*sizes)

    packed = np.zeros((n // OUTPUTS, k // BLOCK * 96 + 16), np.uint8)  # the last 16 bytes are the bias
    call("rhs", 1, n, k, OUTPUTS, KR, SR, BLOCK, rhs, zero, None, scale, packed, 0, np.array([1, 8], np.int8))
    activations = np.zeros((m + tile - 1) // tile * tile * k // BLOCK * (BLOCK + 8), np.uint8)
    result = np.zeros((m, n), np.float32)
    _mark()
    call("lhs", m, k, BLOCK, tile, KR, SR, 0, x, 4 * k, activations)
    limits = ctypes.c_float(-3e38), ctypes.c_float(3e38)
    call("kernel", m, n, k, BLOCK, activations, packed, result, 4 * n, 4, *limits)
    _mark()
    np.savez(out, packed=packed, result=result, maps=np.array(maps))


def _mark() -> None:
    with contextlib.suppress(OSError):  # there is no such process; the counter has heard it
        os.getpgid(SNAPSHOT)


if __name__ == "__main__":
    main(*sys.argv[1:])
