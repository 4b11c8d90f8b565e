"""The kernels side by side: checked, counted and modelled here, or read from recorded results."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from labkit.base import hardware, paths
from labkit.base.data import frozen
from labkit.base.errors import CountingFailed, KernelError, LaneNotReady
from labkit.base.records import from_json
from labkit.base.show import Table
from labkit.engine import lane_setup, lanes, qemu
from labkit.kernels import reference, running, static, toolchain
from labkit.kernels.running import KERNELS, KernelCount, Problem, example
from labkit.kernels.static import CoreModel

SHAPE = (64, 256, 1024)
"""What the lesson counts: rows, outputs, columns."""
SHAPES = ((1, 1, 1), (1, 5, 33), (3, 4, 31), (8, 8, 64), (9, 7, 100), (13, 6, 2049))
ROWS = range(1, 13)


@frozen
class KernelComparison:
    """What is known of all kernels on one shape.

    Attributes
    ----------
    shape
        Rows, outputs, columns; GEMV kernels are counted on one row.
    made_with
        Compiler, QEMU, LLVM.
    equal
        Results that were compared with NumPy's; all had the same bits.
    packed_alike
        Whether KleidiAI packs the weights into the same bytes as `labkit.kernels.reference`; None
        if it was not there.
    counts, models
        Of each kernel.
    by_rows
        Instructions of a product of 64 outputs for some numbers of rows: rows, dotprod GEMV, i8mm
        GEMM.
    chosen
        For each emulated CPU the kernels that the dispatch took, for one row and for more.
    missing
        What could not be had on this machine, and how to get it.
    recorded
        Whether this comes from the repository, not from this machine.
    """

    shape: tuple[int, int, int]
    made_with: tuple[str, ...]
    equal: int
    packed_alike: bool | None
    counts: tuple[KernelCount, ...]
    models: tuple[CoreModel, ...]
    by_rows: tuple[tuple[int, int, int], ...]
    chosen: Mapping[str, tuple[str, ...]]
    missing: tuple[str, ...] = ()
    recorded: bool = False

    @property
    def label(self) -> str:
        """Where the numbers come from."""
        elsewhere = "recorded when this lesson was made, not on this machine"
        where = elsewhere if self.recorded else "made on this machine"
        lines = (f"{where}, with {', '.join(self.made_with)}", *self.missing)
        return "\nnot here: ".join(lines)

    def model(self, kernel: str, core: str) -> CoreModel:
        """The model of one kernel on one core."""
        return next(model for model in self.models if (model.kernel, model.core) == (kernel, core))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "schema": 1,
            "counts_are": "executed instructions, not time",
            "models_are": "static models by llvm-mca, not measurements",
            **asdict(self),
            "counts": [count.to_dict() for count in self.counts],
        }

    def counts_table(self) -> Table:
        """Each kernel: multiply-adds to an instruction, how far that is from the limit, its mix."""
        mixes = {
            "smmla, sdot": ("smmla", "sdot"),
            "other vector": ("int_simd", "fp_simd"),
            "load": ("load",),
        }
        header = ("kernel", "rows", "instructions", "MACs/instruction", "limit", "reached", *mixes)
        rows = [
            (
                c.kernel,
                c.rows,
                f"{c.instructions:,}",
                f"{c.per_instruction:.2f}",
                c.limit,
                f"{c.per_instruction / c.limit:.0%}",
                *(
                    f"{sum(c.by_class[name] for name in mix) / c.instructions:.0%}"
                    for mix in mixes.values()
                ),
            )
            for c in self.counts
        ]
        return Table(header, rows)

    def models_table(self) -> Table:
        """Each core: multiply-adds to a cycle of each kernel, at best."""
        rates: dict[str, list[str]] = {}
        for model in self.models:
            rate = "–" if model.per_cycle is None else f"{model.per_cycle:.2f}"
            rates.setdefault(model.core, [model.core]).append(rate)
        kernels = dict.fromkeys(model.kernel for model in self.models)
        return Table(("core", *kernels), list(rates.values()))


def _check(problems: Sequence[Problem]) -> None:
    for problem, (kernel, result) in zip(problems, running.solve(problems), strict=True):
        if not np.array_equal(result, reference.product(problem.x, problem.linear)):
            raise KernelError(
                f"expected NumPy's result of {kernel} on {problem.shape}, to the bit, "
                "received another: trust no number of it"
            )


def _by_rows(width: int) -> tuple[tuple[int, int, int], ...]:
    kernels = ("dotprod_gemv", "i8mm_gemm")
    problems = [example(rows, 64, width, kernel=kernel) for kernel in kernels for rows in ROWS]
    counts = [count.instructions for count in running.count(problems)]
    return tuple(zip(ROWS, counts, counts[len(ROWS) :], strict=False))


def measure(
    shape: tuple[int, int, int] = SHAPE, *, on_step: Callable[[str], None] = lambda _: None
) -> KernelComparison:
    """Compile, check, count and model all kernels on a shape.

    The wheel's KleidiAI is among them where the emulated lane is set up.

    Raises
    ------
    KernelError, LaneNotReady, CountingFailed
        Without a compiler for AArch64, QEMU, or the counter; or if a kernel's result is not
        NumPy's, to the bit.
    """
    on_step("compile the kernels, compare their results with NumPy's")
    program, missing, alike = toolchain.build(), [], None
    rows, *size = shape
    problems = [
        example(1 if kernel.endswith("gemv") else rows, *size, kernel=kernel) for kernel in KERNELS
    ]
    more = [example(*other, kernel=kernel) for other in SHAPES for kernel in KERNELS]
    _check([*problems, *more])
    on_step("count instructions")
    counts, by_rows = running.count(problems), _by_rows(shape[2])
    pair = [example(1, 8, 64), example(8, 8, 64)]
    chosen = {
        cpu: tuple(kernel for kernel, _ in running.solve(pair, cpu=cpu)) for cpu in lanes.CPUS
    }
    loops = {kernel: static.hot_loop(program, kernel) for kernel in KERNELS}
    try:
        lane = lanes.emulated("max")
        for problem, (form, name) in zip(problems, running.FORMS.items(), strict=False):
            on_step(f"count KleidiAI's {form}")
            packed, _, count = running.kleidiai(problem, lane)
            counts.append(count)
            alike = packed.tobytes() == reference.pack(problem.linear).tobytes()
            function = f"kai_kernel_{name}"
            loops[count.kernel] = static.hot_loop(lane.library, function, around=True)
    except (LaneNotReady, KernelError) as error:
        missing.append(f"KleidiAI's own kernels: {error}")
    compiler = hardware.printed_by([*toolchain.toolchain().compiler, "--version"])
    made_with = [compiler.partition("\n")[0], qemu.version("qemu-aarch64")]
    models: list[CoreModel] = []
    try:
        made_with.append(static.llvm_mca()[1])
        on_step("model cycles")
        for kernel, words in loops.items():
            models += static.model(kernel, words)
    except KernelError as error:
        missing.append(f"the static models: {error}")
    return KernelComparison(
        shape=shape,
        made_with=tuple(made_with),
        equal=len(problems) + len(more),
        packed_alike=alike,
        counts=tuple(counts),
        models=tuple(models),
        by_rows=by_rows,
        chosen=chosen,
        missing=tuple(missing),
    )


def recorded() -> KernelComparison:
    """What `measure` gave where this lesson was made."""
    text = (paths.data_dir() / "kernels.json").read_text(encoding="utf-8")
    return replace(from_json(KernelComparison, text), recorded=True)


def here_or_recorded(on_step: Callable[[str], None] = lambda _: None) -> KernelComparison:
    """`measure` on the lesson's shape; where this machine cannot make all of it, `recorded`."""
    try:
        on_step("set up the emulated lane")
        lane_setup.setup_emulated()
        made = measure(on_step=on_step)
    except (KernelError, CountingFailed, LaneNotReady) as error:
        return replace(recorded(), missing=(str(error),))
    return replace(recorded(), missing=made.missing) if made.missing else made
