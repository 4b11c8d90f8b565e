"""How long the stages of an answer take, from what this very model took here before."""

import platform
from contextlib import suppress
from typing import Any

from labkit.base import files, paths
from labkit.base.records import from_json, to_json

WORTH_KEEPING_S = 0.2
AS_BEFORE = 0.25


class Pace:
    """Seconds of each stage by its size (patches of ``"vision"``, tokens of ``"prefill"``, 1 of
    ``"load"``), kept in the cache.

    Parameters
    ----------
    *about
        What the pace depends on: the weights, the options, the lane. The machine is added.
    """

    def __init__(self, *about: Any) -> None:
        name = paths.named(platform.node(), *about)
        self._file = paths.cache_dir() / "paces" / f"{name}.json"
        self._taken: dict[str, dict[int, float]] = {}
        with suppress(OSError, ValueError):  # none yet, or damaged: then nothing is known
            self._taken = from_json(dict[str, dict[int, float]], self._file.read_bytes())

    def knows(self, stage: str) -> bool:
        """Whether anything was measured of a stage."""
        return stage in self._taken

    def expected(self, stage: str, size: int) -> dict[str, Any]:
        """The seconds ``expected_s`` that a stage will take, None if nothing is known; and whether
        it may well be ``or_more``.

        They grow in proportion from the nearest size that was measured. Attention grows faster:
        from less than half the size it is a lower bound.
        """
        taken = self._taken.get(stage)
        if not taken:
            return {"expected_s": None, "or_more": False}
        nearest = min(taken, key=lambda known: abs(known - size))
        return {"expected_s": taken[nearest] * size / nearest, "or_more": size > 2 * nearest}

    def keep(
        self, stage: str, size: int, seconds: float, *, least_s: float = WORTH_KEEPING_S
    ) -> None:
        """Note what a stage took; what is over in a moment, or as it was, is not worth a write."""
        known = self._taken.get(stage, {}).get(size, 0)
        if seconds < least_s or abs(seconds - known) < AS_BEFORE * known:
            return
        self._taken.setdefault(stage, {})[size] = seconds
        with suppress(OSError):  # on a full disk the next question knows less, that is all
            files.write(self._file, to_json(self._taken))
