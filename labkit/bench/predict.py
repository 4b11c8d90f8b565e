"""What KleidiAI will be worth on a device, predicted before anything runs there.

Four kinds of evidence, none of them a measurement: the rules by which MNN chooses kernels, executed
instructions, a static model of cores, and a roof. Nothing is fitted to a result; so it may miss.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from labkit.arm.counts import Counts
from labkit.arm.recorded import real_width
from labkit.base import paths
from labkit.base.data import frozen
from labkit.base.records import from_json
from labkit.base.show import Table
from labkit.bench.work import Achieved, Work
from labkit.kernels.roof import Peak, Roof

_TOLD: dict[str, Any] = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
KERNELS: dict[str, str] = _TOLD["kernels"]
"""Functions of MNN's library, by who made them and the instruction set that they need."""
MODELS: dict[str, str] = _TOLD["models"]
"""By which core's static model a core is described: its own, or its closest relative's."""
OWN = {"sme2": "MNN, SME2", "i8mm": "MNN, i8mm", "dotprod": "MNN, dotprod"}
FORMS = {"vision": "gemm", "prefill": "gemm", "decode": "gemv"}
THREADS = 4


@frozen
class Cores:
    """Some cores of one kind; ``ghz`` is their highest clock."""

    count: int
    core: str
    ghz: float


@frozen
class Device:
    """What is known of a device before anything runs there.

    ``cores`` begin with the fastest; ``gb_s`` is the most that its memory can give, by its data
    sheet, and ``source`` says where all that is written.
    """

    name: str
    cores: tuple[Cores, ...] = ()
    features: tuple[str, ...]
    gb_s: float | None = None
    source: str = ""

    def used(self) -> Iterator[Cores]:
        """The fastest `THREADS` cores, of those that have a static model."""
        left = THREADS
        for cores in self.cores:
            count = min(cores.count, left)
            if count and cores.core in MODELS:
                yield replace(cores, count=count)
            left -= count


@frozen
class Loop:
    """A kernel's hot loop; or, ``around`` it, the next loop outwards, whose every turn has one of
    the hot one and all that is done once to a block of weights.

    ``macs`` are useful multiply-adds of one turn, ``cycles`` those that the static model gives it
    on each core; None where the core lacks an instruction.
    """

    kernel: str
    form: str
    around: bool
    instructions: int
    macs: int
    cycles: dict[str, float | None]

    def per_mac(self, core: str) -> float:
        """Cycles of a useful multiply-add."""
        return (self.cycles[core] or math.nan) / self.macs

    def per_instruction(self, core: str) -> float:
        """Cycles of an instruction."""
        return (self.cycles[core] or math.nan) / self.instructions


@frozen
class Estimate:
    """What one kind of evidence says of a speed-up: at least and at most, and what it assumes."""

    evidence: str
    low: float
    high: float
    assumes: str

    def __str__(self) -> str:
        ends = dict.fromkeys(f"{end:.2f}" for end in (self.low, self.high))
        return f"{' to '.join(ends)}×"


@frozen
class Prediction:
    """Of one part on one device: the kernels with KleidiAI off and on, and each estimate of the
    speed-up. No estimates means that no evidence there is reaches that far.
    """

    device: str
    part: str
    kernels: tuple[str, str]
    estimates: tuple[Estimate, ...]

    @property
    def range(self) -> Estimate | None:
        """All that some evidence allows."""
        if not self.estimates:
            return None
        low = min(estimate.low for estimate in self.estimates)
        high = max(estimate.high for estimate in self.estimates)
        return Estimate(evidence="all", low=low, high=high, assumes="one of them holds")

    def miss(self, speedup: float) -> float:
        """How many times as much as the range's near end was measured; 1 inside the range."""
        if self.range is None:
            raise ValueError(f"nothing was predicted for {self.part} on {self.device}")
        return speedup / min(max(speedup, self.range.low), self.range.high)


@cache
def devices() -> tuple[Device, ...]:
    """Typical ones, by their makers' figures."""
    return from_json(tuple[Device, ...], json.dumps(_TOLD["devices"]))


@cache
def loops() -> tuple[Loop, ...]:
    """What ``data/wheel_loops.json`` holds, by ``tests/benchmarks/record_wheel_loops.py``."""
    return from_json(tuple[Loop, ...], (paths.data_dir() / "wheel_loops.json").read_bytes())


def kernel(features: Sequence[str], part: str, *, kleidiai: bool) -> str:
    """Which of `KERNELS` runs a part's int4 layers, memory mode low, float32.

    Source
    ------
    MNN 3.6.1, as `labkit.arm.rules`.

    Examples
    --------
    >>> kernel(["dotprod", "i8mm"], "decode", kleidiai=True)
    'KleidiAI, dotprod'
    """
    if kleidiai and "sme2" in features:
        return "KleidiAI, SME2"
    if kleidiai and {"dotprod", "i8mm"} <= set(features):
        return "KleidiAI, dotprod" if part == "decode" else "KleidiAI, i8mm"
    return next((own for feature, own in OWN.items() if feature in features), "MNN, NEON")


def predict(device: Device, work: Mapping[str, Work]) -> tuple[Prediction, ...]:
    """How many times as fast each part will be with KleidiAI as without.

    Parameters
    ----------
    work
        Of each part, from `labkit.bench.work.work`.
    """
    made = []
    for part in work:
        off, on = (kernel(device.features, part, kleidiai=on) for on in (False, True))
        if off == on:
            same = "nothing: the same code runs on both sides"
            estimates = [Estimate(evidence="rules", low=1, high=1, assumes=same)]
        elif "SME2" in on:
            estimates = []  # neither counted nor modelled
        else:
            estimates = [*_estimates(device, part, (off, on), work[part])]
        made.append(
            Prediction(device=device.name, part=part, kernels=(off, on), estimates=tuple(estimates))
        )
    return tuple(made)


