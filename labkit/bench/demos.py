"""Two builds' own program, timed in pairs as `labkit.bench.measure` does, as far as it can be."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from labkit.base import stats
from labkit.bench import results
from labkit.bench.comparisons import Side
from labkit.bench.measure import Job, orders
from labkit.bench.plan import require_pairs
from labkit.bench.results import BenchResult
from labkit.building import llm_demo
from labkit.building.record import BuildRecord
from labkit.engine import lanes
from labkit.engine.lanes import Lane
from labkit.model import manifest
from labkit.model.images import ImageLike


def demos(
    baseline: BuildRecord,
    candidate: BuildRecord,
    model: Path,
    image: ImageLike,
    question: str,
    *,
    lane: Lane | None = None,
    pairs: int = stats.LEAST_PAIRS,
    on_step: Callable[[int, int, str], object] = lambda *_: None,
) -> BenchResult:
    """Time two builds' ``llm_demo``, in pairs of fresh processes, each pair in random order.

    They run natively, or in a lane such as a phone. Each process answers once; what it needs to
    start, to load and to warm up stays in vision and prefill, as in a first question to a fresh
    program.

    Returns
    -------
    labkit.bench.results.BenchResult
        Rows for `labkit.building.llm_demo.PHASES`; ratios above 1 where the candidate is faster.

    Raises
    ------
    BuildError
        If a build is not for this lane.
    ResultError
        If there are too few pairs.
    """
    require_pairs(pairs)
    options: dict[str, Any] = {"threads": 1, "precision": "normal", "memory": "low"}
    builds = {"A": baseline, "B": candidate}
    sides = [
        Side(
            label=f"llm_demo, {build.variant}",
            runtime="llm_demo",
            kleidiai=build.default_on,
            **options,
        )
        for build in builds.values()
    ]
    lane = lane or lanes.native()
    job = Job("llm_demo", sides, llm_demo.PHASES, lane=lane)
    for done, pair in enumerate(orders(pairs, np.random.default_rng(0))):
        on_step(done, pairs, job.name)
        for key in pair:
            answered = llm_demo.ask(builds[key], model, image, question, lane)
            process = {
                "taken": {phase: (seconds,) for phase, seconds in answered.seconds.items()},
                "peak_bytes": answered.peak_bytes or 0,
                "kleidiai_running": answered.kleidiai,
            }
            job.processes[key].append(process)
        job.watch.look()
        job.order.append(pair)
    on_step(pairs, pairs, "done")
    tokens = (None, answered.prompt_tokens, answered.decode_tokens)
    job.about = {
        phase: (f"{n} tokens" if n else "one picture", n)
        for phase, n in zip(job.parts, tokens, strict=True)
    }
    return results.result(
        manifest.read(model),
        {"pairs": pairs, **options, "question": question},
        lane=lane,
        rows=job.rows(),
        versions={"mnn": candidate.version},
    )
