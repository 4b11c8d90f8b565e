"""The commands of a build: configure, compile, and make MNN's Python module.

``options.json`` has CMake's options: when each is set, its value and the reason. They and their
effects were read in MNN 3.6.1: ``CMakeLists.txt``, ``cmake/KleidiAI.cmake``,
``source/backend/cpu/arm/CMakeLists.txt`` and ``transformers/llm/engine/CMakeLists.txt``.
"""

import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from labkit.base.records import from_json
from labkit.building.host import Host
from labkit.building.sources import Source

INCLUDES = """
    include express express/module source source/core tools tools/cv/include tools/audio/include
    tools/train/source/nn tools/train/source/grad tools/train/source/module
    tools/train/source/parameters tools/train/source/optimizer tools/train/source/data
    tools/train/source/transformer schema/current 3rd_party 3rd_party/flatbuffers/include
    3rd_party/half transformers/llm/engine/include
""".split()
DEFINES = """
    BUILD_OPTYPE PYMNN_TRAIN_API PYMNN_EXPR_API PYMNN_OPENCV_API PYMNN_AUDIO_API
    PYMNN_NUMPY_USABLE PYMNN_LLM_API
""".split()
TOOLS = "toolchain"  # the folder of ziglang's tools in that of the build


class Option(NamedTuple):
    """One CMake option: its value and the reason it is there."""

    name: str
    value: str
    why: str


Command = tuple[str, tuple[str, ...]]
"""A stage's name, and its argv."""


def options(
    target: str,
    host: Host,
    folder: Path,
    *,
    accelerated: bool,
    kleidiai: Source | None,
    python: bool,
) -> tuple[Option, ...]:
    """The options of one build in a folder, in the order of ``options.json``.

    Parameters
    ----------
    target
        By which compiler: one of `labkit.building.plans.TARGETS`.
    kleidiai
        Its source, for an accelerated build for Arm.
    """
    arm, static = target != "native" or host.is_arm, python or target == "aarch64-static"
    sets, switch = set(host.instruction_sets), {True: "ON", False: "OFF"}
    wide = accelerated and {"avx512f", "avx512bw"} <= sets
    holds = {
        "always": True,
        target: True,
        "static": static,
        "shared": not static,
        "mac": host.is_mac or target == "macos",
        "arm": arm,
        "x86": not arm,
        "kleidiai": kleidiai,
        "python": python,
        "ccache": host.has("ccache"),
    }
    values = {
        "kleidiai": switch[kleidiai is not None],
        "kleidiai_source": kleidiai and kleidiai.folder,
        "avx512": switch[wide],
        "vnni": switch[wide and "avx512_vnni" in sets],
        "tools": folder / TOOLS,
        "ndk": host.ndk or "$ANDROID_NDK",
    }
    file = Path(__file__).with_name("options.json")
    rows = from_json(tuple[tuple[str, str, str, str], ...], file.read_bytes())
    return tuple(
        Option(name, value.format_map(values), why)
        for when, name, value, why in rows
        if any(holds.get(word) for word in when.split())
    )


def stages(
    host: Host, mnn: Path, folder: Path, options: Sequence[Option], *, python: bool
) -> list[Command]:
    """The stages that build MNN's source in a folder, in their order.

    Parameters
    ----------
    python
        Whether MNN's Python module is made as well.
    """
    cmake, build = host.tool("cmake"), folder / "cmake"
    generator = ("-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={host.tool('ninja')}")
    flags = (f"-D{option.name}={option.value}" for option in options)
    targets = ("llm_demo", "MNN") if python else ("llm_demo",)
    jobs = ("--parallel", str(host.jobs))
    commands = [
        ("configure", (cmake, "-S", str(mnn), "-B", str(build), *generator, *flags)),
        ("compile", (cmake, "--build", str(build), "--target", *targets, *jobs)),
    ]
    if python:
        commands.append(("Python module", _module(host, mnn, build, folder / "python")))
    return commands


def _module(host: Host, mnn: Path, build: Path, out: Path) -> tuple[str, ...]:
    """What makes ``_mnncengine``, MNN's Python module, as its setup.py does."""
    library = build / "libMNN.a"
    linked, whole = "-shared", f"-Wl,--whole-archive,{library},--no-whole-archive"
    if host.is_mac:
        linked, whole = "-bundle -undefined dynamic_lookup", f"-Wl,-force_load,{library}"
    folders = [mnn / name for name in INCLUDES]
    folders += map(Path, (sysconfig.get_paths()["include"], np.get_include()))
    return (
        host.tool("c++"),
        *f"-O2 -fPIC -std=c++11 -w -fno-strict-aliasing {linked}".split(),
        *(f"-D{name}" for name in DEFINES),
        *(f"-I{folder}" for folder in folders),
        str(mnn / "pymnn" / "src" / "MNN.cc"),
        whole,
        "-pthread",
        "-o",
        str(out / f"_mnncengine{sysconfig.get_config_var('EXT_SUFFIX')}"),
    )
