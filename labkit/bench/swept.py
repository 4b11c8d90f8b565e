"""What a sweep found: a table, the points of lesson 07, and the file that keeps it all."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from labkit.base.data import frozen
from labkit.base.records import from_json, to_json
from labkit.base.show import Table
from labkit.base.stats import wilson
from labkit.bench import results
from labkit.bench.results import BenchResult
from labkit.bench.sweep import TIMED, Done, SweepPlan
from labkit.proof.tradeoffs import Measured, Recorded, points

Row = dict[str, list[Done]]
"""The outcomes of one conversion on one machine, by measure."""


@frozen
class Swept(Recorded):
    """All outcomes of a sweep. ``rows`` are its points as lesson 07 has them, of the plan's first
    checkpoint and machine: what quantises one part and was measured in size, score and drift.
    """

    plan: SweepPlan
    done: tuple[Done, ...]
    sweep: Literal[1] = 1

    def __post_init__(self) -> None:
        if not (self.done and str(self)):  # all that is shown can be shown
            raise ValueError("no outcomes")

    @property
    def failed(self) -> list[str]:
        """Each task that failed, where and why."""
        return [f"{done.task}: {done.error}" for done in self.done if done.error]

    @property
    def timings(self) -> list[BenchResult]:
        """Every timing, as `labkit.bench.measure.run` gave it."""
        return [_timing(d) for d in self.done if d.task.measure == "time" and not d.error]

    def table(self) -> Table:
        """A row for each conversion and machine, a column for each measure."""
        measures = self.plan.measure
        columns = [c for name in measures for c in (TIMED if name == "time" else (name,))]
        cells = [
            (*key, *(cell for name in measures for cell in _cells(name, row.get(name, []))))
            for key, row in _rows(self.done).items()
        ]
        return Table(("checkpoint", "language model + tower", "machine", *columns), cells)

    def __str__(self) -> str:
        failed = "".join(f"\nfailed: {words}" for words in self.failed)
        return f"{self.table()}\n{self.machine}; {self.date}{failed}"


def _rows(done: Sequence[Done]) -> dict[tuple[str, str, str], Row]:
    """What holds on every machine stands in the row of each."""
    rows: dict[tuple[str, str, str], Row] = {}
    for one in done:
        rows.setdefault(one.task.row, {}).setdefault(one.task.measure, []).append(one)
    placed = {key[:2] for key in rows if key[2]}
    return {
        key: rows.get((*key[:2], ""), {}) | row
        for key, row in rows.items()
        if key[2] or key[:2] not in placed
    }


def _timing(done: Done) -> BenchResult:
    return results.parse(to_json(done.value))


def _score(done: Sequence[Done]) -> tuple[int, tuple[int, ...]]:
    """Scenes, and the numbers of those answered wrongly, of all rounds."""
    values = [one.value for one in done]
    return sum(v["scenes"] for v in values), tuple(n for v in values for n in v["wrong"])


def _cells(measure: str, done: Sequence[Done]) -> Sequence[str]:
    columns = len(TIMED) if measure == "time" else 1
    if not done or any(one.error for one in done):
        return ["failed" if done else ""] * columns
    value = done[0].value
    if measure == "time":
        return [f"{row.ratio} {row.ratio.verdict}" for row in _timing(done[0]).rows]
    if measure == "score":
        scenes, wrong = _score(done)
        low, high = wilson(scenes - len(wrong), scenes)
        return [f"{scenes - len(wrong)} of {scenes} ({low:.1%} to {high:.1%})"]
    if measure == "size":
        return [" + ".join(f"{size:,}" for size in value["bytes"].values())]
    departs = f", departs at {value['departs']}" * bool(value["departs"])
    return [" + ".join(f"{moved:.1%}" for moved in value["moved"].values()) + departs]


def put_together(plan: SweepPlan, done: Sequence[Done]) -> Swept:
    """The outcomes of a plan, for a reader."""
    tools: list[dict[str, str]] = [one.value["tools"] for one in done if "tools" in one.value]
    rows = [
        point
        for (checkpoint, _, machine), row in _rows(done).items()
        if checkpoint == plan.checkpoint[0] and machine in ("", plan.machine[0])
        for point in _points(row)
    ]
    return Swept(
        machine="; ".join(dict.fromkeys(one.cpu for one in done if one.cpu)),
        date=time.strftime("%Y-%m-%d"),
        tools=tools[0] if tools else {},
        rows=tuple(sorted(rows, key=lambda row: row.point.part)),
        plan=plan,
        done=tuple(done),
    )


def _points(row: Row) -> list[Measured]:
    """The points of one conversion: of both parts, if neither is quantised."""
    needed = [row.get(name, []) for name in ("size", "score", "drift")]
    if not all(needed) or any(one.error for done in needed for one in done):
        return []
    (size, *_), score, (drift, *_) = needed
    scenes, wrong = _score(score)
    both = points(size.task.options)
    return [
        Measured(
            point=point,
            bytes=size.value["bytes"][point.part],
            scenes=scenes,
            wrong=wrong,
            moved=drift.value["moved"][point.part],
            layers=size.value["layers"][point.part],
            departs=drift.value["departs"],
        )
        for point, other in zip(both, both[::-1], strict=True)
        if other.bits == 16
    ]


def read(path: Path) -> Swept | BenchResult:
    """Read what ``labkit sweep`` or ``labkit bench`` wrote.

    Raises
    ------
    ResultError
        If it is neither, or damaged.
    """
    try:
        return from_json(Swept, path.read_bytes())
    except (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError):
        return results.read(path)
