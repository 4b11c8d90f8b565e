"""One benchmark for all parts and ways to run them: two sides of a comparison, measured in pairs.

Each pair is two fresh processes, open at once, one idle while the other runs, in random
order. Fresh ones, because a process keeps its luck: where its memory happens to lie makes
one process of a program up to a fifth slower than the next, for as long as it lives, and
no number of values within it shows that. In each process every part is warmed up until it
is steady and then gives one value. Every value is kept, not a summary (after pyperf).
`demos` times two builds' own program the same way, as far as it lets itself.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from labkit.base import stats
from labkit.bench import results
from labkit.bench.comparisons import PARTS, Side
from labkit.bench.plan import BenchPlan, require_pairs, require_possible
from labkit.bench.results import BenchResult
from labkit.bench.rows import Comparison, Measured
from labkit.bench.runner import Runner, open_runner
from labkit.bench.watch import Watch
from labkit.building import llm_demo
from labkit.building.record import BuildRecord
from labkit.engine import lanes
from labkit.model import manifest
from labkit.model.images import ImageLike

STEADY = 0.05  # warm-ups end when the last two lie within this share of each other
MOST_WARMUPS, WARM_UP_S = 20, 5.0  # but two at least: long passes are soon as warm as they get
BATCH_S = 0.02  # a value averages as many passes as fill this: no interrupt or clock decides it


def run(
    plan: BenchPlan,
    *,
    on_step: Callable[[int, int, str], object] = lambda *_: None,
    open_side: Callable[[Side, BenchPlan], Runner] = open_runner,
) -> BenchResult:
    """Carry out a plan. Interrupted, it gives what is whole: comparisons with enough pairs.

    Parameters
    ----------
    plan
        What to measure.
    on_step
        Called with (pairs done, pairs in all, comparison) before each pair and at the end.
    open_side
        Opens a side; tests give another one.

    Raises
    ------
    ResultError
        In a lane whose seconds are not a CPU's; if this machine, model or checkpoint cannot be
        compared so.
    ModelError, CheckpointError, EngineCrashed, EngineError
        The model, its original or an engine failed.
    """
    about = manifest.read(plan.model)
    require_possible(plan, about)
    kinds = {str(about.options[key]) for key in ("vision_bits", "weight_bits")}
    bits = "int" + "/".join(sorted(kinds))
    rng, total = np.random.default_rng(plan.seed), plan.pairs * len(plan.comparisons)
    parts = [part for part in PARTS if part in plan.parts]
    rows: list[Comparison] = []
    versions: dict[str, str] = {}
    for number, name in enumerate(plan.comparisons):
        job, stopped = _Job(name, plan.sides(name, bits), parts), False
        try:
            for done, pair in enumerate(orders(plan.pairs, rng), number * plan.pairs):
                on_step(done, total, name)
                job.measure(pair, lambda side: open_side(side, plan))
        except KeyboardInterrupt:
            stopped = True
        if len(job.order) >= stats.LEAST_PAIRS:
            rows += job.rows()
            for processes in job.processes.values():
                versions |= processes[-1]["versions"]
        if stopped:
            if not rows:
                raise KeyboardInterrupt
            break
    on_step(total, total, "done")
    options = plan.to_dict()
    options["comparisons"] = tuple(dict.fromkeys(row.name for row in rows))
    return results.result(about, options, lane=plan.lane, rows=rows, versions=versions)


def demos(
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
    lane, job = lanes.native(), _Job("llm_demo", sides, llm_demo.PHASES)
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


def orders(pairs: int, rng: np.random.Generator) -> tuple[str, ...]:
    """Which side begins in each pair: one half of them the other way round, shuffled."""
    return tuple(rng.permutation(np.resize(("AB", "BA"), pairs)).tolist())


def warm_up(once: Callable[[], float]) -> tuple[float, ...]:
    """Run until it is steady, at most `MOST_WARMUPS` times or `WARM_UP_S`; the seconds of each."""
    taken = [once(), once()]
    while not steady(taken) and len(taken) < MOST_WARMUPS and sum(taken) < WARM_UP_S:
        taken.append(once())
    return tuple(taken)


def steady(taken: Sequence[float]) -> bool:
    """Whether the last two lie within `STEADY` of each other."""
    return len(taken) > 1 and max(taken[-2:]) <= (1 + STEADY) * min(taken[-2:])


class _Job:
    """One comparison while it is measured: baseline is side A, candidate side B."""

    about: dict[str, tuple[str, int | None]]

    def __init__(self, name: str, both: Sequence[Side], parts: Sequence[str]) -> None:
        self.name, self.sides, self.parts = name, dict(zip("AB", both, strict=True)), parts
        # Of each process its facts, and what each part took: the warm-ups, and the value after them
        self.processes: dict[str, list[dict[str, Any]]] = {"A": [], "B": []}
        self.repeat, self.order, self.watch = dict[str, int](), list[str](), Watch()

    def measure(self, pair: str, open_side: Callable[[Side], Runner]) -> None:
        """One value of each part on each side, in the order given."""
        with ExitStack() as stack:
            alive: dict[str, Runner] = {}
            taken: dict[str, dict[str, tuple[float, ...]]] = {}
            for key in pair:
                alive[key] = stack.enter_context(closing(open_side(self.sides[key])))
                taken[key] = {"load": (alive[key].load(),)}
            for part in self.parts:
                if part == "load":
                    continue
                if part not in self.repeat:
                    passes = [one.run(part, 1) for one in alive.values()]
                    if min(passes) < 10 * BATCH_S:  # else one is enough, whatever disturbed it
                        passes += [one.run(part, 1) for one in alive.values() for _ in range(2)]
                    self.repeat[part] = math.ceil(BATCH_S / min(passes))
                for key, one in alive.items():
                    once = partial(one.run, part, self.repeat[part])
                    taken[key][part] = (*warm_up(once), once())
            self.watch.look()
            for key, one in alive.items():
                self.processes[key].append({"taken": taken[key], **one.facts()})
            self.about = alive["B"].about
        self.order.append(pair)

    def rows(self) -> list[Comparison]:
        """What was measured, part by part, with what is doubtful about it."""
        disturbed = self.watch.warnings()
        rows = []
        for part in self.parts:
            baseline, candidate = (self._measured(key, part) for key in "AB")
            size, tokens = self.about[part]
            row = Comparison(
                name=self.name,
                part=part,
                size=size,
                tokens=tokens,
                baseline=baseline,
                candidate=candidate,
                order=tuple(self.order),
                warnings=(*doubts(baseline), *doubts(candidate), *disturbed),
            )
            rows.append(row)
        return rows

    def _measured(self, key: str, part: str) -> Measured:
        processes = self.processes[key]
        taken = [process["taken"][part] for process in processes]
        return Measured(
            side=self.sides[key],
            values_s=tuple(values[-1] for values in taken),
            warmup_s=tuple(values[:-1] for values in taken if len(values) > 1),
            repeat=self.repeat.get(part, 1),
            peak_bytes=max(process["peak_bytes"] for process in processes),
            kleidiai_running=processes[-1]["kleidiai_running"],
        )


def doubts(measured: Measured) -> list[str]:
    """What is doubtful about the values of one side, in words."""
    texts = [*stats.stability(measured.values_s)]
    if unsteady := sum(not steady(taken) for taken in measured.warmup_s):
        pairs = f"{unsteady} of {len(measured.values_s)} pairs"
        texts.append(f"not steady when its warm-ups ended in {pairs}")
    if measured.side.kleidiai and not measured.kleidiai_running:
        texts.append(
            "KleidiAI is turned on, but MNN did not say that it runs; labkit kleidiai tells why"
        )
    return [f"{measured.side.label}: {text}" for text in texts]
