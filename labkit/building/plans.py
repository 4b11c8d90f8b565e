"""What it takes to build MNN with KleidiAI, as a plan that can be read before anything runs.

A plan is a pure function of what is asked for and of a `Host`; `labkit.building.running` carries it out.
The options and their effects were read in MNN 3.6.1: ``CMakeLists.txt``, ``cmake/KleidiAI.cmake``,
``source/backend/cpu/arm/CMakeLists.txt`` and ``transformers/llm/engine/CMakeLists.txt``.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from labkit.base import hardware, paths
from labkit.base.errors import BuildError

RELEASE = "3.6.1"
KLEIDIAI = "1.16.0"
UPSTREAM = {
    "MNN": "https://github.com/alibaba/MNN.git",
    "KleidiAI": "https://github.com/ARM-software/kleidiai.git",
}
DOWNLOAD_MB = {"MNN": 210, "KleidiAI": 7}  # the files of the release; git sends them compressed
VARIANTS = ("accelerated", "baseline")
TARGETS = {
    "native": "this machine: AVX-512 and VNNI on x86-64 that has them, KleidiAI on Arm",
    "aarch64-linux": "64-bit Arm Linux; from x86-64 with Debian's cross compiler",
    "aarch64-static": "one static program for any 64-bit Arm Linux, by ziglang; needs no NDK",
    "android": "64-bit Arm Android, where the NDK is installed",
    "macos": "macOS on Apple silicon",
}
TRIPLE = "aarch64-linux-gnu"
OLDEST_CMAKE = (3, 16)
TOOLS = ("cmake", "ninja", "git", "ccache", "cc", "c++", f"{TRIPLE}-gcc", f"{TRIPLE}-g++")


@dataclass(frozen=True, kw_only=True)
class Host:
    """The machine that builds, as far as a plan depends on it.

    ``tools`` maps names to paths; ``cmake`` is its version. ``instruction_sets`` is as in `hardware.Machine`.
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


@dataclass(frozen=True, kw_only=True)
class Option:
    """One CMake option: its value and the reason it is there."""

    name: str
    value: str
    why: str

    @property
    def flag(self) -> str:
        """As CMake takes it."""
        return f"-D{self.name}={self.value}"


@dataclass(frozen=True, kw_only=True)
class BuildPlan:
    """What would be built, from what, how, and why; ``print`` shows it.

    Attributes
    ----------
    missing
        (what, the line that installs it) of everything this machine lacks.
    warnings
        What may go wrong, in sentences.
    downloads
        What would be cloned, in sentences; empty where checkouts were given.
    commands
        (stage, argv) in their order.
    """

    variant: str
    target: str
    toolchain: str
    source: Path
    kleidiai_source: Path | None
    folder: Path
    python: bool
    options: tuple[Option, ...]
    commands: tuple[tuple[str, tuple[str, ...]], ...]
    downloads: tuple[str, ...]
    missing: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]

    @property
    def wants_kleidiai(self) -> bool:
        """Whether KleidiAI's kernels have to be in the result."""
        return self.values.get("MNN_KLEIDIAI") == "ON"

    @property
    def values(self) -> dict[str, str]:
        """The options as a mapping from name to value."""
        return {option.name: option.value for option in self.options}

    @property
    def build(self) -> Path:
        """CMake's folder."""
        return self.folder / "cmake"

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "schema": 1, "variant": self.variant, "target": self.target, "toolchain": self.toolchain, "source": str(self.source),
            "kleidiai_source": str(self.kleidiai_source) if self.kleidiai_source else None, "folder": str(self.folder),
            "python": self.python, "options": self.values, "why": {o.name: o.why for o in self.options},
            "commands": [list(argv) for _, argv in self.commands], "downloads": list(self.downloads),
            "missing": [{"what": what, "install": line} for what, line in self.missing], "warnings": list(self.warnings),
        }  # fmt: skip

    def __str__(self) -> str:
        width = max(len(o.name) + len(o.value) for o in self.options) + 3
        rows = [f"  {o.name + ' = ' + o.value:{width}}  {o.why}" for o in self.options]
        said = [f"{self.variant} build of MNN {RELEASE} for {self.target}: {TARGETS[self.target]}", f"toolchain: {self.toolchain}",
                f"source: {self.source}", f"into: {self.folder}", "options:", *rows]  # fmt: skip
        said += [f"will download: {text}" for text in self.downloads] + [
            f"warning: {text}" for text in self.warnings
        ]
        return "\n".join(
            said + [f"missing here: {what}. Type: {line}" for what, line in self.missing]
        )


