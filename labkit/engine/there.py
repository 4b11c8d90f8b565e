"""What is asked of another machine on which nothing but Python stands: sent to it as it is.

`labkit.engine.link` writes this file to the standard input of a Python there, and then a request,
one line of JSON. The reply is a line behind `MARK`: whatever a login prints before it is no reply.
All that labkit keeps there is in one folder, `home`.
"""

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

MARK = b"LABKIT "
PIECE = 2**16
PROCESSES, CPUS, SENSORS = map(Path, ("/proc", "/sys/devices/system/cpu", "/sys/class/thermal"))


def home() -> Path:
    """The one folder on this machine in which everything of other machines' lanes stands."""
    if named := os.environ.get("LABKIT_HOME"):
        return Path(named, "cache", "guest")
    return Path.home() / ".cache" / "labkit" / "guest"


def emulated() -> bool:
    """Whether this process runs under QEMU's user-mode emulation.

    QEMU answers for ``/proc/self/exe`` by that name; asked by way of its folder, Linux answers.
    """
    with suppress(OSError):
        folder = os.open("/proc/self", os.O_RDONLY)
        try:
            name = os.readlink("exe", dir_fd=folder)
            with os.fdopen(os.open("exe", os.O_RDONLY, dir_fd=folder), "rb") as running:
                kind = running.read(20)[18:]  # the machine that a program is for, in ELF's header
        finally:
            os.close(folder)
        with Path(sys.executable).open("rb") as own:
            return "qemu" in Path(name).name or kind != own.read(20)[18:]
    return False


def look() -> dict[str, Any]:
    """What this machine is, as far as it can be read; None where it cannot."""
    sysctl, memory, available = "", None, _read(PROCESSES / "meminfo").partition("MemAvailable:")[2]
    with suppress(OSError, ValueError):
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if platform.system() == "Darwin":
        argv = ["/usr/sbin/sysctl", "hw", "machdep.cpu"]
        sysctl = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    affinity = hasattr(os, "sched_getaffinity")
    return reading() | {
        "home": str(home()),
        "python": platform.python_version(),
        "bits": 64 if sys.maxsize > 2**32 else 32,
        "node": platform.node(),
        "system": platform.system(),
        "release": platform.release(),
        "architecture": platform.machine(),
        "emulated": emulated(),
        "libc": _libc(),
        "macos": platform.mac_ver()[0],
        "clock_s": time.time(),
        "cpuinfo": _read(PROCESSES / "cpuinfo"),
        "sysctl": sysctl,
        "cores": len(os.sched_getaffinity(0)) if affinity else os.cpu_count(),
        "memory_bytes": memory,
        "available_bytes": int(available.split()[0]) * 1024 if available else None,
        "disk_bytes": _free(),
        "governor": next(
            (_read(file).strip() for file in CPUS.glob("*/cpufreq/scaling_governor")), None
        ),
        "packages": {name: _version(name) for name in ("MNN", "numpy")},
        "bytes": sum(file.lstat().st_size for file in home().rglob("*")),
    }


def _libc() -> tuple[str, str]:
    """Name and version of the C library; another one than glibc has no name."""
    with suppress(AttributeError, OSError, ValueError):
        name, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
        return name, version
    return "", ""


def _version(name: str) -> str | None:
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(name)
    return None


def _read(file: Path) -> str:
    with suppress(OSError):
        return file.read_text(encoding="utf-8", errors="replace")
    return ""


def _free() -> int:
    home().mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(home()).free


def _most(files: Iterable[Path]) -> float | None:
    """The largest number in some files of the system, in thousands, as far as it can be read."""
    texts = (_read(file).strip() for file in files)
    return max((int(text) / 1e3 for text in texts if text.isdigit()), default=None)


def reading() -> dict[str, float | None]:
    """What changes while something is measured, as `labkit.base.hardware.Reading` has it."""
    tick, jiffies = (
        os.sysconf("SC_CLK_TCK"),
        _read(PROCESSES / "stat").partition("\n")[0].split()[1:9],
    )
    idle = {3, 4}  # of user, nice, system, idle, iowait, irq, softirq, steal
    used = sum(int(n) for place, n in enumerate(jiffies) if place not in idle)
    return {
        "time_s": time.monotonic(),
        "used_s": used / tick if jiffies else None,
        "own_s": _own(tick),
        "clock_mhz": _most(CPUS.glob("*/cpufreq/scaling_cur_freq")),
        "celsius": _most(SENSORS.glob("thermal_zone*/temp")),
    }


