"""The side that talks to a worker: starts it, asks, and survives its crash."""

from __future__ import annotations

import subprocess
import tempfile
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from labkit.base import command
from labkit.base.errors import EngineCrashed, EngineError, EngineTimeout
from labkit.engine.lanes import Lane, native, parse_features
from labkit.engine.protocol import ProtocolError, Values, pack, read_frame

if TYPE_CHECKING:
    from typing_extensions import Self


class EngineProcess:
    """One worker process. Requests run one after another; threads wait for their turn.

    Parameters
    ----------
    lane
        Where the worker runs; None is this interpreter.
    plugin
        A QEMU plugin with its options, for an emulated lane (`labkit.arm.counting`).

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

    def __init__(self, lane: Lane | None = None, *, plugin: str | None = None) -> None:
        self.lane = lane or native()
        argv, env = self.lane.worker_command(plugin)
        self._turn = threading.Lock()
        self._folder = tempfile.TemporaryDirectory(prefix="labkit-engine-")
        self.log = Path(self._folder.name) / "worker.log"
        try:
            self._process = command.spawn(argv, log=self.log, env=env)
        except BaseException:
            self._folder.cleanup()
            raise
        try:
            self.machine = self.request("hello", timeout_s=120)
        except BaseException:
            self.close()
            raise

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
            More arguments: what JSON knows, or arrays.

        Returns
        -------
        dict
            What the operation returns, by name.

        Raises
        ------
        EngineCrashed, EngineTimeout, EngineError
            The process ended; it took too long; it refused the request.
        """
        request = pack({"op": op, **values, **(arrays or {})})
        with self._turn, closing(self._frames(op, request, timeout_s)) as frames:
            for frame in frames:
                if on_event and "event" in frame:
                    on_event(frame)
        if error := frame.get("error"):
            log = command.tail(self.log, 4)
            raise EngineError(op=op, kind=error["type"], message=error["message"], log=log)
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
                self._wait(2)
                if late.is_set():
                    raise EngineTimeout(op=op, seconds=timeout_s) from error
                reason = command.exit_words(self._process.returncode)
                raise EngineCrashed(op=op, reason=reason, log=command.tail(self.log)) from error
            finally:
                if "event" in frame:
                    command.end(process)

    def _wait(self, seconds: float) -> None:
        """Let the process end by itself, or else end it."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        command.end(self._process)

    @property
    def features(self) -> tuple[str, ...] | None:
        """The CPU's features as MNN sees them; None if it has not said."""
        return parse_features(self.log.read_text(errors="replace"))

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
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with suppress(OSError):
                    pipe.close()
        self._wait(5)
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
