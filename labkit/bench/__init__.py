"""Two ways to run, timed in pairs: the measurement, its result, its page and its pictures."""
