"""Every lane by its name, and how all of them stand: this machine, the emulated one, others."""

import platform
from importlib import metadata
from pathlib import Path

from labkit.base import paths
from labkit.base.errors import LaneNotReady
from labkit.engine import phone, qemu, remote
from labkit.engine.lanes import Lane, Status, emulated, native

KNOWN = "To see them, type: labkit lane status"


def lane(
    name: str, cpu: str | None = None, build: Path | None = None, *, worker: bool = True
) -> Lane:
    """A lane by its name; a build as in `native`, and ``worker`` if one has to run there."""
    if name == "native" and cpu is None:
        return native(build)
    if name == "emulated" and build is None:
        return emulated(cpu or "max")
    if name in remote.names() and cpu is None and build is None:
        return remote.lane(name)
    if name in phone.names() and cpu is None and build is None:
        device = phone.lane(name)
        if worker:
            device.worker_command()
        return device
    others = ", ".join(remote.names() + phone.names()) or "none so far"
    raise LaneNotReady(
        "expected the lane 'native' (without a CPU) or 'emulated' (without a build), or another "
        f"machine or phone that was set up ({others}), received {name!r} with CPU {cpu!r} and "
        f"build {build}. {KNOWN}"
    )


def status(name: str | None = None) -> tuple[Status, ...]:
    """The lanes, or one of them, as they stand; changes nothing. Another machine is asked."""
    here = f"{platform.system()} {platform.machine()}, MNN {metadata.version('MNN')}"
    size, works, todo = paths.size_bytes(qemu.folder()), True, ""
    try:
        system = qemu.system()
        state = f"Python {system.python}, MNN {system.mnn}, {system.qemu}"
    except LaneNotReady as error:
        works, (state, _, todo) = False, str(error).partition(". ")
    rows = (
        Status(name="native", works=True, found=here),
        Status(
            name="emulated",
            works=works,
            found=state,
            todo=todo.removeprefix("Type: "),
            bytes=size,
        ),
        *remote.status(name),
        *phone.status(),
    )
    named = tuple(row for row in rows if name in {None, row.name})
    if not named:
        raise LaneNotReady(f"expected a lane of those that there are, received {name!r}. {KNOWN}")
    return named
