"""One benchmark for all parts and ways to run them: two sides of a comparison, measured in pairs.

Each pair is two fresh processes, open at once, one idle while the other runs, in random
order. Fresh ones, because a process keeps its luck: where its memory happens to lie makes
one process of a program up to a fifth slower than the next, for as long as it lives, and
no number of values within it shows that. In each process every part is warmed up until it
is steady and then gives one value. Every value is kept, not a summary (after pyperf).
"""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from labkit import __version__
from labkit.arm.kleidiai import accelerated_types
from labkit.base import hardware, stats
from labkit.base.errors import ResultError
from labkit.bench.results import PARTS, BenchResult, Comparison, Measured, Side
from labkit.building.record import read_record
from labkit.engine.client import EngineProcess
from labkit.engine.lanes import Lane, native
from labkit.model import checkpoints, manifest, parts

COMPARISONS = {
    "kleidiai": "plain modules, MNN's own kernels against KleidiAI's (hint off, hint on)",
    "quantised": "plain modules, weights unpacked to float32 (memory normal) against kept in 4 or 8 bits (memory low)",
    "threads": "plain modules, one thread against all",
    "build": "plain modules, the stock wheel against your own build of MNN (--build DIR, made by labkit build --python)",
    "chat": "MNN-LLM end to end with its KV cache, one thread against all; the stock wheel never uses KleidiAI here",
    "transformers-fp32": "the original in transformers, float32, against MNN; decode without a KV cache on both sides",
    "transformers-bf16": "the original in transformers, bfloat16, against MNN; decode without a KV cache on both sides",
}
STEADY = 0.05  # warm-ups end when the last two lie within this share of each other
MOST_WARMUPS = 20
BATCH_S = 0.02  # a value averages as many passes as fill this, so that no interrupt or step of a clock decides it
BUSY = 0.1  # of one core, used by other programs
FREQUENCY = 0.1  # change of the CPU's clock
ANSWER_TOKENS = 16
QUESTION = "Describe the image."


@dataclass(frozen=True, kw_only=True)
class BenchPlan:
    """What will be measured. ``memory`` and ``precision`` hold for every side that does not compare them."""

    model: Path
    comparisons: tuple[str, ...]
    parts: tuple[str, ...] = PARTS
    pairs: int = stats.LEAST_PAIRS
    image: tuple[int, int] = (112, 112)
    prompt_tokens: int = 48
    threads: int = 1
    precision: str = "normal"
    memory: str = "low"
    checkpoint: str = checkpoints.MINI
    lane: Lane = field(default_factory=native)
    build: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for what, given, known in (
            ("comparisons", self.comparisons, tuple(COMPARISONS)),
            ("parts", self.parts, PARTS),
        ):
            if not given or not set(given) <= set(known):
                raise ResultError(
                    f"expected {what} among {', '.join(known)}, received {', '.join(given) or 'none'}"
                )
        if self.pairs < stats.LEAST_PAIRS:
            raise ResultError(
                f"expected at least {stats.LEAST_PAIRS} pairs, without which there is no interval, received {self.pairs}"
            )
        if "build" in self.comparisons and not self.build:
            raise ResultError(
                "expected your build's folder for the comparison 'build', received none. Name it with --build DIR"
            )
        if self.threads < 2 and {"threads", "chat"} & set(self.comparisons):
            raise ResultError(
                "comparing one thread with all needs two cores and --threads of at least 2"
            )

    def to_dict(self) -> dict[str, Any]:
        """For JSON: without folders, which are this machine's business."""
        return {
            k: v
            for k, v in asdict(self).items()
            if k not in {"model", "checkpoint", "lane", "build"}
        }


class _Transformers(Lane):
    def worker_command(self, plugin: str | None = None) -> tuple[list[str], dict[str, str]]:
        argv, env = super().worker_command(plugin)
        return [*argv[:-1], "labkit.inside.reference"], env


