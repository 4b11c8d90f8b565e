"""Runs KleidiAI's own kernels out of MNN's wheel: ``in_wheel LIBRARY JOB.npz OUT.npz``.

`labkit.kernels.running` starts it inside the emulated lane; it imports what the worker does: NumPy.
"""

import ctypes
import sys

import numpy as np

from labkit.engine.worker import Worker

BLOCK, NR, KR, SR = 32, 4, 16, 2
BIAS_BYTES = 16


def as_c(argument: object) -> object:
    """Whole numbers are size_t, others float; arrays are pointers, and None is the null pointer."""
    if isinstance(argument, np.ndarray):
        return argument.ctypes.data_as(ctypes.c_void_p)
    if isinstance(argument, int):
        return ctypes.c_size_t(argument)
    return ctypes.c_float(argument) if isinstance(argument, float) else argument


def main(library: str, job: str, out: str) -> None:
    """Pack weights; quantise, pack and multiply between snapshots 1 and 2; write all of it down.

    Source
    ------
    KleidiAI 1.16.0, ``kai/ukernels/matmul``: the functions' arguments, in their headers.
    """
    given = np.load(job)
    lhs, rhs, mr = given["lhs"], given["rhs"], int(given["mr"])  # mr rows are packed together
    (m, k), n = lhs.shape, len(rhs)
    zero_points = np.array([1, 8], np.int8)  # of lhs and rhs
    rhs_packed = np.zeros((-(-n // NR), k // BLOCK * 96 + BIAS_BYTES), np.uint8)
    lhs_packed = np.zeros(-(-m // mr) * mr * k // BLOCK * (BLOCK + 8), np.uint8)
    dst = np.zeros((m, n), np.float32)
    ctypes.CDLL(library)
    snapshot = Worker(print).snapshot
    maps = snapshot()["maps"]
    base = min(int(line.split("-")[0], 16) for line in maps.splitlines() if line.endswith(library))

    def call(address: int, *arguments: object) -> None:
        ctypes.CFUNCTYPE(None)(base + address)(*map(as_c, arguments))

    pack, quantize, multiply = given["addresses"].tolist()
    groups, no_bias, extra_bytes, first_row = 1, None, 0, 0
    weights = rhs, given["zero"], no_bias, given["scale"], rhs_packed
    call(pack, groups, n, k, NR, KR, SR, BLOCK, *weights, extra_bytes, zero_points)
    snapshot()
    call(quantize, m, k, BLOCK, mr, KR, SR, first_row, lhs, lhs.strides[0], lhs_packed)
    result = dst, dst.strides[0], dst.itemsize
    call(multiply, m, n, k, BLOCK, lhs_packed, rhs_packed, *result, -3e38, 3e38)  # no clamping
    snapshot()
    np.savez(out, packed=rhs_packed[:, :-BIAS_BYTES], result=dst, maps=np.array(maps))


if __name__ == "__main__":
    main(*sys.argv[1:])
