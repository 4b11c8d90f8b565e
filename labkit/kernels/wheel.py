"""KleidiAI's own kernels, out of MNN's aarch64 wheel, on any problem: packed weights, result, counts.

Its functions are not exported, so `labkit.kernels.in_wheel` calls them at their address, in the emulated lane, with the
parameters of KleidiAI 1.16.0's headers.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from labkit.arm import plugin, snapshots
from labkit.base import command
from labkit.base.errors import CommandFailed, KernelError
from labkit.engine.lanes import Lane
from labkit.kernels import reference
from labkit.kernels.running import Count, Problem, counted
from labkit.kernels.static import symbol

MATMUL = "matmul_clamp_f32_qsi8d32p{0}x8_qai4c32p4x8_{1}x4_neon_{2}"
FORMS = {"gemv": MATMUL.format(1, 1, "dotprod"), "gemm": MATMUL.format(4, 8, "i8mm")}
"""The two that MNN takes for asymmetric int4 in blocks, on a CPU with dotprod and i8mm."""
RHS, LHS = (
    "kai_run_rhs_pack_nxk_qai4c32p_qau4c32s0s1_f32_f32_f32_neon",
    "kai_run_lhs_quant_pack_qsi8d32pscalef32_f32_neon",
)


def run(problem: Problem, lane: Lane) -> tuple[np.ndarray, np.ndarray, Count]:
    """Solve a problem with the wheel's KleidiAI and count it: one row with its GEMV kernel, more with its GEMM kernel.

    Parameters
    ----------
    problem
        Its own kernel is not used.
    lane
        The emulated lane, with all instructions.

    Returns
    -------
    tuple
        The weights as KleidiAI packs them, without the bias, as `labkit.kernels.reference.pack`; (rows, outputs) float32; the counts.

    Raises
    ------
    KernelError
        If the library lacks the functions, or the run fails.
    """
    form = "gemv" if len(problem.x) == 1 else "gemm"
    codes, blocks = problem.linear.codes, problem.linear.scale.shape[1]
    job: dict[str, Any] = {
        "x": reference.whole_blocks(problem.x), "rhs": codes[:, ::2] << 4 | codes[:, 1::2], "zero": reference.offsets(problem.linear),
        "scale": problem.linear.scale, "rows_packed": 1 if form == "gemv" else 4,
    }  # fmt: skip
    for short, name in (("rhs", RHS), ("lhs", LHS), ("kernel", f"kai_run_{FORMS[form]}")):
        job[f"at_{short}"] = symbol(lane.library, name)[0]
    with tempfile.TemporaryDirectory(prefix="labkit-kernels-") as folder:
        given, out, prefix = (Path(folder) / name for name in ("job.npz", "out.npz", "snapshot"))
        np.savez(given, **job)
        argv, env = lane.worker_command(plugin=plugin.option(prefix))
        try:
            words = [*argv[:-1], "labkit.kernels.in_wheel", str(lane.library), str(given), str(out)]
            command.run(words, log=Path(folder) / "log", env=env, cwd=Path(folder))
        except CommandFailed as error:
            raise KernelError(
                f"KleidiAI's kernel did not run: {error.reason}. It said: {error.output}"
            ) from error
        got = np.load(out)
        counts = snapshots.between(
            Path(f"{prefix}.0"), Path(f"{prefix}.1"), snapshots.mappings(str(got["maps"]))
        )
    packed = got["packed"][:, :-16].view(reference.PACKED).reshape(-1, blocks)
    count = counted(
        f"kleidiai_{form}",
        problem,
        counts,
        inside=("kai_run_matmul", "kai_kernel_matmul"),
        quantise=LHS,
    )
    return packed, got["result"], count
