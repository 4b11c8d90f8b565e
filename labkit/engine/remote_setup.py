"""Setting a lane up on another machine, and taking it away again.

What was copied is kept between attempts; the lane gets its name once a worker has run there.
"""

import shutil
from contextlib import suppress
from dataclasses import replace
from importlib import metadata
from typing import Any

from labkit.base import files
from labkit.base.command import OnStage, Stages
from labkit.base.errors import CommandFailed, EngineCrashed, EngineError, LaneNotReady
from labkit.base.records import to_json
from labkit.engine import link as links
from labkit.engine import phone, remote
from labkit.engine.client import EngineProcess
from labkit.engine.lane_setup import wheels
from labkit.engine.link import Link
from labkit.engine.remote import RemoteLane, folder, lane, require_name

STAYS = ("node", "system", "architecture", "emulated", "cores", "python")
"""Of what a machine says of itself, what is written down."""


def setup(
    name: str, ssh: str, *, python: str | None = None, on_stage: OnStage = None
) -> RemoteLane:
    """Set a lane up on another machine, or mend it.

    What was copied is kept between attempts. Its Python is used as it is where it has MNN in the
    version that is here, and NumPy; else it gets their wheels from here, in a folder of labkit's.

    Parameters
    ----------
    name
        What it shall be called.
    ssh
        ``user@host:port``, as `labkit.engine.link.link`.
    python
        The Python to use there; by default ``python3``.
    on_stage
        Called after each stage.

    Raises
    ------
    LaneNotReady
        If something stands in the way there; says what, and what to type.
    """
    require_name(name, phone.names(), "pi --ssh pi@raspberrypi.local")
    stages = Stages(["connection", "MNN and NumPy", "try it"], on_stage)
    link = links.link(ssh, python)
    look = link.ask("look")
    stages.end("connection")
    site = _site(name, link, look)
    stages.end("MNN and NumPy")
    said = {key: look[key] for key in STAYS}
    made = RemoteLane(name=name, link=link, site=site, machine=said)
    try:
        with EngineProcess(made) as engine:
            made = replace(made, machine=said | engine.machine, features=engine.features)
    except (EngineCrashed, EngineError) as error:
        raise LaneNotReady(
            f"the worker did not come up on {name} ({look['system']} {look['architecture']}, "
            f"Python {look['python']}): {error}"
        ) from error
    files.write(folder(name) / "lane.json", to_json(made))
    stages.end("try it")
    return made


def _site(name: str, link: Link, look: dict[str, Any]) -> str | None:
    """Where MNN and NumPy stand there; None if its Python has them."""
    if look["packages"]["MNN"] == metadata.version("MNN") and look["packages"]["numpy"]:
        return None
    with suppress(LaneNotReady):
        known = lane(name)
        if known.link == link and link.ask("module", site=known.site):
            return known.site
    return _brought(link, look)


def _brought(link: Link, look: dict[str, Any]) -> str:
    """NumPy and MNN for another machine's Python, copied there; the folder there."""
    what = f"{look['system']} {look['architecture']}, Python {look['python']}"
    if look["bits"] != 64:
        raise LaneNotReady(
            f"expected a system of 64 bits on {link.target}, its Python has {look['bits']}: MNN "
            "has no wheel for it. Install the 64-bit system, or name another Python: --python PATH"
        )
    libc, version = look["libc"]
    if look["system"] == "Linux" and libc != "glibc":
        raise LaneNotReady(
            f"expected glibc on {link.target}, found another C library (musl?): MNN has no wheel "
            "for that. Use a system with glibc, such as Debian, in place of Alpine; or install "
            f"MNN {metadata.version('MNN')} there from source"
        )
    try:
        with files.temporary("wheels") as site:
            wheels(site, look["python"], _platforms(look), site / "log")
            (site / "log").unlink()
            inside = {str(f.relative_to(site)): f for f in site.rglob("*") if f.is_file()}
            return link.copy("site", inside)
    except CommandFailed as error:
        raise LaneNotReady(
            f"expected wheels of MNN {metadata.version('MNN')} and NumPy for {what} "
            f"({libc} {version}), got none: {error}\nIf this machine has no network, mend that; "
            "else name another Python there: --python PATH"
        ) from error


def _platforms(look: dict[str, Any]) -> list[str]:
    """The names of platforms whose wheels run there."""
    machine = look["architecture"]
    if look["system"] == "Darwin":
        return [f"macosx_{look['macos'].partition('.')[0]}_0_{machine}"]
    has = tuple(map(int, look["libc"][1].split(".")))
    return [f"manylinux_2_{minor}_{machine}" for minor in (17, 27, 28) if has >= (2, minor)]


def remove(name: str, *, forget: bool = False) -> int:
    """Delete what stands on another machine, and its record here; the bytes freed there.

    Parameters
    ----------
    forget
        Only the record: the machine is not asked.

    Raises
    ------
    LaneNotReady
        If there is no such lane, or the machine cannot be reached.
    """
    freed = 0
    if not forget:
        link = lane(name).link
        try:
            freed = link.ask("remove")["bytes"]
        except LaneNotReady as error:
            raise LaneNotReady(
                f"{error}\nTo take it out here without that: labkit lane remove {name} --forget "
                f"(what was copied stays there, in ~/.cache/labkit/guest)"
            ) from error
    shutil.rmtree(folder(name), ignore_errors=True)
    remote.copied.cache_clear()
    return freed
