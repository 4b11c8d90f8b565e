"""CMake's options of a build, each with its reason.

The options and their effects were read in MNN 3.6.1: ``CMakeLists.txt``, ``cmake/KleidiAI.cmake``,
``source/backend/cpu/arm/CMakeLists.txt`` and ``transformers/llm/engine/CMakeLists.txt``.
"""

from collections.abc import Collection
from typing import NamedTuple

from labkit.building.sources import Source


class Option(NamedTuple):
    """One CMake option: its value and the reason it is there."""

    name: str
    value: str
    why: str


Row = tuple[str, str, str]
"""An option's name, value and reason."""
TRAIN: Row = (
    "MNN_BUILD_TRAIN",
    "ON",
    "MNN's Python package imports its training functions when it is loaded",
)
CCACHE: tuple[Row, ...] = (
    ("CMAKE_C_COMPILER_LAUNCHER", "ccache", "a C file that did not change is not compiled again"),
    (
        "CMAKE_CXX_COMPILER_LAUNCHER",
        "ccache",
        "a C++ file that did not change is not compiled again",
    ),
)


def common(*, static: bool, mac: bool) -> tuple[Row, ...]:
    """The options of every build: an engine for language and pictures, on the CPU alone."""
    shared = (
        ("OFF", "all in one program or module, nothing to find at run time")
        if static
        else ("ON", "one library to look into, libMNN")
    )
    gpus = ("MNN_OPENCL", "MNN_VULKAN", "MNN_METAL")
    return (
        ("CMAKE_BUILD_TYPE", "Release", "optimise: an unoptimised build says nothing about speed"),
        ("MNN_BUILD_LLM", "ON", "the language model's engine, and the program llm_demo"),
        (
            "MNN_BUILD_LLM_OMNI",
            "ON",
            "pictures too: MNN's image reader, and the tower in front of the language model",
        ),
        (
            "MNN_LOW_MEMORY",
            "ON",
            "kernels that compute on int4 and int8 weights as they are stored",
        ),
        ("MNN_SUPPORT_TRANSFORMER_FUSE", "ON", "attention as one operation with a KV cache"),
        ("MNN_BUILD_SHARED_LIBS", *shared),
        ("MNN_SEP_BUILD", "OFF", "not one library for each part: a single file holds all kernels"),
        ("MNN_BUILD_TOOLS", "OFF", "leave out programs that this path does not use"),
        ("LLM_SUPPORT_HTTP_RESOURCE", "OFF", "a prompt can make no network call"),
        *(
            (gpu, "OFF", "no GPU backend: the CPU is what is compared")
            for gpu in gpus[: 3 if mac else 2]
        ),
    )


def for_arm(kleidiai: Source | None) -> tuple[Row, ...]:
    """What decides about Arm's kernels; only KleidiAI differs between the variants.

    Parameters
    ----------
    kleidiai
        Its source, for the accelerated variant.
    """
    value = _switch(kleidiai is not None)
    enabled = (
        "ENABLED: turns them on without a hint; MNN-LLM sets none, so llm_demo never uses them "
        "otherwise"
    )
    here = "KleidiAI from here, not downloaded while configuring"
    return (
        (
            "MNN_ARM82",
            "ON",
            "float16 arithmetic of Armv8.2, chosen at run time; both variants have it",
        ),
        ("MNN_SME2", "ON", "MNN's own SME2 kernels, chosen at run time; both variants have them"),
        ("MNN_KLEIDIAI", value, "BUILT: puts KleidiAI's micro-kernels into the library"),
        ("MNN_KLEIDIAI_DEFAULT_ON", value, enabled),
        *([("KLEIDIAI_SRC_DIR", str(kleidiai.folder), here)] if kleidiai else []),
    )


def for_x86(accelerated: bool, sets: Collection[str]) -> tuple[Row, ...]:
    """What decides about x86-64's kernels, on a CPU with these instruction sets."""
    wide = accelerated and {"avx512f", "avx512bw"} <= set(sets)
    return (
        ("MNN_AVX512", _switch(wide), "512-bit kernels; off by default, and in the stock wheel"),
        (
            "MNN_AVX512_VNNI",
            _switch(wide and "avx512_vnni" in sets),
            "int8 dot products in one instruction, the x86 cousin of Arm's sdot",
        ),
    )


def _switch(on: bool) -> str:
    return "ON" if on else "OFF"
