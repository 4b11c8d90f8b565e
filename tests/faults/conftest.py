"""Places that are gone after their test, and the table of what was tried."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.sandbox import LONG, SEED, TALLY, Sandbox, a_place

from labkit.base.records import to_json
from labkit.bench import work


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Sandbox]:
    with a_place(tmp_path / "place") as place:
        yield place


@pytest.fixture(scope="session")
def result_text() -> str:
    """A benchmark's result, the same in every run: damage to another one would be another's."""
    return to_json(work.real_size().result)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was tried, how often, and how it ended."""
    if not TALLY:
        return
    terminalreporter.section(f"faults: {'long' if LONG else 'short'} form, seed {SEED}")
    for (part, subject, outcome), count in sorted(TALLY.items()):
        terminalreporter.write_line(f"{part:14} {subject:24} {outcome:34} {count:6}")
