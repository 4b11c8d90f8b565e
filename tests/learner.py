"""A learner's answers, for the tests of lessons."""

from __future__ import annotations

import linecache
from typing import Any

import numpy as np

from labkit.lessons.catalogue import EXERCISES


def solved(number: str) -> Any:
    namespace: dict[str, Any] = {}
    exec(EXERCISES[number].solution_source, namespace)
    return namespace[EXERCISES[number].name]


def written(source: str, name: str = "answer", file: str = "<cell>") -> Any:
    """A learner's function, from a cell of its own."""
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    namespace: dict[str, Any] = {"np": np}
    exec(compile(source, file, "exec"), namespace)
    return namespace[name]
