"""Progress of its own for every test of lessons."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit import lessons


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Progress of its own for every test, and no hints shown yet."""
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    monkeypatch.setattr(lessons, "_hints_shown", {})
    return tmp_path
