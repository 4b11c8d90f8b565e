"""Two builds' ``llm_demo``, timed in pairs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from labkit.base import stats
from labkit.bench import measure, results
from labkit.bench.comparisons import Side
from labkit.bench.plan import require_pairs
from labkit.bench.results import BenchResult
from labkit.bench.rows import Comparison, Measured
from labkit.bench.watch import Watch
from labkit.building.llm_demo import PHASES, DemoRun, ask
from labkit.building.record import BuildRecord
from labkit.engine import lanes
from labkit.model import manifest
from labkit.model.images import ImageLike


def timed(
    baseline: BuildRecord,
    candidate: BuildRecord,
    model: Path,
    image: ImageLike,
    question: str,
    *,
    pairs: int = stats.LEAST_PAIRS,
    on_step: Callable[[int, int, str], object] = lambda *_: None,
) -> BenchResult:
    """Time two native builds' ``llm_demo``, in pairs of fresh processes, each pair in random order.

    Each process answers once; what it needs to start, to load and to warm up stays in vision and
    prefill, as in a first question to a fresh program.

    Returns
    -------
    labkit.bench.results.BenchResult
        Rows for `labkit.building.llm_demo.PHASES`; ratios above 1 where the candidate is faster.

    Raises
    ------
    BuildError
        If a build is not for this machine.
    ResultError
        If there are too few pairs.
    """
    require_pairs(pairs)
    lane, watch = lanes.native(), Watch()
    options: dict[str, Any] = {"threads": 1, "precision": "normal", "memory": "low"}
    runs: dict[str, list[DemoRun]] = {"A": [], "B": []}
    records = {"A": baseline, "B": candidate}
    order = measure.orders(pairs, np.random.default_rng(0))
    for done, pair in enumerate(order):
        on_step(done, pairs, "llm_demo")
        for key in pair:
            runs[key].append(ask(records[key], model, image, question, lane))
        watch.look()
    on_step(pairs, pairs, "done")

    def measured(key: str, phase: str) -> Measured:
        label, kleidiai = f"llm_demo, {records[key].variant}", records[key].default_on
        return Measured(
            side=Side(label=label, runtime="llm_demo", kleidiai=kleidiai, **options),
            values_s=tuple(run.seconds[phase] for run in runs[key]),
            warmup_s=(),
            repeat=1,
            peak_bytes=max(run.peak_bytes or 0 for run in runs[key]),
            kleidiai_running=runs[key][0].kleidiai,
        )

    rows, disturbed = [], watch.warnings()
    first = runs["B"][0]
    for phase, tokens in zip(PHASES, (None, first.prompt_tokens, first.decode_tokens), strict=True):
        both = measured("A", phase), measured("B", phase)
        row = Comparison(
            name="llm_demo",
            part=phase,
            size=f"{tokens} tokens" if tokens else "one picture",
            tokens=tokens,
            baseline=both[0],
            candidate=both[1],
            order=order,
            warnings=(*measure.doubts(both[0]), *measure.doubts(both[1]), *disturbed),
        )
        rows.append(row)
    return results.result(
        manifest.read(model),
        {"pairs": pairs, **options, "question": question},
        lane=lane,
        rows=rows,
        versions={"mnn": candidate.version},
    )
