"""What was measured of a comparison before it was stopped: the next run of the same plan goes on.

Pairs are processes of their own, so nine are nine, whether or not there was a pause between.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from labkit.base import files, paths
from labkit.base.records import from_json, to_json
from labkit.bench.comparisons import Side
from labkit.bench.plan import BenchPlan
from labkit.model.manifest import Manifest

KEPT_S = 12 * 3600
"""Older pairs are of another day; a machine changes overnight."""


class Unfinished:
    """The pairs of one comparison, in a file of the cache until it is whole.

    Attributes
    ----------
    file
        Its name tells the plan, the sides, the model's weights and the machine apart.
    """

    def __init__(self, plan: BenchPlan, both: tuple[Side, ...], about: Manifest) -> None:
        machine = plan.lane.describe()
        planned = plan.to_dict(), plan.lane.name, str(plan.build), both
        name = paths.named(*planned, about.contents, machine.cpu, machine.logical_cores)
        self.file = paths.cache_dir() / "unfinished" / f"{name}.json"

    def read(self) -> dict[str, Any]:
        """What was kept; empty without any, or if it is old or damaged."""
        with suppress(OSError, ValueError):
            if time.time() - self.file.stat().st_mtime < KEPT_S:
                return from_json(dict[str, Any], self.file.read_bytes())
        return {}

    def keep(self, state: Mapping[str, Any]) -> None:
        """Keep what there is so far; on a full disk nothing is kept, that is all."""
        with suppress(OSError):
            files.write(self.file, to_json(state))

    def forget(self) -> None:
        """The comparison is whole."""
        self.file.unlink(missing_ok=True)
