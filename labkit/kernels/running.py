"""Problems solved and counted: by the C kernels, and by KleidiAI's own out of MNN's wheel.

The C kernels run natively on Arm, else under QEMU. The wheel's functions are not exported, so
`labkit.kernels.in_wheel` calls them at their address, in the emulated lane.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from labkit.arm import plugin
from labkit.arm.counts import Counts
from labkit.arm.symbols import code
from labkit.base import command, files
from labkit.base.data import frozen
from labkit.base.errors import CommandFailed, KernelError
from labkit.engine import qemu
from labkit.engine.lanes import Lane
from labkit.kernels import reference
from labkit.kernels.toolchain import build, toolchain
from labkit.model.weights import QuantizedLinear

KERNELS = tuple(
    f"{kind}_{form}" for kind in ("scalar", "neon", "dotprod", "i8mm") for form in ("gemv", "gemm")
)
"""In the order of the numbers by which ``main.c`` knows them."""
LIMITS = {
    "scalar": 1,
    "neon": 8,
    "dotprod": 16,
    "i8mm": 32,
    "kleidiai_gemv": 16,
    "kleidiai_gemm": 32,
}
"""Multiply-adds of the best instruction that a kernel uses: madd, smlal, sdot, smmla."""
ANYWHERE = (0, 1 << 40)
MATMUL = "matmul_clamp_f32_qsi8d32p{0}x8_qai4c32p4x8_{1}x4_neon_{2}"
FORMS = {"gemv": MATMUL.format(1, 1, "dotprod"), "gemm": MATMUL.format(4, 8, "i8mm")}
"""The two that MNN takes for asymmetric int4 in blocks, on a CPU with dotprod and i8mm."""
PACKING = (
    "kai_run_rhs_pack_nxk_qai4c32p_qau4c32s0s1_f32_f32_f32_neon",
    "kai_run_lhs_quant_pack_qsi8d32pscalef32_f32_neon",
)


@frozen
class Problem:
    """Something to compute.

    A kernel of `KERNELS` or "best", activations (rows, columns) float32, and quantised weights.
    """

    kernel: str
    x: np.ndarray
    linear: QuantizedLinear

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, outputs, columns."""
        return len(self.x), len(self.linear.codes), self.x.shape[1]

    def to_bytes(self) -> bytes:
        """As ``main.c`` reads it."""
        x, packed = reference.whole_blocks(self.x), reference.pack(self.linear)
        number = -1 if self.kernel == "best" else KERNELS.index(self.kernel)
        groups, blocks = packed.shape
        head = np.array([number, len(x), blocks, groups * reference.OUTPUTS], np.int32)
        return head.tobytes() + x.tobytes() + packed.tobytes()


def example(rows: int, outputs: int, width: int, *, kernel: str = "best", seed: int = 0) -> Problem:
    """A problem of a shape, with normally distributed activations and weights."""
    rng = np.random.default_rng(seed)
    linear = reference.quantize_weights(rng.standard_normal((outputs, width), np.float32))
    return Problem(kernel=kernel, x=rng.standard_normal((rows, width), np.float32), linear=linear)


def solve(
    problems: Sequence[Problem],
    *,
    cpu: str = "max",
    program: Path | None = None,
    plugin: str | None = None,
    timeout_s: float = 300,
) -> list[tuple[str, np.ndarray]]:
    """Run problems in one process.

    Parameters
    ----------
    problems
        What to compute.
    cpu
        The emulated CPU, of `labkit.engine.lanes.CPUS`; natively it is the CPU that is there.
    program
        From `labkit.kernels.toolchain.build`; by default of the unchanged sources.
    plugin
        A QEMU plugin with its options.
    timeout_s
        After so long it is ended.

    Returns
    -------
    list
        For each problem the kernel that was taken, and (rows, outputs) float32.

    Raises
    ------
    KernelError, LaneNotReady
        If the program does not run: a CPU without the kernel's instructions, say, or an old QEMU.
    """
    native = toolchain().native and not plugin
    emulator = [] if native else qemu.emulator(cpu, Path("/"), plugin)
    with files.temporary("kernels") as folder:
        given, results = folder / "in", folder / "out"
        given.write_bytes(b"".join(problem.to_bytes() for problem in problems))
        argv = [*emulator, str(program or build()), str(given), str(results)]
        try:
            taken = command.run(argv, timeout_s=timeout_s, cwd=given.parent).lines
        except CommandFailed as error:
            raise KernelError(
                f"the kernels' program did not end well on {cpu}: {error.reason}. "
                f"It said: {error.output or 'nothing'}"
            ) from error
        numbers = np.fromfile(results, np.float32)
    solved = []
    for kernel, problem in zip(taken, problems, strict=True):
        rows, outputs, _ = problem.shape
        whole = outputs + -outputs % reference.OUTPUTS
        result, numbers = np.split(numbers, [rows * whole])
        solved.append((kernel, result.reshape(rows, whole)[:, :outputs]))
    return solved


@frozen
class KernelCount:
    """Executed instructions of one kernel on one shape, by class."""

    kernel: str
    rows: int
    outputs: int
    width: int
    by_class: Mapping[str, int]

    @property
    def macs(self) -> int:
        """Multiply-adds that the product needs."""
        return self.rows * self.outputs * self.width

    @property
    def instructions(self) -> int:
        """All of the kernel's."""
        return sum(self.by_class.values())

    @property
    def per_instruction(self) -> float:
        """Multiply-adds to an instruction."""
        return self.macs / self.instructions

    @property
    def limit(self) -> int:
        """Multiply-adds of the best instruction that the kernel uses."""
        return next(limit for name, limit in LIMITS.items() if self.kernel.startswith(name))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        rates = {"macs_per_instruction": round(self.per_instruction, 3), "limit": self.limit}
        return {**asdict(self), "macs": self.macs, **rates}


def of_problem(kernel: str, problem: Problem, counts: Counts) -> KernelCount:
    """The counts of a kernel's own functions, with the problem that it solved."""
    rows, outputs, width = problem.shape
    return KernelCount(
        kernel=kernel, rows=rows, outputs=outputs, width=width, by_class=counts.by_class()
    )


def count(problems: Sequence[Problem]) -> list[KernelCount]:
    """Count the instructions of problems, each inside its kernel's function; under QEMU only.

    Raises
    ------
    LaneNotReady, KernelError, CountingFailed
        Without QEMU, a compiler, or the counter.
    """
    qemu.program()
    program = build()
    where = [plugin.MappedFile(program, *ANYWHERE)]  # static: its symbols say where it lies
    with files.temporary("kernels") as folder:
        prefix = folder / "snapshot"
        solved = solve(problems, program=program, plugin=plugin.option(prefix))
        return [
            of_problem(kernel, problem, plugin.between(prefix, 2 * i, where).inside(kernel))
            for i, (problem, (kernel, _)) in enumerate(zip(problems, solved, strict=True))
        ]


def kleidiai(problem: Problem, lane: Lane) -> tuple[np.ndarray, np.ndarray, KernelCount]:
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
    with files.temporary("kernels") as folder:
        job, out, prefix = (folder / name for name in ("job.npz", "out.npz", "snapshot"))
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
        counts = plugin.between(prefix, 1, plugin.mapped_files(str(made["maps"])))
    packed = made["packed"].copy().view(reference.PACKED)
    inside = counts.inside("kai_run_matmul", "kai_kernel_matmul")
    return packed, made["result"], of_problem(f"kleidiai_{form}", problem, inside)
