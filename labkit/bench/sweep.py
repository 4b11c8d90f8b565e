"""A table of conversions, machines and measures: planned, cut into tasks, and a task at work.

A task is pure: its key says all that its outcome depends on. `labkit.bench.spread` has them done.
"""

import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import Any

from labkit import __version__
from labkit.arm.kleidiai import taken
from labkit.base import files, hardware, paths, stats
from labkit.base.data import frozen
from labkit.base.errors import CheckpointError, ResultError
from labkit.base.records import from_json, to_json
from labkit.bench import measure
from labkit.bench.plan import BenchPlan, require_timed
from labkit.engine import known
from labkit.engine.client import EngineProcess
from labkit.model import checkpoints, manifest, tuned
from labkit.model.checkpoints import Checkpoint
from labkit.model.digest import fingerprint
from labkit.model.plan import CHOICES, MEANING, OPTIONS, ConversionPlan
from labkit.proof import parity, tradeoffs
from labkit.proof.evaluate import held_out_cases
from labkit.proof.ready import cached
from labkit.proof.tradeoffs import GRAPHS

ROUND = 100
"""Scenes of one task."""
TIMED = ("vision", "prefill", "decode")
VERSIONS = {"labkit": __version__, "MNN": metadata.version("MNN")}
AXES = ("checkpoint", *MEANING, "machine", "measure")
ALLOWED: dict[str, tuple[Any, ...]] = {**CHOICES, "measure": ("size", "score", "drift", "time")}


@frozen
class SweepPlan:
    """What will be measured: every combination of the axes, but for those that are left out."""

    checkpoint: tuple[str, ...] = (checkpoints.MINI,)
    weight_bits: tuple[int, ...] = (ConversionPlan.weight_bits,)
    block_size: tuple[int, ...] = (ConversionPlan.block_size,)
    symmetric: tuple[bool, ...] = (False,)
    vision_bits: tuple[int, ...] = (ConversionPlan.vision_bits,)
    vision_block: tuple[int, ...] = (ConversionPlan.vision_block,)
    vision_symmetric: tuple[bool, ...] = (False,)
    machine: tuple[str, ...] = ("native",)
    measure: tuple[str, ...] = ("size", "score")
    scenes: int = 300
    pairs: int = stats.LEAST_PAIRS
    leave_out: tuple[dict[str, tuple[Any, ...]], ...] = ()

    def __post_init__(self) -> None:
        axes = {name: getattr(self, name) for name in AXES}
        for name, values in axes.items():
            allowed = ALLOWED.get(name, values)
            if not values or not {*values} <= {*allowed}:
                among = f"among {', '.join(map(str, allowed))}" if allowed else "one at least"
                raise ValueError(f"{name}: expected {among}, received {[*values]}")
        for name, values in [pair for out in self.leave_out for pair in out.items()]:
            if not {*values} <= {*axes.get(name, ())}:
                raise ValueError(f"leave_out: {name} = {[*values]} is not in the plan")
        if self.scenes < 1 or self.pairs < stats.LEAST_PAIRS:
            raise ValueError(f"expected a scene at least, and {stats.LEAST_PAIRS} pairs")
        if not self.cells():
            raise ValueError("all of it is left out")

    def cells(self) -> list[dict[str, Any]]:
        """One value of each axis; where nothing is quantised, blocks are all the same."""
        cells: list[dict[str, Any]] = []
        for values in product(*(getattr(self, name) for name in AXES)):
            cell = dict(zip(AXES, values, strict=True))
            if any(all(cell[n] in among for n, among in out.items()) for out in self.leave_out):
                continue
            for bits, block, symmetric in OPTIONS.values():
                cell |= {block: 0, symmetric: False} if cell[bits] == 16 else {}
            if cell not in cells:
                cells.append(cell)
        return cells


