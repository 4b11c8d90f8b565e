"""The one place that starts processes.

`run` waits for a command and gives back what it printed; `spawn` starts one that stays
and is spoken to through pipes. Neither goes through a shell, and each process is ended
together with all that it started itself.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, Popen
from typing import Any, TypeAlias

from labkit.base.data import frozen
from labkit.base.errors import CommandFailed
from labkit.base.files import read


@frozen
class Finished:
    """A command that ended well: what it printed, and how much memory it held at most."""

    lines: tuple[str, ...]
    peak_bytes: int | None


@frozen
class Stage:
    """One stage of long work that is over; ``print`` shows it as a line.

    ``elapsed_s`` is None where the work went on without a word about this stage; ``peak_bytes`` is
    the most memory held until its end, where that is watched.
    """

    number: int
    total: int
    name: str
    elapsed_s: float | None
    peak_bytes: int | None = None

    def __str__(self) -> str:
        taken = "not reported" if self.elapsed_s is None else f"{self.elapsed_s:.1f} s"
        memory = f", up to {self.peak_bytes / 2**30:.1f} GiB" if self.peak_bytes else ""
        return f"{self.number}/{self.total} {self.name} {taken}{memory}"


OnStage: TypeAlias = Callable[[Stage | str], None] | None
"""Who is told of each stage that is over, or in words what is waited for."""


class Stages:
    """Long work in stages: each is told once it is over, with the seconds since the one before.

    Parameters
    ----------
    names
        All of them, in order.
    on_stage
        Who is told.
    memory
        Readings of `memory`, which grow while the work goes on.
    """

    def __init__(self, names: Sequence[str], on_stage: OnStage, memory: Sequence[int] = ()) -> None:
        self._ahead, self._total = list(names), len(names)
        self._on_stage, self._memory = on_stage or (lambda _: None), memory
        self._last = time.perf_counter()

    def end(self, name: str) -> None:
        """Tell that a stage is over, and of those before it that nothing was heard of them.

        A stage that was told already is not told again.
        """
        now = time.perf_counter()
        taken = now - self._last
        while name in self._ahead:
            self._last = now
            current = self._ahead.pop(0)
            self._on_stage(
                Stage(
                    number=self._total - len(self._ahead),
                    total=self._total,
                    name=current,
                    elapsed_s=taken if current == name else None,
                    peak_bytes=max(self._memory, default=None),
                )
            )


def tail(log: Path, lines: int = 12) -> str:
    """The last lines of a log, for an error message; empty if it cannot be read."""
    return _last(read(log).splitlines(), lines)


def _last(lines: Sequence[str], most: int = 12) -> str:
    return "\n".join([line.rstrip() for line in lines if line.strip()][-most:])


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
    log: Path | None = None,
    timeout_s: float | None = None,
    on_line: Callable[[str], None] | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Finished:
    """Run a command to its end.

    Parameters
    ----------
    log
        What it prints, errors among it, is added to this file as it comes.
    timeout_s
        After this many seconds it is ended.
    on_line
        Called with each line as it comes.
    env
        Added to the environment.

    Raises
    ------
    CommandFailed
        If it cannot be started, ends with an error, or takes too long.
    """
    lines: list[str] = []
    with (
        Path(log or os.devnull).open("ab") as kept,
        _start(argv, log, env, cwd=cwd, stdin=DEVNULL, stderr=STDOUT) as process,
        time_limit(process, timeout_s) as late,
        memory(process.pid) as readings,
    ):
        assert process.stdout
        try:
            for raw in process.stdout:
                kept.write(raw)
                for line in raw.decode(errors="replace").splitlines():  # "\r" ends one, too
                    lines.append(line)
                    if on_line:
                        on_line(line)
            code = process.wait()
        finally:  # the caller was interrupted: the process goes along
            end(process)
    if late.is_set() or code:
        reason = exit_words(code)
        if late.is_set():
            reason = f"took longer than {timeout_s:.0f} s and was ended"
        raise CommandFailed(argv=argv, reason=reason, log=log, output=_last(lines))
    # Without a reading it was over before the first.
    return Finished(lines=tuple(lines), peak_bytes=max(readings, default=0) or None)


def spawn(argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None) -> Popen[bytes]:
    """Start a process to speak to over standard input and output; its errors go to ``log``.

    Raises
    ------
    CommandFailed
        If it cannot be started.
    """
    with log.open("ab") as errors:
        return _start(argv, log, env, stdin=PIPE, stderr=errors)


def _start(
    argv: Sequence[str], log: Path | None, env: Mapping[str, str] | None, **pipes: Any
) -> Popen[bytes]:
    """Start a process in a session of its own, with ``env`` added to the environment."""
    everything = {**os.environ, **(env or {})}
    try:
        return Popen(argv, env=everything, stdout=PIPE, start_new_session=True, **pipes)
    except OSError as error:
        reason = f"could not be started: {error.strerror}"
        raise CommandFailed(argv=argv, reason=reason, log=log, output="") from error


def end(process: Popen[Any]) -> int:
    """End a process that `run` or `spawn` started, with all it started; its exit code."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its own session: nobody else's processes
    return process.wait()


@contextmanager
def time_limit(process: Popen[Any], seconds: float | None) -> Iterator[threading.Event]:
    """End a process if the block takes longer than this; the event says whether it did."""
    late = threading.Event()

    def too_late() -> None:
        late.set()
        end(process)

    alarm = threading.Timer(seconds or threading.TIMEOUT_MAX, too_late)
    alarm.daemon = True
    alarm.start()
    try:
        yield late
    finally:
        alarm.cancel()


@contextmanager
def memory(pid: int) -> Iterator[list[int]]:
    """Resident bytes of a process with its children, read ten times a second.

    A child that has not begun its own program yet still is its parent, memory included, and is
    not counted beside it.
    """
    import psutil

    process, over = psutil.Process(pid), threading.Event()
    readings: list[int] = []

    def watch() -> None:
        while not over.is_set():
            with suppress(psutil.Error):  # one of them may end while it is looked at
                begun = [
                    child
                    for child in process.children(recursive=True)
                    if child.cmdline() != psutil.Process(child.ppid()).cmdline()
                ]
                readings.append(sum(one.memory_info().rss for one in [process, *begun]))
            over.wait(0.1)

    reader = threading.Thread(target=watch, daemon=True)
    reader.start()
    try:
        yield readings
    finally:
        over.set()
        reader.join()
