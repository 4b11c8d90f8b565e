"""What a benchmark found: its rows, the machine, and the file that keeps them."""

import json
import platform
from collections.abc import Sequence
from datetime import datetime, timezone
from itertools import count
from pathlib import Path
from typing import Any, TypedDict, cast

from labkit import __version__
from labkit.base import files, paths
from labkit.base.data import frozen
from labkit.base.errors import ResultError
from labkit.base.records import from_json, to_json
from labkit.base.show import Table
from labkit.bench.comparisons import PARTS
from labkit.bench.rows import Comparison, amount, section
from labkit.engine.lanes import Lane
from labkit.model.manifest import Manifest

SCHEMA = 1
AGAIN = "Measure again: labkit bench"


class Measured(TypedDict):
    """The model that was measured."""

    name: str
    parameters: int
    bytes: int
    options: dict[str, int | bool]


class Machine(TypedDict):
    """The machine that it was measured on, as `labkit.base.hardware.Machine` has it."""

    system: str
    release: str
    architecture: str
    cpu: str | None
    instruction_sets: list[str] | None
    logical_cores: int | None
    physical_cores: int | None
    memory_total_bytes: int | None


@frozen
class BenchResult:
    """Everything that one run found, as a file keeps it; no folder of the machine is in it.

    ``print`` shows it.
    """

    created: str
    machine: Machine
    lane: str
    versions: dict[str, str]
    model: Measured
    plan: dict[str, Any]
    rows: tuple[Comparison, ...]
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if not (self.rows and str(self)):  # all that is shown can be shown
            raise ValueError("no rows")

    @property
    def where(self) -> str:
        """The machine and lane in one line; results with another line are not to be mixed."""
        m = self.machine
        cores, memory = m["logical_cores"] or "unknown", m["memory_total_bytes"]
        size = f"{memory / 2**30:.0f} GiB" if memory else "unknown memory"
        sets = ", ".join(m["instruction_sets"] or ()) or "instruction sets unknown"
        return (
            f"{m['cpu'] or 'unknown CPU'}, {m['architecture']}, {m['system']}, {cores} cores, "
            f"{size}, {self.lane} lane; {sets}"
        )

    @property
    def what(self) -> str:
        """Model, options, versions and date in one line."""
        plan, versions = self.plan, ", ".join(map(" ".join, self.versions.items()))
        return (
            f"{self.model['name']}, {self.model['bytes'] / 1e6:.1f} MB as MNN; "
            f"{plan['pairs']} pairs, up to {plan['threads']} threads, "
            f"precision {plan['precision']}, memory mode {plan['memory']}; "
            f"{versions}; {self.created}"
        )

    def groups(self) -> list[list[Comparison]]:
        """The rows, comparison by comparison."""
        names = dict.fromkeys(row.name for row in self.rows)
        return [[row for row in self.rows if row.name == name] for name in names]

    def engines(self) -> Table | None:
        """Every engine of a run with peers in a row; None of another run."""
        made = self.plan.get("engines", {})
        sides = {m.side.label: m for row in self.rows for m in row.both}
        medians = {(m.side.label, r.part): amount(m.median_s) for r in self.rows for m in r.both}
        rows = [
            (
                label,
                *(medians[label, part] for part in PARTS),
                f"{sides[label].peak_bytes / 1e9:.2f} GB",
                f"{how['bytes'] / 1e9:.2f} GB",
                f"{how['elapsed_s']:.0f} s" if how["elapsed_s"] else "none",
                f"{how['peak_bytes'] / 1e9:.1f} GB" if how["peak_bytes"] else "",
            )
            for label, how in made.items()
        ]
        header = ("engine", *PARTS, "memory", "disk", "conversion", "its memory")
        return Table(header, rows) if made else None

    def __str__(self) -> str:
        sections = "".join(f"{section(rows)}\n\n" for rows in self.groups())
        if engines := self.engines():
            sections = f"{engines}\n\n{sections}"
        return f"{sections}{self.where}\n{self.what}"


def parse(text: str, *, name: str = "the text") -> BenchResult:
    """Read what `labkit.base.records.to_json` made of a result.

    Raises
    ------
    ResultError
        If it is something else, of another schema, or damaged.
    """
    try:
        content = json.loads(text)
        schema = content["schema"]
    except (ValueError, KeyError, TypeError) as error:
        raise ResultError(
            f"expected a benchmark's result in {name}, found something else or half of one "
            f"({error}). {AGAIN}"
        ) from error
    if schema != SCHEMA:
        raise ResultError(
            f"expected schema {SCHEMA} in {name}, found {schema!r}: written by another labkit. "
            f"{AGAIN}"
        )
    damage: Exception = ValueError("it holds more than a result")
    try:
        read = from_json(BenchResult, text)
        if json.loads(to_json(read)) == content:
            return read
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        damage = error
    raise ResultError(
        f"the result in {name} is damaged ({type(damage).__name__}: {damage}). {AGAIN}"
    ) from damage


def result(
    about: Manifest,
    plan: dict[str, object],
    *,
    lane: Lane,
    rows: Sequence[Comparison],
    versions: dict[str, str],
) -> BenchResult:
    """What was measured on a model, with the machine and the date, as it will be read again."""
    here = vars(lane.describe())
    made = BenchResult(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        machine=cast("Machine", {name: here[name] for name in Machine.__annotations__}),
        lane=lane.name,
        versions={"labkit": __version__, "python": platform.python_version(), **versions},
        model={
            "name": about.source["name"],
            "parameters": about.source["parameters"],
            "bytes": about.total_bytes,
            "options": about.options,
        },
        plan=plan,
        rows=tuple(rows),
    )
    return parse(to_json(made))


def require_free(path: Path) -> None:
    """Raise `ResultError` unless a file can be written here without replacing another."""
    if path.exists():
        raise ResultError(
            f"expected {path} to be free; there is a file already. "
            "Choose another name with --out, or remove it"
        )
    folder = path.absolute().parent
    if not folder.is_dir():
        raise ResultError(
            f"expected the folder {folder}, found none. Make it, or choose another name with --out"
        )


def write(path: Path, text: str) -> None:
    """Write a text, whole or not at all, under a name that is free."""
    require_free(path)
    files.write(path, text)


def save(result: BenchResult, path: Path | None = None) -> Path:
    """Write a result under a name that is free; None finds one in the results folder."""
    if path is None:
        stem = f"bench-{result.created[:19].replace(':', '')}-{Path(result.model['name']).name}"
        names = (f"{stem}{'' if n == 1 else f'-{n}'}.json" for n in count(1))
        files_there = map(paths.results_dir().joinpath, names)
        path = next(file for file in files_there if not file.exists())
    write(path, to_json(result))
    return path


def read(path: Path) -> BenchResult:
    """Read a result's file.

    Raises
    ------
    ResultError
        If there is none, or it is not a result.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ResultError(
            f"expected a benchmark's result in {path}, could not read it ({error}). "
            "Measure one: labkit bench"
        ) from error
    return parse(text, name=str(path))
