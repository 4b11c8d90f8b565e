"""Model the hot loops of MNN's and KleidiAI's int4 kernels, and write data/wheel_loops.json.

Type ``python tests/benchmarks/record_wheel_loops.py``: seconds, with the emulated lane set up (its
wheel holds the kernels) and llvm-mca. Any machine gives the same.
"""

from __future__ import annotations

import numpy as np

from labkit.arm.symbols import code
from labkit.base import files, paths
from labkit.base.records import to_json
from labkit.bench.predict import KERNELS, Loop
from labkit.engine import lanes
from labkit.kernels import static

FORMS = {
    "MNN, dotprod": ("gemm",),
    "MNN, i8mm": ("gemm", "gemv"),
    "KleidiAI, dotprod": ("gemv",),
    "KleidiAI, i8mm": ("gemm",),
}


def loops(kernel: str, form: str) -> list[Loop]:
    """The hot loop and the next around it.

    MNN's functions hold a loop for each size of tile: GEMM's is the one that multiplies most in a
    turn, GEMV's the longest of one row, which is unrolled.
    """
    words = np.frombuffer(code(lanes.emulated().library, KERNELS[kernel])[1], "<u4")
    every = static.loops(words)
    name = f"{'i8mm' if 'i8mm' in kernel else 'dotprod'}_{form}"
    innermost = [one for one in every if not any(set(other) < set(one) for other in every)]

    def size(one: range) -> tuple[int, int]:
        macs = static.multiply_adds("", words[one.start : one.stop])
        return (macs, len(one)) if form == "gemm" else (len(one), macs)

    hot = max(innermost, key=size)
    outer = min((one for one in every if set(hot) < set(one)), key=len)
    made = []
    for one in (hot, outer):
        turn = words[one.start : one.stop]
        models = static.model(name, turn)
        made.append(
            Loop(
                kernel=kernel,
                form=form,
                around=one is outer,
                instructions=len(turn) + 1,  # with the branch back
                macs=models[0].macs,
                cycles={model.core: model.cycles for model in models},
            )
        )
    return made


def main() -> None:
    made = [one for kernel, forms in FORMS.items() for form in forms for one in loops(kernel, form)]
    files.write(paths.data_dir() / "wheel_loops.json", to_json(made))


if __name__ == "__main__":
    main()
