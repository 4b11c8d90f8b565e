"""What finished builds are and do: this machine's own, or those recorded in ``data/builds``."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from labkit.arm.counts import Counts
from labkit.base import paths
from labkit.base.data import frozen
from labkit.base.errors import BuildError
from labkit.base.records import from_json
from labkit.base.show import Table
from labkit.bench import results
from labkit.bench.results import BenchResult
from labkit.building import llm_demo
from labkit.building.record import BuildRecord, read_record
from labkit.engine import lanes

AVX512 = ("MNN_AVX512", "MNN_AVX512_VNNI")


@frozen
class Demo:
    """``llm_demo`` of one build, counted; `labkit.arm.figures.ladder` draws it.

    ``label`` is the build's variant, ``kleidiai`` holds MNN's own messages, ``phases`` what
    `labkit.arm.counts.Counts.to_dict` gives.
    """

    label: str
    target: str
    answer: str
    kleidiai: tuple[str, ...]
    phases: dict[str, dict[str, Any]]

    @property
    def counts(self) -> dict[str, Counts]:
        """Instructions of each phase, by class alone."""
        return {
            phase: Counts({("", "all"): np.array([*counted["by_class"].values()], float)})
            for phase, counted in self.phases.items()
        }

    @property
    def shares(self) -> dict[str, float]:
        """The part of each phase's instructions inside ``kai_*`` functions."""
        return {phase: counted["kai_share"] for phase, counted in self.phases.items()}


@frozen
class Recorded:
    """The builds of the machine where the lesson was made, and what they answered there."""

    machine: dict[str, Any]
    question: str
    lane: str
    builds: tuple[BuildRecord, ...]
    demos: tuple[Demo, ...]
    wide_demos: tuple[Demo, ...]


@lru_cache(maxsize=1)
def recorded() -> Recorded:
    """What ``data/builds`` holds."""
    return from_json(Recorded, (paths.data_dir() / "builds" / "builds.json").read_bytes())


def recorded_where() -> str:
    """Where the recorded builds were made and run, in one line."""
    machine = recorded().machine
    built = f"built on {machine['cpu']}, {machine['cores']} cores"
    return f"recorded: {built}; Arm programs run {recorded().lane}"


def builds_table(own: Sequence[BuildRecord] = ()) -> Table:
    """The recorded builds, and own ones under them: minutes, sizes, and what is inside."""
    header = (
        "build",
        "",
        "compiler",
        "minutes",
        "what came out",
        "KleidiAI kernels by instruction set",
        "enabled",
    )
    rows = [_row(build, "recorded") for build in recorded().builds]
    return Table(header, [*rows, *(_row(build, "yours") for build in own)])


def _row(build: BuildRecord, whose: str) -> tuple[str, ...]:
    sizes = ", ".join(
        f"{'MNN for Python' if 'engine' in name else name} {size / 1e6:.1f} MB"
        for name, size in build.sizes.items()
    )
    kernels = ", ".join(f"{name} {n}" for name, n in build.kernels.items()) or "none"
    sets = ", ".join(
        name.removeprefix("MNN_") for name in AVX512 if build.options.get(name) == "ON"
    )
    return (
        f"{build.variant}, {build.target}",
        whose,
        build.compiler.partition(" (")[0],
        f"{sum(build.seconds.values()) / 60:.1f}",
        sizes,
        f"{kernels} ({sets})" if sets else kernels,
        "yes" if build.default_on else "no",
    )


def own_builds() -> list[BuildRecord]:
    """The finished builds in labkit's cache."""
    records = []
    for folder in sorted((paths.place("cache") / "builds").glob("*")):
        with suppress(BuildError):
            records.append(read_record(folder))
    return records


def recorded_demos(*, wide: bool = False) -> list[Demo]:
    """``llm_demo`` of the recorded builds for AArch64 Linux, baseline first.

    Parameters
    ----------
    wide
        On a model as wide as the real tower, instead of the embedded one.
    """
    demos = recorded().wide_demos if wide else recorded().demos
    return [demo for demo in demos if demo.target == "aarch64-linux"]


def here_or_recorded(model: Path, picture: Path) -> tuple[str, list[Demo]]:
    """Count ``llm_demo`` of this machine's own two builds for AArch64 Linux.

    Returns
    -------
    tuple
        Where, in words, and the baseline's and the accelerated one's; without own builds, the
        recorded ones'.
    """
    own = {record.variant: record for record in own_builds() if record.target == "aarch64-linux"}
    if len(own) < 2:
        return recorded_where(), recorded_demos()
    lane, question = lanes.emulated("max"), recorded().question
    return f"your own builds, {lane.label}", [
        demo_of(own[variant], model, picture, question, lane)
        for variant in ("baseline", "accelerated")
    ]


def demo_of(
    record: BuildRecord,
    model: Path,
    picture: Path,
    question: str,
    lane: lanes.Lane,
    *,
    on_step: Callable[[str], None] = lambda _: None,
) -> Demo:
    """One answer of a build's ``llm_demo``, and the instructions of its phases.

    The parameters are those of `labkit.building.llm_demo.count`.
    """
    asked = record, model, picture, question, lane
    answered, phases = llm_demo.ask(*asked), llm_demo.count(*asked, on_step=on_step)
    return Demo(
        label=record.variant,
        target=record.target,
        answer=answered.answer,
        kleidiai=answered.kleidiai,
        phases={phase: counts.to_dict() for phase, counts in phases.items()},
    )


def demos_table(demos: Sequence[Demo]) -> Table:
    """Phase by phase: million instructions of each build, and what the last gains.

    That is the ratio of the first to the last, and the share inside ``kai_*`` functions.
    """
    rows = []
    for phase, share in demos[-1].shares.items():
        totals = [demo.counts[phase].total / 1e6 for demo in demos]
        millions, ratio = (f"{total:.2f}" for total in totals), totals[0] / totals[-1]
        rows.append((phase, *millions, f"{ratio:.3f}", f"{share:.0%}"))
    header = (
        "phase",
        *(f"{demo.label}, million" for demo in demos),
        "baseline / accelerated",
        "inside kai_, accelerated",
    )
    return Table(header, rows)


def timings() -> tuple[BenchResult, ...]:
    """An own x86-64 build against the stock wheel, recorded.

    Returns
    -------
    tuple of labkit.bench.results.BenchResult
        On the embedded model, and on one as wide as the real tower.
    """
    files = (f"own-build-{name}.json" for name in ("embedded", "wide"))
    return tuple(results.read(paths.data_dir() / "builds" / file) for file in files)
