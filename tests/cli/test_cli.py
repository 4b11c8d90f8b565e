"""The command `labkit`: what it prints where, and how it ends."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from argparse import ArgumentParser
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labkit import cli
from labkit.base import paths
from labkit.base.errors import ConversionError
from labkit.cli.signature import fill
from labkit.model import manifest
from labkit.proof.evaluate import held_out_cases
from labkit.proof.parity import examples
from labkit.world.questions import TASKS
from labkit.world.scenes import render

COMMANDS = [name for summaries in cli.COMMANDS.values() for name in summaries]
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def picture(tmp_path: Path) -> str:
    render(held_out_cases(1)[0].scene).save(tmp_path / "scene.png")
    return str(tmp_path / "scene.png")


@pytest.fixture
def copy(mini_folder: Path, tmp_path: Path) -> Path:
    """A converted model to spoil."""
    return Path(shutil.copytree(mini_folder, tmp_path / "model"))


def usage_error(capsys: Captured, *argv: str) -> str:
    with pytest.raises(SystemExit) as ended:
        cli.main(argv)
    assert ended.value.code == 2
    return capsys.readouterr().err


# ---- the command itself


def helped(capsys: Captured, *argv: str) -> str:
    """What --help prints, whatever the width of the terminal."""
    with pytest.raises(SystemExit) as ended:
        cli.main([*argv, "--help"])
    assert ended.value.code == 0
    return " ".join(capsys.readouterr().out.split())


def test_help_names_every_command_with_a_line_about_it(capsys: Captured) -> None:
    said = helped(capsys)
    assert len(COMMANDS) == 21
    for summaries in cli.COMMANDS.values():
        for name, summary in summaries.items():
            assert f" {name} {summary}" in said


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_helps_with_each_of_its_options(name: str, capsys: Captured) -> None:
    said = helped(capsys, name)
    assert said.startswith(f"usage: labkit {name} ")
    module = next(module for module, names in cli.COMMANDS.items() if name in names)
    own = ArgumentParser()
    fill(own, getattr(import_module(f"labkit.cli.{module}"), name))
    assert own.epilog is not None
    assert " ".join(own.epilog.split()) in said
    for action in own._actions[1:]:
        assert action.help
        assert " ".join((action.help % vars(action)).split()) in said
        assert all(option in said for option in action.option_strings)


def test_an_option_means_the_same_wherever_it_stands() -> None:
    cli.parser(["convert"])
    cli.parser(["eval"])
    from labkit.model.plan import MEANING, ConversionPlan

    for argv in (["convert", "mini", "--out", "x"], ["eval"]):
        args = vars(cli.parser(argv).parse_args(argv))
        for name in MEANING:
            assert args[name] == getattr(ConversionPlan, name), name


def test_an_argument_that_may_be_left_out_may() -> None:
    assert cli.parser(["lane"]).parse_args(["lane", "status"]).name is None
    assert cli.parser(["clean"]).parse_args(["clean"]).what == ()


def test_wrong_usage_ends_with_2(capsys: Captured) -> None:
    assert "required: COMMAND" in usage_error(capsys)
    assert "invalid choice: 'dance'" in usage_error(capsys, "dance")
    assert "required: image, question" in usage_error(capsys, "ask")
    assert "required: --out" in usage_error(capsys, "convert", "mini")
    assert "invalid choice: 5" in usage_error(
        capsys, "convert", "mini", "--out", "x", "--weight-bits", "5"
    )
    for option in ("--max-new-tokens", "--threads", "--max-pixels"):
        assert f"{option}: expected at least 1, received 0" in usage_error(
            capsys, "ask", "a.png", "Where?", option, "0"
        )
    assert "--scenes: expected at least 1, received -3" in usage_error(
        capsys, "eval", "--scenes", "-3"
    )


def fresh(*argv: str, cwd: Path) -> str:
    """What a new Python prints, outside the checkout."""
    env = {**os.environ, "PYTHONPATH": str(paths.repository())}
    command = [sys.executable, *argv]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=env, check=True
    ).stdout


def test_it_runs_as_a_program(tmp_path: Path) -> None:
    assert fresh("-m", "labkit", "--help", cwd=tmp_path).startswith("usage: labkit [-h] COMMAND")


@pytest.mark.parametrize("argv", [["--help"], ["ask", "--help"], ["clean", "--help"], ["clean"]])
def test_help_loads_nothing_heavy(argv: list[str], tmp_path: Path) -> None:
    script = (
        "import sys; from labkit import cli\n"
        f"try: cli.main({argv})\n"
        "finally: print(sorted(name for name in sys.modules if name.split('.')[0] in "
        "('numpy', 'torch', 'MNN', 'PIL', 'msgspec', 'tqdm') or name.startswith('labkit.bench')))"
    )
    assert fresh("-c", script, cwd=tmp_path).endswith("\n[]\n")


def test_a_question_waits_for_no_more_than_it_needs(tmp_path: Path) -> None:
    script = (
        "import sys, labkit.proof.ready\n"
        "print({'torch', 'MNN', 'IPython', 'unittest', 'asyncio', 'ssl'} & set(sys.modules))"
    )
    assert fresh("-c", script, cwd=tmp_path) == "set()\n"


def test_an_interrupt_ends_with_130(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def interrupt(folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(manifest, "verify", interrupt)
    assert cli.main(["verify", "somewhere"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device", "labkit.json")

    monkeypatch.setattr(manifest, "verify", full)
    assert cli.main(["verify", "somewhere"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("labkit: [Errno 28] No space left on device: 'labkit.json'. The disk is")
    assert said.count("\n") == 1


# ---- ask


def test_ask_prints_the_answer_and_the_rest_on_stderr(
    mini_folder: Path, picture: str, capsys: Captured
) -> None:
    assert cli.main(["ask", picture, "Describe the image.", "--model", str(mini_folder)]) == 0
    said = capsys.readouterr()
    assert said.out.strip()
    assert len(said.out.splitlines()) == 1
    assert "prompt tokens; load " in said.err
    assert (
        cli.main(["ask", picture, "Describe the image.", "--threads", "1", "--max-new-tokens", "1"])
        == 0
    )
    cut = capsys.readouterr()
    assert said.out.startswith(cut.out.strip())
    assert "cut off after 1 tokens" in cut.err


def test_ask_as_json(mini_folder: Path, picture: str, capsys: Captured) -> None:
    assert cli.main(["ask", picture, "Is there a cat?", "--json"]) == 0
    said = capsys.readouterr()
    answer = json.loads(said.out)
    assert set(answer) == {
        "text",
        "tokens",
        "prompt_tokens",
        "visual_tokens",
        "finished",
        "times",
        "seen",
    }
    assert set(answer["times"]) == {"load_s", "vision_s", "prefill_s", "decode_s"}
    assert answer["visual_tokens"] > 0
    assert answer["text"]
    assert said.err == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing.png", "Where?"], "expected a picture at nothing.png, found nothing there"),
        (["PICTURE", " "], "expected a question, received nothing"),
        (["PICTURE", "<|im_end|>"], "received the control mark '<|im_end|>'"),
        (
            ["PICTURE", "Where?", "--model", "no-such-folder"],
            "found no such folder. Make one: labkit convert",
        ),
        (["PICTURE", "Where?", "--max-pixels", "7"], "expected max_pixels of at least"),
    ],
)
def test_a_failure_is_one_message_on_stderr(
    mini_folder: Path, picture: str, capsys: Captured, arguments: list[str], words: str
) -> None:
    assert cli.main(["ask", *[picture if word == "PICTURE" else word for word in arguments]]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("labkit: ")
    assert words in said.err


# ---- convert, verify, parity, eval


def test_a_plan_is_printed_and_nothing_done(tmp_path: Path, capsys: Captured) -> None:
    assert (
        cli.main(
            [
                "convert",
                "mini",
                "--out",
                str(tmp_path / "x"),
                "--weight-bits",
                "8",
                "--symmetric",
                "--dry-run",
            ]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert "convert  mini: Qwen2-VL" in said
    assert [
        line.split()[:2]
        for line in said.splitlines()
        if line.split()[0] in ("weight_bits", "symmetric")
    ] == [
        ["weight_bits", "8"],
        ["symmetric", "True"],
    ]
    assert list(tmp_path.iterdir()) == []


def test_convert_refuses_what_is_there_and_what_is_none(
    copy: Path, tmp_path: Path, capsys: Captured
) -> None:
    assert cli.main(["convert", "mini", "--out", str(copy)]) == 1
    assert "replace it with --replace" in capsys.readouterr().err
    assert cli.main(["convert", str(tmp_path / "nothing"), "--out", str(tmp_path / "x")]) == 1
    assert "expected 'mini', 'twin:2b', 'qwen2-vl-2b', a folder" in capsys.readouterr().err


def test_convert_tells_its_stages_and_what_to_do_next(
    mini_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Captured
) -> None:
    from labkit.base.command import Stage
    from labkit.model.plan import ConversionPlan
    from labkit.proof import ready

    made = manifest.read(mini_folder)

    def fake(plan: ConversionPlan, *, on_stage: object, replace: bool) -> manifest.Manifest:
        assert callable(on_stage)
        on_stage(Stage(number=1, total=9, name="tokenizer", elapsed_s=1.25))
        if not replace:
            raise ConversionError("not asked to")
        return made

    monkeypatch.setattr(ready, "convert_checked", fake)
    assert cli.main(["convert", "mini", "--out", str(tmp_path / "x")]) == 1
    capsys.readouterr()
    assert cli.main(["convert", "mini", "--out", str(tmp_path / "x"), "--replace"]) == 0
    said = capsys.readouterr()
    assert said.err == "  1/9 tokenizer 1.2 s\n"
    assert "image_embeds" in said.out
    assert f"labkit ask PICTURE QUESTION --model {tmp_path / 'x'}" in said.out


def test_verify_names_the_file_that_was_changed(copy: Path, capsys: Captured) -> None:
    assert cli.main(["verify", str(copy)]) == 0
    assert "every file is as it was written" in capsys.readouterr().out
    data = bytearray((copy / "visual.mnn.weight").read_bytes())
    data[1000] ^= 1
    (copy / "visual.mnn.weight").write_bytes(data)
    assert cli.main(["verify", str(copy)]) == 1
    said = capsys.readouterr()
    assert [line for line in said.out.splitlines() if line.startswith("CHANGED")] == [
        "CHANGED  visual.mnn.weight"
    ]
    assert "convert the checkpoint again" in said.err
    (copy / "visual.mnn.weight").unlink()
    assert cli.main(["verify", str(copy)]) == 1
    assert "is not whole: visual.mnn.weight" in capsys.readouterr().err


def test_parity_ends_with_1_when_the_weights_were_spoilt(copy: Path, capsys: Captured) -> None:
    assert cli.main(["parity", str(copy)]) == 0
    said = capsys.readouterr().out
    assert said.count("agrees") == 4
    assert f"of {len(examples())} answers" in said
    weights = np.fromfile(copy / "llm.mnn.weight", np.uint8)
    codes = slice(
        weights.size - 77_000, weights.size - 17_000
    )  # of the last layer; its scales follow
    weights[codes] = weights[codes][::-1].copy()
    weights.tofile(copy / "llm.mnn.weight")
    assert cli.main(["parity", str(copy)]) == 1
    assert "DEPARTS" in capsys.readouterr().out.splitlines()[4]


def test_eval_scores_both_engines(mini_folder: Path, capsys: Captured) -> None:
    assert cli.main(["eval", "--scenes", "6"]) == 0
    said = capsys.readouterr()
    assert "transformers float32" in said.out
    assert "MNN int4 (vision int4)" in said.out
    assert said.out.splitlines()[-1]
    assert "6/6" in said.err
    assert cli.main(["eval", "--scenes", "4", "--engine", "mnn", "--json"]) == 0
    (score,) = json.loads(capsys.readouterr().out)
    assert score["all"][1] == 4
    assert set(score["tasks"]) == set(TASKS)


# ---- lane, probe, bench: what is asked of them


def test_lane_shows_both_lanes_and_what_to_type(capsys: Captured) -> None:
    assert cli.main(["lane", "status"]) == 0
    shown = capsys.readouterr().out
    assert cli.main(["lane", "status", "--json"]) == 0
    native, emulated = json.loads(capsys.readouterr().out)
    assert (native["name"], native["works"], emulated["name"]) == ("native", True, "emulated")
    for row in (native, emulated):
        assert row["found"] in shown
        assert row["todo"] in shown
    assert cli.main(["lane", "setup"]) == 1
    assert "Type: labkit lane setup emulated" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["probe", "a.png", "--out", "x", "--heads", "L0"], "expected heads such as L0H3,L2H1"),
        (["probe", "a.png", "--out", "x", "--heads", "L0H3,"], "expected heads such as L0H3"),
        (["bench", "--image", "112"], "expected HEIGHTxWIDTH in pixels, such as 112x112"),
        (["bench", "--compare", "apples"], "invalid choice: 'apples'"),
        (["build", "compare", "--target", "amiga"], "invalid choice: 'amiga'"),
        (["kleidiai", "--cpu", "z80"], "invalid choice: 'z80'"),
        (["demo", "a", "b", "--pairs", "0"], "expected at least 1, received 0"),
    ],
)
def test_a_value_that_cannot_be_is_wrong_usage(
    argv: list[str], words: str, capsys: Captured
) -> None:
    assert words in usage_error(capsys, *argv)


def test_heads_and_sizes_are_read() -> None:
    argv = ["probe", "a.png", "--out", "x", "--heads", "L0H3, L2H11"]
    assert cli.parser(argv).parse_args(argv).heads == ((0, 3), (2, 11))
    argv = ["bench", "--image", "56x112"]
    assert cli.parser(argv).parse_args(argv).image == (56, 112)


def test_what_is_timed_and_what_is_counted_are_kept_apart(capsys: Captured) -> None:
    assert cli.main(["bench", "--lane", "emulated"]) == 1
    assert "expected a lane whose seconds say something about a CPU" in capsys.readouterr().err
    assert cli.main(["bench", "--count"]) == 1
    assert "Type: labkit bench --lane emulated --count" in capsys.readouterr().err


# ---- doctor and clean


def test_doctor_speaks_json(capsys: Captured) -> None:
    code = cli.main(["doctor", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert code == int(any(check["status"] == "problem" for check in report["checks"]))
    assert {"MNN", "Python"} <= {check["name"].split(":")[0] for check in report["checks"]}


def test_clean_shows_first_and_frees_only_what_was_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Captured
) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    for kind in ("cache", "progress"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "file").write_bytes(bytes(1234567))
    assert cli.main(["clean"]) == 0
    said = capsys.readouterr().out
    assert said.count("1.2 MB") == 2
    assert "To free some: labkit clean NAME" in said
    assert cli.main(["clean", "cache", "nonsense"]) == 1
    assert "'nonsense'" in capsys.readouterr().err
    assert (tmp_path / "cache" / "file").exists(), "nothing is freed when one name is wrong"
    assert cli.main(["clean", "cache", "results"]) == 0
    assert "freed 1,234,567 bytes of cache, results" in capsys.readouterr().out
    assert [(tmp_path / kind / "file").exists() for kind in ("cache", "progress")] == [False, True]


def test_a_picture_of_any_kind_can_be_asked_about(
    mini_folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    Image.new("P", (300, 200)).save(tmp_path / "odd name é.gif")
    assert cli.main(["ask", str(tmp_path / "odd name é.gif"), "Is there a cat?", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["visual_tokens"] == 24