class Runner:
    """One side, alive in an engine process of its own; ``about`` has each part's size in words and tokens of a pass."""

    def __init__(self, side: Side, plan: BenchPlan) -> None:
        self.side, self.plan = side, plan
        self.options: dict[str, Any] = {
            "threads": side.threads,
            "precision": side.precision,
            "memory": side.memory,
        }
        vision, prefill, decode = parts.all_parts(
            plan.model, image=plan.image, prompt_tokens=plan.prompt_tokens
        )
        # One language module for both of its parts, as in a program; it is first run on one token.
        self.parts = {
            "vision": vision,
            "decode": replace(decode, name="llm"),
            "prefill": replace(prefill, name="llm"),
        }
        self.about: dict[str, tuple[str, int | None]] = {
            "load": ("both modules, each run once", None), "vision": (vision.size, None),
            "prefill": (prefill.size, plan.prompt_tokens), "decode": (decode.size, 1),
        }  # fmt: skip
        lanes = {
            "transformers": _Transformers(name="native"),
            "build": replace(plan.lane, build=plan.build),
        }
        self.engine = EngineProcess(lanes.get(side.runtime, plan.lane))

    def load(self) -> float:
        """Load all, and run each module once: MNN reads and packs weights in the first pass, not when it loads."""
        if self.side.runtime == "chat":
            seconds = float(
                self.engine.request(
                    "load_chat", directory=str(self.plan.model.resolve()), **self.options
                )["load_s"]
            )
            said = self._ask(1)
            size = f"{self.plan.image[0]}×{self.plan.image[1]} pixels, {len(said['prompt'])} prompt tokens"
            self.about = {
                name: (size, {"prefill": len(said["prompt"]), "decode": 1}.get(name))
                for name in PARTS
            }
            return seconds + sum(
                float(said[f"{name}_s"]) for name in ("vision", "prefill", "decode")
            )
        seconds = 0.0
        for part in (self.parts["vision"], self.parts["decode"]):
            if self.side.runtime == "transformers":
                folder = str(checkpoints.resolve(self.plan.checkpoint).folder)
                seconds += float(
                    self.engine.request("load_module", file=folder, key=part.name, **self.options)[
                        "load_s"
                    ]
                )
            else:
                seconds += part.load(self.engine, kleidiai=self.side.kleidiai, **self.options)
            seconds += part.forward(self.engine)[0][0]
        return seconds

    def run(self, part: str, repeat: int) -> float:
        """Mean seconds of ``repeat`` passes, timed inside the side's process: no message between processes counts."""
        if self.side.runtime != "chat":
            return float(np.mean(self.parts[part].forward(self.engine, repeat=repeat)[0]))
        tokens = ANSWER_TOKENS if part == "decode" else 1
        return float(
            np.mean(
                [self._ask(tokens)[f"{part}_s"] / tokens for _ in range(math.ceil(repeat / tokens))]
            )
        )

    def _ask(self, tokens: int) -> dict[str, Any]:
        picture = np.random.default_rng(self.plan.seed).integers(
            256, size=(*self.plan.image, 3), dtype=np.uint8
        )
        return self.engine.request(
            "ask",
            question=QUESTION,
            image=picture,
            image_pad=self._image_pad,
            stop=[],
            max_new_tokens=tokens,
            positions="mrope",
        )

    @cached_property
    def _image_pad(self) -> int:
        return manifest.read(self.plan.model).image_pad

    def facts(self) -> dict[str, Any]:
        """``peak_bytes``, ``kleidiai_running`` and ``versions``."""
        log = self.engine.log.read_text(errors="replace")
        return {
            "peak_bytes": self.engine.request("memory")["peak_bytes"],
            "kleidiai_running": accelerated_types(log),
            "versions": {
                k: v
                for k, v in self.engine.machine.items()
                if k in {"mnn", "numpy", "torch", "transformers"}
            },
        }

    def close(self) -> None:
        """End the process."""
        self.engine.close()


class Watch:
    """What else goes on in the machine while something is measured."""

    def __init__(self) -> None:
        self._start: tuple[float, ...] = (time.monotonic(), *_cpu_seconds())
        self._clocks: list[float] = []

    def look(self) -> None:
        """Note the clock of the fastest core, right after work, where it can be read."""
        import psutil

        with suppress(AttributeError, NotImplementedError, OSError, RuntimeError, ValueError):
            self._clocks.append(max(core.current for core in psutil.cpu_freq(percpu=True)))

    def warnings(self) -> tuple[str, ...]:
        """What may have disturbed, in words."""
        elapsed, used, own = (
            now - then
            for now, then in zip((time.monotonic(), *_cpu_seconds()), self._start, strict=True)
        )
        found = []
        if used - own > BUSY * elapsed:
            found.append(
                f"busy machine: other programs used {(used - own) / elapsed:.1f} cores meanwhile; close them and measure again"
            )
        low, high = min(self._clocks, default=0), max(self._clocks, default=0)
        if high - low > FREQUENCY * high:
            found.append(f"frequency: the CPU's clock went from {low:.0f} to {high:.0f} MHz")
        return tuple(found)


