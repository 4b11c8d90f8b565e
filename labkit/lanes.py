"""Lanes: where the engine's worker runs.

Every lane runs the same worker and speaks the same protocol over pipes; a lane only
says which command starts it. A remote one would be one more `Lane.worker_command`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

PACKAGE_PARENT = Path(__file__).parents[1]
CPUS = {"cortex-a53": "NEON", "cortex-a76": "dotprod", "max": "dotprod + i8mm"}
"""The ladder of emulated CPUs, and what each adds."""


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One place where a worker can run.

    Attributes
    ----------
    name
        "native" or "emulated".
    cpu
        The emulated CPU, one of `CPUS`; None in the native lane.
    """

    name: str
    cpu: str | None = None

    @property
    def may_be_timed(self) -> bool:
        """Whether seconds measured here say something about a CPU; under emulation they do not."""
        return self.name != "emulated"

    def worker_command(self, plugin: str | None = None) -> tuple[list[str], dict[str, str]]:
        """How a worker is started here: argv and what is added to the environment."""
        if self.name == "native":
            safe = ["-P"] if sys.version_info >= (3, 11) else []
            return [sys.executable, *safe, "-m", "labkit.engine.worker"], {"PYTHONPATH": str(PACKAGE_PARENT)}
        raise NotImplementedError(plugin)


def native() -> Lane:
    """The interpreter that runs this code."""
    return Lane(name="native")
