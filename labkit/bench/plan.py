"""What will be measured, and whether it can be."""

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from labkit.base import stats
from labkit.base.data import frozen
from labkit.base.errors import ResultError
from labkit.base.hardware import Machine
from labkit.bench import comparisons
from labkit.bench.comparisons import COMPARISONS, PARTS, PEERS, Side
from labkit.building.record import read_record
from labkit.engine.lanes import Lane, native
from labkit.model import checkpoints, manifest
from labkit.model.budget import is_large
from labkit.model.digest import fingerprint
from labkit.model.manifest import Manifest
from labkit.proof.tradeoffs import stored

# Seen with 0.4 and 2.2 billion parameters; the base is for two processes.
BASE_BYTES, UNPACKED_BYTES = 2**30, 4.2
HERE = ("model", "checkpoint", "lane", "build", "against")  # not a result's business


@frozen
class BenchPlan:
    """What will be measured.

    ``memory`` and ``precision`` hold for every side that does not compare them. ``tuned`` are more
    options of MNN-LLM that `labkit tune` chose, for sides that chat.
    """

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
    against: Path | None = None
    tuned: Mapping[str, int] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        for what, given, known in (
            ("comparisons", self.comparisons, COMPARISONS | PEERS),
            ("parts", self.parts, PARTS),
        ):
            if not given or not set(given) <= set(known):
                raise ResultError(
                    f"expected {what} among {', '.join(known)}, "
                    f"received {', '.join(given) or 'none'}"
                )
        require_pairs(self.pairs)
        for comparison, option in (("build", "build"), ("conversion", "against")):
            if comparison in self.comparisons and not getattr(self, option):
                raise ResultError(
                    f"expected a folder for the comparison {comparison!r}, received none. "
                    f"Name it with --{option} DIR"
                )
        if self.threads < 2 and {"threads", "chat"} & set(self.comparisons):
            raise ResultError(
                "comparing one thread with all needs two cores and --threads of at least 2"
            )

    def sides(self, comparison: str, bits: str) -> tuple[Side, Side]:
        """Baseline and candidate of a comparison; ``bits`` is the weights' kind, as "int4"."""
        words = {"bits": bits}
        if self.build and comparison == "build":
            words["build"] = read_record(self.build).variant
        if self.against and comparison == "conversion":
            folders = {"model": self.model, "against": self.against}
            words |= {name: stored(manifest.read(at).options) for name, at in folders.items()}
        return comparisons.sides(
            comparison,
            **words,
            threads=self.threads,
            precision=self.precision,
            memory=self.memory,
        )

    def to_dict(self) -> dict[str, object]:
        """For a result: without folders."""
        return {name: value for name, value in vars(self).items() if name not in HERE}


def default_comparisons(threads: int, about: Manifest, lane: Lane | None = None) -> tuple[str, ...]:
    """What this machine can compare without torch: of a large model one comparison, for each pair
    takes minutes.
    """
    machine = (lane or native()).describe()
    first = "kleidiai" if machine.can_run_kleidiai else "quantised"
    chosen = (first, "threads", "chat") if threads > 1 else (first,)
    if not is_large(about):
        return chosen
    large = first == "quantised" and threads > 1 and _too_large(about, machine)
    return chosen[1:2] if large else chosen[:1]


def _too_large(about: Manifest, machine: Machine) -> str:
    """What is missing to hold weights as float32 beside the quantised ones; or nothing."""
    free = machine.memory_available_bytes
    needed = BASE_BYTES + UNPACKED_BYTES * about.source["parameters"] + about.total_bytes
    if free is None or free >= needed:
        return ""
    return (
        f"expected {needed / 2**30:.1f} GiB of free memory for weights unpacked to float32, "
        f"found {free / 2**30:.1f} GiB. Take --compare threads or chat, or close other programs"
    )


def require_pairs(pairs: int) -> None:
    """Raise `ResultError` if there are too few for an interval."""
    if pairs < stats.LEAST_PAIRS:
        raise ResultError(
            f"expected at least {stats.LEAST_PAIRS} pairs, without which there is no interval, "
            f"received {pairs}"
        )


def require_timed(lane: Lane) -> None:
    """Raise `ResultError` in a lane whose seconds say nothing about a CPU."""
    if not lane.may_be_timed:
        raise ResultError(
            f"expected a lane whose seconds say something about a CPU, received {lane.label}: "
            "under emulation they do not. "
            "Count instructions there instead: labkit bench --lane emulated --count"
        )


def require_possible(plan: BenchPlan, about: Manifest) -> None:
    """Raise `ResultError` if this machine, model or checkpoint cannot be compared so."""
    require_timed(plan.lane)
    if not plan.lane.is_here and PEERS.keys() & {*plan.comparisons}:
        raise ResultError(
            f"expected MNN alone on another machine, received {', '.join(plan.comparisons)}: other "
            f"engines are measured on this one. Leave out --lane {plan.lane.name}"
        )
    machine = plan.lane.describe()
    if "kleidiai" in plan.comparisons and machine.can_run_kleidiai is False:
        raise ResultError(
            "expected an Arm CPU with dotprod and i8mm, found "
            f"{machine.cpu or machine.architecture}: KleidiAI's kernels cannot run here. "
            "Take --compare quantised or threads, or count KleidiAI's instructions: "
            "labkit bench --lane emulated --count"
        )
    if "quantised" in plan.comparisons and (amiss := _too_large(about, machine)):
        raise ResultError(amiss)
    if plan.against and manifest.read(plan.against).source["sha256"] != about.source["sha256"]:
        raise ResultError(
            f"expected two conversions of one checkpoint, but {plan.against} is of another one "
            f"than {plan.model}. Convert {about.source['name']} with other options: labkit convert"
        )
    if any(name in PEERS or name.startswith("transformers") for name in plan.comparisons):
        given = checkpoints.resolve(plan.checkpoint)
        if fingerprint(given.folder) != about.source["sha256"]:
            raise ResultError(
                f"expected the checkpoint that {plan.model} was converted from "
                f"({about.source['name']}), received {given.name}, which is another one. "
                "Name its folder with --checkpoint"
            )
