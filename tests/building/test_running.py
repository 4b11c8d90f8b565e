"""Builds carried out for real: a small CMake project with MNN's option names, built with ninja."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from labkit import cli
from labkit.base import files, hardware
from labkit.base.command import Stage
from labkit.base.errors import BuildError, LaneNotReady, ResultError
from labkit.base.records import to_json
from labkit.bench import results
from labkit.bench.demos import demos
from labkit.bench.plan import BenchPlan
from labkit.building import llm_demo, plans, running
from labkit.building.plans import BuildPlan
from labkit.building.record import LOG, RECORD, BuildRecord, Product, architecture, read_record
from labkit.building.sources import PINNED
from labkit.engine import known, lanes

OPTIONS = """
    MNN_BUILD_LLM MNN_BUILD_LLM_OMNI MNN_LOW_MEMORY MNN_SUPPORT_TRANSFORMER_FUSE
    MNN_BUILD_SHARED_LIBS MNN_SEP_BUILD MNN_BUILD_TOOLS LLM_SUPPORT_HTTP_RESOURCE MNN_OPENCL
    MNN_VULKAN MNN_ARM82 MNN_SME2 MNN_KLEIDIAI MNN_KLEIDIAI_DEFAULT_ON MNN_AVX512 MNN_AVX512_VNNI
