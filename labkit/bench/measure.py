"""One benchmark for all parts and ways to run them: two sides of a comparison, measured in pairs.

Each pair is two fresh processes, open at once, one idle while the other runs, in random
order. Fresh ones, because a process keeps its luck: where its memory happens to lie makes
one process of a program up to a fifth slower than the next, for as long as it lives, and
no number of values within it shows that. In each process every part is warmed up until it
is steady and then gives one value. Every value is kept, not a summary (after pyperf).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from labkit.base import stats
from labkit.bench import results
from labkit.bench.comparisons import PARTS, Side
from labkit.bench.plan import BenchPlan, require_possible
from labkit.bench.results import BenchResult
from labkit.bench.rows import Comparison, Measured
from labkit.bench.runner import Runner, open_runner
from labkit.bench.unfinished import Unfinished
from labkit.bench.watch import Watch
from labkit.engine.lanes import Lane
from labkit.model import manifest

STEADY = 0.05  # warm-ups end when the last two lie within this share of each other
MOST_WARMUPS, WARM_UP_S = 20, 5.0  # but two at least
LONG_S = 1.0  # one is enough for a pass as long as this: it is soon as warm as it gets
BATCH_S = 0.02  # a value averages as many passes as fill this: no interrupt or clock decides it


def run(
    plan: BenchPlan,
    *,
    on_step: Callable[[int, int, str], object] = lambda *_: None,
    on_words: Callable[[str], object] = lambda _: None,
    open_side: Callable[[Side, BenchPlan], Runner] = open_runner,
) -> BenchResult:
    """Carry out a plan. Interrupted, it gives what is whole: comparisons with enough pairs; and
    keeps the pairs of one that is not, with which the next run of the plan goes on.

    Parameters
    ----------
    plan
        What to measure.
    on_step
        Called with (pairs done, pairs in all, comparison) before each pair and at the end.
    on_words
        Told how long a comparison will take, once each part has run once; and what was kept.
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
        both, order, stopped = plan.sides(name, bits), orders(plan.pairs, rng), False
        kept = Unfinished(plan, both, about)
        job = Job(name, both, parts, kept.read(), plan.lane)
        tell = partial(_tell, on_words, name, plan.pairs)
        if job.order:
            on_words(f"{name}: goes on after pair {len(job.order)}, kept in {kept.file}")
        try:
            for done in range(len(job.order), plan.pairs):
                on_step(number * plan.pairs + done, total, name)
                job.measure(order[done], lambda side: open_side(side, plan), tell)
                kept.keep(job.state())
        except KeyboardInterrupt:
            stopped = True
        else:
            kept.forget()
        if len(job.order) >= stats.LEAST_PAIRS:
            rows += job.rows()
            for processes in job.processes.values():
                versions |= processes[-1]["versions"]
        elif job.order:
            on_words(
                f"{name}: pairs done so far ({len(job.order)}) are kept; "
                "the same command goes on with them"
            )
        if stopped:
            if not rows:
                raise KeyboardInterrupt
            break
    on_step(total, total, "done")
    options = plan.to_dict()
    options["comparisons"] = tuple(dict.fromkeys(row.name for row in rows))
    return results.result(about, options, lane=plan.lane, rows=rows, versions=versions)


def orders(pairs: int, rng: np.random.Generator) -> tuple[str, ...]:
    """Which side begins in each pair: one half of them the other way round, shuffled."""
    return tuple(rng.permutation(np.resize(("AB", "BA"), pairs)).tolist())


def _tell(on_words: Callable[[str], object], name: str, pairs: int, pair_s: float) -> None:
    on_words(f"{name}: {pairs} pairs, about {minutes(pairs * pair_s)}")


def minutes(seconds: float) -> str:
    """A length of time in words.

    >>> minutes(48.2), minutes(800)
    ('48 s', '13 min')
    """
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def warm_up(once: Callable[[], float]) -> tuple[float, ...]:
    """Run until it is steady, at most `MOST_WARMUPS` times or `WARM_UP_S`, what takes `LONG_S` once
    only; the seconds of each.
    """
    taken = [once()]
    if taken[0] > LONG_S:
        return tuple(taken)
    taken.append(once())
    while not steady(taken) and len(taken) < MOST_WARMUPS and sum(taken) < WARM_UP_S:
        taken.append(once())
    return tuple(taken)


