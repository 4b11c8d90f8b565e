"""The one place that starts processes.

`run` waits for a command and keeps its output in a log; `spawn` starts one that
stays and is spoken to through pipes. Neither goes through a shell.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from labkit.base.errors import CommandFailed


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A command that ended well: how long it took and how much memory it held at most."""

    argv: tuple[str, ...]
    elapsed_s: float
    peak_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of long work that is over; ``print`` shows it as a line."""

    number: int
    total: int
    name: str
    elapsed_s: float

    def __str__(self) -> str:
        return f"{self.number}/{self.total} {self.name} {self.elapsed_s:.1f} s"


def tail(log: Path, lines: int = 12) -> str:
    """The last lines of a log, for an error message."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return ""
    kept = [line.rstrip() for line in text.replace("\r", "\n").split("\n") if line.strip()]
    return "\n".join(kept[-lines:])


def exit_words(code: int) -> str:
    """An exit code in words.

    >>> exit_words(-11), exit_words(1)
    ('killed by SIGSEGV', 'exit code 1')
    """
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def run(
    argv: Sequence[str],
    *,
    log: Path,
    timeout_s: float | None = None,
    on_line: Callable[[str], None] | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Finished:
    """Run a command to its end; everything it prints goes to ``log`` and, line by line, to ``on_line``.

    Raises
    ------
    CommandFailed
        If it cannot be started, ends with an error, or takes longer than ``timeout_s``.
    """
    begun = time.perf_counter()
    late = threading.Event()
    with log.open("ab") as kept:
        try:
            process = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=_environment(env),
                start_new_session=True,
            )
        except OSError as error:
            raise CommandFailed(
                argv=argv, reason=f"could not be started: {error.strerror}", log=log, output=""
            ) from error
        watch = _PeakMemory(process.pid)

        def too_late() -> None:
            late.set()
            _end(process)

        alarm = threading.Timer(timeout_s, too_late) if timeout_s else None
        if alarm:
            alarm.daemon = True
            alarm.start()
        assert process.stdout is not None
        try:
            for raw in process.stdout:
                kept.write(raw)
                if on_line:
                    for line in raw.decode(errors="replace").replace("\r", "\n").splitlines():
                        on_line(line)
            code = process.wait()
        finally:
            if alarm:
                alarm.cancel()
            if process.poll() is None:  # the caller was interrupted: take the whole group along
                _end(process)
            peak = watch.stop()
            process.stdout.close()
    if late.is_set():
        raise CommandFailed(
            argv=argv,
            reason=f"took longer than {timeout_s:.0f} s and was ended",
            log=log,
            output=tail(log),
        )
    if code:
        raise CommandFailed(argv=argv, reason=exit_words(code), log=log, output=tail(log))
    return Finished(argv=tuple(argv), elapsed_s=time.perf_counter() - begun, peak_bytes=peak)


def spawn(
    argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a process that is spoken to over its standard input and output; its standard error goes to ``log``."""
    with log.open("ab") as kept:
        try:
            return subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=kept,
                env=_environment(env),
                start_new_session=True,
            )
        except OSError as error:
            raise CommandFailed(
                argv=argv, reason=f"could not be started: {error.strerror}", log=log, output=""
            ) from error


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    return {**os.environ, **(extra or {})}


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(
            process.pid, signal.SIGKILL
        )  # its own session: nothing but what it started itself
    except ProcessLookupError:
        return
    process.wait()


class _PeakMemory:
    """Samples the resident memory of a process and its children, ten times a second."""

    def __init__(self, pid: int) -> None:
        import psutil

        self._process = psutil.Process(pid)
        self._peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        import psutil

        while not self._stop.wait(0.1):
            try:
                family = [self._process, *self._process.children(recursive=True)]
                self._peak = max(self._peak, sum(p.memory_info().rss for p in family))
            except psutil.Error:
                return

    def stop(self) -> int | None:
        """Peak in bytes; None if the process was gone before the first look."""
        self._stop.set()
        self._thread.join()
        return self._peak or None
