"""What finished builds are and do: this machine's own, or those recorded where the lesson was made (data/builds/)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from labkit.arm.classes import CLASSES
from labkit.arm.counts import Counts
from labkit.base import paths
from labkit.base.errors import BuildError
from labkit.base.show import Table
from labkit.bench import results
from labkit.bench.results import BenchResult
from labkit.building import llm_demo, plans
from labkit.building.record import BuildRecord, read_record
from labkit.engine import lanes


@dataclass(frozen=True, kw_only=True)
class Demo:
    """``llm_demo`` of one build, counted: as a `labkit.arm.counting.Rung`, it can be drawn by `labkit.arm.figures.ladder`.

    ``kleidiai`` holds MNN's own messages, ``shares`` the part of each phase's instructions inside ``kai_*`` functions.
    """

    label: str
    answer: str
    kleidiai: tuple[str, ...]
    parts: tuple[str, ...]
    counts: tuple[Counts, ...]
    shares: tuple[float, ...]


@lru_cache(maxsize=1)
def _recorded() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(
        (paths.data_dir() / "builds" / "builds.json").read_text(encoding="utf-8")
    )
    return content


def recorded_where() -> str:
    """Where the recorded builds were made and run, in one line."""
    content = _recorded()
    return f"recorded: built on {content['machine']['cpu']}, {content['machine']['cores']} cores; Arm programs run {content['lane']}"


def builds_table(own: Sequence[BuildRecord] = ()) -> Table:
    """The recorded builds, and own ones under them: minutes, sizes, and what is inside."""
    rows = [_row(told, "recorded") for told in _recorded()["builds"]]
    for record in own:
        told = {
            **vars(record),
            "default_on": record.default_on,
            "bytes": {Path(p.path).name: p.bytes for p in record.products},
        }
        rows.append(_row(told, "yours"))
    return Table(
        (
            "build",
            "",
            "compiler",
            "minutes",
            "what came out",
            "KleidiAI kernels by instruction set",
            "enabled",
        ),
        rows,
    )


def _row(told: dict[str, Any], whose: str) -> tuple[str, ...]:
    sizes = ", ".join(
        f"{'MNN for Python' if 'engine' in name else name} {n / 1e6:.1f} MB"
        for name, n in told["bytes"].items()
    )
    kernels = ", ".join(f"{name} {n}" for name, n in told["kernels"].items()) or "none"
    sets = [
        name.removeprefix("MNN_")
        for name in ("MNN_AVX512", "MNN_AVX512_VNNI")
        if told["options"].get(name) == "ON"
    ]
    minutes = sum(told["seconds"].values()) / 60
    return (f"{told['variant']}, {told['target']}", whose, told["compiler"].partition(" (")[0], f"{minutes:.1f}", sizes,
            kernels + (f" ({', '.join(sets)})" if sets else ""), "yes" if told["default_on"] else "no")  # fmt: skip


def own_builds() -> list[BuildRecord]:
    """The finished builds in labkit's cache."""
    found = []
    for folder in sorted((paths.place("cache") / "builds").glob("*")):
        try:
            found.append(read_record(folder))
        except BuildError:
            continue
    return found


def recorded_demos(*, wide: bool = False) -> list[Demo]:
    """``llm_demo`` of the recorded builds for AArch64 Linux, baseline first; on the embedded model, or on a wide one."""
    made = []
    for told in _recorded()["wide_demos" if wide else "demos"]:
        if told["target"] == "aarch64-linux":
            phases = told["phases"]
            rows = [
                np.array([phases[p]["by_class"][name] for name in CLASSES], float)
                for p in llm_demo.PHASES
            ]
            made.append(Demo(
                label=told["variant"], answer=told["answer"], kleidiai=tuple(told["kleidiai"]), parts=llm_demo.PHASES,
                counts=tuple(Counts({("", "all"): row}) for row in rows),
                shares=tuple(phases[p]["kai_share"] for p in llm_demo.PHASES),
            ))  # fmt: skip
    return sorted(made, key=lambda demo: plans.VARIANTS[::-1].index(demo.label))


def here_or_recorded(
    model: Path, picture: Path, on_step: Callable[[str], None] = lambda _: None
) -> tuple[str, list[Demo]]:
    """Count ``llm_demo`` of this machine's own two builds for AArch64 Linux; without them, the recorded results. Says which."""
    own = {record.variant: record for record in own_builds() if record.target == "aarch64-linux"}
    if set(own) != set(plans.VARIANTS):
        return recorded_where(), recorded_demos()
    lane, question = lanes.emulated("max"), _recorded()["question"]
    demos = [
        demo_of(own[variant], model, picture, question, lane, on_step=on_step)
        for variant in plans.VARIANTS[::-1]
    ]
    return f"your own builds, {lane.label}", demos


def demo_of(
    record: BuildRecord,
    model: Path,
    picture: Path,
    question: str,
    lane: lanes.Lane,
    *,
    on_step: Callable[[str], None] = lambda _: None,
) -> Demo:
    """One answer of a build's ``llm_demo``, and the instructions of its phases, as `labkit.building.llm_demo.count`."""
    run = llm_demo.ask(record, model, picture, question, lane)
    counts = llm_demo.count(record, model, picture, question, lane, on_step=on_step)
    found = tuple(counts[phase] for phase in llm_demo.PHASES)
    return Demo(label=record.variant, answer=run.answer, kleidiai=run.kleidiai, parts=llm_demo.PHASES, counts=found,
                shares=tuple(counts.share("kai_") for counts in found))  # fmt: skip


def demos_table(demos: Sequence[Demo]) -> Table:
    """Phase by phase: million instructions of each build, the ratio, and the share inside ``kai_*`` functions of the last."""
    rows = []
    for number, phase in enumerate(demos[0].parts):
        totals = [demo.counts[number].total / 1e6 for demo in demos]
        rows.append(
            (
                phase,
                *(f"{n:.2f}" for n in totals),
                f"{totals[0] / totals[-1]:.3f}",
                f"{demos[-1].shares[number]:.0%}",
            )
        )
    return Table(
        (
            "phase",
            *(f"{demo.label}, million" for demo in demos),
            "baseline / accelerated",
            "inside kai_, accelerated",
        ),
        rows,
    )


def timings() -> list[BenchResult]:
    """An own x86-64 build against the stock wheel, recorded: on the embedded model and on one as wide as the real tower."""
    return [
        results.read(paths.data_dir() / "builds" / f"own-build-{name}.json")
        for name in ("embedded", "wide")
    ]