# ---- this machine


def look(machine: hardware.Machine | None = None) -> Host:
    """Read this machine, as far as it is not given; starts nothing but ``cmake --version``."""
    machine, here = machine or hardware.describe(), str(Path(sys.executable).parent)
    found = {
        name: shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), here]))
        for name in TOOLS
    }
    tools = {name: path for name, path in found.items() if path}
    said = hardware.printed_by([tools["cmake"], "--version"]) if "cmake" in tools else ""
    number = re.search(r"version (\d+)\.(\d+)", said)
    return Host(
        system=machine.system, architecture=machine.architecture, instruction_sets=machine.instruction_sets or (), tools=tools,
        cmake=(int(number[1]), int(number[2])) if number else (), ndk=_ndk(), zig=find_spec("ziglang") is not None,
        jobs=max(1, machine.logical_cores or 1),
    )  # fmt: skip


def _ndk() -> str | None:
    named = [
        os.environ.get(name, "") for name in ("ANDROID_NDK", "ANDROID_NDK_HOME", "ANDROID_NDK_ROOT")
    ]
    sdks = [
        Path(os.environ[name]) / "ndk"
        for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT")
        if os.environ.get(name)
    ]
    found = [Path(name) for name in named if name] + [
        hit for sdk in sdks for hit in sorted(sdk.glob("*"), reverse=True)
    ]
    return next(
        (str(p) for p in found if (p / "build" / "cmake" / "android.toolchain.cmake").is_file()),
        None,
    )


# ---- sources


def version_of(source: Path) -> str:
    """The version of an MNN checkout, from its ``include/MNN/MNNDefine.h``.

    Raises
    ------
    BuildError
        If it is not one.
    """
    define = source / "include" / "MNN" / "MNNDefine.h"
    try:
        text = define.read_text(encoding="utf-8", errors="replace")
        found = [
            re.search(rf"#define MNN_VERSION_{part} (\d+)", text)
            for part in ("MAJOR", "MINOR", "PATCH")
        ]
    except OSError:
        found = []
    if not found or not all(found) or not (source / "CMakeLists.txt").is_file():
        raise BuildError(
            f"expected MNN's source, with CMakeLists.txt and include/MNN/MNNDefine.h, found none at {source}. Name a checkout with "
            f"--source, or leave that out to have release {RELEASE} cloned"
        )
    return ".".join(match[1] for match in found if match)


def kleidiai_version_of(source: Path) -> str | None:
    """The version of a KleidiAI checkout, as its CMakeLists.txt names it; None where it names none.

    Raises
    ------
    BuildError
        If it is not one.
    """
    if not (source / "kai" / "ukernels").is_dir():
        raise BuildError(
            f"expected KleidiAI's source, with the folder kai/ukernels, found none at {source}. Name a checkout of v{KLEIDIAI}"
        )
    lists = source / "CMakeLists.txt"
    text = lists.read_text(encoding="utf-8", errors="replace") if lists.is_file() else ""
    number = re.search(r"^\s+VERSION\s+([\d.]+)", text, re.MULTILINE)
    return number[1] if number else None


# ---- options