def read_plan(path: Path) -> SweepPlan:
    """Read a plan, a file of TOML.

    Raises
    ------
    ResultError
        If there is none, or it asks for what there is not.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
        plan, unknown = from_json(SweepPlan, to_json(given)), given.keys() - vars(SweepPlan())
    except (OSError, ValueError) as error:
        raise ResultError(
            f"expected the plan of a sweep in {path}, got: {error}. labkit sweep --help shows one"
        ) from error
    if unknown:
        names = ", ".join(vars(plan))
        raise ResultError(f"expected among {names}, received {min(unknown)!r} in {path}")
    return plan


@frozen
class Task:
    """One piece of work, and all that its outcome depends on.

    Attributes
    ----------
    contents
        The checkpoint's fingerprint.
    lane
        Where the engine runs; empty if that does not matter.
    label
        Of the workers that may do it, if the plan names some.
    about
        Of ``"score"`` the ``first`` scene and the ``last``, of ``"time"`` the baseline's options.
    """

    measure: str
    checkpoint: str
    contents: str
    options: dict[str, int | bool]
    lane: str = ""
    label: str = ""
    about: dict[str, Any]
    versions: dict[str, str]

    @cached_property
    def key(self) -> str:
        """Another one as soon as anything is otherwise."""
        return paths.named(self)

    @cached_property
    def conversion(self) -> "Task":
        """What has to be done before."""
        return replace(self, measure="convert", lane="", about={})

    @property
    def row(self) -> tuple[str, str, str]:
        """Checkpoint, how it is stored, and the machine, empty if it does not matter."""
        return self.checkpoint, tradeoffs.stored(self.options), self.label or self.lane

    def __str__(self) -> str:
        scenes = (
            f" {self.about['first']} to {self.about['last'] - 1}" if "last" in self.about else ""
        )
        return f"{self.measure}{scenes} of {' '.join(self.row)}"


@frozen
class Done:
    """The outcome of a task: what was measured, or why it was not; where, from when to when."""

    task: Task
    value: dict[str, Any]
    error: str = ""
    cpu: str = ""
    begun: float = 0
    ended: float = 0


def tasks(plan: SweepPlan, labels: Sequence[str] = ()) -> list[Task]:
    """The tasks of a plan, but for conversions; ``labels`` are the machines beside the lanes.

    Raises
    ------
    ResultError
        If the seconds of a machine say nothing.
    LaneNotReady, CheckpointError
        If a machine or a checkpoint is not there.
    """
    sources = {name: fingerprint(checkpoints.resolve(name).folder) for name in plan.checkpoint}
    places = {name: _place(name, labels) for name in plan.machine}
    versions = VERSIONS | {"cpu": cpu()}
    rounds = [(n, min(n + ROUND, plan.scenes)) for n in range(0, plan.scenes, ROUND)]
    every: dict[str, Task] = {}
    baselines: dict[tuple[str, str], dict[str, Any]] = {}
    for cell in plan.cells():
        name, machine, what = (cell.pop(axis) for axis in ("checkpoint", "machine", "measure"))
        against = baselines.setdefault((name, machine), cell)
        abouts: list[dict[str, Any]] = [{}]
        if what == "score":
            abouts = [{"first": first, "last": last} for first, last in rounds]
        elif what == "time":
            require_timed(known.lane(places[machine]["lane"]))
            abouts = [{"against": against, "pairs": plan.pairs}] * (cell != against)
        for about in abouts:
            task = Task(
                measure=what,
                checkpoint=name,
                contents=sources[name],
                options=cell,
                about=about,
                versions=versions,
                **(places[machine] if about else {}),
            )
            every[task.key] = task
    return list(every.values())


def _place(machine: str, labels: Sequence[str]) -> dict[str, str]:
    if machine in labels:
        return {"lane": "native", "label": machine}
    return {"lane": known.lane(machine).name}


def memory_bytes(plan: SweepPlan) -> int:
    """What the largest conversion takes."""
    sources = map(checkpoints.resolve, plan.checkpoint)
    return max(ConversionPlan(checkpoint=c, out=Path()).memory_bytes for c in sources)


def cpu() -> str:
    """CPU and cores of this machine, for results."""
    machine = hardware.describe()
    return f"{machine.cpu}, {machine.architecture}, {machine.logical_cores} cores"


def carry_out(task: Task) -> Done:
    """Do a task here; what fails is told, not raised.

    A timing has the machine for itself: it waits for all others here, of whichever sweep.
    """
    claim = partial(files.alone, Path(tempfile.gettempdir()))
    begun, value, error = time.time(), dict[str, Any](), ""
    try:
        with claim(shared=True):
            checkpoint = _checkpoint(task)
            convert = partial(cached, task.checkpoint, checked=False)
            folder = convert(**dict[str, Any](task.options))
            against = convert(**task.about.get("against", task.options))
            if task.measure != "time":
                begun, value = time.time(), _measured(task, folder, checkpoint)
        if task.measure == "time":
            with claim():
                begun, value = time.time(), _timed(task, folder, against)
    except Exception as failed:  # noqa: BLE001 - whatever it was, the rest goes on
        error = f"on {platform.node()}: {type(failed).__name__}: {failed}"
    return Done(task=task, value=value, error=error, cpu=cpu(), begun=begun, ended=time.time())


def _checkpoint(task: Task) -> Checkpoint:
    for name, found in VERSIONS.items():
        if found != task.versions[name]:
            raise ResultError(
                f"expected {name} {task.versions[name]} as the sweep has it, found {found}"
            )
    checkpoint = checkpoints.resolve(task.checkpoint)
    if fingerprint(checkpoint.folder) != task.contents:
        raise CheckpointError(f"expected the sweep's {task.checkpoint}, found another one")
    return checkpoint


def _measured(task: Task, folder: Path, checkpoint: Checkpoint) -> dict[str, Any]:
    if task.measure == "size":
        with EngineProcess() as engine:
            layers = {part: taken(engine, folder / graph) for part, graph in GRAPHS.items()}
        tools = manifest.read(folder).tools
        return {"bytes": tradeoffs.weights_bytes(folder), "layers": layers, "tools": tools}
    if task.measure == "score":
        first, last = task.about["first"], task.about["last"]
        wrong = tradeoffs.wrong(folder, held_out_cases(last)[first:], known.lane(task.lane))
        return {"wrong": [first + number for number in wrong], "scenes": last - first}
    if task.measure == "drift":
        departs = parity.compare(folder, checkpoint).first_departure or ""
        return {"moved": tradeoffs.moved(folder, checkpoint), "departs": departs}
    return {}  # a conversion


def _timed(task: Task, folder: Path, against: Path) -> dict[str, Any]:
    usual = tuned.usual()
    plan = BenchPlan(
        model=folder,
        against=against,
        comparisons=("conversion",),
        parts=TIMED,
        pairs=task.about["pairs"],
        lane=known.lane(task.lane),
        **{name: usual[name] for name in ("threads", "precision", "memory")},
    )
    return from_json(dict[str, Any], to_json(measure.run(plan)))
