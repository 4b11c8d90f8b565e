"""The kernels side by side: counted instructions and modelled cycles, measured here or read from the recorded results."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from labkit import hardware, lanes, paths
from labkit.errors import CountingFailed, KernelError, LaneNotReady
from labkit.kernels import reference, running, static, wheel
from labkit.kernels.running import KERNELS, SHAPE, Count, example
from labkit.kernels.static import Model
from labkit.plots import Table


@dataclass(frozen=True, kw_only=True)
class Report:
    """Counts and models of all kernels on one shape.

    Attributes
    ----------
    rows, outputs, width
        The shape; GEMV kernels are counted on one row of it.
    made_with
        Compiler, QEMU, LLVM.
    counts, models
        What was found.
    missing
        What could not be had on this machine, and how to get it.
    recorded
        Whether this comes from the repository, not from this machine.
    """

    rows: int
    outputs: int
    width: int
    made_with: tuple[str, ...]
    counts: tuple[Count, ...]
    models: tuple[Model, ...]
    missing: tuple[str, ...] = ()
    recorded: bool = False

    @property
    def label(self) -> str:
        """Where the numbers come from, in a line."""
        return ("Recorded when this lesson was made, not on this machine: " if self.recorded else "Made here: ") + ", ".join(self.made_with)

    def counted(self, kernel: str) -> Count:
        """The counts of one kernel."""
        return next(count for count in self.counts if count.kernel == kernel)

    def modelled(self, kernel: str, core: str) -> Model:
        """The model of one kernel on one core."""
        return next(model for model in self.models if (model.kernel, model.core) == (kernel, core))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "schema": 1, **asdict(self), "counts": [count.to_dict() for count in self.counts],
            "counts_are": "executed instructions, not time", "models_are": "static models by llvm-mca, not measurements",
        }  # fmt: skip

    def counts_table(self) -> Table:
        """One row for each kernel: multiply-adds to an instruction, how far that is from the limit, and what the rest does."""
        header = ("kernel", "rows", "instructions", "MACs/instruction", "limit", "reached", "multiply", "other vector", "load", "else")
        return Table(header, [_row(count) for count in self.counts])

    def models_table(self) -> Table:
        """One row for each core: multiply-adds to a cycle of each kernel."""
        kernels = list(dict.fromkeys(model.kernel for model in self.models))
        rows = [[core, *(_rate(self.modelled(kernel, core).per_cycle) for kernel in kernels)] for core in static.CORES] if kernels else []
        return Table(("core", *kernels), rows)


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _row(count: Count) -> list[str]:
    has, total = count.by_class, count.instructions
    multiply, load = has["smmla"] + has["sdot"], has["load"]
    vector = has["int_simd"] + has["fp_simd"]
    shares = (f"{n / total:.0%}" for n in (multiply, vector, load, total - multiply - vector - load))
    return [
        count.kernel, str(count.rows), f"{total:,}", f"{count.per_instruction:.2f}", str(count.limit),
        f"{count.per_instruction / count.limit:.0%}", *shares,
    ]  # fmt: skip


def measure(
    rows: int = SHAPE[0], outputs: int = SHAPE[1], width: int = SHAPE[2], *, on_step: Callable[[str], None] | None = None
) -> Report:
    """Compile, check, count and model all kernels on a shape; the wheel's KleidiAI, too, where the emulated lane is set up.

    Raises
    ------
    KernelError, CountingFailed
        Without a compiler for AArch64, QEMU, or the counter; or if a kernel's result is not NumPy's, to the bit.
    """
    tell, missing = on_step or (lambda _: None), []
    tell("compile")
    program = running.build()
    problems = [example(1 if kernel.endswith("gemv") else rows, outputs, width, kernel=kernel) for kernel in KERNELS]
    tell("run our kernels, and compare with NumPy")
    for problem, solved in zip(problems, running.solve(problems, program=program), strict=True):
        if not np.array_equal(solved.result, reference.product(problem.x, problem.linear)):
            raise KernelError(f"expected NumPy's result of {solved.kernel}, to the bit, received another: do not trust this build")
    tell("count our kernels")
    counts = running.count(problems, program=program)
    loops = {kernel: static.hot_loop(program, kernel) for kernel in KERNELS}
    try:
        lane = lanes.emulated("max")
        for problem in (problems[0], problems[1]):
            tell(f"count KleidiAI's kernel, {len(problem.x)} row{'s' * (len(problem.x) > 1)}")
            counts.append(wheel.run(problem, lane).count)
        loops |= {f"kleidiai_{form}": static.hot_loop(lane.library, f"kai_kernel_{name}", around=True) for form, name in wheel.FORMS.items()}
    except (LaneNotReady, KernelError) as error:
        missing.append(f"KleidiAI's own kernels: {error}")
    models: list[Model] = []
    made_with = [hardware.printed_by([*running.toolchain().compiler, "--version"]).partition("\n")[0], lanes.qemu_version("qemu-aarch64")]
    try:
        made_with.append(static.tools()[2])
        for kernel, words in loops.items():
            tell(f"model {kernel}")
            models += static.model(kernel, words)
    except KernelError as error:
        missing.append(f"the static models: {error}")
    return Report(
        rows=rows, outputs=outputs, width=width, made_with=tuple(made_with), counts=tuple(counts), models=tuple(models),
        missing=tuple(missing),
    )  # fmt: skip


def recorded() -> Report:
    """What `measure` gave where this lesson was made."""
    content = json.loads((paths.data_dir() / "kernels.json").read_text(encoding="utf-8"))
    fields = {name: content[name] for name in ("rows", "outputs", "width")}
    counts = tuple(Count(**{name: row[name] for name in Count.__dataclass_fields__}) for row in content["counts"])
    models = tuple(Model(**row) for row in content["models"])
    return Report(**fields, made_with=tuple(content["made_with"]), counts=counts, models=models, recorded=True)


def here_or_recorded(on_step: Callable[[str], None] | None = None) -> Report:
    """`measure` on the lesson's shape; what this machine cannot make comes from the recorded results, and says so."""
    kept = recorded()
    try:
        made = measure(on_step=on_step)
    except (KernelError, CountingFailed) as error:
        return replace(kept, missing=(str(error),))
    return made if not made.missing else replace(kept, missing=made.missing)