def _common(target: str, static: bool) -> list[Option]:
    return [
        Option(name="CMAKE_BUILD_TYPE", value="Release", why="optimise: an unoptimised build says nothing about speed"),
        Option(name="MNN_BUILD_LLM", value="ON", why="the language model's engine, and the program llm_demo"),
        Option(name="MNN_BUILD_LLM_OMNI", value="ON", why="pictures too: MNN's image reader, and the tower in front of the language model"),
        Option(name="MNN_LOW_MEMORY", value="ON", why="kernels that compute on int4 and int8 weights as they are stored"),
        Option(name="MNN_SUPPORT_TRANSFORMER_FUSE", value="ON", why="attention as one operation with a KV cache"),
        Option(name="MNN_BUILD_SHARED_LIBS", value="OFF" if static else "ON",
               why="all in one program or module, nothing to find at run time" if static else "one library to look into, libMNN"),
        Option(name="MNN_SEP_BUILD", value="OFF", why="not one library for each part: a single file holds all kernels"),
        Option(name="MNN_BUILD_TOOLS", value="OFF", why="leave out programs that this path does not use"),
        Option(name="LLM_SUPPORT_HTTP_RESOURCE", value="OFF", why="a prompt can make no network call"),
        *(Option(name=f"MNN_{gpu}", value="OFF", why="no GPU backend: the CPU is what is compared")
          for gpu in ("OPENCL", "VULKAN", *(("METAL",) if target == "macos" else ()))),
    ]  # fmt: skip


def _arm(accelerated: bool, kleidiai_source: Path | None) -> list[Option]:
    on = "ON" if accelerated else "OFF"
    return [
        Option(name="MNN_ARM82", value="ON", why="float16 arithmetic of Armv8.2, chosen at run time; both variants have it"),
        Option(name="MNN_SME2", value="ON", why="MNN's own SME2 kernels, chosen at run time; both variants have them"),
        Option(name="MNN_KLEIDIAI", value=on, why="BUILT: puts KleidiAI's micro-kernels into the library"),
        Option(name="MNN_KLEIDIAI_DEFAULT_ON", value=on,
               why="ENABLED: turns them on without a hint; MNN-LLM sets none, so llm_demo never uses them otherwise"),
        *([Option(name="KLEIDIAI_SRC_DIR", value=str(kleidiai_source), why="KleidiAI from here, not downloaded while configuring")]
          if accelerated and kleidiai_source else []),
    ]  # fmt: skip


def _x86(accelerated: bool, sets: tuple[str, ...]) -> list[Option]:
    wide, vnni = {"avx512f", "avx512bw"} <= set(sets), "avx512_vnni" in sets
    return [
        Option(name="MNN_AVX512", value="ON" if accelerated and wide else "OFF",
               why="512-bit kernels; off by default, and in the stock wheel"),
        Option(name="MNN_AVX512_VNNI", value="ON" if accelerated and wide and vnni else "OFF",
               why="int8 dot products in one instruction, the x86 cousin of Arm's sdot"),
    ]  # fmt: skip


