"""ziglang as a compiler for CMake: run as a script, with the tool's name and its arguments.

``zig cc`` knows instruction sets by LLVM's names of features and refuses GCC's
``-march=armv8.2-a+fp16``, which MNN's and KleidiAI's files are compiled with; everything else
passes unchanged.
"""

import re
import subprocess
import sys
from pathlib import Path

TARGET = "aarch64-linux-musl"
FEATURES = {"fp16": "fullfp16"}  # GCC's name to LLVM's, where they differ
DROPPED = ("-mfpu=", "-mfloat-abi=")  # of 32-bit Arm


def translated(argument: str) -> str | None:
    """One argument as zig takes it; None if it has to go.

    >>> translated("-march=armv8.2-a+fp16+i8mm"), translated("-O3"), translated("-mfpu=neon")
    ('-mcpu=generic+v8_2a+fullfp16+i8mm', '-O3', None)
    """
    march = re.fullmatch(r"-march=armv(\d)(?:\.(\d))?-a((?:\+\w+)*)", argument)
    if march:
        level = [f"v{march[1]}_{march[2]}a"] if march[2] else []
        features = [FEATURES.get(name, name) for name in march[3].split("+") if name]
        return "-mcpu=" + "+".join(["generic", *level, *features])
    return None if argument.startswith(DROPPED) else argument


def main(tool: str, *arguments: str) -> int:
    """Run ``zig cc``, ``zig c++``, ``zig ar`` or ``zig ranlib``."""
    words = list(arguments)
    if tool in {"cc", "c++"}:
        kept = [word for word in map(translated, arguments) if word is not None]
        words = ["-target", TARGET, "-g0", *kept]
    return subprocess.call([sys.executable, "-m", "ziglang", tool, *words])


def write_tools(folder: Path) -> None:
    """One executable for each of zig's tools; CMake takes a path where zig takes a word."""
    folder.mkdir(exist_ok=True)
    for tool in ("cc", "c++", "ar", "ranlib"):
        command = f"exec '{sys.executable}' '{__file__}' {tool} \"$@\""
        script = folder / tool
        script.write_text(f"#!/bin/sh\n{command}\n", encoding="utf-8")
        script.chmod(0o755)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