def _estimates(device: Device, part: str, both: tuple[str, str], work: Work) -> Iterator[Estimate]:
    counted = [rung.counts[part] for rung in real_width().rungs if rung.cpu == "max"]
    ratio = counted[0].total / counted[1].total
    words = "that every instruction takes as long as every other"
    yield Estimate(evidence="counts", low=ratio, high=ratio, assumes=words)
    used = [*device.used()]
    cores = {MODELS[cores.core] for cores in used}
    if not cores:
        return
    off, on = (loop(kernel, part) for kernel in both)
    ratios = [off.per_mac(core) / on.per_mac(core) for core in cores]
    words = "that nothing but the hot loops takes time, and every load hits the first cache"
    yield Estimate(evidence="static", low=min(ratios), high=max(ratios), assumes=words)
    ratios = [
        _cycles(counted[0], *reading) / _cycles(counted[1], *reading)
        for reading in product([part], cores, (False, True), (False, True))
    ]
    words = "functions at the pace of their loops, the rest at MNN's pace or at one a cycle"
    yield Estimate(evidence="counts × static", low=min(ratios), high=max(ratios), assumes=words)
    if device.gb_s:
        memory = work.bytes / device.gb_s / 1e9
        before, after = (max(memory, work.operations / _peak(one, used)) for one in (off, on))
        words = "cores at their highest clock, memory as on its data sheet, nothing else"
        yield Estimate(evidence="roof", low=before / after, high=before / after, assumes=words)


def loop(kernel: str, part: str, *, around: bool = False) -> Loop:
    """The hot loop of one of `KERNELS` in a part; of the other form if the kernel has but one."""
    known = [one for one in loops() if (one.kernel, one.around) == (kernel, around)]
    return min(known, key=lambda one: one.form != FORMS[part])


def _cycles(counts: Counts, part: str, core: str, around: bool, slow: bool) -> float:
    """Of all instructions: each hot function at its loop's cycles to an instruction; the others
    as MNN's, or, if they are ``slow``, at one.
    """
    others = 1.0 if slow else loop("MNN, i8mm", part, around=around).per_instruction(core)
    cycles = 0.0
    for (_, function), row in counts.functions.items():
        hot = [one for one, name in KERNELS.items() if name == function]
        pace = loop(hot[0], part, around=around).per_instruction(core) if hot else others
        cycles += pace * row.sum()
    return cycles


def _peak(loop: Loop, used: Sequence[Cores]) -> float:
    """Operations a second of some cores, if nothing but the loop runs."""
    return sum(2e9 * cores.count * cores.ghz / loop.per_mac(MODELS[cores.core]) for cores in used)


def roof(device: Device) -> Roof:
    """The roof over MNN's own int4 kernels on a device: by the static model, and its data sheet.

    Raises
    ------
    ValueError
        If its cores have no static model, or the memory is not known.
    """
    used = [*device.used()]
    if not used or not device.gb_s:
        raise ValueError(f"no roof without cores that have a model, and memory: {device.name}")
    best = loop(kernel(device.features, "prefill", kleidiai=False), "prefill")
    peaks = {"int8": _peak(best, used), "memory": 1e9 * device.gb_s}
    return Roof(
        machine=device.name,
        threads=sum(cores.count for cores in used),
        instructions="",
        peaks={kind: Peak(median=most, low=most, high=most) for kind, most in peaks.items()},
    )


def published(page: Mapping[str, Any], work: Mapping[str, Work]) -> tuple[Achieved, ...]:
    """What a page of `labkit.bench.report.published` achieved: both sides of each part."""
    passes = {"vision": None, "prefill": page["prompt_tokens"], "decode": 1}
    done = []
    for row in page["rows"]:
        for side in ("baseline", "candidate"):
            part, tokens = row["part"], passes[row["part"]]
            seconds = tokens / row[side] if tokens else row[side]
            done.append(Achieved(engine=page[side], part=part, work=work[part], seconds=seconds))
    return tuple(done)


def speedups(done: Sequence[Achieved]) -> dict[str, float]:
    """Of each part: the first engine's seconds over the second's."""
    parts = {one.part: [other.seconds for other in done if other.part == one.part] for one in done}
    return {part: seconds[0] / seconds[1] for part, seconds in parts.items()}


def table(predictions: Sequence[Prediction], measured: Mapping[str, float] | None = None) -> Table:
    """Each part: the kernels, what each kind of evidence says, and the range; and what was
    measured, by part, and by how much it missed.
    """
    kinds = list(dict.fromkeys(e.evidence for p in predictions for e in p.estimates))
    rows = []
    for one in predictions:
        says = {estimate.evidence: str(estimate) for estimate in one.estimates}
        row = [one.part, *one.kernels, *(says.get(kind, "") for kind in kinds)]
        row.append(str(one.range or "not predicted"))
        if measured is not None:
            missed = one.miss(measured[one.part])
            row += [f"{measured[one.part]:.2f}×", f"{missed:.2f}×" if missed != 1 else "inside"]
        rows.append(row)
    after = ("measured", "missed by") if measured is not None else ()
    return Table(("part", "KleidiAI off", "KleidiAI on", *kinds, "range", *after), rows)