def _toolchain(
    target: str, host: Host, folder: Path
) -> tuple[str, list[Option], list[tuple[str, str]]]:
    """Name, options and what is missing of the compiler for a target."""
    debian = host.system == "Linux"
    compiler = "sudo apt-get install g++" if debian else "xcode-select --install"
    generic = [("CMAKE_SYSTEM_NAME", "Linux", "the target's system, not this machine's"),
               ("CMAKE_SYSTEM_PROCESSOR", "aarch64", "MNN decides by this whether Arm kernels are built at all")]  # fmt: skip
    have = {"cc", "c++"} <= set(host.tools)
    if target == "native" or (target == "aarch64-linux" and debian and host.is_arm):
        return "this machine's compiler", [], [] if have else [("a C++ compiler", compiler)]
    if target == "aarch64-linux":
        cross = {"CMAKE_C_COMPILER": f"{TRIPLE}-gcc", "CMAKE_CXX_COMPILER": f"{TRIPLE}-g++"}
        lacks = (
            []
            if set(cross.values()) <= set(host.tools)
            else [("a cross compiler for AArch64", f"sudo apt-get install g++-{TRIPLE}")]
        )
        rows = generic + [(name, value, "Debian's cross compiler") for name, value in cross.items()]
        return f"{TRIPLE}-gcc", [Option(name=n, value=v, why=w) for n, v, w in rows], lacks
    if target == "aarch64-static":
        wrapped = {
            f"CMAKE_{name}": str(folder / "toolchain" / tool) for name, tool in ZIG_TOOLS.items()
        }
        rows = generic + [
            (name, value, "ziglang by this kit's small wrapper") for name, value in wrapped.items()
        ]
        rows += [
            ("CMAKE_EXE_LINKER_FLAGS", "-static", "no library of the target's system is needed")
        ]
        lacks = [] if host.zig else [("ziglang", f"{sys.executable} -m pip install ziglang=={ZIG}")]
        return (
            "ziglang (clang and musl)",
            [Option(name=n, value=v, why=w) for n, v, w in rows],
            lacks,
        )
    if target == "android":
        where = Path(host.ndk or "$ANDROID_NDK")
        rows = [("CMAKE_TOOLCHAIN_FILE", str(where / "build/cmake/android.toolchain.cmake"), "the NDK's own description of its compiler"),
                ("ANDROID_ABI", "arm64-v8a", "64-bit Arm"), ("ANDROID_STL", "c++_static", "no C++ library to carry along"),
                ("ANDROID_NATIVE_API_LEVEL", "android-21", "Android 5 and newer"), ("MNN_USE_LOGCAT", "OFF", "messages to the shell"),
                ("NATIVE_LIBRARY_OUTPUT", ".", "libraries stay in the build folder"),
                ("NATIVE_INCLUDE_OUTPUT", ".", "headers stay in the build folder")]  # fmt: skip
        lacks = (
            []
            if host.ndk
            else [
                (
                    "the Android NDK",
                    "sdkmanager --install 'ndk;27.2.12479018' and set ANDROID_NDK to its folder",
                )
            ]
        )
        return "Android NDK", [Option(name=n, value=v, why=w) for n, v, w in rows], lacks
    lacks = (
        []
        if host.system == "Darwin" and have
        else [("Xcode's compiler, on a Mac", "xcode-select --install")]
    )
    return (
        "Apple clang",
        [Option(name="CMAKE_OSX_ARCHITECTURES", value="arm64", why="Apple silicon")],
        lacks,
    )


ZIG = "0.17.1"
ZIG_TOOLS = {
    "C_COMPILER": "cc",
    "CXX_COMPILER": "c++",
    "ASM_COMPILER": "cc",
    "AR": "ar",
    "RANLIB": "ranlib",
}


# ---- the plan


