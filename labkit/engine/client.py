"""The side that talks to a worker: starts it, asks, and survives its crash."""

import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, suppress
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

import numpy as np

from labkit.base import command, files
from labkit.base.errors import EngineCrashed, EngineError, EngineTimeout
from labkit.engine.lanes import Lane, native, parse_features
from labkit.engine.protocol import ProtocolError, Values, pack, read_frame

LATE_S = 10
"""For what was printed on another machine, at most."""


class EngineProcess(AbstractContextManager["EngineProcess"]):
    """One worker process. Requests run one after another; threads wait for their turn.

    Parameters
    ----------
    lane
        Where the worker runs; None is this interpreter.
    plugin
        For an emulated lane, a QEMU plugin with its options (`labkit.arm.plugin`): it is given a
        prefix for files in a folder that is there until the process is closed.

    Attributes
    ----------
    machine
        Versions and architecture, as the worker sees them.
    log
        What MNN prints.

    Raises
    ------
    EngineCrashed
        From any request, when the process has ended; the message carries its last words.
    """

    def __init__(
        self, lane: Lane | None = None, *, plugin: Callable[[Path], str] | None = None
    ) -> None:
        self.lane = lane or native()
        self._turn = threading.Lock()
        with ExitStack() as stack:
            folder = stack.enter_context(files.temporary("engine"))
            argv, env = self.lane.worker_command(plugin(folder / "plugin") if plugin else None)
            self.log = folder / "worker.log"
            self._process = command.spawn(argv, log=self.log, env=env)
            stack.callback(self._end)
            self.machine = self.request("hello", timeout_s=120)
            self._closing = stack.pop_all()  # all is well: undone only when it is closed

    def request(
        self,
        op: str,
        arrays: Mapping[str, np.ndarray] | None = None,
        *,
        on_event: Callable[[Values], None] | None = None,
        timeout_s: float = 600,
        **values: Any,
    ) -> Values:
        """Send one request and wait for its reply.

        Parameters
        ----------
        op
            One of `labkit.engine.worker.OPERATIONS`.
        arrays
            Arguments of the operation, by name.
        on_event
            Called with each event that comes before the reply.
        timeout_s
            After this many seconds the worker is ended.
        **values
            More arguments: what JSON knows, arrays, or paths, which the worker is given as the
            lane names them (`labkit.engine.lanes.Lane.placed`).

        Returns
        -------
        dict
            What the operation returns, by name.

        Raises
        ------
        EngineCrashed, EngineTimeout, EngineError
            The process ended; it took too long; it refused the request.
        """
        placed = {k: self.lane.placed(v) if isinstance(v, Path) else v for k, v in values.items()}
        request = pack({"op": op, **placed, **(arrays or {})})
        with self._turn, closing(self._frames(op, request, timeout_s)) as frames:
            for frame in frames:
                if on_event and "event" in frame:
                    on_event(frame)
        if error := frame.get("error"):
            raise EngineError(
                f"the engine could not do {op!r}: {error['type']}: {error['message']}"
                f"{self._last_words(4)}"
            )
        return frame

    def _frames(self, op: str, request: bytes, timeout_s: float) -> Generator[Values]:
        """Events, then the reply. Whoever does not wait for that ends the worker.

        A half-read answer would be taken for the next one's.
        """
        process, frame = self._process, {"event": "none yet"}
        assert process.stdin
        assert process.stdout
        with command.time_limit(process, timeout_s) as late:
            try:
                process.stdin.write(request)
                process.stdin.flush()
                while "event" in frame:
                    frame = read_frame(process.stdout)
                    yield frame
            except (EOFError, OSError, ProtocolError, ValueError) as error:  # ValueError: closed
                self._end(2)
                if late.is_set():
                    raise EngineTimeout(
                        f"the engine did not finish {op!r} within {timeout_s:.0f} s and was ended. "
                        "Open the model again; ask for fewer tokens or a smaller picture."
                    ) from error
                why = self.lane.why(process.returncode, command.tail(self.log))
                raise EngineCrashed(
                    f"the engine ended while doing {op!r} "
                    f"({command.exit_words(process.returncode)}). {why}{self._last_words()}"
                ) from error
            finally:
                if "event" in frame:
                    command.end(process)

    def _end(self, seconds: float = 5) -> None:
        """Let the process end by itself, or else end it."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with suppress(OSError):  # what was not written yet is lost
                    pipe.close()
        with suppress(TimeoutExpired):
            self._process.wait(seconds)
        command.end(self._process)

    def _last_words(self, lines: int = 12) -> str:
        log = command.tail(self.log, lines)
        return f"\nIts log ends with:\n{log}" if log else ""

    @property
    def features(self) -> tuple[str, ...] | None:
        """The CPU's features as MNN sees them; None if it has not said."""
        return parse_features(self.said)

    @property
    def said(self) -> str:
        """What MNN has printed so far."""
        if not self.lane.is_here and self.alive:
            mark, end = f"labkit {time.monotonic_ns()}", time.monotonic() + LATE_S
            self.request("mark", text=mark)
            while mark not in self.log.read_text(errors="replace") and time.monotonic() < end:
                time.sleep(0.01)
        return self.log.read_text(errors="replace")

    @property
    def pid(self) -> int:
        """The worker's process; under emulation the emulator's, which is the same one."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the worker; closing twice is fine."""
        self._closing.close()

    def __exit__(self, *_: object) -> None:
        self.close()
