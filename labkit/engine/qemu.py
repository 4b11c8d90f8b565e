"""QEMU's user-mode emulation, and the arm64 system that it runs in the emulated lane.

The system is a folder: ``root`` has the distribution's arm64 packages, Python among them, ``site``
has NumPy and MNN as the wheels that an Arm server installs, and ``lane.json`` says what they are.
"""

import os
import platform
import re
import shutil
from pathlib import Path
from typing import Literal

from labkit.base import paths
from labkit.base.data import frozen
from labkit.base.errors import LaneNotReady
from labkit.base.hardware import printed_by
from labkit.base.records import from_json

PACKAGE_PARENT = Path(__file__).parents[2]
OLDEST = (7, 0)
INSTALL = "sudo apt-get install qemu-user"
SETUP = "labkit lane setup emulated"
PYTHON = Path("usr", "bin", "python3")  # in the system's root; a link to the one of its version
GUEST = {
    "PYTHONHOME": "",
    "LD_LIBRARY_PATH": "",
    "LD_PRELOAD": "",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


@frozen
class System:
    """What stands in the lane's folder; by the bytes of ``files`` damage is seen."""

    schema: Literal[1] = 1
    python: str
    mnn: str
    numpy: str
    qemu: str
    files: dict[str, int]


def version(qemu: str) -> str:
    """QEMU's own word, such as "qemu-aarch64 version 7.2.22"; empty if it does not run."""
    return re.sub(r" \(.*", "", printed_by([qemu, "--version"]).partition("\n")[0])


def program() -> str:
    """QEMU for AArch64 on this machine.

    Raises
    ------
    LaneNotReady
        If this is not Linux, or QEMU is missing or too old; says what to type.
    """
    if platform.system() != "Linux":
        raise LaneNotReady(
            f"the emulated lane needs Linux, this is {platform.system()}. "
            "Use a Linux machine or container"
        )
    path = shutil.which("qemu-aarch64")
    if not path:
        raise LaneNotReady(f"qemu-aarch64 is not on PATH. Type: {INSTALL}")
    number = re.search(r"version (\d+)\.(\d+)", version(path))
    if not number or tuple(map(int, number.groups())) < OLDEST:
        raise LaneNotReady(
            f"expected QEMU {OLDEST[0]}.{OLDEST[1]} or newer at {path}, "
            f"found {version(path) or 'one that does not run'}. Type: {INSTALL}"
        )
    return path


def folder() -> Path:
    """Where the emulated lane's system stands, or would."""
    return paths.kept("lanes", "emulated")


def system() -> System:
    """What stands in the emulated lane's folder, where QEMU can run it.

    Raises
    ------
    LaneNotReady
        If it was not set up, is damaged, or is of another labkit; or as `program`.
    """
    program()
    try:
        recorded = from_json(System, (folder() / "lane.json").read_bytes())
        sizes = {name: (folder() / name).stat().st_size for name in recorded.files}
    except FileNotFoundError:
        state = "damaged (a file is missing)" if folder().is_dir() else "not set up"
    except (OSError, ValueError):
        state = "damaged or of another labkit"
    else:
        if sizes == recorded.files:
            return recorded
        state = "damaged (a file has another size)"
    raise LaneNotReady(f"the emulated lane is {state}. Type: {SETUP}")


def emulator(cpu: str | None, root: Path, plugin: str | None = None) -> list[str]:
    """What stands before a program for AArch64 on a command line.

    Parameters
    ----------
    cpu
        The emulated CPU.
    root
        Where the program finds its system's libraries.
    plugin
        A QEMU plugin with its options, ``"file.so,name=value"``.
    """
    plugins = ["-plugin", plugin] if plugin else []
    return [program(), "-cpu", str(cpu), *plugins, "-L", str(root)]


def python(
    home: Path, cpu: str | None, plugin: str | None = None
) -> tuple[list[str], dict[str, str]]:
    """The Python of the system in ``home``: its command, and what is added to the environment."""
    root = home / "root"
    env = {"PYTHONPATH": os.pathsep.join([str(home / "site"), str(PACKAGE_PARENT)]), **GUEST}
    return [*emulator(cpu, root, plugin), str(root / PYTHON)], env