def plan(
    variant: str, target: str = "native", *, source: Path | None = None, kleidiai_source: Path | None = None, out: Path | None = None,
    python: bool = False, host: Host | None = None,
) -> BuildPlan:  # fmt: skip
    """Plan a build. Reads the version of given checkouts; starts and changes nothing.

    Parameters
    ----------
    variant
        "accelerated" or "baseline"; `compare` shows what that changes.
    target
        One of `TARGETS`.
    source, kleidiai_source
        Checkouts; without them, the pinned releases are cloned into labkit's cache when the plan is carried out.
    out
        The build's folder (default: in labkit's cache).
    python
        Also MNN's Python module, so that labkit's engine can use the build; native only.
    host
        The machine that builds (default: this one).

    Raises
    ------
    BuildError
        If there is no such variant or target, a checkout is not one, or the module is wanted for another machine.
    """
    if variant not in VARIANTS or target not in TARGETS:
        raise BuildError(
            f"expected a variant among {', '.join(VARIANTS)} and a target among {', '.join(TARGETS)}, received {variant!r} for {target!r}"
        )
    host = host or look()
    if python and target != "native":
        raise BuildError(
            f"the Python module is built for this machine's Python only, received the target {target!r}. Use --target native"
        )
    arm = target != "native" or host.is_arm
    accelerated, sources = variant == "accelerated", paths.place("cache") / "sources"
    wants_kai = arm and accelerated
    folder = (
        (
            out
            or paths.place("cache") / "builds" / f"{variant}-{target}{'-python' if python else ''}"
        )
        .expanduser()
        .absolute()
    )
    mnn = (source or sources / f"MNN-{RELEASE}").expanduser().absolute()
    kai = (
        (kleidiai_source or sources / f"KleidiAI-{KLEIDIAI}").expanduser().absolute()
        if wants_kai
        else None
    )
    toolchain, of_toolchain, missing = _toolchain(target, host, folder)
    static = python or target == "aarch64-static"
    options = [*_common("macos" if host.system == "Darwin" else target, static),
               *(_arm(accelerated, kai) if arm else _x86(accelerated, host.instruction_sets)), *of_toolchain]  # fmt: skip
    if python:
        options.append(
            Option(
                name="MNN_BUILD_TRAIN",
                value="ON",
                why="MNN's Python package imports its training functions when it is loaded",
            )
        )
    if "ccache" in host.tools:
        launcher = [("CMAKE_C_COMPILER_LAUNCHER", "C"), ("CMAKE_CXX_COMPILER_LAUNCHER", "C++")]
        options += [
            Option(
                name=name,
                value="ccache",
                why=f"a {what} file that did not change is not compiled again",
            )
            for name, what in launcher
        ]
    missing = _base_tools(host) + missing
    warnings = [
        *(_doubts_mnn(mnn) if source else ()),
        *(_doubts_kleidiai(kai) if kai and kleidiai_source else ()),
    ]
    wanted = [
        ("MNN", RELEASE, mnn, source),
        *([("KleidiAI", f"v{KLEIDIAI}", kai, kleidiai_source)] if kai else []),
    ]
    clones = [(name, tag, to) for name, tag, to, given in wanted if not given and not to.is_dir()]
    downloads = [
        f"{name} {tag}, {DOWNLOAD_MB[name]} MB of files, by git from {UPSTREAM[name]}"
        for name, tag, _ in clones
    ]
    if downloads and "git" not in host.tools:
        missing.append(
            (
                "git, to clone the sources",
                "sudo apt-get install git" if host.system == "Linux" else "xcode-select --install",
            )
        )
    if host.system == "Darwin" and wants_kai:
        warnings.append(
            "a Mac's library is no ELF file: whether KleidiAI is inside is judged by CMake's messages, not by its symbols"
        )
    if not arm and accelerated and {o.name: o.value for o in options}["MNN_AVX512"] == "OFF":
        warnings.append("this CPU has no AVX-512: an accelerated native build equals the baseline")
    return BuildPlan(
        variant=variant, target=target, toolchain=toolchain, source=mnn, kleidiai_source=kai, folder=folder, python=python,
        options=tuple(options), commands=(
            *((f"clone {name}", _clone(name, tag, to, host)) for name, tag, to in clones), *_commands(host, mnn, folder, options, python),
        ),
        downloads=tuple(downloads), missing=tuple(missing), warnings=tuple(warnings),
    )  # fmt: skip


def _base_tools(host: Host) -> list[tuple[str, str]]:
    missing = []
    pip = f"{sys.executable} -m pip install cmake ninja"
    if "cmake" not in host.tools:
        missing.append(("CMake", pip))
    elif host.cmake < OLDEST_CMAKE:
        found = ".".join(map(str, host.cmake)) or "one that does not run"
        missing.append((f"CMake {OLDEST_CMAKE[0]}.{OLDEST_CMAKE[1]} or newer, found {found}", pip))
    if "ninja" not in host.tools:
        missing.append(("ninja", pip))
    return missing


def _doubts_mnn(source: Path) -> list[str]:
    version = version_of(source)
    return (
        []
        if version == RELEASE
        else [
            f"the source is MNN {version}; this plan was made for {RELEASE}, where every option was tried"
        ]
    )


