"""KleidiAI's own kernels, out of MNN's aarch64 wheel, on any problem.

Its functions are not exported, so `labkit.kernels.in_wheel` calls them at their address, in the
emulated lane.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from labkit.arm import plugin, snapshots
from labkit.arm.symbols import code
from labkit.base import command
from labkit.base.errors import CommandFailed, KernelError
from labkit.engine.lanes import Lane
from labkit.kernels import reference
from labkit.kernels.running import KernelCount, Problem, of_problem

MATMUL = "matmul_clamp_f32_qsi8d32p{0}x8_qai4c32p4x8_{1}x4_neon_{2}"
FORMS = {"gemv": MATMUL.format(1, 1, "dotprod"), "gemm": MATMUL.format(4, 8, "i8mm")}
"""The two that MNN takes for asymmetric int4 in blocks, on a CPU with dotprod and i8mm."""
PACKING = (
    "kai_run_rhs_pack_nxk_qai4c32p_qau4c32s0s1_f32_f32_f32_neon",
    "kai_run_lhs_quant_pack_qsi8d32pscalef32_f32_neon",
)


def run(problem: Problem, lane: Lane) -> tuple[np.ndarray, np.ndarray, KernelCount]:
    """Solve a problem with the wheel's KleidiAI and count it.

    Parameters
    ----------
    problem
        One row is solved with the GEMV kernel, more with the GEMM kernel; its own is not used.
    lane
        The emulated lane, with all instructions.

    Returns
    -------
    tuple
        The weights as KleidiAI packs them, without the bias, as `labkit.kernels.reference.pack`;
        (rows, outputs) float32; the counts.

    Raises
    ------
    KernelError
        If the library lacks the functions, or the run fails.
    """
    form = "gemv" if len(problem.x) == 1 else "gemm"
    codes, scale = problem.linear.codes, problem.linear.scale
    names = (*PACKING, f"kai_run_{FORMS[form]}")
    with tempfile.TemporaryDirectory(prefix="labkit-kernels-") as folder:
        job, out, prefix = (Path(folder) / name for name in ("job.npz", "out.npz", "snapshot"))
        np.savez(
            job,
            addresses=[code(lane.library, name)[0] for name in names],
            lhs=reference.whole_blocks(problem.x),
            mr=1 if form == "gemv" else 4,
            rhs=codes[:, ::2] << 4 | codes[:, 1::2],
            zero=reference.offsets(problem.linear),
            scale=scale,
        )
        caller = replace(lane, module="labkit.kernels.in_wheel")
        argv, env = caller.worker_command(plugin=plugin.option(prefix))
        words = [*argv, *map(str, (lane.library, job, out))]
        try:
            command.run(words, env=env, cwd=Path(folder))
        except CommandFailed as error:
            raise KernelError(
                f"KleidiAI's kernel did not run: {error.reason}. It said: {error.output}"
            ) from error
        made = np.load(out)
        counts = snapshots.between(prefix, 1, snapshots.mapped_files(str(made["maps"])))
    packed = made["packed"].copy().view(reference.PACKED)
    inside = counts.inside("kai_run_matmul", "kai_kernel_matmul")
    return packed, made["result"], of_problem(f"kleidiai_{form}", problem, inside)
