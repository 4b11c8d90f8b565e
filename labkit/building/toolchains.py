"""The compiler of each target: its options, and what installs it where it is missing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

from labkit.building import zig_compiler
from labkit.building.host import NDK_FILE, TRIPLE, Host
from labkit.building.options import Row

OLDEST_CMAKE = (3, 16)
ZIG = "0.17.1"
SCRIPTS = "toolchain"  # the folder of zig's tools
ZIG_TOOLS = {
    "C_COMPILER": "cc",
    "CXX_COMPILER": "c++",
    "ASM_COMPILER": "cc",
    "AR": "ar",
    "RANLIB": "ranlib",
}
ARM_LINUX = (
    ("CMAKE_SYSTEM_NAME", "Linux", "the target's system, not this machine's"),
    (
        "CMAKE_SYSTEM_PROCESSOR",
        "aarch64",
        "MNN decides by this whether Arm kernels are built at all",
    ),
)
ANDROID = (
    ("ANDROID_ABI", "arm64-v8a", "64-bit Arm"),
    ("ANDROID_STL", "c++_static", "no C++ library to carry along"),
    ("ANDROID_NATIVE_API_LEVEL", "android-21", "Android 5 and newer"),
    ("MNN_USE_LOGCAT", "OFF", "messages to the shell"),
    ("NATIVE_LIBRARY_OUTPUT", ".", "libraries stay in the build folder"),
    ("NATIVE_INCLUDE_OUTPUT", ".", "headers stay in the build folder"),
)
Missing = tuple[str, str]
"""What is missing, and the line that installs it."""


class Toolchain(NamedTuple):
    """A compiler for a target, whether it is ready, and what is missing if it is not."""

    name: str
    options: tuple[Row, ...]
    ready: bool
    lack: Missing


def toolchain(target: str, host: Host, folder: Path) -> Toolchain:
    """The compiler for one of `labkit.building.plans.TARGETS`, building into ``folder``."""
    compiles = host.has("cc", "c++")
    if target == "native" or (target == "aarch64-linux" and host.is_arm and host.system == "Linux"):
        lack = ("a C++ compiler", host.install_line("g++"))
        return Toolchain("this machine's compiler", (), compiles, lack)
    if target == "aarch64-linux":
        cross = (f"{TRIPLE}-gcc", f"{TRIPLE}-g++")
        names = ("CMAKE_C_COMPILER", "CMAKE_CXX_COMPILER")
        rows = ((*pair, "Debian's cross compiler") for pair in zip(names, cross, strict=True))
        lack = ("a cross compiler for AArch64", f"sudo apt-get install g++-{TRIPLE}")
        return Toolchain(cross[0], (*ARM_LINUX, *rows), host.has(*cross), lack)
    if target == "aarch64-static":
        rows = (
            (f"CMAKE_{name}", str(folder / SCRIPTS / tool), "ziglang by this kit's small wrapper")
            for name, tool in ZIG_TOOLS.items()
        )
        static = (
            "CMAKE_EXE_LINKER_FLAGS",
            "-static",
            "no library of the target's system is needed",
        )
        lack = ("ziglang", f"{sys.executable} -m pip install ziglang=={ZIG}")
        return Toolchain("ziglang (clang and musl)", (*ARM_LINUX, *rows, static), host.zig, lack)
    if target == "android":
        file = str(Path(host.ndk or "$ANDROID_NDK") / NDK_FILE)
        row = ("CMAKE_TOOLCHAIN_FILE", file, "the NDK's own description of its compiler")
        line = "sdkmanager --install 'ndk;27.2.12479018' and set ANDROID_NDK to its folder"
        lack = ("the Android NDK", line)
        return Toolchain("Android NDK", (row, *ANDROID), bool(host.ndk), lack)
    row = ("CMAKE_OSX_ARCHITECTURES", "arm64", "Apple silicon")
    lack = ("Xcode's compiler, on a Mac", "xcode-select --install")
    return Toolchain("Apple clang", (row,), host.is_mac and compiles, lack)


def missing(host: Host, compiler: Toolchain, *, cloning: bool) -> list[Missing]:
    """What this machine lacks for a build; git only if something has to be cloned."""
    line = f"{sys.executable} -m pip install cmake ninja"
    version = ".".join(map(str, host.cmake)) or "one that does not run"
    oldest = ".".join(map(str, OLDEST_CMAKE))
    needs = (
        (host.has("cmake"), ("CMake", line)),
        (
            host.cmake >= OLDEST_CMAKE or not host.has("cmake"),
            (f"CMake {oldest} or newer, found {version}", line),
        ),
        (host.has("ninja"), ("ninja", line)),
        (compiler.ready, compiler.lack),
        (host.has("git") or not cloning, ("git, to clone the sources", host.install_line("git"))),
    )
    return [lack for met, lack in needs if not met]


def write_zig_tools(folder: Path) -> None:
    """One executable for each of zig's tools; CMake takes a path where zig takes a word."""
    (folder / SCRIPTS).mkdir(exist_ok=True)
    for tool in set(ZIG_TOOLS.values()):
        script = folder / SCRIPTS / tool
        command = f"exec '{sys.executable}' '{zig_compiler.__file__}' {tool} \"$@\""
        script.write_text(f"#!/bin/sh\n{command}\n", encoding="utf-8")
        script.chmod(0o755)