def _doubts_kleidiai(source: Path) -> list[str]:
    version = kleidiai_version_of(source)
    return (
        []
        if version == KLEIDIAI
        else [
            f"the source is KleidiAI {version or 'of an unknown version'}; MNN {RELEASE} asks for {KLEIDIAI}"
        ]
    )


def _commands(
    host: Host, mnn: Path, folder: Path, options: list[Option], python: bool
) -> list[tuple[str, tuple[str, ...]]]:
    cmake, build = host.tools.get("cmake", "cmake"), folder / "cmake"
    generator = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={host.tools.get('ninja', 'ninja')}"]
    commands = [
        (
            "configure",
            (
                cmake,
                "-S",
                str(mnn),
                "-B",
                str(build),
                *generator,
                *(option.flag for option in options),
            ),
        )
    ]
    targets = ("llm_demo", "MNN") if python else ("llm_demo",)
    commands.append(
        (
            "compile",
            (cmake, "--build", str(build), "--target", *targets, "--parallel", str(host.jobs)),
        )
    )
    if python:
        commands.append(("Python module", _module(host, mnn, folder)))
    return commands


def _clone(name: str, tag: str, to: Path, host: Host) -> tuple[str, ...]:
    """The command that fetches one release, and no more of its history."""
    return (
        host.tools.get("git", "git"),
        "clone",
        "--depth",
        "1",
        "--branch",
        tag,
        "--progress",
        UPSTREAM[name],
        str(to),
    )


def _module(host: Host, mnn: Path, folder: Path) -> tuple[str, ...]:
    """The command that makes ``_mnncengine``, the compiled half of MNN's Python package, as its setup.py does."""
    import sysconfig

    import numpy as np

    includes = ("include", "express", "express/module", "source", "source/core", "tools", "tools/cv/include", "tools/audio/include",
                "tools/train/source/nn", "tools/train/source/grad", "tools/train/source/module", "tools/train/source/parameters",
                "tools/train/source/optimizer", "tools/train/source/data", "tools/train/source/transformer", "schema/current",
                "3rd_party", "3rd_party/flatbuffers/include", "3rd_party/half", "transformers/llm/engine/include")  # fmt: skip
    defines = (
        "BUILD_OPTYPE",
        "PYMNN_TRAIN_API",
        "PYMNN_EXPR_API",
        "PYMNN_OPENCV_API",
        "PYMNN_AUDIO_API",
        "PYMNN_NUMPY_USABLE",
        "PYMNN_LLM_API",
    )
    whole = (
        ("-Wl,-force_load,", "")
        if host.system == "Darwin"
        else ("-Wl,--whole-archive,", ",--no-whole-archive")
    )
    shared = (
        ("-bundle", "-undefined", "dynamic_lookup") if host.system == "Darwin" else ("-shared",)
    )
    module = folder / "python" / f"_mnncengine{sysconfig.get_config_var('EXT_SUFFIX')}"
    return (
        host.tools.get("c++", "c++"), "-O2", "-fPIC", "-std=c++11", "-w", "-fno-strict-aliasing", *shared,
        *(f"-D{name}" for name in defines),
        *(f"-I{mnn / name}" for name in includes), f"-I{sysconfig.get_paths()['include']}", f"-I{np.get_include()}",
        str(mnn / "pymnn" / "src" / "MNN.cc"), f"{whole[0]}{folder / 'cmake' / 'libMNN.a'}{whole[1]}", "-pthread", "-o", str(module),
    )  # fmt: skip


def compare(first: BuildPlan, second: BuildPlan) -> tuple[tuple[str, str, str], ...]:
    """What differs between two plans: (option, value in the first, value in the second); "-" where one has no such option."""
    names = dict.fromkeys([*first.values, *second.values])
    rows = ((name, first.values.get(name, "-"), second.values.get(name, "-")) for name in names)
    own = {str(first.folder), str(second.folder)}
    return tuple(
        row
        for row in rows
        if row[1] != row[2]
        and not any(value.startswith(folder) for value in row[1:] for folder in own)
    )
