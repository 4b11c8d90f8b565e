"""Which instructions an Arm CPU executes, counted in the emulated lane. They are not time."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from labkit.arm import plugin
from labkit.arm.counts import Counts
from labkit.base.data import frozen
from labkit.base.errors import CountingFailed
from labkit.engine import lanes
from labkit.engine.client import EngineProcess
from labkit.engine.lanes import Lane
from labkit.model.parts import Part

RUNGS = (("cortex-a53", False), ("cortex-a76", False), ("max", False), ("max", True))


class CountingEngine(EngineProcess):
    """An engine in the emulated lane whose instructions are counted, on one thread.

    Raises
    ------
    CountingFailed
        In another lane, or if the plugin cannot be had.
    """

    def __init__(self, lane: Lane) -> None:
        if lane.name != "emulated":
            raise CountingFailed(
                "instructions are counted in the emulated lane, "
                f"not in the lane {lane.name!r}. Use lanes.emulated()"
            )

        def counter(prefix: Path) -> str:
            self._files = (plugin.path(prefix, number) for number in count())
            return plugin.option(prefix)

        super().__init__(lane, plugin=counter)

    def _snapshot(self) -> plugin.Snapshot:
        self._maps = self.request("snapshot")["maps"]
        file = next(self._files)
        taken = plugin.read(file)
        file.unlink()
        return taken

    def _sum(self, *runs: tuple[float, Callable[[], object]]) -> Counts:
        """Counts of some runs, each times its factor, added; noise below zero becomes zero."""
        taken = [self._snapshot()]
        for _, run in runs:
            run()
            taken.append(self._snapshot())
        executions = np.dot([factor for factor, _ in runs], plugin.executed(*taken))
        where = plugin.mapped_files(self._maps)
        return plugin.attribute(taken[-1], np.maximum(executions, 0), where)

    def count(self, part: Part, **options: Any) -> Counts:
        """Instructions of one forward pass, of a part loaded with options of `Part.load`.

        A run of one pass is subtracted from a run of three, so that all else cancels.
        """
        part.load(self, **options)
        part.forward(self)
        return self._sum(
            (-0.5, lambda: part.forward(self, repeat=1)),
            (0.5, lambda: part.forward(self, repeat=3)),
        )

    def count_load(self, part: Part, **options: Any) -> Counts:
        """Instructions until a part is ready.

        That is loading, and what its first pass does beyond a later one: packing its weights.
        """

        def get_ready() -> None:
            part.load(self, **options)
            part.forward(self)

        get_ready()  # once before: the first load of all also starts MNN itself
        return self._sum((1, get_ready), (-1, lambda: part.forward(self)))


@frozen
class Rung:
    """A CPU with KleidiAI off or on, and the counts of one forward pass there, by part."""

    cpu: str
    kleidiai: bool
    counts: Mapping[str, Counts]

    @property
    def label(self) -> str:
        """For tables and pictures: the newest instruction set of the CPU, and KleidiAI."""
        newest = lanes.CPUS[self.cpu].split(", ")[-1]
        return f"{self.cpu}: {newest}{' + KleidiAI' if self.kleidiai else ''}"

    def to_dict(self) -> dict[str, Any]:
        """For JSON, labelled as what it is."""
        return {
            "cpu": self.cpu,
            "kleidiai": self.kleidiai,
            "unit": "executed instructions, not time",
            "parts": {part: counts.to_dict() for part, counts in self.counts.items()},
        }


def ladder(
    parts: Sequence[Part],
    *,
    rungs: Sequence[tuple[str, bool]] = RUNGS,
    on_step: Callable[[str], None] = lambda _: None,
) -> tuple[Rung, ...]:
    """Count each part on each CPU of the ladder, KleidiAI off, and on where the CPU can run it.

    Parameters
    ----------
    parts
        What to run, from `labkit.model.parts`.
    rungs
        CPUs, and whether KleidiAI is on there.
    on_step
        Called with a few words before each step.
    """
    climbed = []
    for cpu, kleidiai in rungs:
        counts = {}
        with closing(CountingEngine(lanes.emulated(cpu))) as engine:
            for part in parts:
                on_step(f"{cpu}, KleidiAI {'on' if kleidiai else 'off'}: {part.name}")
                counts[part.name] = engine.count(part, kleidiai=kleidiai)
        climbed.append(Rung(cpu=cpu, kleidiai=kleidiai, counts=counts))
    return tuple(climbed)
