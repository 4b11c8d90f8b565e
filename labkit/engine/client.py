"""The side that talks to a worker: starts it, asks, and survives its crash."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.base import command
from labkit.base.errors import EngineCrashed, EngineError, EngineTimeout
from labkit.engine.lanes import Lane, native, parse_features
from labkit.engine.protocol import Arrays, ProtocolError, read_frame, write_frame

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

    Raises
    ------
    EngineCrashed
        From any request, when the process has ended; the message carries its last words.
    """

    def __init__(self, lane: Lane | None = None, *, plugin: str | None = None) -> None:
        self.lane = lane or native()
        argv, env = self.lane.worker_command(plugin)
        self._folder = tempfile.TemporaryDirectory(prefix="labkit-engine-")
        self.log = Path(self._folder.name) / "worker.log"
        try:
            self._process = command.spawn(argv, log=self.log, env=env)
        except BaseException:
            self._folder.cleanup()
            raise
        self._turn = threading.Lock()
        try:
            self.machine = self.request("hello", timeout_s=120)[0]
        except BaseException:
            self.close()
            raise

    def request(
        self,
        op: str,
        arrays: Arrays | None = None,
        *,
        on_event: Callable[[dict[str, Any]], None] | None = None,
        timeout_s: float = 600,
        **values: Any,
    ) -> tuple[dict[str, Any], Arrays]:
        """Send one request and wait for its reply.

        Parameters
        ----------
        op
            One of `labkit.engine.worker.OPERATIONS`.
        arrays
            Arrays that go with it.
        on_event
            Called with each event that comes before the reply.
        timeout_s
            After this many seconds the worker is ended.

        Returns
        -------
        tuple of dict
            The reply's header and arrays.

        Raises
        ------
        EngineCrashed, EngineTimeout, EngineError
            The process ended; it took too long; it refused the request.
        """
        late = threading.Event()

        def too_late() -> None:
            late.set()
            self._process.kill()

        with self._turn:
            alarm = threading.Timer(timeout_s, too_late)
            alarm.daemon = True
            alarm.start()
            finished = False
            try:
                assert self._process.stdin is not None
                assert self._process.stdout is not None
                with self._crashes(op, late, timeout_s):
                    write_frame(self._process.stdin, {"op": op, **values}, arrays)
                while True:
                    with self._crashes(op, late, timeout_s):
                        header, results = read_frame(self._process.stdout)
                    if "event" not in header:
                        finished = True
                        break
                    if on_event:  # outside: an error of the caller's own is not a crash
                        on_event(header)
            finally:
                alarm.cancel()
                if not finished:  # a half-read reply would be taken for the next one's
                    self._process.kill()
                    self._process.wait()
        if "error" in header:
            raise EngineError(
                op=op,
                kind=header["error"]["type"],
                message=header["error"]["message"],
                log=command.tail(self.log, 4),
            )
        return header, results

    @contextlib.contextmanager
    def _crashes(self, op: str, late: threading.Event, seconds: float) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError, ProtocolError, ValueError) as error:
            if late.is_set():
                raise EngineTimeout(op=op, seconds=seconds) from error
            reason = command.exit_words(self._gone())
            raise EngineCrashed(op=op, reason=reason, log=command.tail(self.log)) from error

    def _gone(self) -> int:
        """End the process if it has not ended by itself, and say how it ended."""
        with contextlib.suppress(Exception):
            return self._process.wait(timeout=2)
        self._process.kill()
        return self._process.wait()

    @property
    def features(self) -> tuple[str, ...] | None:
        """The CPU's features as MNN sees them; None if it has not said."""
        return parse_features(self.log.read_text(errors="replace"))

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the worker; closing twice is fine."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()
        with contextlib.suppress(Exception):
            self._process.wait(timeout=5)
        if self.alive:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
