"""Runs KleidiAI's own kernels out of MNN's wheel: ``in_wheel LIBRARY JOB.npz OUT.npz``.

`labkit.kernels.wheel` starts it inside the emulated lane; it imports NumPy and nothing else.

Source
------
Names and order of arguments: KleidiAI 1.16.0, ``kai/ukernels/matmul``, the headers that have the
names of the functions in `labkit.kernels.wheel`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path

import numpy as np

BLOCK, OUTPUTS, KR, SR = 32, 4, 16, 2
BIAS_BYTES = 16
SNAPSHOT = 0x4C41424B  # as in labkit/arm/counting.c
ZERO_POINTS = np.array([1, 8], np.int8)  # struct kai_rhs_pack_nxk_qai4c32p_params: lhs, rhs


def call(address: int, **arguments: object) -> None:
    """Call a C function with its arguments in the order of its prototype, by the names there.

    Whole numbers are size_t, others float; arrays are pointers, and None is the null pointer.
    """
    places = {
        int: ctypes.c_size_t,
        float: ctypes.c_float,
        np.ndarray: lambda array: array.ctypes.data_as(ctypes.c_void_p),
        type(None): ctypes.c_void_p,
    }
    values = [places[type(argument)](argument) for argument in arguments.values()]
    ctypes.CFUNCTYPE(None)(address)(*values)


def mark() -> None:
    """Have the counter note where it stands."""
    with contextlib.suppress(OSError):  # there is no such process; the counter has heard it
        os.getpgid(SNAPSHOT)


def pack(address: int, rhs: np.ndarray, zero: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Weights as the kernels read them: (groups of outputs, bytes), the bias last."""
    n, k = len(rhs), 2 * rhs.shape[1]
    packed = np.zeros((-(-n // OUTPUTS), k // BLOCK * 96 + BIAS_BYTES), np.uint8)
    call(
        address,
        num_groups=1,
        n=n,
        k=k,
        nr=OUTPUTS,
        kr=KR,
        sr=SR,
        bl=BLOCK,
        rhs=rhs,
        zero=zero,
        bias=None,
        scale=scale,
        rhs_packed=packed,
        extra_bytes=0,
        params=ZERO_POINTS,
    )
    return packed


def multiply(
    quantize: int, matmul: int, *, x: np.ndarray, mr: int, packed: np.ndarray, n: int
) -> np.ndarray:
    """Activations times packed weights, (rows, n) float32; ``mr`` rows are packed together."""
    m, k = x.shape
    lhs = np.zeros(-(-m // mr) * mr * k // BLOCK * (BLOCK + 8), np.uint8)
    result = np.zeros((m, n), np.float32)
    call(
        quantize,
        m=m,
        k=k,
        bl=BLOCK,
        mr=mr,
        kr=KR,
        sr=SR,
        m_idx_start=0,
        lhs=x,
        lhs_stride=x.strides[0],
        lhs_packed=lhs,
    )
    call(
        matmul,
        m=m,
        n=n,
        k=k,
        bl=BLOCK,
        lhs_packed=lhs,
        rhs_packed=packed,
        dst=result,
        dst_stride_row=result.strides[0],
        dst_stride_col=result.itemsize,
        scalar_min=-3e38,
        scalar_max=3e38,
    )
    return result


def main(library: str, job: str, out: str) -> None:
    """Pack weights; quantise, pack and multiply between two snapshots; write all of it down."""
    given = np.load(job)
    ctypes.CDLL(library)
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    base = min(int(line.split("-")[0], 16) for line in maps.splitlines() if line.endswith(library))
    pack_rhs, quantize_lhs, matmul = (base + int(address) for address in given["addresses"])
    packed = pack(pack_rhs, given["rhs"], given["zero"], given["scale"])
    mark()
    x, mr, n = given["x"], int(given["mr"]), len(given["rhs"])
    result = multiply(quantize_lhs, matmul, x=x, mr=mr, packed=packed, n=n)
    mark()
    np.savez(out, packed=packed[:, :-BIAS_BYTES], result=result, maps=np.array(maps))


if __name__ == "__main__":
    main(*sys.argv[1:])
