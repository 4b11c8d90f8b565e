"""labkit.base.command: every process starts here, leaves a log, and ends."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import psutil
import pytest

from labkit.base import command
from labkit.base.errors import CommandFailed


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def test_what_a_command_prints_is_told_line_by_line_and_kept(log: Path) -> None:
    log.write_text("before\n")
    lines: list[str] = []
    script = (
        r"import os; print('one'); print('10 %\r20 %', flush=True); os.write(2, b'\xff three\n')"
    )
    finished = command.run([sys.executable, "-c", script], log=log, on_line=lines.append)
    assert lines == ["one", "10 %", "20 %", "� three"]
    assert log.read_bytes() == b"before\none\n10 %\r20 %\n\xff three\n"
    assert finished.lines == tuple(lines)


def test_memory_of_children_counts(log: Path) -> None:
    child = "import time; x = bytearray(80_000_000); time.sleep(1)"
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    finished = command.run([sys.executable, "-c", script], log=log)
    assert finished.peak_bytes
    assert finished.peak_bytes > 80_000_000


def test_a_failure_carries_command_code_and_last_words(log: Path) -> None:
    with pytest.raises(CommandFailed) as failure:
        command.run(
            [sys.executable, "-c", "for i in range(30): print('line', i)\nraise SystemExit(7)"],
            log=log,
        )
    error = failure.value
    assert (error.argv[0], error.reason, error.log) == (sys.executable, "exit code 7", log)
    assert error.output.splitlines() == [f"line {i}" for i in range(18, 30)]
    assert str(log) in str(error)


def test_a_failure_tells_what_this_command_said_with_or_without_a_log(log: Path) -> None:
    log.write_text("of the command before\n")
    for kept in (log, None):
        with pytest.raises(CommandFailed, match="exit code 1") as failure:
            command.run(["sh", "-c", "echo '  why'; echo; exit 1"], log=kept)
        assert failure.value.output == "  why"
        assert ("The whole log" in str(failure.value)) is (kept is not None)


def test_a_program_that_is_not_there(log: Path) -> None:
    for start in (
        lambda: command.run(["no-such-program"], log=log),
        lambda: command.spawn(["no-such-program"], log=log),
    ):
        with pytest.raises(CommandFailed, match="could not be started: No such file"):
            start()


def test_a_command_that_takes_too_long_goes_with_its_children(log: Path) -> None:
    script = (
        "import subprocess, time\n"
        "print(subprocess.Popen(['sleep', '600']).pid, flush=True)\n"
        "time.sleep(600)"
    )
    pids: list[int] = []
    with pytest.raises(CommandFailed, match="took longer than 2 s and was ended"):
        command.run(
            [sys.executable, "-c", script],
            log=log,
            timeout_s=2,
            on_line=lambda line: pids.append(int(line)),
        )
    while psutil.pid_exists(pids[0]) and psutil.Process(pids[0]).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.05)  # until the test's own time limit


def test_memory_is_read_on_when_a_child_ends(log: Path) -> None:
    script = (
        "import subprocess, time\n"
        "for _ in range(60): subprocess.run(['true'])\n"
        "x = bytearray(80_000_000); time.sleep(0.5)"
    )
    finished = command.run([sys.executable, "-c", script], log=log)
    assert (finished.peak_bytes or 0) > 80_000_000


def test_a_child_that_still_is_its_parent_counts_once(log: Path) -> None:
    script = (
        "import os, time\n"
        "x = b'x' * 200_000_000\n"
        "pid = os.fork()\n"
        "time.sleep(1)\n"
        "if pid: os.waitpid(pid, 0)"
    )
    finished = command.run([sys.executable, "-c", script], log=log)
    assert 200_000_000 < (finished.peak_bytes or 0) < 300_000_000


def test_an_interrupt_ends_the_command(log: Path) -> None:
    def interrupt(line: str) -> None:
        pids.append(int(line))
        raise KeyboardInterrupt

    pids: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        command.run(
            [
                sys.executable,
                "-c",
                "import os, time; print(os.getpid(), flush=True); time.sleep(600)",
            ],
            log=log,
            on_line=interrupt,
        )
    assert not psutil.pid_exists(pids[0])


def test_signals_have_names() -> None:
    assert [command.exit_words(code) for code in (0, -9, -250)] == [
        "exit code 0",
        "killed by SIGKILL",
        "killed by signal 250",
    ]


def test_the_tail_of_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert command.tail(tmp_path / "nothing") == ""