def steady(taken: Sequence[float]) -> bool:
    """Whether the last two lie within `STEADY` of each other."""
    return len(taken) > 1 and max(taken[-2:]) <= (1 + STEADY) * min(taken[-2:])


class Job:
    """One comparison while it is measured: baseline is side A, candidate side B."""

    def __init__(
        self,
        name: str,
        both: Sequence[Side],
        parts: Sequence[str],
        state: Mapping[str, Any] = MappingProxyType({}),
        lane: Lane | None = None,
    ) -> None:
        self.name, self.sides, self.parts = name, dict(zip("AB", both, strict=True)), parts
        # Of each process its facts, and what each part took: the warm-ups, and the value after them
        self.processes: dict[str, list[dict[str, Any]]] = state.get("processes", {"A": [], "B": []})
        self.repeat: dict[str, int] = state.get("repeat", {})
        self.order: list[str] = state.get("order", [])
        self.about: dict[str, tuple[str, int | None]] = state.get("about", {})
        self.before, self.watch = state.get("disturbed", []), Watch(lane)

    def state(self) -> dict[str, Any]:
        """All that another job needs to go on."""
        kept = {name: getattr(self, name) for name in ("processes", "repeat", "order", "about")}
        return kept | {"disturbed": self._disturbed()}

    def _disturbed(self) -> list[str]:
        return [*dict.fromkeys((*self.before, *self.watch.warnings()))]

    def measure(
        self,
        pair: str,
        open_side: Callable[[Side], Runner],
        on_pace: Callable[[float], object] = lambda _: None,
    ) -> None:
        """One value of each part on each side, in the order given. The first pair tells how long
        one takes, once each part has run once.
        """
        with ExitStack() as stack:
            alive: dict[str, Runner] = {}
            taken: dict[str, dict[str, tuple[float, ...]]] = {}
            for key in pair:
                alive[key] = stack.enter_context(closing(open_side(self.sides[key])))
                taken[key] = {"load": (alive[key].load(),)}
            if not self.order:
                loading_s = sum(parts["load"][0] for parts in taken.values())
                on_pace(loading_s + self._plan(list(alive.values())))
            for part, repeat in self.repeat.items():
                for key, one in alive.items():
                    once = partial(one.run, part, repeat)
                    taken[key][part] = (*warm_up(once), once())
            self.watch.look()
            for key, one in alive.items():
                self.processes[key].append({"taken": taken[key], **one.facts()})
            self.about = alive["B"].about
        self.order.append(pair)

    def _plan(self, alive: Sequence[Runner]) -> float:
        """Run each part: how many passes make a value. The seconds that all of a pair's will take,
        with as many warm-ups as are usual.
        """
        seconds = 0.0
        for part in self.parts:
            if part == "load":
                continue
            passes = [one.run(part, 1) for one in alive]
            each = list(passes)
            if min(passes) < 10 * BATCH_S:  # else one is enough, whatever disturbed it
                passes += [one.run(part, 1) for one in alive for _ in range(2)]
            self.repeat[part] = math.ceil(BATCH_S / min(passes))
            seconds += sum(self.repeat[part] * s * (2 if s > LONG_S else 4) for s in each)
        return seconds

    def rows(self) -> list[Comparison]:
        """What was measured, part by part, with what is doubtful about it."""
        disturbed = self._disturbed()
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
    pairs_of = zip(measured.warmup_s, measured.values_s, strict=False)
    if unsteady := sum(not steady(w if len(w) > 1 else (*w, value)) for w, value in pairs_of):
        pairs = f"{unsteady} of {len(measured.values_s)} pairs"
        texts.append(f"not steady when its warm-ups ended in {pairs}")
    if measured.side.kleidiai and not measured.kleidiai_running:
        texts.append(
            "KleidiAI is turned on, but MNN did not say that it runs; labkit kleidiai tells why"
        )
    return [f"{measured.side.label}: {text}" for text in texts]