def _cpu_seconds() -> tuple[float, float]:
    """CPU seconds that everything has used since boot, and this process with its children."""
    import psutil

    total, own = psutil.cpu_times(), sum(os.times()[:4])
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            own += sum(child.cpu_times()[:2])
    return sum(
        getattr(total, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal")
    ), own


def warm_up(once: Callable[[], float]) -> tuple[tuple[float, ...], bool]:
    """Run until the last two lie within `STEADY` of each other; their seconds, and whether they did in time."""
    taken = [once()]
    while len(taken) < MOST_WARMUPS:
        taken.append(once())
        if max(taken[-2:]) <= (1 + STEADY) * min(taken[-2:]):
            return tuple(taken), True
    return tuple(taken), False


def orders(pairs: int, rng: np.random.Generator) -> tuple[str, ...]:
    """Which side begins in each pair: one half of them the other way round, shuffled."""
    order = [("AB", "BA")[i % 2] for i in range(pairs)]
    rng.shuffle(order)
    return tuple(order)


def sides(name: str, plan: BenchPlan, bits: str) -> tuple[Side, Side]:
    """Baseline and candidate of a comparison; ``bits`` names the model's weights, such as "int4"."""
    usual: dict[str, Any] = {
        "runtime": "modules",
        "threads": plan.threads,
        "precision": plan.precision,
        "memory": plan.memory,
    }
    if name == "kleidiai":
        return Side(**usual, label="KleidiAI off"), Side(
            **usual, label="KleidiAI on", kleidiai=True
        )
    if name == "quantised":
        return Side(**{**usual, "memory": "normal"}, label="unpacked to float32"), Side(
            **{**usual, "memory": "low"}, label=f"kept {bits}"
        )
    if name == "build" and plan.build:
        own = read_record(plan.build)
        return Side(**usual, label="stock wheel"), Side(
            **{**usual, "runtime": "build"}, label=f"own build, {own.variant}"
        )
    if name in {"threads", "chat"}:
        usual["runtime"], words = ("chat", "chat, ") if name == "chat" else ("modules", "")
        return Side(**{**usual, "threads": 1}, label=f"{words}1 thread"), Side(
            **usual, label=f"{words}{plan.threads} threads"
        )
    kind = {"transformers-fp32": "float32", "transformers-bf16": "bfloat16"}[name]
    return Side(
        **{**usual, "runtime": "transformers", "precision": kind}, label=f"transformers {kind}"
    ), Side(**usual, label=f"MNN {bits}")


def default_comparisons(threads: int) -> tuple[str, ...]:
    """What this machine can compare without torch."""
    first = "kleidiai" if hardware.describe().can_run_kleidiai else "quantised"
    return (first, "threads", "chat") if threads > 1 else (first,)


def run(
    plan: BenchPlan,
    *,
    on_step: Callable[[int, int, str], None] | None = None,
    open_runner: Callable[[Side, BenchPlan], Runner] = Runner,
) -> BenchResult:
    """Carry out a plan.

    Parameters
    ----------
    plan
        What to measure.
    on_step
        Called with (pairs done, pairs in all, comparison) before each pair and at the end.
    open_runner
        Opens a side; tests give another one.

    Raises
    ------
    ResultError
        In a lane whose seconds are not a CPU's; if this machine, model or checkpoint cannot be compared so.
    ModelError, CheckpointError, EngineCrashed, EngineError
        The model, its original or an engine failed.
    """
    about, machine, tell = (
        manifest.read(plan.model),
        hardware.describe(),
        on_step or (lambda *_: None),
    )
    _check(plan, about, machine)
    bits = "int" + "/".join(
        sorted({str(about.options[key]) for key in ("vision_bits", "weight_bits")})
    )
    rng, versions = np.random.default_rng(plan.seed), dict[str, str]()
    rows: list[Comparison] = []
    total = plan.pairs * len(plan.comparisons)
    for name in plan.comparisons:
        job = _Job(name, sides(name, plan, bits), plan)
        for pair in orders(plan.pairs, rng):
            tell(len(rows) // len(plan.parts) * plan.pairs + len(job.order), total, name)
            job.measure(pair, open_runner)
        rows += job.rows()
        versions |= job.facts["A"]["versions"] | job.facts["B"]["versions"]
    tell(total, total, "done")
    return result(about, machine, plan.to_dict(), lane=plan.lane, rows=rows, versions=versions)


def result(
    about: manifest.Manifest,
    machine: hardware.Machine,
    plan: dict[str, Any],
    *,
    lane: Lane,
    rows: list[Comparison],
    versions: dict[str, str],
) -> BenchResult:
    """What was measured, with the machine and the date."""
    model = {
        "name": about.source["name"],
        "parameters": about.source["parameters"],
        "bytes": about.total_bytes,
        "options": about.options,
    }
    kept = {
        k: v
        for k, v in asdict(machine).items()
        if k not in {"memory_available_bytes", "disk_free_bytes"}
    }
    return BenchResult(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"), machine=json.loads(json.dumps(kept)),  # as it will be read again
        lane=lane.name, versions={"labkit": __version__, "python": platform.python_version()} | versions, model=model,
        plan=json.loads(json.dumps(plan)), rows=tuple(rows),
    )  # fmt: skip


class _Job:
    """One comparison while it is measured: baseline is side A, candidate side B."""

    def __init__(self, name: str, both: tuple[Side, Side], plan: BenchPlan) -> None:
        self.name, self.plan, self.sides = name, plan, dict(zip("AB", both, strict=True))
        self.parts = [part for part in PARTS if part in plan.parts]
        self.values: dict[tuple[str, str], list[float]] = defaultdict(list)  # by side and part
        self.warm: dict[tuple[str, str], list[tuple[float, ...]]] = defaultdict(list)
        self.unsteady: dict[tuple[str, str], int] = defaultdict(int)
        self.repeat = dict.fromkeys(PARTS, 0)
        self.facts: dict[str, dict[str, Any]] = {}
        self.about: dict[str, tuple[str, int | None]] = {}
        self.order: list[str] = []
        self.watch = Watch()

    def measure(self, pair: str, open_runner: Callable[[Side, BenchPlan], Runner]) -> None:
        """One value of each part on each side, in the order given."""
        with ExitStack() as stack:
            alive: dict[str, Runner] = {}
            for side in pair:
                alive[side] = open_runner(self.sides[side], self.plan)
                stack.callback(alive[side].close)
                self.values[side, "load"].append(alive[side].load())
            for part in (p for p in self.parts if p != "load"):
                if not self.repeat[part]:
                    fastest = min(
                        min(runner.run(part, 1) for _ in range(3)) for runner in alive.values()
                    )
                    self.repeat[part] = math.ceil(BATCH_S / fastest)
                for side in pair:

                    def once(runner: Runner = alive[side], part: str = part) -> float:
                        return runner.run(part, self.repeat[part])

                    taken, steady = warm_up(once)
                    self.values[side, part].append(once())
                    self.warm[side, part].append(taken)
                    self.unsteady[side, part] += not steady
            self.watch.look()
            for side, runner in alive.items():
                facts, before = runner.facts(), self.facts.get(side, {}).get("peak_bytes", 0)
                self.facts[side] = facts | {"peak_bytes": max(before, facts["peak_bytes"])}
            self.about = alive["B"].about
        self.order.append(pair)

    def rows(self) -> list[Comparison]:
        """What was measured, part by part, with what is doubtful about it."""
        disturbed, rows = self.watch.warnings(), []
        for part in self.parts:
            doubts, measured = [], []
            for key, side in self.sides.items():
                facts, values = self.facts[key], tuple(self.values[key, part])
                measured.append(Measured(side=side, values_s=values, warmup_s=tuple(self.warm[key, part]), repeat=self.repeat[part] or 1,
                                         peak_bytes=facts["peak_bytes"], kleidiai_running=facts["kleidiai_running"]))  # fmt: skip
                found = [*stats.stability(values)]
                if self.unsteady[key, part]:
                    found.append(
                        f"not steady after {MOST_WARMUPS} warm-ups in {self.unsteady[key, part]} of {len(values)} pairs"
                    )
                if side.kleidiai and not facts["kleidiai_running"]:
                    found.append(
                        "the hint is set, but MNN did not say that KleidiAI runs; labkit kleidiai tells why"
                    )
                doubts += [f"{side.label}: {text}" for text in found]
            size, tokens = self.about[part]
            rows.append(Comparison(name=self.name, part=part, size=size, tokens=tokens, baseline=measured[0], candidate=measured[1],
                                   order=tuple(self.order), warnings=(*doubts, *disturbed)))  # fmt: skip
        return rows


def require_timed(lane: Lane) -> None:
    """Raise `ResultError` in a lane whose seconds say nothing about a CPU."""
    if not lane.may_be_timed:
        raise ResultError(
            f"expected a lane whose seconds say something about a CPU, received {lane.label}: under emulation they do not. "
            "Count instructions there instead: labkit bench --lane emulated --count"
        )


def _check(plan: BenchPlan, about: manifest.Manifest, machine: hardware.Machine) -> None:
    require_timed(plan.lane)
    if "kleidiai" in plan.comparisons and machine.can_run_kleidiai is False:
        raise ResultError(
            f"expected an Arm CPU with dotprod and i8mm, found {machine.cpu or machine.architecture}: KleidiAI's kernels cannot run here. "
            "Take --compare quantised or threads, or count KleidiAI's instructions: labkit bench --lane emulated --count"
        )
    if any(name.startswith("transformers") for name in plan.comparisons):
        given = checkpoints.resolve(plan.checkpoint)
        if checkpoints.fingerprint(given.folder) != about.source["sha256"]:
            raise ResultError(
                f"expected the checkpoint that {plan.model} was converted from ({about.source['name']}), received {given.name}, "
                "which is another one. Name its folder with --checkpoint"
            )
