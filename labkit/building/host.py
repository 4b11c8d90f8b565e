"""The machine that builds: its tools, its compilers, and what it lacks."""

import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import field
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from labkit.base import hardware
from labkit.base.data import frozen

TRIPLE = "aarch64-linux-gnu"
TOOLS = ("cmake", "ninja", "git", "ccache", "cc", "c++", f"{TRIPLE}-gcc", f"{TRIPLE}-g++")
OLDEST_CMAKE = (3, 16)
ZIG = "0.17.1"
XCODE = "xcode-select --install"
NDK_FILE = "build/cmake/android.toolchain.cmake"
NDK_PLACES = """
    $ANDROID_NDK $ANDROID_NDK_HOME $ANDROID_NDK_ROOT $ANDROID_HOME/ndk/* $ANDROID_SDK_ROOT/ndk/*
""".split()


@frozen
class Host:
    """The machine that builds.

    ``tools`` maps names to paths; ``cmake`` is its version. ``instruction_sets`` is as in
    `labkit.base.hardware.Machine`.
    """

    system: str
    architecture: str
    instruction_sets: tuple[str, ...] = ()
    tools: Mapping[str, str] = field(default_factory=dict)
    cmake: tuple[int, ...] = ()
    ndk: str | None = None
    zig: bool = False
    jobs: int = 2

    @property
    def is_arm(self) -> bool:
        """Whether it is AArch64 itself."""
        return self.architecture in hardware.ARM64

    @property
    def is_mac(self) -> bool:
        """Whether it runs macOS."""
        return self.system == "Darwin"

    def has(self, *tools: str) -> bool:
        """Whether all of these are found."""
        return set(tools) <= set(self.tools)

    def tool(self, name: str) -> str:
        """A tool's path, or its name where it is missing."""
        return self.tools.get(name, name)

    def install_line(self, package: str) -> str:
        """What to type for a package that every system has."""
        return f"sudo apt-get install {package}" if self.system == "Linux" else XCODE


Missing = tuple[str, str]
"""What is missing, and the line that installs it."""


class Compiler(NamedTuple):
    """A compiler for a target, whether it is ready, and what is missing if it is not."""

    name: str
    ready: bool
    lack: Missing


def compiler(target: str, host: Host) -> Compiler:
    """The compiler for one of `labkit.building.plans.TARGETS`."""
    cc, cross, pip = ("cc", "c++"), (f"{TRIPLE}-gcc", f"{TRIPLE}-g++"), f"{sys.executable} -m pip"
    every = {
        "native": (
            "this machine's compiler",
            host.has(*cc),
            ("a C++ compiler", host.install_line("g++")),
        ),
        "aarch64-linux": (
            cross[0],
            host.has(*cross),
            ("a cross compiler for AArch64", f"sudo apt-get install g++-{TRIPLE}"),
        ),
        "aarch64-static": (
            "ziglang (clang and musl)",
            host.zig,
            ("ziglang", f"{pip} install ziglang=={ZIG}"),
        ),
        "android": (
            "Android NDK",
            host.ndk is not None,
            (
                "the Android NDK",
                "sdkmanager --install 'ndk;27.2.12479018' and set ANDROID_NDK to its folder",
            ),
        ),
        "macos": (
            "Apple clang",
            host.is_mac and host.has(*cc),
            ("Xcode's compiler, on a Mac", XCODE),
        ),
    }
    return Compiler(*every[target])


def missing(host: Host, compiler: Compiler, *, cloning: bool) -> list[Missing]:
    """What this machine lacks for a build; git only if something has to be cloned."""
    line, cmake = f"{sys.executable} -m pip install cmake ninja", host.has("cmake")
    version, oldest = (".".join(map(str, numbers)) for numbers in (host.cmake, OLDEST_CMAKE))
    old = f"CMake {oldest} or newer, found {version or 'one that does not run'}"
    needs = {
        ("CMake", line): cmake,
        (old, line): not cmake or host.cmake >= OLDEST_CMAKE,
        ("ninja", line): host.has("ninja"),
        compiler.lack: compiler.ready,
        ("git, to clone the sources", host.install_line("git")): host.has("git") or not cloning,
    }
    return [lack for lack, met in needs.items() if not met]


def look(machine: hardware.Machine | None = None) -> Host:
    """Read this machine, as far as it is not given; starts nothing but ``cmake --version``."""
    machine = machine or hardware.describe()
    places = os.pathsep.join([os.environ.get("PATH", ""), str(Path(sys.executable).parent)])
    tools = {name: path for name in TOOLS if (path := shutil.which(name, path=places))}
    printed = hardware.printed_by([tools["cmake"], "--version"]) if "cmake" in tools else ""
    version = re.search(r"version (\d+)\.(\d+)", printed)
    return Host(
        system=machine.system,
        architecture=machine.architecture,
        instruction_sets=machine.instruction_sets or (),
        tools=tools,
        cmake=tuple(map(int, version.groups())) if version else (),
        ndk=_ndk(),
        zig=find_spec("ziglang") is not None,
        jobs=machine.logical_cores or 1,
    )


def _ndk() -> str | None:
    """The folder of Android's NDK: one that is named, or the newest of a named SDK."""
    for name in NDK_PLACES:
        place = Path(os.path.expandvars(name))
        for folder in sorted(place.parent.glob(place.name), reverse=True):
            if (folder / NDK_FILE).is_file():
                return str(folder)
    return None
