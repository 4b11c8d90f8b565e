"""What a question waits for, shown while it waits."""

import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import IO, Any

from labkit.base.show import in_notebook

STAGES = {
    "load": "loading the model",
    "vision": "vision, {:,} patches",
    "prefill": "prefill, {:,} tokens",
}
WIDTH = 78


class Waiting(AbstractContextManager["Waiting"]):
    """Tells what an answer waits for: give it each event of `labkit.model.chat.Model.ask`.

    Parameters
    ----------
    stream
        Where to; None is stderr. On a terminal, and in a notebook, one line changes and goes away
        when the words come; elsewhere each stage is a line.
    after_s
        A stage that is over before is not shown.
    """

    def __init__(self, stream: IO[str] | None = None, *, after_s: float = 0.5) -> None:
        self._stream, self._after_s = stream or sys.stderr, after_s
        self._changing = self._stream.isatty() or in_notebook()
        self._end: Callable[[], None] = lambda: None

    def __call__(self, event: dict[str, Any]) -> None:
        """Show a stage that begins; any other event ends the one before."""
        self._end()
        self._end = lambda: None
        if event["event"] in STAGES:
            over = threading.Event()
            shower = threading.Thread(target=self._show, args=(event, over), daemon=True)
            shower.start()

            def end() -> None:
                over.set()
                shower.join()

            self._end = end

    def _show(self, event: dict[str, Any], over: threading.Event) -> None:
        begun = time.perf_counter()
        if over.wait(self._after_s):
            return
        if not self._changing:
            print(f"  {words(event, 0)}", file=self._stream, flush=True)
            return
        while True:
            line = words(event, time.perf_counter() - begun)
            print(f"\r{line[:WIDTH]:{WIDTH}}", end="", file=self._stream, flush=True)
            if over.wait(0.2):
                break
        print(f"\r{'':{WIDTH}}\r", end="", file=self._stream, flush=True)

    def __exit__(self, *_: object) -> None:
        self({"event": "over"})


def words(event: dict[str, Any], elapsed_s: float) -> str:
    """A stage in words, with the time left as far as it is known.

    Examples
    --------
    >>> event = {"event": "vision", "size": 936, "expected_s": 8.2, "or_more": False}
    >>> words(event, 2.0)
    'vision, 936 patches: about 6 s left'
    >>> words(event, 11.0)
    'vision, 936 patches: 11 s, expected about 8 s'
    >>> words({"event": "load", "size": 1, "expected_s": None}, 3.0)
    'loading the model: 3 s'
    """
    stage, expected_s = STAGES[event["event"]].format(event["size"]), event["expected_s"]
    if chosen := event.get("tuned"):
        stage += f" as tuned ({chosen})"
    if expected_s is None:
        return f"{stage}: {elapsed_s:.0f} s" if elapsed_s else f"{stage} …"
    near = "at least" if event["or_more"] else "about"
    if elapsed_s > expected_s:
        return f"{stage}: {elapsed_s:.0f} s, expected {near} {expected_s:.0f} s"
    return f"{stage}: {near} {max(expected_s - elapsed_s, 1):.0f} s left"
