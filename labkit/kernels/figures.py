"""Kernels as pictures: how a block is packed, what executes, and what cores could do with it."""

import numpy as np

from labkit.arm.figures import class_bars
from labkit.base.draw import CYCLE, centred, finish, legend_below, subplots
from labkit.base.show import Picture
from labkit.kernels.report import KernelComparison
from labkit.kernels.static import CORES

MARKS = {
    "neon_gemm": ("o", "NEON"),
    "dotprod_gemm": ("s", "dotprod"),
    "i8mm_gemm": ("D", "i8mm"),
    "kleidiai_gemm": ("*", "KleidiAI, i8mm"),
}


def packing(order: np.ndarray) -> Picture:
    """Where each weight of a block of four outputs goes: the number of its byte, and half.

    Parameters
    ----------
    order
        (outputs, 32) int: twice the byte's number, plus one for its high half.
    """
    outputs, columns = order.shape
    figure, axis = subplots(size=(13, 2.6))
    register = order // 2 // 16
    axis.imshow(register, cmap="viridis", vmin=-1.2, vmax=4, alpha=0.55, aspect="auto")
    for (row, column), place in np.ndenumerate(order):
        weight = "bold" if place % 2 else "normal"
        centred(axis, column, row, str(place // 2), fontsize=9, weight=weight)
    eights = range(0, columns, 8)
    for edge in eights[1:]:
        axis.axvline(edge - 0.5, color="black", linewidth=1.6)
    axis.set_title(
        "byte of each weight; plain in its low half, bold in its high half; "
        "one colour is one vector of 16 bytes"
    )
    axis.set_xticks(eights, [f"column {k}" for k in eights])
    axis.set_yticks(range(outputs), [f"output {n}" for n in range(outputs)])
    bytes_of = "; ".join(
        f"output {n}: bytes {row[0] // 2} to {row[7] // 2} for columns 0 to 7"
        for n, row in enumerate(order)
    )
    return finish(
        figure,
        f"A grid of {outputs} outputs by {columns} columns with the number of the byte that holds "
        f"each weight. {bytes_of}. Columns 16 on lie in the high halves of the bytes of columns 0 "
        "on.",
    )


def counts(report: KernelComparison) -> Picture:
    """Executed instructions to 32 multiply-adds, by class, GEMV beside GEMM.

    Plain C stands in words, since it would dwarf the rest.
    """
    figure, axes = subplots(1, 2, size=(12, 3.1), sharex=True)
    words = []
    for axis, form in zip(axes, ("gemv", "gemm"), strict=True):
        plain, *shown = (count for count in report.counts if count.kernel.endswith(form))
        labels = [
            count.kernel.removesuffix(f"_{form}").replace("kleidiai", "KleidiAI") for count in shown
        ]
        mixes = [
            {name: 32 * n / count.macs for name, n in count.by_class.items()} for count in shown
        ]
        class_bars(axis, labels, mixes, " {:.1f}")
        limits, y = [32 / count.limit for count in shown], np.arange(len(shown))
        mark = {"color": "black", "linewidth": 2.5, "label": "the instruction set's limit"}
        axis.vlines(limits, y - 0.4, y + 0.4, **mark)
        rows = f"{shown[0].rows} row{'s' * (shown[0].rows > 1)}"
        axis.set_title(
            f"{form.upper()}: {rows} by {plain.outputs} outputs, {plain.width} columns\n"
            f"(plain C: {32 / plain.per_instruction:.0f})"
        )
        axis.set_xlabel("instructions to 32 multiply-adds")
        words += [
            f"{count.kernel} {32 / count.per_instruction:.1f}, at the limit {limit:.0f}"
            for count, limit in zip(shown, limits, strict=True)
        ]
    legend_below(figure, axis, 5)
    bars = "Bars of executed instructions to 32 multiply-adds, not time, cut by class: "
    return finish(figure, f"{bars}{'; '.join(words)}.")


def cores(report: KernelComparison) -> Picture:
    """Multiply-adds to a cycle of the GEMM kernels on each core, by the static model."""
    figure, axis = subplots(size=(10.5, 4.6))
    rates = np.array(
        [[report.model(kernel, core).per_cycle or np.nan for core in CORES] for kernel in MARKS]
    )
    places, fastest = range(len(CORES)), np.nanmax(rates, 0)
    axis.hlines(places, np.nanmin(rates, 0), fastest, color="0.75", linewidth=1.5, zorder=1)
    for (mark, label), colour, per_cycle in zip(MARKS.values(), CYCLE, rates, strict=True):
        axis.scatter(
            per_cycle,
            places,
            s=130 if mark == "*" else 75,
            color=colour,
            marker=mark,
            edgecolor="black",
            linewidth=0.6,
            zorder=2,
            label=label,
        )
    names, words = [], []
    for y, (core, made) in enumerate(CORES.items()):
        by_kernel = dict(zip(MARKS, rates[:, y], strict=True))
        ratio = by_kernel["i8mm_gemm"] / by_kernel["dotprod_gemm"]
        gain = f"i8mm {ratio:.1f}× dotprod" if ratio > 0 else "no smmla"
        axis.text(1.05 * fastest[y], y, f"  {gain}", va="center", fontsize=9)
        schedule = report.model("neon_gemm", core).scheduled_as
        names.append(f"{core}, {made}" if schedule == core else f"{core}\n(as {schedule}), {made}")
        each = (
            f"{MARKS[kernel][1]} {rate:.1f}, " for kernel, rate in by_kernel.items() if rate > 0
        )
        words.append(f"{core}: {''.join(each)}{gain}")
    axis.set_yticks(places, names, fontsize=9)
    axis.set(
        xscale="log",
        xlim=(1.4, 90),
        xlabel="multiply-adds to a cycle, at best",
        title="llvm-mca: a static model of the hot loop, not a measurement",
    )
    ticks = [2**n for n in range(1, 7)]
    axis.set_xticks(ticks, map(str, ticks))
    axis.minorticks_off()
    axis.invert_yaxis()
    axis.legend(loc="upper right", frameon=False)
    model = "Multiply-adds to a cycle by a static model, not measured, of each core. "
    return finish(figure, f"{model}{'; '.join(words)}.")
