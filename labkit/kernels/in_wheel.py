"""Runs KleidiAI's own kernels out of MNN's wheel: ``in_wheel LIBRARY JOB.npz OUT.npz``.

`labkit.kernels.running` starts it inside the emulated lane; it imports what the worker does: NumPy.
"""

import ctypes
import sys

import numpy as np

from labkit.engine.worker import Worker

BLOCK, OUTPUTS, KR, SR = 32, 4, 16, 2
BIAS_BYTES = 16
PROTOTYPES = (
    "num_groups n k nr kr sr bl rhs zero bias scale rhs_packed extra_bytes params",
    "m k bl mr kr sr m_idx_start lhs lhs_stride lhs_packed",
    "m n k bl lhs_packed rhs_packed dst dst_stride_row dst_stride_col scalar_min scalar_max",
)
"""Arguments of ``kai_run_rhs_pack_…``, ``kai_run_lhs_quant_pack_…`` and ``kai_run_matmul_…``.

Source
------
KleidiAI 1.16.0, ``kai/ukernels/matmul``: the headers that have the functions' names.
"""


def as_c(argument: object) -> object:
    """Whole numbers are size_t, others float; arrays are pointers, and None is the null pointer."""
    if isinstance(argument, np.ndarray):
        return argument.ctypes.data_as(ctypes.c_void_p)
    if isinstance(argument, int):
        return ctypes.c_size_t(argument)
    return ctypes.c_float(argument) if isinstance(argument, float) else argument


def main(library: str, job: str, out: str) -> None:
    """Pack weights; quantise, pack and multiply between snapshots 1 and 2; write all of it down."""
    given = np.load(job)
    lhs, rhs, mr = given["lhs"], given["rhs"], int(given["mr"])
    (m, k), n = lhs.shape, len(rhs)
    rhs_packed = np.zeros((-(-n // OUTPUTS), k // BLOCK * 96 + BIAS_BYTES), np.uint8)
    dst = np.zeros((m, n), np.float32)
    arguments = {
        "m": m,
        "n": n,
        "k": k,
        "mr": mr,  # rows and outputs that are packed together
        "nr": OUTPUTS,
        "kr": KR,
        "sr": SR,
        "bl": BLOCK,
        "num_groups": 1,
        "rhs": rhs,
        "zero": given["zero"],
        "bias": None,
        "scale": given["scale"],
        "rhs_packed": rhs_packed,
        "extra_bytes": 0,
        "params": np.array([1, 8], np.int8),  # zero points: lhs, rhs
        "m_idx_start": 0,
        "lhs": lhs,
        "lhs_stride": lhs.strides[0],
        "lhs_packed": np.zeros(-(-m // mr) * mr * k // BLOCK * (BLOCK + 8), np.uint8),
        "dst": dst,
        "dst_stride_row": dst.strides[0],
        "dst_stride_col": dst.itemsize,
        "scalar_min": -3e38,
        "scalar_max": 3e38,
    }
    ctypes.CDLL(library)
    snapshot = Worker(print).snapshot
    maps = snapshot()["maps"]
    base = min(int(line.split("-")[0], 16) for line in maps.splitlines() if line.endswith(library))

    def call(address: int, prototype: str) -> None:
        values = (as_c(arguments[name]) for name in prototype.split())
        ctypes.CFUNCTYPE(None)(base + address)(*values)

    pack, quantize, multiply = zip(given["addresses"].tolist(), PROTOTYPES, strict=True)
    call(*pack)
    snapshot()
    call(*quantize)
    call(*multiply)
    snapshot()
    np.savez(out, packed=rhs_packed[:, :-BIAS_BYTES], result=dst, maps=np.array(maps))


if __name__ == "__main__":
    main(*sys.argv[1:])