def _own(tick: int) -> float | None:
    """CPU seconds of the connection that this came by: of its server's process and of all that it
    started, those that ended included.
    """
    processes = {}
    for file in PROCESSES.glob("[0-9]*/stat"):
        name, _, rest = _read(file).partition("(")[2].rpartition(")")
        if words := rest.split():
            processes[int(file.parent.name)] = name, int(words[1]), sum(map(int, words[11:15]))
    server = os.getpid()
    while server in processes and not processes[server][0].startswith("sshd"):
        server = processes[server][1]
    if server not in processes:
        return None
    ours: set[int] = set()
    more = {server}
    while more:
        ours |= more
        more = {pid for pid, (_, parent, _) in processes.items() if parent in ours} - ours
    return sum(processes[pid][2] for pid in ours) / tick


def receive(to: str, files: dict[str, tuple[int, str]]) -> dict[str, Any]:
    """Take in a folder of files, each with its size and SHA-256; it has its name once it is whole.

    Replied is first how many bytes there are of each, from an attempt before this one; the rest of
    each comes over standard input.
    """
    final = home() / to
    part = final.with_name(f"{final.name}.part")
    part.mkdir(parents=True, exist_ok=True)
    with _alone(part):
        if final.is_dir():
            shutil.rmtree(part)
            return {"there": str(final)}
        have = {name: _size(part / name) for name in files}
        have = {name: size if size <= files[name][0] else 0 for name, size in have.items()}
        lacking, free = sum(size for size, _ in files.values()) - sum(have.values()), _free()
        if free < lacking:
            return {"lacking_bytes": lacking, "free_bytes": free}
        say({"have": have})
        for name, (size, _) in files.items():
            path = part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab" if have[name] else "wb") as file:
                _pump(size - have[name], file)
        damaged = [name for name, about in files.items() if sha256(part / name) != about[1]]
        for name in damaged:
            (part / name).unlink()
        if damaged:
            return {"damaged": damaged}
        part.rename(final)
    return {"there": str(final)}


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else fills this folder at the same time."""
    claim = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(claim, fcntl.LOCK_EX)
        yield
    finally:
        os.close(claim)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _pump(left: int, file: IO[bytes]) -> None:
    while left:
        piece = sys.stdin.buffer.read(min(left, PIECE))
        file.write(piece)
        file.flush()  # what came is kept, whatever comes next
        left -= len(piece)
        if not piece:
            raise EOFError("the other side is gone")


def sha256(path: Path) -> str:
    """SHA-256 of a file, as hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


def module(site: str | None) -> dict[str, str]:
    """MNN's library, as a Python finds it that looks into ``site`` first."""
    if site:
        sys.path.insert(0, site)
    found = find_spec("_mnncengine")
    file = str(found and found.origin)
    return {"file": file, "sha256": sha256(Path(file))}


def send(file: str) -> None:
    """Give a file: size and SHA-256, then its bytes."""
    say({"bytes": _size(Path(file)), "sha256": sha256(Path(file))})
    with Path(file).open("rb") as opened:
        shutil.copyfileobj(opened, sys.stdout.buffer)


def remove() -> dict[str, int]:
    """Delete the folder; the bytes that were freed."""
    freed = look()["bytes"]
    shutil.rmtree(home(), ignore_errors=True)
    return {"bytes": freed}


def say(reply: Any) -> None:
    """One reply."""
    sys.stdout.buffer.write(MARK + json.dumps(reply).encode() + b"\n")
    sys.stdout.buffer.flush()


OPERATIONS: dict[str, Callable[..., Any]] = {
    each.__name__: each for each in (look, reading, receive, module, send, remove)
}


def main() -> None:
    """Carry out the one request."""
    op, arguments = json.loads(sys.stdin.buffer.readline())
    try:
        reply = OPERATIONS[op](**arguments)
        if reply is not None:
            say(reply)
    except OSError as error:
        say({"error": str(error)})


if __name__ == "__main__":
    main()
