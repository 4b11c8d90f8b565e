"""The link to another machine: OpenSSH's own client, as its user has set it up.

The user's configuration, keys, agent and known hosts hold, and nothing is weakened. All that a
process asks of a machine goes over one connection. What has to be there is copied once, by its
content: what an interrupted copy has brought is not sent again.
"""

import atexit
import json
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from pathlib import Path
from subprocess import Popen, TimeoutExpired
from typing import Any

from tqdm import tqdm

from labkit.base import command, files, paths
from labkit.base.data import frozen
from labkit.base.errors import LaneNotReady
from labkit.base.files import read
from labkit.base.hardware import printed_by
from labkit.engine import there

CLIENT = "LABKIT_SSH"
"""The SSH client to use, in place of ``ssh``, with options of its own, such as ``-F FILE``."""
TIMEOUT_S = 10
OPTIONS = {
    "BatchMode": "yes",
    "ConnectTimeout": TIMEOUT_S,
    "ServerAliveInterval": TIMEOUT_S,
    "ServerAliveCountMax": 2,
    "ControlMaster": "auto",
    "ControlPersist": 30,
    "ClearAllForwardings": "yes",
}
"""No question is asked, and a dead link is noticed."""
FAULTS = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
"""What ssh or that machine's shell says, and what that means; the first that fits."""
TARGET = re.compile(r"((?:[\w.-]+@)?(?:[\w][\w.-]*|\[[\da-fA-F:.]+\]))(?::(\d+))?")
START = (
    "import os,sys;v=sys.version_info;os.name=='nt' and sys.exit('LABKIT-WINDOWS');"
    "v<(3,10) and sys.exit('LABKIT-OLD %d.%d'%v[:2]);exec(sys.stdin.buffer.read({}))"
)
PIECE = 2**16


@frozen
class Link:
    """A machine as ``ssh`` reaches it, and the Python that is to be used there."""

    target: str
    port: int | None = None
    python: str = "python3"

    @property
    def typed(self) -> str:
        """What its user types to come there."""
        return shlex.join(["ssh", *self._where])

    @property
    def _where(self) -> list[str]:
        return [*(["-p", str(self.port)] if self.port else []), self.target]

    def argv(self, *words: str) -> list[str]:
        """How a command is started there."""
        return [*_client(self, *_program()), *self._where, shlex.join(words)]

    def why(self, code: int, log: str) -> str:
        """What went wrong, by what ssh wrote, and what to do."""
        address = self.target.rpartition("@")[2].strip("[]")
        words = {
            "host": self.target + (f", port {self.port}" if self.port else ""),
            "target": " ".join(self._where),
            "address": address,
            "known": f"'[{address}]:{self.port}'" if self.port else address,
            "ssh": self.typed,
            "python": self.python,
            "timeout": TIMEOUT_S,
        }
        ended = command.exit_words(code)
        for pattern, meaning in FAULTS:
            if said := re.search(pattern, f"{log}\n{ended}"):
                return str(meaning.format(**words, **said.groupdict()))
        last = "\n".join(log.splitlines()[-6:])
        return (
            f"{words['host']} did not do what was asked of it ({ended}). "
            f"Try: {self.typed} {self.python} --version"
            + (f"\nIts last words:\n{last}" if last else "")
        )

    @contextmanager
    def _asked(self, op: str, timeout_s: float | None, **arguments: Any) -> Iterator[Popen[bytes]]:
        """`labkit.engine.there` at work on one request; a fault of the link has its own message."""
        script = Path(there.__file__).read_bytes()
        words = self.python, "-c", START.format(len(script))
        with files.temporary("ssh") as folder:
            log = folder / "log"
            process = command.spawn(self.argv(*words), log=log)
            assert process.stdin
            assert process.stdout
            try:
                with command.time_limit(process, timeout_s):
                    process.stdin.write(script + json.dumps([op, arguments]).encode() + b"\n")
                    process.stdin.flush()
                    yield process
            except (EOFError, OSError) as error:
                with suppress(TimeoutExpired):
                    process.wait(5)
                raise LaneNotReady(self.why(command.end(process), read(log))) from error
            finally:
                command.end(process)
                for pipe in (process.stdin, process.stdout):
                    with suppress(OSError):  # what was not written yet is lost
                        pipe.close()

    def ask(self, op: str, timeout_s: float = 120, **arguments: Any) -> dict[str, Any]:
        """One request to `labkit.engine.there`, and its reply.

        Raises
        ------
        LaneNotReady
            If the machine cannot be reached or cannot answer; says why and what to type.
        """
        with self._asked(op, timeout_s, **arguments) as process:
            return self._reply(process)

    def _reply(self, process: Popen[bytes]) -> dict[str, Any]:
        assert process.stdout
        line = process.stdout.readline()
        if not line:
            raise EOFError
        if not line.startswith(there.MARK):
            raise LaneNotReady(
                f"expected a login on {self.target} that prints nothing by itself, received "
                f"{line[:80].decode(errors='replace').strip()!r}. Something in ~/.bashrc or the "
                "like prints also where nobody looks; take it out, or have it print only if "
                "[ -t 1 ]"
            )
        reply: dict[str, Any] = json.loads(line.removeprefix(there.MARK))
        if "error" in reply:
            raise LaneNotReady(
                f"{self.target} could not do it: {reply['error']}. What was copied is kept; mend "
                "that and type the same again"
            )
        return reply

    def copy(self, kind: str, given: Mapping[str, Path]) -> str:
        """Where a folder with these files stands there; what is not there yet is copied.

        It stands under a hash of its contents, and has its name once every file's SHA-256 was
        found right there. A bar shows the bytes of what takes longer than a second.

        Parameters
        ----------
        kind
            Of which kind: a folder in the one that is labkit's there.
        given
            Files by their names in the folder.

        Raises
        ------
        LaneNotReady
            As `ask`; if its disk has no room.
        """
        about = {name: _about(file, *stamp(file)) for name, file in sorted(given.items())}
        total = sum(size for size, _ in about.values())
        to = f"{kind}/{paths.named(about)}"
        with self._asked("receive", None, to=to, files=about) as process:
            reply = self._reply(process)
            if have := reply.get("have"):
                with tqdm(
                    total=total,
                    initial=sum(have.values()),
                    desc=f"{kind} to {self.target}",
                    unit="B",
                    unit_scale=True,
                    delay=1,
                    leave=False,
                ) as bar:
                    for name in about:
                        self._pour(process, given[name], have[name], bar)
                reply = self._reply(process)
        if "there" in reply:
            return str(reply["there"])
        if "damaged" in reply:
            raise LaneNotReady(
                f"expected {', '.join(reply['damaged'])} to arrive whole on {self.target}, found "
                "another SHA-256: its disk or the link is damaged, or the file changed meanwhile. "
                "Type the same again"
            )
        raise LaneNotReady(
            f"expected {reply['lacking_bytes'] / 1e6:,.0f} MB free on the disk of {self.target}, "
            f"found {reply['free_bytes'] / 1e6:,.0f} MB. Free some there, and type the same again"
        )

    def _pour(self, process: Popen[bytes], file: Path, begin: int, bar: Any) -> None:
        assert process.stdin
        try:
            with file.open("rb") as opened:
                opened.seek(begin)
                while piece := opened.read(PIECE):
                    process.stdin.write(piece)
                    process.stdin.flush()
                    bar.update(len(piece))
        except BrokenPipeError:  # it may have said why
            self._reply(process)
            raise

    def fetch(self, file: str, to: Path) -> None:
        """Bring a file from there, whole or not at all."""
        with self._asked("send", None, file=file) as process, files.replacing(to) as new:
            about, left = self._reply(process), 0
            assert process.stdout
            with new.open("wb") as opened:
                left = about["bytes"]
                while left and (piece := process.stdout.read(min(left, PIECE))):
                    left -= opened.write(piece)
            if left or _about(new, *stamp(new))[1] != about["sha256"]:
                raise EOFError


