"""An SSH server on loopback, as an ordinary user; its Pythons; and a line that can be cut."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from labkit.engine import qemu

SERVER = shutil.which("sshd") or "/usr/sbin/sshd"
ACCOUNT = "labkit-lane"
CONF = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/key.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
SetEnv LABKIT_HOME={folder}/there
"""
CLIENT = """
Host *
  IdentityFile {folder}/{key}
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/{known}
"""
ARM = """
export PYTHONPATH="{home}/site:$PYTHONPATH" PYTHONPYCACHEPREFIX={cache} OPENBLAS_NUM_THREADS=1
exec qemu-aarch64 -cpu max -L {home}/root {home}/root/usr/bin/python3 "$@"
"""
BARE = """
[ "$1" = -c ] && {{ shift; code="$1"; shift; exec {python} -S -c "{before}; $code" "$@"; }}
exec {python} -S "$@"
"""


class Loopback:
    """The server; ``target`` is what a lane is set up on."""

    def __init__(self, folder: Path, user: str) -> None:
        self.folder, self.user = folder, user
        folder.chmod(0o755)
        self.before: tuple[str, ...] = ()
        if user != getpass.getuser():
            subprocess.run(["useradd", "--create-home", ACCOUNT], capture_output=True, check=False)
            self.before = ("setpriv", "--reuid", ACCOUNT, "--regid", ACCOUNT, "--clear-groups")
        for name in ("host", "key", "other"):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(words, check=True)
        self.there = folder / "there"
        self.there.mkdir()
        self.port = free_port()
        (folder / "sshd.conf").write_text(CONF.format(folder=folder, port=self.port))
        if self.before:
            for own in (self.there, folder / "host", folder / "key.pub"):
                shutil.chown(own, ACCOUNT)
        self.python = next(p for p in (sys.executable, "/usr/bin/python3") if self._runs(p))
        argv = [*self.before, SERVER, "-D", "-e", "-f", str(folder / "sshd.conf")]
        self.process = psutil.Popen(argv, stderr=subprocess.DEVNULL)
        wait_for(self.port)

    def _runs(self, python: str) -> bool:
        argv = [*self.before, "sh", "-c", '"$0" -S -c "import ctypes"', python]
        return not subprocess.run(argv, capture_output=True, check=False).returncode

    @property
    def target(self) -> str:
        return f"{self.user}@127.0.0.1:{self.port}"

    def client(
        self, *ports: int, key: str = "key", host: str | None = "host", more: str = ""
    ) -> str:
        """A value of LABKIT_SSH: whose configuration knows this key of the server, and has that."""
        known = self.folder / f"known-{host}"
        about = (self.folder / f"{host}.pub").read_text() if host else ""
        lines = [f"[127.0.0.1]:{port} {about}" for port in (self.port, *ports) if host]
        with known.open("a") as file:
            file.write("".join(lines))
        conf = self.folder / f"ssh-{key}-{host}.conf"
        conf.write_text(CLIENT.format(folder=self.folder, key=key, known=known.name))
        return f"ssh -F {conf} {more}"

    def script(self, name: str, text: str) -> str:
        """A program there."""
        file = self.folder / name
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)
        return str(file)

    def bare(self, name: str = "bare", before: str = "pass") -> str:
        """This machine's Python without any package; ``before`` is done first, in Python."""
        python = shlex.quote(self.python)
        return self.script(name, BARE.format(python=python, before=before))

    def arm(self) -> str:
        """The emulated lane's Python, which has MNN and NumPy: an AArch64 machine."""
        home, cache = self.folder / "arm", self.folder / "pyc"
        if not home.exists():
            words = ["cp", "-al", str(qemu.folder()), str(home)]
            subprocess.run(words, check=True)
            cache.mkdir(mode=0o777)
            cache.chmod(0o777)
        return self.script("python-arm", ARM.format(home=home, cache=cache))

    def close(self) -> None:
        for one in (*self.process.children(recursive=True), self.process):
            with suppress(psutil.Error):
                one.kill()
        self.process.wait()
        shutil.rmtree(self.folder)


@contextmanager
def loopback(user: str = "") -> Iterator[Loopback]:
    """A server, if this machine has one; ``user`` comes in, as a rule one who is not root."""
    if not Path(SERVER).exists():
        words = "needs openssh-server: sudo apt-get install openssh-server"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(words)
    user = user or (getpass.getuser() if os.geteuid() else ACCOUNT)
    server = Loopback(Path(tempfile.mkdtemp(prefix="labkit-sshd-", dir="/tmp")), user)
    try:
        yield server
    finally:
        server.close()


class Line:
    """A way to a port that counts bytes, and can be slow, cut or silent."""

    def __init__(self, to: int) -> None:
        self.to, self.sent, self.received = to, 0, 0
        self.bytes_per_s: float | None = None
        self.cut_after: int | None = None
        self.silent = threading.Event()
        self._open: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(("127.0.0.1", self.to))
                self._open += [near, far]
                for pair in ((near, far, True), (far, near, False)):
                    threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket, up: bool) -> None:
        with suppress(OSError):
            while piece := one.recv(2**14):
                while self.silent.is_set():
                    time.sleep(0.05)
                other.sendall(piece)
                self.sent += len(piece) * up
                self.received += len(piece) * (not up)
                if up and self.bytes_per_s:
                    time.sleep(len(piece) / self.bytes_per_s)
                if self.cut_after is not None and self.sent > self.cut_after:
                    self.cut_after = None
                    self.cut()
            other.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """End all connections at once; new ones may come."""
        while self._open:
            one = self._open.pop()
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def close(self) -> None:
        self._listening.close()
        self.cut()


@contextmanager
def line(to: int) -> Iterator[Line]:
    """A line to a port."""
    made = Line(to)
    try:
        yield made
    finally:
        made.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_for(port: int) -> None:
    for _ in range(100):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.1)
    raise TimeoutError(f"nobody listens on port {port}")
