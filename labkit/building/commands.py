"""The commands of a build: configure, compile, and make MNN's Python module."""

import sysconfig
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from labkit.building.host import Host
from labkit.building.options import Option

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


Command = tuple[str, tuple[str, ...]]
"""A stage's name, and its argv."""


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
    linked, whole = (
        (("-bundle", "-undefined", "dynamic_lookup"), f"-Wl,-force_load,{library}")
        if host.is_mac
        else (("-shared",), f"-Wl,--whole-archive,{library},--no-whole-archive")
    )
    flags = ("-O2", "-fPIC", "-std=c++11", "-w", "-fno-strict-aliasing", *linked)
    includes = (*(mnn / name for name in INCLUDES), sysconfig.get_paths()["include"])
    return (
        host.tool("c++"),
        *flags,
        *(f"-D{name}" for name in DEFINES),
        *(f"-I{folder}" for folder in (*includes, np.get_include())),
        str(mnn / "pymnn" / "src" / "MNN.cc"),
        whole,
        "-pthread",
        "-o",
        str(out / f"_mnncengine{sysconfig.get_config_var('EXT_SUFFIX')}"),
    )
