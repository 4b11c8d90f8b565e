"""KleidiAI's own kernels, out of MNN's aarch64 wheel, on any problem: result, packed weights, counts."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from labkit import command, counting, lanes
from labkit.errors import CommandFailed, KernelError
from labkit.kernels import reference
from labkit.kernels.running import Count, Problem, counted
from labkit.lanes import Lane

MATMUL = "matmul_clamp_f32_qsi8d32p{0}x8_qai4c32p4x8_{1}x4_neon_{2}"
FORMS = {"gemv": MATMUL.format(1, 1, "dotprod"), "gemm": MATMUL.format(4, 8, "i8mm")}
"""The two that MNN takes for asymmetric int4 in blocks, on a CPU with dotprod and i8mm."""
RHS, LHS = "kai_run_rhs_pack_nxk_qai4c32p_qau4c32s0s1_f32_f32_f32_neon", "kai_run_lhs_quant_pack_qsi8d32pscalef32_f32_neon"


@dataclass(frozen=True, kw_only=True)
class FromWheel:
    """What KleidiAI made of a problem: the weights as it packs them, bias left out, the result, and the counts."""

    packed: np.ndarray
    result: np.ndarray
    count: Count


@lru_cache(maxsize=4)
def addresses(library: Path) -> dict[str, int]:
    """Where the functions of a library lie, from its beginning."""
    from elftools.elf.elffile import ELFFile

    with library.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        return {symbol.name: symbol["st_value"] for symbol in table.iter_symbols()} if table else {}


def run(problem: Problem, lane: Lane | None = None) -> FromWheel:
    """Solve a problem with the wheel's KleidiAI and count it: one row with its GEMV kernel, more with its GEMM kernel.

    Parameters
    ----------
    problem
        Outputs a multiple of 4; its own kernel is not used.
    lane
        The emulated lane, by default the one that is set up, with all instructions.

    Raises
    ------
    KernelError
        If the library lacks the functions, or the run fails.
    LaneNotReady, CountingFailed
        Without the emulated lane, or the counter.
    """
    lane = lane or lanes.emulated("max")
    form = "gemv" if len(problem.x) == 1 else "gemm"
    names = {"rhs": RHS, "lhs": LHS, "kernel": f"kai_run_{FORMS[form]}"}
    known = addresses(lane.library)
    if lacking := [name for name in names.values() if name not in known]:
        raise KernelError(f"expected KleidiAI 1.16.0's functions in {lane.library.name}, found no {lacking[0]}: another MNN?")
    codes = problem.linear.codes
    with tempfile.TemporaryDirectory(prefix="labkit-kernels-") as folder:
        job, out, prefix = (Path(folder) / name for name in ("job.npz", "out.npz", "snapshot"))
        nibbles, zero = codes[:, ::2] << 4 | codes[:, 1::2], reference.offsets(problem.linear)
        arrays: dict[str, Any] = {"x": reference.whole_blocks(problem.x), "rhs": nibbles, "zero": zero}
        arrays |= {f"at_{short}": np.int64(known[name]) for short, name in names.items()}
        np.savez(job, scale=problem.linear.scale, rows_packed=1 if form == "gemv" else 4, **arrays)
        argv, env = lane.worker_command(plugin=f"{counting.plugin()},out={prefix}")
        try:
            command.run([*argv[:-1], "labkit.kernels.in_wheel", str(lane.library), str(job), str(out)], log=Path(folder) / "log", env=env)
        except CommandFailed as error:
            raise KernelError(f"KleidiAI's kernel did not run: {error.reason}; it said: {error.output}") from error
        got = np.load(out)
        counts = counting.between(Path(f"{prefix}.0"), Path(f"{prefix}.1"), str(got["maps"]))
    blocks, groups = problem.linear.scale.shape[1], len(codes) // reference.OUTPUTS
    packed = got["packed"][:, :-16].view(reference.PACKED).reshape(groups, blocks)
    count = counted(f"kleidiai_{form}", problem, counts, inside=("kai_run_matmul", "kai_kernel_matmul"), quantise=LHS)
    return FromWheel(packed=packed, result=got["result"], count=count)