""".split()
LISTS = """cmake_minimum_required(VERSION 3.16)
project(MNN C CXX)
{options}
file(GLOB FILES ${{CMAKE_CURRENT_LIST_DIR}}/source/*.c)
if(MNN_KLEIDIAI AND CMAKE_SYSTEM_PROCESSOR MATCHES "^aarch64")
  if(DEFINED KLEIDIAI_SRC_DIR AND EXISTS "${{KLEIDIAI_SRC_DIR}}")
    file(GLOB KAI ${{KLEIDIAI_SRC_DIR}}/kai/ukernels/*.c)
    list(APPEND FILES ${{KAI}})
  else()
    message(WARNING "KleidiAI download failed: 6;Could not resolve. Building without KleidiAI. ")
  endif()
endif()
add_library(MNN SHARED ${{FILES}})
add_executable(llm_demo demo.cpp)
target_link_libraries(llm_demo MNN)
"""
KERNEL = "kai_run_matmul_clamp_f32_qsi8d32p4x8_qai4c32p4x8_8x4_neon_i8mm"
FILES = 24
SCENE = Path(__file__).resolve().parents[2] / "data" / "scenes" / "cat_and_pizza.png"


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A checkout that looks like MNN's to a plan, and one that looks like KleidiAI's."""
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "home with a space"))
    mnn, kai = tmp_path / "MNN", tmp_path / "kleidiai"
    (mnn / "include" / "MNN").mkdir(parents=True)
    (mnn / "include" / "MNN" / "MNNDefine.h").write_text(
        "#define MNN_VERSION_MAJOR 3\n#define MNN_VERSION_MINOR 6\n#define MNN_VERSION_PATCH 1\n"
    )
    (mnn / "CMakeLists.txt").write_text(
        LISTS.format(options="\n".join(f'option({name} "" OFF)' for name in OPTIONS))
    )
    (mnn / "source").mkdir()
    for number in range(FILES):
        (mnn / "source" / f"part{number}.c").write_text(
            f"int part{number}(void) {{ return {number}; }}\n"
        )
    (mnn / "demo.cpp").write_text(
        'extern "C" int part3(void);\nint main() { return part3() == 3 ? 0 : 1; }\n'
    )
    (kai / "kai" / "ukernels").mkdir(parents=True)
    (kai / "kai" / "ukernels" / "kernel.c").write_text(f"int {KERNEL}(int x) {{ return x; }}\n")
    (kai / "CMakeLists.txt").write_text("project(KleidiAI\n    VERSION 1.16.0\n)\n")
    return mnn, kai


def planned(
    sources: tuple[Path, Path], variant: str = "accelerated", target: str = "aarch64-linux"
) -> BuildPlan:
    made = plans.plan(variant, target, source=sources[0], kleidiai_source=sources[1])
    assert made.missing == (), "the cross compiler is needed to test builds"
    return made


def test_a_build_for_arm_with_kleidiai(sources: tuple[Path, Path]) -> None:
    steps: list[tuple[int, int]] = []
    stages: list[Stage] = []
    made = planned(sources)
    record = running.run_build(
        made, on_stage=stages.append, on_progress=lambda *step: steps.append(step)
    )
    assert [stage.name for stage in stages] == ["configure", "compile"]
    assert steps[-1][0] == steps[-1][1] >= FILES + 2
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert (record.architecture, record.kernels, record.default_on) == (
        "aarch64",
        {"i8mm": 1},
        True,
    )
    assert record.products[0].path == "cmake/libMNN.so"
    assert record.program.is_file()
    assert record == read_record(made.folder)
    assert "aarch64-linux-gnu-g++" in record.compiler
    subprocess.run(["aarch64-linux-gnu-gcc", "--version"], check=True, capture_output=True)
    assert "Building C object" in (made.folder / LOG).read_text()


@pytest.mark.parametrize("text", ["", "[]", '{"variant": "baseline"}', '{"schema": 2}'])
def test_a_damaged_record_is_said(tmp_path: Path, text: str) -> None:
    with pytest.raises(BuildError, match="there is no build there"):
        read_record(tmp_path)
    (tmp_path / RECORD).write_text(text)
    with pytest.raises(BuildError, match=r"got something else \(.*\). Build again"):
        read_record(tmp_path)


def test_a_finished_build_is_not_built_again(sources: tuple[Path, Path]) -> None:
    made = planned(sources, "baseline")
    first = running.run_build(made)
    assert first.kernels == {}
    stages: list[Stage] = []
    assert running.run_build(made, on_stage=stages.append) == first
    assert stages == []
    (first.folder / first.products[0].path).write_bytes(b"something else")
    with pytest.raises(
        BuildError
    ):  # ninja sees a newer file and leaves it; the inspection does not
        running.run_build(made, on_stage=stages.append)


def test_interrupted_it_goes_on_where_it_stopped(sources: tuple[Path, Path]) -> None:
    made = planned(sources)

    def stop(done: int, _total: int) -> None:
        if done == 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        running.run_build(made, on_progress=stop)
    with pytest.raises(BuildError, match="was not finished; type its command again"):
        read_record(made.folder)
    totals: set[int] = set()
    record = running.run_build(made, on_progress=lambda _, total: totals.add(total))
    assert max(totals) <= FILES + 3 - 10  # what was compiled is not compiled again
    assert record.kernels == {"i8mm": 1}


def test_a_compile_error_is_shown_and_mended(sources: tuple[Path, Path]) -> None:
    broken = sources[0] / "source" / "part7.c"
    broken.write_text("int part7(void) { return seven; }\n")
    with pytest.raises(
        BuildError,
        match=r"(?s)'compile' failed, exit code 1:.*part7.c:1:.*'seven' undeclared.*is kept",
    ):
        running.run_build(planned(sources))
    broken.write_text("int part7(void) { return 7; }\n")
    assert running.run_build(planned(sources)).kernels == {"i8mm": 1}


def test_what_cmake_says_first_is_shown(sources: tuple[Path, Path]) -> None:
    lists = sources[0] / "CMakeLists.txt"
    lists.write_text(
        lists.read_text()
        + 'message(SEND_ERROR "no such thing as a free lunch")\nmessage(STATUS "and more")\n'
    )
    for _ in range(2):
        with pytest.raises(
            BuildError,
            match=r"(?s)'configure' failed, exit code 1:\nCMake Error at CMakeLists.*free lunch",
        ):
            running.run_build(planned(sources))


def test_kleidiai_that_is_left_out_while_configuring_is_an_error(
    sources: tuple[Path, Path],
) -> None:
    made = planned(sources)
    options = tuple(o for o in made.options if o.name != "KLEIDIAI_SRC_DIR")
    commands = tuple(
        (stage, tuple(w for w in argv if "KLEIDIAI_SRC_DIR" not in w))
        for stage, argv in made.commands
    )
    with pytest.raises(
        BuildError, match=r"went on without it, where MNN only warns: KleidiAI download failed"
    ):
        running.run_build(replace(made, options=options, commands=commands))


def test_kleidiai_that_is_not_in_the_library_is_an_error(sources: tuple[Path, Path]) -> None:
    (sources[1] / "kai" / "ukernels" / "kernel.c").write_text("int nothing(int x) { return x; }\n")
    with pytest.raises(
        BuildError, match=r"KleidiAI was asked for, and libMNN.so has no kai_ function"
    ):
        running.run_build(planned(sources))


def test_a_build_for_another_machine_is_an_error(sources: tuple[Path, Path]) -> None:
    made = planned(sources)
    native = {"CMAKE_C_COMPILER": "cc", "CMAKE_CXX_COMPILER": "c++"}

    def changed(word: str) -> str:
        return next(
            (
                f"-D{name}={value}"
                for name, value in native.items()
                if word.startswith(f"-D{name}=")
            ),
            word,
        )

    commands = tuple((stage, tuple(map(changed, argv))) for stage, argv in made.commands)
    with pytest.raises(BuildError, match=r"expected libMNN.so for aarch64, found it for x86_64"):
        running.run_build(replace(made, commands=commands))


def test_an_option_that_the_source_does_not_know_is_an_error(sources: tuple[Path, Path]) -> None:
    lists = sources[0] / "CMakeLists.txt"
    lists.write_text(lists.read_text().replace('option(MNN_KLEIDIAI_DEFAULT_ON "" OFF)\n', ""))
    with pytest.raises(
        BuildError,
        match=r"MNN 3.6.1 at .* does not know the option MNN_KLEIDIAI_DEFAULT_ON: it is the",
    ):
        running.run_build(planned(sources))


@pytest.mark.parametrize("variant", plans.VARIANTS)
def test_the_native_build_runs_here(sources: tuple[Path, Path], variant: str) -> None:
    record = running.run_build(planned(sources, variant, "native"))
    assert subprocess.run([str(record.program)], check=False).returncode == 0


def test_another_plan_in_the_same_folder_starts_anew(
    sources: tuple[Path, Path], tmp_path: Path
) -> None:
    def at(variant: str) -> BuildPlan:
        return plans.plan(
            variant,
            "aarch64-linux",
            source=sources[0],
            kleidiai_source=sources[1],
            out=tmp_path / "one",
        )

    assert running.run_build(at("accelerated")).kernels
    assert running.run_build(at("baseline")).kernels == {}


def test_other_files_are_left_alone(sources: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("words")
    with pytest.raises(BuildError, match=r"expected an empty folder, or one with a build"):
        running.run_build(plans.plan("baseline", source=sources[0], out=tmp_path / "mine"))
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_no_space_and_missing_tools_are_said_before_anything_is_written(
    sources: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = planned(sources)
    with pytest.raises(
        BuildError, match=r"(?s)more than this machine has:.*a compiler. Type: get one"
    ):
        running.run_build(replace(made, missing=(("a compiler", "get one"),)))
    monkeypatch.setattr(hardware, "free_disk_bytes", lambda _: 1_000_000)
    with pytest.raises(BuildError, match=r"expected 300 MB of free disk at .*, found 1 MB"):
        running.run_build(made)
    assert not made.folder.exists()


def test_two_builds_in_one_folder_do_not_meet(sources: tuple[Path, Path]) -> None:
    made = planned(sources)

    def again(*_: object) -> None:
        with pytest.raises(BuildError, match="another build is running"):
            running.run_build(made)

    assert running.run_build(made, on_progress=again).kernels


def git(folder: Path, *words: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=n", "-c", "user.email=e", *words],
        cwd=folder,
        check=True,
        capture_output=True,
    )


def test_the_pinned_release_is_cloned(
    sources: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, (name, pinned) in zip(sources, PINNED.items(), strict=True):
        git(folder, "init", "-q")
        git(folder, "add", ".")
        git(folder, "commit", "-qm", "all")
        git(folder, "tag", pinned.tag)
        monkeypatch.setitem(PINNED, name, replace(pinned, url=str(folder)))
    stages: list[Stage] = []
    record = running.run_build(plans.plan("accelerated", "aarch64-linux"), on_stage=stages.append)
    assert [stage.name for stage in stages] == [
        "clone MNN",
        "clone KleidiAI",
        "configure",
        "compile",
    ]
    assert record.kernels == {"i8mm": 1}
    assert plans.plan("accelerated", "aarch64-linux").downloads == ()


def test_a_clone_that_fails_leaves_nothing(
    sources: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nowhere = replace(PINNED["MNN"], url=str(tmp_path / "nowhere"))
    monkeypatch.setitem(PINNED, "MNN", nowhere)
    made = plans.plan("baseline")
    with pytest.raises(
        BuildError,
        match=r"(?s)'clone MNN' failed.*Check the network, or name a checkout.* --source",
    ):
        running.run_build(made)
    assert list(made.source.parent.iterdir()) == []


def test_the_command_builds_and_says_what_came_out(
    sources: tuple[Path, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = [
        "build",
        "accelerated",
        "--target",
        "aarch64-linux",
        "--source",
        str(sources[0]),
        "--kleidiai-source",
        str(sources[1]),
    ]
    assert cli.main([*words, "--out", str(tmp_path / "a"), "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["kernels"] == {"i8mm": 1}
    assert "2/2 compile" in said.err
    assert (
        cli.main(["build", "baseline", "--source", str(tmp_path), "--out", str(tmp_path / "b")])
        == 1
    )
    assert "labkit: expected MNN's source" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


# ---- using a build


def test_architectures_are_read_from_the_wheels(emulated_lane: lanes.Lane) -> None:
    assert architecture(emulated_lane.library) == "aarch64"
    assert architecture(lanes.native().library) == platform.machine()


def test_a_lane_takes_a_build_with_a_python_module(tmp_path: Path, mini_folder: Path) -> None:
    with pytest.raises(
        LaneNotReady, match=r"expected MNN's Python module.*labkit build accelerated --python"
    ):
        lanes.native(tmp_path)
    with pytest.raises(LaneNotReady, match=r"'emulated' .without a build."):
        known.lane("emulated", build=tmp_path)
    with pytest.raises(ResultError, match="Name it with --build DIR"):
        BenchPlan(model=mini_folder, comparisons=("build",))
    stock = lanes.native().library
    (tmp_path / "python").mkdir()
    shutil.copy(stock, tmp_path / "python")
    for libraries in stock.parent.glob("[mM][nN][nN].libs"):  # what the wheel brings along
        shutil.copytree(libraries, tmp_path / "python" / libraries.name)
    lane = lanes.native(tmp_path)
    assert lane.library == tmp_path / "python" / stock.name
    from labkit.engine.client import EngineProcess

    with EngineProcess(lane) as engine:
        mapped = engine.request("snapshot")["maps"]
    assert str(lane.library) in mapped
    assert str(stock) not in mapped


SAID = """config path is config.json
KleidiAI is running! AccelType is QI4_ASYM_BLKQT_F32.
prompt file is prompts.txt
A cat left of a pizza.

#################################
prompt tokens num = 41
decode tokens num = 8
 vision time = 0.20 s
 pixels_mp = 0.01 MP
prefill time = 0.12 s
 decode time = 0.04 s
##################################
"""


def test_what_llm_demo_prints_is_read() -> None:
    expected = llm_demo.DemoRun(
        answer="A cat left of a pizza.",
        prompt_tokens=41,
        decode_tokens=8,
        seconds={"vision": 0.2, "prefill": 0.12, "decode": 0.04},
        kleidiai=("QI4_ASYM_BLKQT_F32",),
        peak_bytes=None,
    )
    assert llm_demo.parse(SAID) == expected
    fine = SAID.replace("speed", "").replace(
        "pixels_mp = 0.01 MP", "prefill speed = 330.27 tok/s\n vision speed = 0.061 MP/s"
    )
    seconds = llm_demo.parse(fine, pixels=112 * 112).seconds
    assert seconds["prefill"] == pytest.approx(41 / 330.27)
    assert seconds["vision"] == 0.2  # the seconds have more digits
    with pytest.raises(BuildError, match=r"expected llm_demo's answer and figures, got"):
        llm_demo.parse("config path is config.json\nSegmentation fault\n")


@pytest.fixture
def stand_in(tmp_path: Path) -> Callable[[str], BuildRecord]:
    """A build whose llm_demo is a script that prints what it was given."""

    def made(architecture: str) -> BuildRecord:
        program = tmp_path / "llm_demo"
        program.write_text(
            f"#!/bin/sh\ncat $1 $2 > {tmp_path}/given\necho $3 >> {tmp_path}/given\n"
            f"cat <<'E'\n{SAID}E\n"
        )
        program.chmod(0o755)
        return BuildRecord(
            folder=tmp_path,
            variant="accelerated",
            target="native",
            version="3.6.1",
            options={},
            toolchain="",
            compiler="",
            architecture=architecture,
            seconds={},
            products=(Product(path="llm_demo", bytes=1, sha256=""),),
            kernels={},
            machine={},
        )

    return made


def test_llm_demo_gets_the_picture_at_the_size_the_model_looks_at_it(
    stand_in: Callable[[str], BuildRecord],
    mini_folder: Path,
    tmp_path: Path,
    emulated_lane: lanes.Lane,
) -> None:
    run = llm_demo.ask(
        stand_in("x86_64"), mini_folder, SCENE, "Describe the image.", lanes.native()
    )
    assert (run.answer, run.kleidiai) == ("A cat left of a pizza.", ("QI4_ASYM_BLKQT_F32",))
    given = (tmp_path / "given").read_text()
    assert "<img><hw>112,112</hw>" in given
    assert given.rstrip().endswith("picture.png</img>Describe the image.\n16")
    assert str(mini_folder) in given
    with pytest.raises(
        BuildError,
        match="expected a build for aarch64 in the emulated lane, this one is for x86_64",
    ):
        llm_demo.ask(stand_in("x86_64"), mini_folder, SCENE, "Describe the image.", emulated_lane)


def test_two_builds_are_timed_in_pairs(
    stand_in: Callable[[str], BuildRecord],
    mini_folder: Path,
    tmp_path: Path,
) -> None:
    record = stand_in(platform.machine())
    result = demos(
        replace(record, variant="baseline"), record, mini_folder, SCENE, "Describe the image."
    )
    assert [row.part for row in result.rows] == ["vision", "prefill", "decode"]
    assert all(
        row.ratio.verdict == "undecided" and len(row.order) == 9 for row in result.rows
    )  # one program against itself
    assert {row.baseline.side.label for row in result.rows} == {"llm_demo, baseline"}
    path = results.save(result, tmp_path / "result.json")
    assert results.read(path) == result
    with pytest.raises(ResultError, match="at least 9 pairs"):
        demos(record, record, mini_folder, SCENE, "Describe the image.", pairs=2)
    with pytest.raises(BuildError, match=r"use --lane emulated"):
        demos(
            replace(record, architecture="mips"), record, mini_folder, SCENE, "Describe the image."
        )
    files.write(tmp_path / RECORD, to_json(record))
    words = ["demo", str(tmp_path), str(tmp_path), "--model", str(mini_folder)]
    assert cli.main([*words, "--out", str(tmp_path / "cli.json")]) == 0
    assert results.read(tmp_path / "cli.json").rows[0].name == "llm_demo"
