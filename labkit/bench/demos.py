"""Two builds' ``llm_demo``, timed in pairs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from labkit.base import hardware, stats
from labkit.base.errors import ResultError
from labkit.bench import measure
from labkit.bench.results import BenchResult, Comparison, Measured, Side
from labkit.building.llm_demo import PHASES, DemoRun, ask
from labkit.building.record import BuildRecord
from labkit.engine import lanes
from labkit.model import manifest
from labkit.model.images import ImageLike


def timed(
    baseline: BuildRecord, candidate: BuildRecord, model: Path, image: ImageLike, question: str, *, pairs: int = stats.LEAST_PAIRS,
    threads: int = 1, seed: int = 0, on_step: Callable[[int, int, str], None] = lambda *_: None,
) -> BenchResult:  # fmt: skip
    """Time two native builds' ``llm_demo``, in pairs of fresh processes, each pair in random order.

    Each process answers once; what it needs to start, to load and to warm up stays in vision and prefill, as in a first
    question to a fresh program.

    Returns
    -------
    labkit.bench.results.BenchResult
        Rows for `PHASES`; ratios above 1 where the candidate is faster.

    Raises
    ------
    BuildError
        If a build is not for this machine.
    ResultError
        If there are too few pairs.
    """
    lane, watch = lanes.native(), measure.Watch()
    if pairs < stats.LEAST_PAIRS:
        raise ResultError(
            f"expected at least {stats.LEAST_PAIRS} pairs, without which there is no interval, received {pairs}"
        )
    records, runs = {"A": baseline, "B": candidate}, {"A": list[DemoRun](), "B": list[DemoRun]()}
    order = measure.orders(pairs, np.random.default_rng(seed))
    for number, pair in enumerate(order):
        on_step(number, pairs, "llm_demo")
        for side in pair:
            runs[side].append(ask(records[side], model, image, question, lane, threads=threads))
        watch.look()
    on_step(pairs, pairs, "done")
    rows = []
    for phase, tokens in zip(
        PHASES, (None, runs["B"][0].prompt_tokens, runs["B"][0].decode_tokens), strict=True
    ):
        both, doubts = [], []
        for side, record in records.items():
            label, values = (
                f"llm_demo, {record.variant}",
                tuple(float(getattr(run, f"{phase}_s")) for run in runs[side]),
            )
            doubts += [f"{label}: {text}" for text in stats.stability(values)]
            both.append(Measured(
                side=Side(label=label, runtime="llm_demo", threads=threads, precision="normal", memory="low", kleidiai=record.default_on),
                values_s=values, warmup_s=(), repeat=1, peak_bytes=max(run.peak_bytes or 0 for run in runs[side]),
                kleidiai_running=runs[side][0].kleidiai,
            ))  # fmt: skip
        size = f"{tokens} tokens" if tokens else "one picture"
        rows.append(Comparison(name="llm_demo", part=phase, size=size, tokens=tokens, baseline=both[0], candidate=both[1], order=order,
                               warnings=(*doubts, *watch.warnings())))  # fmt: skip
    plan = {
        "pairs": pairs,
        "threads": threads,
        "precision": "normal",
        "memory": "low",
        "question": question,
    }
    return measure.result(
        manifest.read(model),
        hardware.describe(),
        plan,
        lane=lane,
        rows=rows,
        versions={"mnn": candidate.version},
    )
