"""What else goes on in the machine while something is measured."""

from labkit.engine.lanes import Lane, native

BUSY = 0.1  # of one core, used by other programs
FREQUENCY = 0.1  # change of the CPU's clock
HOT_CELSIUS = 80  # where boards begin to slow down
WARMER_CELSIUS = 20  # phones do so by what is warm beside the CPU


class Watch:
    """Looks at a lane's machine from now on."""

    def __init__(self, lane: Lane | None = None) -> None:
        self._lane = lane or native()
        self._readings = [self._lane.reading()]

    def look(self) -> None:
        """Note the clock of the fastest core and the warmth, right after work, where they can be
        read.
        """
        self._readings.append(self._lane.reading())

    def warnings(self) -> tuple[str, ...]:
        """What may have disturbed, in words."""
        first, last, disturbed = self._readings[0], self._lane.reading(), []
        elapsed, others = last.time_s - first.time_s, last.others_s - first.others_s
        if others > BUSY * elapsed:
            disturbed.append(
                f"busy machine: other programs used {others / elapsed:.1f} cores meanwhile; "
                "close them and measure again"
            )
        worked = self._readings[1:]
        clocks = [reading.clock_mhz for reading in worked if reading.clock_mhz]
        low, high = min(clocks, default=0), max(clocks, default=0)
        if high - low > FREQUENCY * high:
            disturbed.append(f"frequency: the CPU's clock went from {low:.0f} to {high:.0f} MHz")
        warmest = max((reading.celsius or 0 for reading in worked), default=0)
        risen = warmest - (first.celsius or warmest)
        if warmest >= HOT_CELSIUS or risen >= WARMER_CELSIUS:
            disturbed.append(
                f"temperature: the CPU was {warmest:.0f} °C warm, {risen:.0f} more than before; it "
                "may slow itself down: cool it and measure again"
            )
        if any(reading.throttled for reading in self._readings):
            disturbed.append("throttled: the machine says that it is slowed down, being too warm")
        return tuple(disturbed)
