"""Kernels as pictures: how a block is packed, what the instructions do, and what cores could do with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from labkit.arm.figures import class_bars
from labkit.base.draw import CYCLE, finish, subplots
from labkit.base.show import Picture
from labkit.kernels.report import Report
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
    figure, axis = subplots(size=(13, 2.6))
    register = order // 2 // 16
    axis.imshow(register, cmap="viridis", vmin=-1.2, vmax=4, alpha=0.55, aspect="auto")
    for (row, column), place in np.ndenumerate(order):
        axis.text(
            column,
            row,
            str(place // 2),
            ha="center",
            va="center",
            fontsize=9,
            weight="bold" if place % 2 else "normal",
        )
    for edge in range(8, order.shape[1], 8):
        axis.axvline(edge - 0.5, color="black", linewidth=1.6)
    axis.set(
        title="byte of each weight; plain in its low half, bold in its high half; one colour is one vector of 16 bytes"
    )
    axis.set_xticks(
        range(0, order.shape[1], 8), [f"column {k}" for k in range(0, order.shape[1], 8)]
    )
    axis.set_yticks(range(len(order)), [f"output {n}" for n in range(len(order))])
    told = "; ".join(
        f"output {n}: bytes {int(row[0]) // 2} to {int(row[7]) // 2} for columns 0 to 7"
        for n, row in enumerate(order)
    )
    alt = f"A grid of {len(order)} outputs by {order.shape[1]} columns with the number of the byte that holds each weight. {told}."
    return finish(
        figure, alt + " Columns 16 on lie in the high halves of the bytes of columns 0 on."
    )


def counts(report: Report) -> Picture:
    """Executed instructions to 32 multiply-adds, by class, GEMV beside GEMM; plain C is told in words, since it would dwarf the rest."""
    figure, axes = subplots(1, 2, size=(12, 3.1), sharex=True)
    words = []
    for axis, form in zip(axes, ("gemv", "gemm"), strict=True):
        plain, *shown = (count for count in report.counts if count.kernel.endswith(form))
        names = [count.kernel.removesuffix(f"_{form}") for count in shown]
        mixes = [
            {name: 32 * n / count.macs for name, n in count.by_class.items()} for count in shown
        ]
        labels = [name.replace("kleidiai", "KleidiAI") for name in names]
        class_bars(axis, labels, mixes, " {:.1f}")
        limits, y = [32 / count.limit for count in shown], np.arange(len(shown))
        mark = {"color": "black", "linewidth": 2.5, "label": "the instruction set's limit"}
        axis.vlines(limits, y - 0.4, y + 0.4, **mark)
        rows = f"{shown[0].rows} row{'s' * (shown[0].rows > 1)}"
        axis.set(
            title=f"{form.upper()}: {rows} by {report.shape[1]} outputs, {report.shape[2]} columns\n"
            f"(plain C: {32 / plain.per_instruction:.0f})",
            xlabel="instructions to 32 multiply-adds",
        )
        words += [
            f"{count.kernel} {32 / count.per_instruction:.1f}, at the limit {limit:.0f}"
            for count, limit in zip(shown, limits, strict=True)
        ]
    legend = axes[1].get_legend_handles_labels()
    figure.legend(*legend, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    bars = "Bars of executed instructions to 32 multiply-adds, not time, cut by class: "
    return finish(figure, f"{bars}{'; '.join(words)}.")


def cores(report: Report) -> Picture:
    """Multiply-adds to a cycle of the GEMM kernels on each core, by the static model."""
    figure, axis = subplots(size=(10.5, 4.6))
    told = []
    for y, core in enumerate(CORES):
        models = {kernel: report.model(kernel, core) for kernel in MARKS}
        rates = {kernel: model.per_cycle for kernel, model in models.items() if model.per_cycle}
        axis.plot(
            [min(rates.values()), max(rates.values())],
            [y, y],
            color="0.75",
            linewidth=1.5,
            zorder=1,
        )
        for number, (kernel, (mark, label)) in enumerate(MARKS.items()):
            if kernel in rates:
                name = label if core == "neoverse-n2" else None
                size = 130 if mark == "*" else 75
                axis.scatter(
                    rates[kernel],
                    y,
                    s=size,
                    color=CYCLE[number],
                    marker=mark,
                    edgecolor="black",
                    linewidth=0.6,
                    zorder=2,
                    label=name,
                )
        gain = (
            f"  i8mm {rates['i8mm_gemm'] / rates['dotprod_gemm']:.1f}× dotprod"
            if "i8mm_gemm" in rates
            else "  no smmla"
        )
        axis.text(max(rates.values()) * 1.05, y, gain, va="center", fontsize=9)
        told.append(
            f"{core}: "
            + ", ".join(f"{MARKS[kernel][1]} {rate:.1f}" for kernel, rate in rates.items())
            + gain.replace("  ", ", ")
        )
    borrowed = {core: report.model("neon_gemm", core).scheduled_as for core in CORES}
    names = [
        core + (f"\n(as {borrowed[core]})" if borrowed[core] != core else "") for core in CORES
    ]
    axis.set_yticks(
        range(len(CORES)),
        [f"{name}, {CORES[core]}" for name, core in zip(names, CORES, strict=True)],
        fontsize=9,
    )
    axis.set(
        xscale="log",
        xlim=(1.4, 90),
        xlabel="multiply-adds to a cycle, at best",
        title="llvm-mca: a static model of the hot loop, not a measurement",
    )
    axis.set_xticks([2, 4, 8, 16, 32, 64], ["2", "4", "8", "16", "32", "64"])
    axis.minorticks_off()
    axis.invert_yaxis()
    axis.legend(loc="upper right", frameon=False)
    return finish(
        figure,
        "Multiply-adds to a cycle by a static model, not measured, of each core. "
        + "; ".join(told)
        + ".",
    )
