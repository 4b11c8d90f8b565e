"""What a benchmark found: every value of both sides of each comparison, the machine, and the file that keeps them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labkit.base import paths, stats
from labkit.base.errors import ResultError

SCHEMA = 1
PARTS = ("load", "vision", "prefill", "decode")


@dataclass(frozen=True, kw_only=True)
class Side:
    """One way to run the work; ``runtime`` is "modules", "build", "chat", "llm_demo" or "transformers"."""

    label: str
    runtime: str
    threads: int
    precision: str
    memory: str
    kleidiai: bool = False


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one side took: each value, of a process of its own, is the mean seconds of ``repeat`` passes.

    ``warmup_s`` are the means that came before each value, ``peak_bytes`` the most memory that a process held, Python
    included, and ``kleidiai_running`` what MNN said of KleidiAI.
    """

    side: Side
    values_s: tuple[float, ...]
    warmup_s: tuple[tuple[float, ...], ...]
    repeat: int
    peak_bytes: int
    kleidiai_running: tuple[str, ...]

    @property
    def median_s(self) -> float:
        """Median of the values."""
        return float(np.median(self.values_s))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One part, measured both ways; ``tokens`` is how many one pass works on, where it works on tokens."""

    name: str
    part: str
    size: str
    tokens: int | None
    baseline: Measured
    candidate: Measured
    order: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def ratio(self) -> stats.Ratio:
        """How many times as fast the candidate is."""
        return stats.ratio(self.baseline.values_s, self.candidate.values_s)


def amount(seconds: float, tokens: int | None = None) -> str:
    """Seconds in a unit that reads well, and tokens per second where there are tokens.

    >>> amount(0.00213), amount(2.0, 48)
    ('2.13 ms', '2 s, 24.0 tok/s')
    """
    unit, scale = ("s", 1.0) if seconds >= 1 else ("ms", 1e3) if seconds >= 1e-3 else ("µs", 1e6)
    return f"{seconds * scale:.3g} {unit}" + (
        f", {tokens / seconds:,.{1 if tokens < 100 * seconds else 0}f} tok/s" if tokens else ""
    )


@dataclass(frozen=True, kw_only=True)
class Section:
    """One comparison for a reader: a table with a row for each part, and what has to be said with it."""

    name: str
    header: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def section(rows: Sequence[Comparison]) -> Section:
    """The rows of one comparison as text, formatted; a warning that holds for all of them stands once."""
    both = (rows[0].baseline, rows[0].candidate)
    cells = []
    for row in rows:
        found, medians = (
            row.ratio,
            (amount(m.median_s, row.tokens) for m in (row.baseline, row.candidate)),
        )
        cells.append((row.part, row.size, *medians, str(found), found.verdict))
    shared = [text for text in rows[0].warnings if all(text in row.warnings for row in rows)]
    peaks = ", ".join(
        f"{m.side.label} {f'{m.peak_bytes / 1e6:,.0f} MB' if m.peak_bytes else 'over before it was read'}"
        for m in both
    )
    python = "" if both[0].side.runtime == "llm_demo" else ", Python included"
    mnn = [m for m in both if m.side.runtime != "transformers"]
    said = ", ".join(
        f"{m.side.label} {'yes, ' + ' and '.join(m.kleidiai_running) if m.kleidiai_running else 'no'}"
        for m in mnn
    )
    return Section(
        name=rows[0].name,
        header=(
            "part",
            "one pass",
            *(m.side.label for m in both),
            "speed-up (95 % interval)",
            "verdict",
        ),
        cells=tuple(cells),
        notes=(
            f"Peak memory of the process{python}: {peaks}.",
            f"KleidiAI running, by MNN's own message: {said}.",
        ),
        warnings=(
            *shared,
            *(f"{row.part}: {text}" for row in rows for text in row.warnings if text not in shared),
        ),
    )


@dataclass(frozen=True, kw_only=True)
class BenchResult:
    """Everything that one run found, as it is written to a file; no folder of the machine is in it."""

    created: str
    machine: dict[str, Any]
    lane: str
    versions: dict[str, str]
    model: dict[str, Any]
    plan: dict[str, Any]
    rows: tuple[Comparison, ...]
    schema: int = SCHEMA

    @property
    def where(self) -> str:
        """The machine and lane in one line; results with another line are not to be mixed."""
        m = self.machine
        memory = (
            f"{m['memory_total_bytes'] / 2**30:.0f} GiB"
            if m["memory_total_bytes"]
            else "unknown memory"
        )
        sets = ", ".join(m["instruction_sets"] or ()) or "instruction sets unknown"
        cores = f"{m['logical_cores'] or 'unknown'} cores"
        return f"{m['cpu'] or 'unknown CPU'}, {m['architecture']}, {m['system']}, {cores}, {memory}, {self.lane} lane; {sets}"

    @property
    def what(self) -> str:
        """Model, options, versions and date in one line."""
        p, versions = (
            self.plan,
            ", ".join(f"{name} {version}" for name, version in self.versions.items()),
        )
        options = f"{p['pairs']} pairs, up to {p['threads']} threads, precision {p['precision']}, memory mode {p['memory']}"
        return f"{self.model['name']}, {self.model['bytes'] / 1e6:.1f} MB as MNN; {options}; {versions}; {self.created}"

    def groups(self) -> list[list[Comparison]]:
        """The rows, comparison by comparison."""
        names = dict.fromkeys(row.name for row in self.rows)
        return [[row for row in self.rows if row.name == name] for name in names]

    def to_json(self) -> str:
        """As text, raw values included."""
        return json.dumps(asdict(self), indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, *, name: str = "the text") -> BenchResult:
        """Read what `to_json` wrote.

        Raises
        ------
        ResultError
            If it is something else, of another schema, or damaged.
        """
        again = "Measure again: labkit bench"
        try:
            content = json.loads(text)
            schema = content["schema"]
        except (ValueError, KeyError, TypeError) as error:
            raise ResultError(
                f"expected a benchmark's result in {name}, found something else or half of one ({error}). {again}"
            ) from error
        if schema != SCHEMA:
            raise ResultError(
                f"expected schema {SCHEMA} in {name}, found {schema!r}: written by another labkit. {again}"
            )
        try:
            result = cls(**{**content, "rows": tuple(_comparison(row) for row in content["rows"])})
            _ = (
                result.where,
                result.what,
                result.rows[0],
                [section(rows) for rows in result.groups()],
            )  # all that is shown can be shown
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ResultError(
                f"the result in {name} is damaged ({type(error).__name__}: {error}). {again}"
            ) from error
        return result


def _comparison(row: dict[str, Any]) -> Comparison:
    def measured(m: dict[str, Any]) -> Measured:
        warm = tuple(map(tuple, m["warmup_s"]))
        return Measured(**{**m, "values_s": tuple(m["values_s"]), "warmup_s": warm, "kleidiai_running": tuple(m["kleidiai_running"]),
                           "side": Side(**m["side"])})  # fmt: skip

    both = {key: measured(row[key]) for key in ("baseline", "candidate")}
    found = Comparison(
        **{**row, **both, "order": tuple(row["order"]), "warnings": tuple(row["warnings"])}
    )
    if (
        found.part not in PARTS
        or len(found.order) != found.ratio.pairs
        or not set(found.order) <= {"AB", "BA"}
    ):
        raise ValueError(f"part {found.part!r}, {len(found.order)} pairs in order")
    return found


def require_free(path: Path) -> None:
    """Raise `ResultError` unless a file can be written here without replacing another."""
    if path.exists():
        raise ResultError(
            f"expected {path} to be free; there is a file already. Choose another name with --out, or remove it"
        )
    if not path.absolute().parent.is_dir():
        raise ResultError(
            f"expected the folder {path.absolute().parent}, found none. Make it, or choose another name with --out"
        )


def save(result: BenchResult, path: Path | None = None) -> Path:
    """Write a result, whole or not at all, under a name that is free; None finds one in the results folder."""
    if path is None:
        stem = f"bench-{result.created[:19].replace(':', '')}-{Path(result.model['name']).name}"
        names = (
            paths.results_dir() / f"{stem}{'' if n == 1 else f'-{n}'}.json"
            for n in range(1, 10_000)
        )
        path = next(name for name in names if not name.exists())
    write(path, result.to_json())
    return path


def write(path: Path, text: str) -> None:
    """Write a text, whole or not at all, under a name that is free."""
    require_free(path)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        new.write_text(text, encoding="utf-8")
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


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
            f"expected a benchmark's result in {path}, could not read it ({error}). Measure one: labkit bench"
        ) from error
    return BenchResult.from_json(text, name=str(path))
