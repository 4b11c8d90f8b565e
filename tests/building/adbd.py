"""A phone that is none: adb's daemon on a loopback port, for adb's own client.

It speaks adb's protocol (CNXN, AUTH, OPEN, OKAY, WRTE, CLSE, and shell v2 within), and runs what it
is told with the shell and the tools that Android has, mksh and toybox, in a folder: the phone's
absolute paths are those below it. AArch64 programs run under QEMU's user-mode emulation, which
finds there what they open; a real llm_demo asks by other calls as well, and needs a link /data.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import struct
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO

VERSION, MOST = 0x01000001, 1 << 18  # the version from which on nobody sums bytes up
STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)
TOKEN, KEY = 1, 3
OURS = re.compile(r"(?<![\w.])(/data/local/tmp|/proc/\w*info|/sys/)")
PROGRAM = re.compile(r"(\S+/llm_demo) config\.json")
TOOLS = (
    "cat chmod df du echo grep mkdir mv rm sh sha256sum stat tail taskset time true uname toybox"
)
CPUINFO = """processor : 0
Features : fp asimd asimdhp asimddp
CPU implementer : 0x41
CPU part : 0xd05

processor : 1
Features : fp asimd asimdhp asimddp i8mm
CPU implementer : 0x41
CPU part : 0xd4d
"""
PROPERTIES = """ro.product.cpu.abi=arm64-v8a
ro.product.manufacturer=Nobody
ro.product.model=Phone 1
ro.build.version.release=14
"""


class Phone:
    """A phone, switched on and listening from then on.

    Attributes
    ----------
    root
        Its files.
    authorized, silent
        Whether its user has allowed the computer; whether it says nothing at all.
    received_bytes
        How many bytes came in over the standard input of its shells.
    cut_after_bytes
        The cable is pulled out once so many have come in.
    full
        Whether nothing more can be written.
    unplug_on
        The cable is pulled out a second after a script with this began.
    scripts
        All that its shell was told.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.authorized, self.silent = root, True, False
        self.received_bytes, self.cut_after_bytes = 0, 1 << 60
        self.full, self.unplug_on = False, "\0"
        self.scripts: list[str] = []
        self._connections: set[socket.socket] = set()
        self._shells: set[subprocess.Popen[bytes]] = set()
        self._furnish()
        self._listener: socket.socket | None = None
        self._port = 0
        self.plug()

    @property
    def serial(self) -> str:
        """As adb knows it."""
        return f"127.0.0.1:{self._port}"

    @property
    def held(self) -> Path:
        """What labkit has put there."""
        return self.root / "data" / "local" / "tmp" / "labkit"

    def _furnish(self) -> None:
        tools = self.root / "bin"
        tools.mkdir(parents=True)
        (self.root / "data" / "local" / "tmp").mkdir(parents=True)
        toybox = shutil.which("toybox")
        assert toybox, "toybox is needed to test phones"
        mksh = shutil.which("mksh")
        assert mksh, "mksh is needed to test phones"
        for tool in TOOLS.split():
            (tools / tool).symlink_to(mksh if tool == "sh" else toybox)
        self.write("props", PROPERTIES)
        self.tool(
            "getprop", f'grep "^$1=" {self.root}/props | while IFS== read k v; do echo $v; done'
        )
        self.tool("dumpsys", "echo Thermal Status: 0")
        self.write("proc/cpuinfo", CPUINFO)
        self.write("proc/meminfo", "MemTotal: 8000000 kB\nMemAvailable: 4000000 kB\n")
        for core, clock in enumerate((1800000, 2850000)):
            self.write(f"sys/devices/system/cpu/cpu{core}/cpufreq/cpuinfo_max_freq", f"{clock}\n")
        self.warm(31.5)

    def write(self, name: str, text: str) -> Path:
        """One of its files."""
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    def tool(self, name: str, script: str) -> None:
        """One of its tools, as a script."""
        (self.root / "bin" / name).unlink(missing_ok=True)
        self.write(f"bin/{name}", f"#!/usr/bin/mksh\n{script}\n").chmod(0o755)

    def warm(self, celsius: float) -> None:
        """Bring its sensors to a temperature; one of them is broken, as they often are."""
        self.write("sys/class/thermal/thermal_zone0/temp", f"{celsius * 1000:.0f}\n")
        self.write("sys/class/thermal/thermal_zone1/temp", "-274000\n")

    # ---- its cable

    def plug(self) -> None:
        """Listen, on the same port as before."""
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def unplug(self) -> None:
        """Be gone: nobody listens, connections are cut, programs end."""
        if self._listener:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        for connection in [*self._connections]:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        for shell in [*self._shells]:
            with suppress(ProcessLookupError):
                os.killpg(shell.pid, 9)

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                self._connections.add(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    # ---- its daemon

    def _serve(self, connection: socket.socket) -> None:
        link = _Link(connection)
        streams: dict[int, _Shell] = {}
        with suppress(OSError, EOFError):
            while True:
                word, first, _, data = link.receive()
                if word == b"CNXN" and not self.silent:
                    if self.authorized:
                        link.greet()
                    else:
                        link.send(b"AUTH", TOKEN, 0, os.urandom(20))
                elif word == b"AUTH" and first != KEY:  # a signature: no key is known here
                    link.send(b"AUTH", TOKEN, 0, os.urandom(20))
                elif word == b"OPEN":
                    streams[first] = _Shell(self, link, first, data.rstrip(b"\0").decode())
                elif word == b"OKAY" and first in streams:
                    streams[first].ready.release()
                elif word == b"WRTE" and first in streams:
                    streams[first].take(data)
                    link.send(b"OKAY", first, first)
                elif word == b"CLSE" and first in streams:
                    streams.pop(first).end()
        for stream in streams.values():
            stream.end()
        self._connections.discard(connection)
        link.close()

    def run(self, script: str) -> subprocess.Popen[bytes]:
        """What its shell does with a script."""
        self.scripts.append(script)
        if self.unplug_on in script:
            self.unplug_on = "\0"
            threading.Timer(1, self.unplug).start()
        if self.full:
            script = script.replace("cat >", "cat > /dev/full #")
        script = OURS.sub(lambda path: f"{self.root}{path[0]}", script)
        script = PROGRAM.sub(rf"qemu-aarch64 -L {self.root} \1 config.json", script)
        qemu = Path(shutil.which("qemu-aarch64") or "").parent
        shell = subprocess.Popen(
            ["mksh", "-c", script],
            env={"PATH": f"{self.root}/bin:{qemu}", "HOME": str(self.root)},
            cwd=self.root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._shells.add(shell)
        return shell

    def count(self, data: bytes) -> bytes:
        """Note what came in; pull the cable out if that was wanted."""
        self.received_bytes += len(data)
        if self.received_bytes >= self.cut_after_bytes:
            self.cut_after_bytes = 1 << 60
            self.unplug()
        return data


class _Link:
    """Messages of adb's protocol over a connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._file = connection.makefile("rb")
        self._connection, self._lock = connection, threading.Lock()

    def receive(self) -> tuple[bytes, int, int, bytes]:
        word, first, second, length, *_ = struct.unpack("<4s5I", self._read(24))
        return word, first, second, self._read(length)

    def _read(self, length: int) -> bytes:
        data = self._file.read(length)
        if len(data) < length:
            raise EOFError
        return data

    def send(self, word: bytes, first: int, second: int, data: bytes = b"") -> None:
        magic = struct.unpack("<I", word)[0] ^ 0xFFFFFFFF
        head = struct.pack("<4s5I", word, first, second, len(data), 0, magic)
        with self._lock:
            self._connection.sendall(head + data)

    def close(self) -> None:
        self._file.close()
        self._connection.close()

    def greet(self) -> None:
        about = b"device::ro.product.name=p;ro.product.model=Phone 1;features=shell_v2,cmd"
        self.send(b"CNXN", VERSION, MOST, about)


class _Shell:
    """A stream of shell v2: packets of a kind, a length and data, in both directions."""

    def __init__(self, phone: Phone, link: _Link, number: int, service: str) -> None:
        self._phone, self._link, self._number, self._left = phone, link, number, b""
        self.ready = threading.Semaphore(0)  # the other side wants more
        kind, _, script = service.partition(":")
        assert kind.startswith("shell,v2"), service
        link.send(b"OKAY", number, number)
        self.ready.release()
        self._process = phone.run(script)
        pipes = {STDOUT: self._process.stdout, STDERR: self._process.stderr}
        self._pumps = [
            threading.Thread(target=self._pump, args=pair, daemon=True) for pair in pipes.items()
        ]
        for pump in self._pumps:
            pump.start()
        threading.Thread(target=self._finish, args=(self._process,), daemon=True).start()

    def _close(self) -> None:
        assert self._process.stdin
        with suppress(OSError):  # what was not read yet is lost
            self._process.stdin.close()

    def _send(self, kind: int, data: bytes) -> None:
        self.ready.acquire()
        with suppress(OSError):
            packet = struct.pack("<BI", kind, len(data)) + data
            self._link.send(b"WRTE", self._number, self._number, packet)

    def _pump(self, kind: int, pipe: IO[bytes]) -> None:
        with pipe:
            while data := os.read(pipe.fileno(), 1 << 14):
                self._send(kind, data)

    def _finish(self, process: subprocess.Popen[bytes]) -> None:
        code = process.wait()
        for pump in self._pumps:
            pump.join()
        self._send(EXIT, bytes([code if code >= 0 else 128 - code]))
        with suppress(OSError):
            self._link.send(b"CLSE", self._number, self._number)
        self._close()

    def take(self, data: bytes) -> None:
        """Packets, or pieces of them, from the other side."""
        self._left += data
        while len(self._left) >= 5:
            kind, length = struct.unpack("<BI", self._left[:5])
            if len(self._left) < 5 + length:
                return
            content, self._left = self._left[5 : 5 + length], self._left[5 + length :]
            assert self._process.stdin
            with suppress(OSError, ValueError):
                if kind == STDIN:
                    self._process.stdin.write(self._phone.count(content))
                    self._process.stdin.flush()
                elif kind == CLOSE_STDIN:
                    self._close()

    def end(self) -> None:
        """The other side is gone: so is the program."""
        for _ in range(99):  # nobody waits for it to want more
            self.ready.release()
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, 9)
