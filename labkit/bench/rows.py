"""The rows of a result: one part of one comparison, both sides, raw; and how they are told."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from labkit.base import stats
from labkit.base.data import frozen
from labkit.base.show import Table
from labkit.bench.comparisons import PARTS, WORDS, Side


@frozen
class Measured:
    """What one side took.

    Each value, of a process of its own, is the mean seconds of ``repeat`` passes. ``warmup_s`` are
    the means that came before each value, ``peak_bytes`` the most memory that a process held,
    Python included, and ``kleidiai_running`` what MNN said of KleidiAI.
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


@frozen
class Comparison:
    """One part, measured both ways.

    ``tokens`` is how many one pass works on, where it works on tokens.
    """

    name: str
    part: str
    size: str
    tokens: int | None
    baseline: Measured
    candidate: Measured
    order: tuple[str, ...]
    warnings: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.part not in PARTS or not set(self.order) <= {"AB", "BA"}:
            raise ValueError(f"part {self.part!r} in the order {' '.join(self.order)}")
        if len(self.order) != self.ratio.pairs:
            raise ValueError(f"{self.ratio.pairs} pairs, {len(self.order)} in order")

    @property
    def both(self) -> tuple[Measured, Measured]:
        """Baseline and candidate."""
        return self.baseline, self.candidate

    @cached_property
    def ratio(self) -> stats.Ratio:
        """How many times as fast the candidate is."""
        return stats.ratio(self.baseline.values_s, self.candidate.values_s)


def unit_of(seconds: float) -> tuple[str, float]:
    """The unit in which so many seconds read well, and how many of it make a second."""
    return ("s", 1.0) if seconds >= 1 else ("ms", 1e3) if seconds >= 1e-3 else ("µs", 1e6)


def amount(seconds: float, tokens: int | None = None) -> str:
    """Seconds in a unit that reads well, and tokens per second where there are tokens.

    >>> amount(0.00213), amount(2.0, 48)
    ('2.13 ms', '2 s, 24.0 tok/s')
    """
    unit, scale = unit_of(seconds)
    text = f"{seconds * scale:.3g} {unit}"
    if tokens:
        text += f", {tokens / seconds:,.{1 if tokens < 100 * seconds else 0}f} tok/s"
    return text


@frozen
class Section:
    """One comparison for a reader: a row for each part, and what has to be said with it."""

    name: str
    words: str
    table: Table
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.name}: {self.words}" if self.words else self.name,
                str(self.table),
                *(f"  {note}" for note in self.notes),
                *(f"  doubtful: {text}" for text in self.warnings),
            ]
        )


def section(rows: Sequence[Comparison]) -> Section:
    """The rows of one comparison as text; a warning that holds for all of them stands once."""
    labels, cells, peaks, running = [], [], [], []
    for row in rows:
        medians = (amount(measured.median_s, row.tokens) for measured in row.both)
        cells.append((row.part, row.size, *medians, str(row.ratio), row.ratio.verdict))
    for measured in rows[0].both:
        label, types = measured.side.label, " and ".join(measured.kleidiai_running)
        held = f"{measured.peak_bytes / 1e6:,.0f} MB"
        labels.append(label)
        peaks.append(f"{label} {held if measured.peak_bytes else 'over before it was read'}")
        if measured.side.runtime not in ("transformers", "peer"):
            running.append(f"{label} {f'yes, {types}' if types else 'no'}")
    python = "" if measured.side.runtime == "llm_demo" else ", Python included"
    shared = [text for text in rows[0].warnings if all(text in row.warnings for row in rows)]
    own = [f"{row.part}: {text}" for row in rows for text in row.warnings if text not in shared]
    return Section(
        name=rows[0].name,
        words=WORDS.get(rows[0].name, ""),
        table=Table(("part", "one pass", *labels, "speed-up (95 % interval)", "verdict"), cells),
        notes=(
            f"Peak memory of the process{python}: {', '.join(peaks)}.",
            f"KleidiAI running, by MNN's own message: {', '.join(running)}.",
        ),
        warnings=(*shared, *own),
    )
