"""The compiler of each target: its options, and what installs it where it is missing."""

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
STATIC = ("CMAKE_EXE_LINKER_FLAGS", "-static", "no library of the target's system is needed")
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
    if target == "aarch64-linux" and host.is_arm and host.system == "Linux":
        target = "native"
    compiles, cross = host.has("cc", "c++"), (f"{TRIPLE}-gcc", f"{TRIPLE}-g++")
    ndk = str(Path(host.ndk or "$ANDROID_NDK") / NDK_FILE)
    sdk = "sdkmanager --install 'ndk;27.2.12479018' and set ANDROID_NDK to its folder"
    zig = "ziglang by this kit's small wrapper"
    every = {
        "native": Toolchain(
            "this machine's compiler", (), compiles, ("a C++ compiler", host.install_line("g++"))
        ),
        "aarch64-linux": Toolchain(
            cross[0],
            (
                *ARM_LINUX,
                ("CMAKE_C_COMPILER", cross[0], "Debian's cross compiler"),
                ("CMAKE_CXX_COMPILER", cross[1], "Debian's cross compiler"),
            ),
            host.has(*cross),
            ("a cross compiler for AArch64", f"sudo apt-get install g++-{TRIPLE}"),
        ),
        "aarch64-static": Toolchain(
            "ziglang (clang and musl)",
            (
                *ARM_LINUX,
                *(
                    (f"CMAKE_{n}", str(folder / SCRIPTS / tool), zig)
                    for n, tool in ZIG_TOOLS.items()
                ),
                STATIC,
            ),
            host.zig,
            ("ziglang", f"{sys.executable} -m pip install ziglang=={ZIG}"),
        ),
        "android": Toolchain(
            "Android NDK",
            (("CMAKE_TOOLCHAIN_FILE", ndk, "the NDK's own description of its compiler"), *ANDROID),
            bool(host.ndk),
            ("the Android NDK", sdk),
        ),
        "macos": Toolchain(
            "Apple clang",
            (("CMAKE_OSX_ARCHITECTURES", "arm64", "Apple silicon"),),
            host.is_mac and compiles,
            ("Xcode's compiler, on a Mac", "xcode-select --install"),
        ),
    }
    return every[target]


def missing(host: Host, compiler: Toolchain, *, cloning: bool) -> list[Missing]:
    """What this machine lacks for a build; git only if something has to be cloned."""
    line, cmake = f"{sys.executable} -m pip install cmake ninja", host.has("cmake")
    version = ".".join(map(str, host.cmake)) or "one that does not run"
    oldest = ".".join(map(str, OLDEST_CMAKE))
    needs = {
        ("CMake", line): cmake,
        (f"CMake {oldest} or newer, found {version}", line): not cmake
        or host.cmake >= OLDEST_CMAKE,
        ("ninja", line): host.has("ninja"),
        compiler.lack: compiler.ready,
        ("git, to clone the sources", host.install_line("git")): host.has("git") or not cloning,
    }
    return [lack for lack, met in needs.items() if not met]


def write_zig_tools(folder: Path) -> None:
    """One executable for each of zig's tools; CMake takes a path where zig takes a word."""
    (folder / SCRIPTS).mkdir(exist_ok=True)
    for tool in set(ZIG_TOOLS.values()):
        script = folder / SCRIPTS / tool
        command = f"exec '{sys.executable}' '{zig_compiler.__file__}' {tool} \"$@\""
        script.write_text(f"#!/bin/sh\n{command}\n", encoding="utf-8")
        script.chmod(0o755)
