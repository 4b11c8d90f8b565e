"""The kernels side by side: checked, counted and modelled here, or read from the recorded results."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from labkit.base import hardware, paths
from labkit.base.errors import CountingFailed, KernelError, LaneNotReady
from labkit.base.show import Table
from labkit.engine import lane_setup, lanes, qemu
from labkit.kernels import reference, running, static, wheel
from labkit.kernels.running import KERNELS, Count, example
from labkit.kernels.static import Model

SHAPE = (64, 256, 1024)
"""What the lesson counts: rows, outputs, columns."""
SHAPES = ((1, 1, 1), (1, 5, 33), (3, 4, 31), (8, 8, 64), (9, 7, 100), (13, 6, 2049))


@dataclass(frozen=True, kw_only=True)
class Report:
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
        Whether KleidiAI packs the weights into the same bytes as `labkit.kernels.reference`; None if it was not there.
    counts, models
        Of each kernel.
    by_rows
        Instructions of a product of 64 outputs for some numbers of rows: rows, dotprod GEMV, i8mm GEMM.
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
    counts: tuple[Count, ...]
    models: tuple[Model, ...]
    by_rows: tuple[tuple[int, int, int], ...]
    chosen: Mapping[str, tuple[str, ...]]
    missing: tuple[str, ...] = ()
    recorded: bool = False

    @property
    def label(self) -> str:
        """Where the numbers come from."""
        where = (
            "recorded when this lesson was made, not on this machine"
            if self.recorded
            else "made on this machine"
        )
        return "\n".join(
            [
                f"{where}, with {', '.join(self.made_with)}",
                *(f"not here: {what}" for what in self.missing),
            ]
        )

    def count(self, kernel: str) -> Count:
        """The counts of one kernel."""
        return next(count for count in self.counts if count.kernel == kernel)

    def model(self, kernel: str, core: str) -> Model:
        """The model of one kernel on one core."""
        return next(model for model in self.models if (model.kernel, model.core) == (kernel, core))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        kinds = {
            "counts_are": "executed instructions, not time",
            "models_are": "static models by llvm-mca, not measurements",
        }
        return {
            "schema": 1,
            **kinds,
            **asdict(self),
            "counts": [count.to_dict() for count in self.counts],
        }

    def counts_table(self) -> Table:
        """Each kernel: multiply-adds to an instruction, how far that is from the limit, and what share multiplies."""
        header = (
            "kernel",
            "rows",
            "instructions",
            "MACs/instruction",
            "limit",
            "reached",
            "smmla, sdot",
            "other vector",
            "load",
        )
        rows = []
        for c in self.counts:
            has = c.by_class
            shares = (has["smmla"] + has["sdot"], has["int_simd"] + has["fp_simd"], has["load"])
            numbers = (
                f"{c.instructions:,}",
                f"{c.per_instruction:.2f}",
                str(c.limit),
                f"{c.per_instruction / c.limit:.0%}",
            )
            rows.append(
                [c.kernel, str(c.rows), *numbers, *(f"{n / c.instructions:.0%}" for n in shares)]
            )
        return Table(header, rows)

    def models_table(self) -> Table:
        """Each core: multiply-adds to a cycle of each kernel, at best."""
        kernels = list(dict.fromkeys(model.kernel for model in self.models))
        rates = {
            (m.kernel, m.core): "–" if m.per_cycle is None else f"{m.per_cycle:.2f}"
            for m in self.models
        }
        return Table(
            ("core", *kernels),
            [[core, *(rates[kernel, core] for kernel in kernels)] for core in static.CORES]
            if kernels
            else [],
        )


def measure(
    rows: int = SHAPE[0],
    outputs: int = SHAPE[1],
    width: int = SHAPE[2],
    *,
    on_step: Callable[[str], None] = lambda _: None,
) -> Report:
    """Compile, check, count and model all kernels on a shape; the wheel's KleidiAI, too, where the emulated lane is set up.

    Raises
    ------
    KernelError, CountingFailed
        Without a compiler for AArch64, QEMU, or the counter; or if a kernel's result is not NumPy's, to the bit.
    """
    on_step("compile the kernels, compare their results with NumPy's")
    program, missing, alike = running.build(), [], None
    problems = [
        example(1 if kernel.endswith("gemv") else rows, outputs, width, kernel=kernel)
        for kernel in KERNELS
    ]
    checked = [
        *problems,
        *(example(*shape, kernel=kernel) for shape in SHAPES for kernel in KERNELS),
    ]
    for problem, (kernel, result) in zip(checked, running.solve(checked), strict=True):
        if not np.array_equal(result, reference.product(problem.x, problem.linear)):
            raise KernelError(
                f"expected NumPy's result of {kernel} on {problem.shape}, to the bit, received another: trust no number of it"
            )
    on_step("count instructions")
    counts = running.count(problems)
    ladder = [
        example(m, 64, width, kernel=kernel)
        for m in range(1, 13)
        for kernel in ("dotprod_gemv", "i8mm_gemm")
    ]
    steps = [count.instructions for count in running.count(ladder)]
    pair = [example(1, 8, 64), example(8, 8, 64)]
    chosen = {
        cpu: tuple(kernel for kernel, _ in running.solve(pair, cpu=cpu)) for cpu in lanes.CPUS
    }
    loops = {kernel: static.hot_loop(program, kernel) for kernel in KERNELS}
    try:
        lane = lanes.emulated("max")
        for form, problem in zip(wheel.FORMS, problems, strict=False):
            on_step(f"count KleidiAI's {form}")
            packed, _, count = wheel.run(problem, lane)
            counts.append(count)
            alike = packed.tobytes() == reference.pack(problem.linear).tobytes()
            loops[count.kernel] = static.hot_loop(
                lane.library, f"kai_kernel_{wheel.FORMS[form]}", around=True
            )
    except (LaneNotReady, KernelError) as error:
        missing.append(f"KleidiAI's own kernels: {error}")
    models: list[Model] = []
    made_with = [
        hardware.printed_by([*running.toolchain().compiler, "--version"]).partition("\n")[0],
        qemu.version("qemu-aarch64"),
    ]
    try:
        made_with.append(static.tools()[2])
        on_step("model cycles")
        models = [model for kernel, words in loops.items() for model in static.model(kernel, words)]
    except KernelError as error:
        missing.append(f"the static models: {error}")
    return Report(
        shape=(rows, outputs, width), made_with=tuple(made_with), equal=len(checked), packed_alike=alike, counts=tuple(counts),
        models=tuple(models), by_rows=tuple(zip(range(1, 13), steps[::2], steps[1::2], strict=True)), chosen=chosen, missing=tuple(missing),
    )  # fmt: skip


def recorded() -> Report:
    """What `measure` gave where this lesson was made."""
    content = json.loads((paths.data_dir() / "kernels.json").read_text(encoding="utf-8"))
    counts = tuple(
        Count(**{name: row[name] for name in Count.__dataclass_fields__})
        for row in content["counts"]
    )
    models = tuple(Model(**row) for row in content["models"])
    return Report(
        shape=tuple(content["shape"]), made_with=tuple(content["made_with"]), equal=content["equal"], packed_alike=content["packed_alike"],
        counts=counts, models=models, by_rows=tuple(map(tuple, content["by_rows"])), chosen=content["chosen"], recorded=True,
    )  # fmt: skip


def here_or_recorded(on_step: Callable[[str], None] = lambda _: None) -> Report:
    """`measure` on the lesson's shape; where this machine cannot make all of it, the recorded results, with what is missing."""
    try:
        on_step("set up the emulated lane")
        lane_setup.setup_emulated()
        made = measure(on_step=on_step)
    except (KernelError, CountingFailed, LaneNotReady) as error:
        return replace(recorded(), missing=(str(error),))
    return replace(recorded(), missing=made.missing) if made.missing else made
