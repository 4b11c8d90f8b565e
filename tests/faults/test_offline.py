"""Without a network everything that is promised works, and nothing asks for one."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from faults.namespaces import namespace
from faults.sandbox import LONG, REPOSITORY, TALLY, Sandbox
from faults.subjects import QUESTION, SCENE, furnish

# A network namespace has a loopback that is down; its last line becomes the command.
UP = """
import fcntl, os, socket, struct, sys
with socket.socket() as opened:
    fcntl.ioctl(opened, 0x8914, struct.pack("16sh14x", b"lo", 1))
os.execvp(sys.argv[1], sys.argv[1:])
"""
SHORT = (
    ("labkit", "ask", SCENE, QUESTION),
    ("labkit", "doctor"),
    ("labkit", "fetch"),
    ("labkit", "report", "result.json", "--out", "result.html"),
)
ALL = (
    ("labkit", "convert", "mini", "--out", "model"),
    ("labkit", "verify", "model"),
    ("labkit", "parity", "--layers", "model"),
    ("labkit", "probe", SCENE, "--question", QUESTION, "--reference", "--out", "probed"),
    ("labkit", "bench", "--compare", "quantised", "--parts", "decode", "--out", "new.json"),
    ("labkit", "build", "compare", "--target", "aarch64-linux"),
    ("labkit", "build", "accelerated", "--target", "aarch64-linux", "--dry-run"),
)
NOTEBOOKS = ("00", "02", "03", "04", "07")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]


@pytest.fixture
def alone(place: Sandbox, mini_folder: Path, result_text: str) -> Sandbox:
    """A place with a converted model and a result."""
    for name in ("probe", "report"):
        furnish(place, name, mini_folder, result_text)
    return place


def traced(log: Path) -> tuple[str, ...]:
    """For a command that gets no network, and whose calls for one are written to a log."""
    before, strace = namespace("-n"), shutil.which("strace")
    if not strace:
        pytest.fail("needs strace, to see every socket. Type: sudo apt-get install strace")
    calls = "trace=connect,sendto,sendmsg,bind"
    watch = (strace, "-f", "-qq", "-e", calls, "-e", "signal=none", "-o", str(log))
    return (*before, sys.executable, "-c", UP, *watch)


def elsewhere(log: Path) -> list[str]:
    """The calls that name an address of another machine."""
    named = re.compile(r'inet_addr\("(?!127\.)|inet_pton\(AF_INET6, "(?!::1")')
    return [line for line in log.read_text().splitlines() if named.search(line)]


@pytest.mark.parametrize("argv", SHORT + ALL * LONG, ids=lambda argv: argv[1])
def test_a_command_works_and_asks_nobody(argv: tuple[str, ...], alone: Sandbox) -> None:
    if argv[1] in ("verify", "parity"):
        shutil.copytree(next((alone.home / "cache" / "models").iterdir()), alone.out / "model")
    log = alone.folder / "trace"
    done = alone.run(*argv, before=traced(log))
    assert done.code == 0, done
    assert not elsewhere(log)
    TALLY["no network", argv[1], "answer, no socket leaves"] += 1


@pytest.mark.skipif(not LONG, reason="in the long form: takes minutes")
@pytest.mark.parametrize("number", NOTEBOOKS)
def test_a_notebook_runs_and_asks_nobody(number: str, alone: Sandbox) -> None:
    (notebook,) = (REPOSITORY / "notebooks").glob(f"{number}_*.ipynb")
    log = alone.folder / "trace"
    sanitise = str(REPOSITORY / "tests" / "nbval_sanitize.cfg")
    how = ["--nbval", "--nbval-current-env", "--nbval-sanitize-with", sanitise, "-p", "no:faults"]
    ran = subprocess.run(
        [*traced(log), sys.executable, "-m", "pytest", "-q", *how, str(notebook)],
        env=alone.env,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    assert not elsewhere(log)
    TALLY["no network", f"notebook {number}", "as committed, no socket leaves"] += 1


@pytest.fixture
def lab(alone: Sandbox) -> Iterator[tuple[str, psutil.Process, Path]]:
    """JupyterLab as bootstrap starts it: its address with the token, its process, its trace."""
    code = "import bootstrap as b; print(*b.lab_command(b.parse(['lab', '--no-browser']))[1:])"
    options = subprocess.check_output([sys.executable, "-c", code], cwd=REPOSITORY, text=True)
    log, said = alone.folder / "trace", alone.folder / "said"
    env = alone.env | {f"JUPYTER_{n}_DIR": str(alone.tmp) for n in ("CONFIG", "DATA", "RUNTIME")}
    with said.open("w") as output:
        process = subprocess.Popen(
            [*traced(log), sys.executable, *options.split()], env=env, stdout=output, stderr=output
        )
    try:
        end = time.monotonic() + 300
        while not (address := re.search(r"http://127\S+token=\w+", said.read_text())):
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < end, said.read_text()
            time.sleep(0.1)
        yield address[0], psutil.Process(process.pid), log
    finally:
        for started in alone.processes():
            started.kill()
        process.wait()


def test_the_lab_listens_here_only_wants_its_token_and_asks_nobody(
    lab: tuple[str, psutil.Process, Path], alone: Sandbox
) -> None:
    address, process, log = lab
    parts = urlsplit(address)
    base, token = f"http://{parts.netloc}", parts.query.partition("=")[2]
    code = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).status)"
    inside = ("nsenter", "-t", str(process.pid), "-n")
    answers = [
        subprocess.run(
            [*inside, sys.executable, "-c", code, f"{base}/{page}"],
            capture_output=True,
            text=True,
            check=False,
        )
        for page in (f"api/contents?token={token}", "api/contents", f"lab?token={token}")
    ]
    assert [answer.stdout for answer in answers] == ["200\n", "", "200\n"]
    assert "403: Forbidden" in answers[1].stderr
    bound = [line for line in log.read_text().splitlines() if " bind(" in line and "inet" in line]
    assert bound
    assert not elsewhere(log)
    TALLY["no network", "JupyterLab", "loopback and token only"] += 1