def link(given: str, python: str | None) -> Link:
    """A machine from ``user@host:port`` as somebody typed it; user and port may be left out.

    Raises
    ------
    LaneNotReady
        If it is not of this form, or there is no SSH client.

    Examples
    --------
    >>> link("pi@raspberrypi.local:2222", None).typed
    'ssh -p 2222 pi@raspberrypi.local'
    """
    parts = TARGET.fullmatch(given)
    if not parts:
        raise LaneNotReady(
            f"expected a machine such as pi@raspberrypi.local or ada@10.0.0.7:2222, received "
            f"{given!r}"
        )
    if not shutil.which(_program()[0]):
        raise LaneNotReady("expected OpenSSH's client. Type: sudo apt-get install openssh-client")
    port = int(parts[2]) if parts[2] else None
    return Link(target=parts[1], port=port, python=python or "python3")


def _program() -> list[str]:
    return shlex.split(os.environ.get(CLIENT, "")) or ["ssh"]


@lru_cache
def _client(link: Link, *program: str) -> tuple[str, ...]:
    """The client with its options; the link's one connection ends with this process.

    The socket's folder lies in /tmp: in the folders that some systems have for temporary files its
    name gets longer than a socket's may be.
    """
    socket = Path(_sockets(), paths.named(link)[:8])
    options = OPTIONS | {"ControlPath": socket}
    client = (*program, *(f"-o{name}={value}" for name, value in options.items()), "-T")
    leave = [*client, "-O", "exit", link.target]
    atexit.register(printed_by, leave)
    return client


@cache
def _sockets() -> str:
    folder = tempfile.mkdtemp(prefix=f"labkit-ssh-{os.getpid()}-", dir="/tmp")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def stamp(file: Path) -> tuple[int, int]:
    """Size and time of a file, by which a change is seen."""
    status = file.stat()
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=4096)
def _about(file: Path, size: int, _changed_ns: int) -> tuple[int, str]:
    """Size and SHA-256 of a file; read again only once it has changed."""
    return size, there.sha256(file)
