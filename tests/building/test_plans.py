"""Plans of builds, on machines that nobody here owns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from labkit import cli
from labkit.base.errors import BuildError
from labkit.building import plans, zig_compiler
from labkit.building.host import Host
from labkit.cli import doctor

TOOLS = {name: f"/usr/bin/{name}" for name in ("cmake", "ninja", "git", "cc", "c++")}
CROSS = {name: f"/usr/bin/{name}" for name in ("aarch64-linux-gnu-gcc", "aarch64-linux-gnu-g++")}
DEBIAN = Host(
    system="Linux",
    architecture="x86_64",
    instruction_sets=("avx2", "avx512f", "avx512bw", "avx512_vnni"),
    tools={**TOOLS, **CROSS},
    cmake=(3, 25),
    zig=True,
    jobs=2,
)
OLD_PC = replace(DEBIAN, instruction_sets=("avx2",))
GRAVITON = replace(
    DEBIAN, architecture="aarch64", instruction_sets=("asimd", "dotprod", "i8mm"), tools=TOOLS
)
MAC = Host(
    system="Darwin",
    architecture="arm64",
    instruction_sets=("asimd", "dotprod", "i8mm"),
    cmake=(4, 0),
    tools=TOOLS,
    jobs=8,
)
BARE = Host(system="Linux", architecture="x86_64")
PHONE_MAKER = replace(DEBIAN, ndk="/opt/ndk")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "home"))


@pytest.mark.parametrize(
    ("host", "target", "expected"),
    [
        (
            DEBIAN,
            "native",
            {"MNN_AVX512": "ON", "MNN_AVX512_VNNI": "ON", "MNN_BUILD_SHARED_LIBS": "ON"},
        ),
        (OLD_PC, "native", {"MNN_AVX512": "OFF", "MNN_AVX512_VNNI": "OFF"}),
        (
            GRAVITON,
            "native",
            {
                "MNN_KLEIDIAI": "ON",
                "MNN_KLEIDIAI_DEFAULT_ON": "ON",
                "MNN_ARM82": "ON",
                "MNN_SME2": "ON",
            },
        ),
        (GRAVITON, "aarch64-linux", {"MNN_KLEIDIAI": "ON"}),
        (
            DEBIAN,
            "aarch64-linux",
            {
                "CMAKE_SYSTEM_PROCESSOR": "aarch64",
                "CMAKE_C_COMPILER": "aarch64-linux-gnu-gcc",
                "MNN_KLEIDIAI": "ON",
            },
        ),
        (
            DEBIAN,
            "aarch64-static",
            {
                "MNN_BUILD_SHARED_LIBS": "OFF",
                "CMAKE_EXE_LINKER_FLAGS": "-static",
                "MNN_KLEIDIAI": "ON",
            },
        ),
        (
            PHONE_MAKER,
            "android",
            {
                "ANDROID_ABI": "arm64-v8a",
                "CMAKE_TOOLCHAIN_FILE": "/opt/ndk/build/cmake/android.toolchain.cmake",
            },
        ),
        (
            MAC,
            "macos",
            {"CMAKE_OSX_ARCHITECTURES": "arm64", "MNN_METAL": "OFF", "MNN_KLEIDIAI": "ON"},
        ),
        (MAC, "native", {"MNN_METAL": "OFF", "MNN_KLEIDIAI": "ON"}),
    ],
)
def test_accelerated_options(host: Host, target: str, expected: dict[str, str]) -> None:
    made = plans.plan("accelerated", target, host=host)
    assert made.missing == ()
    assert {name: made.values.get(name) for name in expected} == expected
    assert {
        "MNN_BUILD_LLM": "ON",
        "MNN_BUILD_LLM_OMNI": "ON",
        "MNN_LOW_MEMORY": "ON",
    }.items() <= made.values.items()
    configure = dict(made.commands)["configure"]
    assert [f"-D{name}={value}" for name, value in made.values.items()] == [
        word for word in configure if word[:2] == "-D"
    ][1:]
    assert all(len(option.why) > 8 for option in made.options)


def test_an_x86_build_has_no_arm_option_and_the_other_way_round() -> None:
    x86, arm = (
        plans.plan("accelerated", host=DEBIAN),
        plans.plan("accelerated", "aarch64-linux", host=DEBIAN),
    )
    assert not {"MNN_KLEIDIAI", "MNN_ARM82", "MNN_SME2"} & x86.values.keys()
    assert not {"MNN_AVX512", "MNN_AVX512_VNNI"} & arm.values.keys()
    assert (x86.wants_kleidiai, arm.wants_kleidiai) == (False, True)


@pytest.mark.parametrize(
    ("host", "target", "differs"),
    [
        (DEBIAN, "native", {"MNN_AVX512", "MNN_AVX512_VNNI"}),
        (DEBIAN, "aarch64-linux", {"MNN_KLEIDIAI", "MNN_KLEIDIAI_DEFAULT_ON", "KLEIDIAI_SRC_DIR"}),
        (DEBIAN, "aarch64-static", {"MNN_KLEIDIAI", "MNN_KLEIDIAI_DEFAULT_ON", "KLEIDIAI_SRC_DIR"}),
        (OLD_PC, "native", set()),
    ],
)
def test_only_what_differs_is_compared(host: Host, target: str, differs: set[str]) -> None:
    rows = plans.compare(
        plans.plan("baseline", target, host=host), plans.plan("accelerated", target, host=host)
    )
    assert {name for name, _, _ in rows} == differs
    assert all(before != after for _, before, after in rows)


def test_a_cpu_without_avx512_is_told_that_nothing_is_gained() -> None:
    assert "no AVX-512" in " ".join(plans.plan("accelerated", host=OLD_PC).warnings)
    assert plans.plan("accelerated", host=DEBIAN).warnings == ()


@pytest.mark.parametrize(
    ("host", "target", "what", "line"),
    [
        (BARE, "native", "CMake", "-m pip install cmake ninja"),
        (BARE, "native", "ninja", "-m pip install cmake ninja"),
        (BARE, "native", "a C++ compiler", "sudo apt-get install g++"),
        (BARE, "native", "git, to clone the sources", "sudo apt-get install git"),
        (
            BARE,
            "aarch64-linux",
            "a cross compiler for AArch64",
            "sudo apt-get install g++-aarch64-linux-gnu",
        ),
        (BARE, "aarch64-static", "ziglang", "-m pip install ziglang=="),
        (DEBIAN, "android", "the Android NDK", "sdkmanager --install"),
        (DEBIAN, "macos", "Xcode's compiler, on a Mac", "xcode-select --install"),
        (
            replace(DEBIAN, cmake=(3, 10)),
            "native",
            "CMake 3.16 or newer, found 3.10",
            "-m pip install cmake ninja",
        ),
    ],
)
def test_what_is_missing_comes_with_the_line_that_installs_it(
    host: Host, target: str, what: str, line: str
) -> None:
    missing = dict(plans.plan("accelerated", target, host=host).missing)
    assert line in missing[what]


def test_downloads_are_said_before_they_happen() -> None:
    made = plans.plan("accelerated", "aarch64-linux", host=DEBIAN)
    assert [text.split(",")[0] for text in made.downloads] == ["MNN 3.6.1", "KleidiAI v1.16.0"]
    assert [stage for stage, _ in made.commands] == [
        "clone MNN",
        "clone KleidiAI",
        "configure",
        "compile",
    ]
    assert "will download: MNN 3.6.1, 210 MB" in str(made)
    baseline = plans.plan("baseline", "aarch64-linux", host=DEBIAN)
    assert [stage for stage, _ in baseline.commands] == ["clone MNN", "configure", "compile"]


def mnn_source(folder: Path, version: str = "3.6.1") -> Path:
    (folder / "include" / "MNN").mkdir(parents=True)
    names = zip(("MAJOR", "MINOR", "PATCH"), version.split("."), strict=True)
    (folder / "include" / "MNN" / "MNNDefine.h").write_text(
        "".join(f"#define MNN_VERSION_{part} {n}\n" for part, n in names)
    )
    (folder / "CMakeLists.txt").write_text("")
    return folder


def kleidiai_source(folder: Path, version: str = "1.16.0") -> Path:
    (folder / "kai" / "ukernels").mkdir(parents=True)
    (folder / "CMakeLists.txt").write_text(
        f"cmake_minimum_required(VERSION 3.16)\nproject(KleidiAI\n    VERSION {version}\n)\n"
    )
    return folder


def test_own_checkouts_are_used_and_their_versions_looked_at(tmp_path: Path) -> None:
    mnn, kai = mnn_source(tmp_path / "a", "3.5.0"), kleidiai_source(tmp_path / "k", "1.30.0")
    made = plans.plan("accelerated", "aarch64-linux", source=mnn, kleidiai_source=kai, host=DEBIAN)
    assert made.downloads == ()
    assert made.values["KLEIDIAI_SRC_DIR"] == str(kai)
    assert [word for text in made.warnings for word in text.split() if word[0].isdigit()] == [
        "3.5.0;",
        "3.6.1,",
        "1.30.0;",
        "3.6.1",
        "1.16.0",
    ]
    mnn, kai = mnn_source(tmp_path / "b"), kleidiai_source(tmp_path / "l")
    made = plans.plan("accelerated", "aarch64-linux", source=mnn, kleidiai_source=kai, host=DEBIAN)
    assert made.warnings == ()


def test_a_folder_that_is_no_checkout_is_named(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"expected MNN's source.*found none at .*--source"):
        plans.plan("baseline", source=tmp_path, host=DEBIAN)
    with pytest.raises(BuildError, match=r"expected KleidiAI's source.*kai/ukernels"):
        plans.plan(
            "accelerated",
            "aarch64-linux",
            source=mnn_source(tmp_path / "a"),
            kleidiai_source=tmp_path,
            host=DEBIAN,
        )
    with pytest.raises(BuildError, match="expected a variant among accelerated, baseline"):
        plans.plan("fast", host=DEBIAN)
    with pytest.raises(BuildError, match="this machine's Python only"):
        plans.plan("accelerated", "aarch64-linux", python=True, host=DEBIAN)


def test_the_python_module_is_linked_whole(tmp_path: Path) -> None:
    made = plans.plan("accelerated", python=True, source=mnn_source(tmp_path / "a"), host=DEBIAN)
    stage, argv = made.commands[-1]
    assert stage == "Python module"
    assert made.values["MNN_BUILD_SHARED_LIBS"] == "OFF"
    assert any(word.startswith("-Wl,--whole-archive,") and "libMNN.a" in word for word in argv)
    assert {"-DPYMNN_LLM_API", "-DPYMNN_EXPR_API"} <= set(argv)


def test_a_mac_is_told_that_its_library_is_not_read() -> None:
    assert "no ELF file" in " ".join(plans.plan("accelerated", "macos", host=MAC).warnings)
    assert plans.plan("baseline", "macos", host=MAC).warnings == ()


@pytest.mark.parametrize(
    ("host", "status", "found"),
    [
        (BARE, "info", "for no target; not native, aarch64-linux, aarch64-static, android, macos"),
        (DEBIAN, "ok", "native, aarch64-linux, aarch64-static; not android, macos"),
    ],
)
def test_the_doctor_tells_what_can_be_built(host: Host, status: str, found: str) -> None:
    check = doctor.check_builds(host)
    assert (check.status, check.found) == (status, found)
    assert ("labkit build accelerated --dry-run" in check.todo) == (host is BARE)


def test_ccache_is_used_where_it_is() -> None:
    with_it = replace(DEBIAN, tools={**DEBIAN.tools, "ccache": "/usr/bin/ccache"})
    assert plans.plan("baseline", host=with_it).values["CMAKE_CXX_COMPILER_LAUNCHER"] == "ccache"
    assert "CMAKE_CXX_COMPILER_LAUNCHER" not in plans.plan("baseline", host=DEBIAN).values


def test_dry_run_prints_a_plan_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        cli.main(["build", "accelerated", "--target", "aarch64-linux", "--dry-run", "--json"]) == 0
    )
    content = json.loads(capsys.readouterr().out)
    assert (
        content["target"],
        content["options"]["MNN_KLEIDIAI"],
        content["options"]["MNN_KLEIDIAI_DEFAULT_ON"],
    ) == (
        "aarch64-linux",
        "ON",
        "ON",
    )
    assert content["toolchain"]
    assert content["commands"][-1][1] == "--build"
    assert cli.main(["build", "compare", "--target", "aarch64-linux"]) == 0
    assert "MNN_KLEIDIAI_DEFAULT_ON  OFF       ON" in capsys.readouterr().out
    assert not (tmp_path / "home").exists()


def test_zig_gets_features_by_its_own_names() -> None:
    assert (
        zig_compiler.translated("-march=armv8.2-a+i8mm+dotprod+sve+sve2+fp16")
        == "-mcpu=generic+v8_2a+i8mm+dotprod+sve+sve2+fullfp16"
    )
    assert zig_compiler.translated("-march=armv8-a") == "-mcpu=generic"
    assert zig_compiler.translated("-mfloat-abi=softfp") is None
    assert zig_compiler.translated("-DX=1") == "-DX=1"
