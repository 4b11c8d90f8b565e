"""What else goes on in the machine while something is measured."""

import os
import time
from contextlib import suppress

import psutil

BUSY = 0.1  # of one core, used by other programs
FREQUENCY = 0.1  # change of the CPU's clock
USED = ("user", "nice", "system", "irq", "softirq", "steal")


class Watch:
    """Looks at the machine from now on."""

    def __init__(self) -> None:
        self._start = _seconds()
        self._clocks: list[float] = []

    def look(self) -> None:
        """Note the clock of the fastest core, right after work, where it can be read."""
        with suppress(AttributeError, NotImplementedError, OSError, RuntimeError, ValueError):
            self._clocks.append(max(core.current for core in psutil.cpu_freq(percpu=True)))

    def warnings(self) -> tuple[str, ...]:
        """What may have disturbed, in words."""
        elapsed, used, own = (now - then for now, then in zip(_seconds(), self._start, strict=True))
        disturbed = []
        if used - own > BUSY * elapsed:
            disturbed.append(
                f"busy machine: other programs used {(used - own) / elapsed:.1f} cores meanwhile; "
                "close them and measure again"
            )
        low, high = min(self._clocks, default=0), max(self._clocks, default=0)
        if high - low > FREQUENCY * high:
            disturbed.append(f"frequency: the CPU's clock went from {low:.0f} to {high:.0f} MHz")
        return tuple(disturbed)


def _seconds() -> tuple[float, float, float]:
    """The time, and the CPU's: what all has used since boot, and this process with its children."""
    total, own = psutil.cpu_times(), sum(os.times()[:4])
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            own += sum(child.cpu_times()[:2])
    return time.monotonic(), sum(getattr(total, name, 0.0) for name in USED), own
