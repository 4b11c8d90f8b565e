"""`labkit fetch`: the catalogue, and the question before a download."""

from __future__ import annotations

import io
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from loopback_hub import LoopbackHub

from labkit import cli
from labkit.base import paths
from labkit.model import checkpoints, hub, twin

Captured = pytest.CaptureFixture[str]
NAME = LoopbackHub.hub_id


@pytest.fixture(autouse=True)
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """The embedded checkpoint's files on a hub, also under the short name, and a new cache."""
    with LoopbackHub(paths.data_dir() / "mini-qwen2-vl") as served:
        monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        monkeypatch.setitem(checkpoints.ALIASES, "qwen2-vl-2b", NAME)
        yield served


def rows(capsys: Captured) -> dict[str, str]:
    assert cli.main(["fetch"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == "name what it is size where it is now licence".split()
    return {line.split()[0]: line for line in lines}


def test_without_a_terminal_nothing_is_downloaded_unasked(
    tiny: LoopbackHub, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert cli.main(["fetch", NAME]) == 1
    said = capsys.readouterr()
    assert f"{NAME}: a checkpoint, " in said.out
    assert "licence  apache-2.0" in said.out
    assert "Add --yes" in said.err
    assert tiny.asked == []


@pytest.mark.parametrize(("answer", "code"), [("", 1), ("no", 1), ("y", 0), ("YES", 0)])
def test_the_answer_counts(
    tiny: LoopbackHub, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: answer)
    assert cli.main(["fetch", NAME]) == code
    assert (hub.kept(NAME) is not None) == (code == 0)


def test_a_short_name_is_fetched_shown_and_taken_by_other_commands(
    tiny: LoopbackHub, capsys: Captured, tmp_path: Path
) -> None:
    assert "not here: labkit fetch qwen2-vl-2b" in rows(capsys)["qwen2-vl-2b"]
    assert cli.main(["ask", "x.png", "Where?", "--model", "qwen2-vl-2b"]) == 1
    assert "Bring it here: labkit fetch qwen2-vl-2b" in capsys.readouterr().err
    assert cli.main(["fetch", "qwen2-vl-2b", "--yes"]) == 0
    said = capsys.readouterr().out
    assert "whole, 3,003,776 parameters, F16. Convert it: labkit convert qwen2-vl-2b" in said
    tiny.__exit__()
    assert str(hub.place(NAME)) in rows(capsys)["qwen2-vl-2b"]
    plan = ["convert", "qwen2-vl-2b", "--out", str(tmp_path / "x"), "--dry-run"]
    assert cli.main(plan) == 0
    assert f"convert  {NAME}: Qwen2-VL, 3,003,776" in capsys.readouterr().out
    assert cli.main(["fetch", "qwen2-vl-2b"]) == 0, "it is here: only looked at again, unasked"


def test_what_was_fetched_besides_is_shown(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(checkpoints.ALIASES, "qwen2-vl-2b", "Qwen/Qwen2-VL-2B-Instruct")
    hub.take(hub.look(NAME))
    assert "6.1 MB" in rows(capsys)[NAME]
    assert "apache-2.0" in rows(capsys)[NAME]


def test_mini_is_here_and_a_wrong_name_is_none(capsys: Captured) -> None:
    assert cli.main(["fetch", "mini"]) == 0
    assert "Convert it: labkit convert mini --out DIR" in capsys.readouterr().out
    assert cli.main(["fetch", "qwen"]) == 1
    assert "expected 'mini', 'twin:2b', 'qwen2-vl-2b', a folder, or" in capsys.readouterr().err


def test_a_twin_is_written_with_a_line_of_progress(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written(name: str, *, on_step: Callable[..., None]) -> Path:
        for number in (1, 2):
            time.sleep(0.6)
            on_step(number, 3, f"part-{number}")
        return paths.data_dir() / "mini-qwen2-vl"

    monkeypatch.setattr(twin, "cached", written)
    assert cli.main(["fetch", "twin:2b"]) == 0
    said = capsys.readouterr()
    assert "part-2:  67%" in said.err
    assert "labkit convert twin:2b --out DIR" in said.out


def test_a_twin_says_that_its_words_are_noise(
    mini_folder: Path, tmp_path: Path, capsys: Captured
) -> None:
    folder = Path(shutil.copytree(mini_folder, tmp_path / "model"))
    content = json.loads((folder / "labkit.json").read_text())
    for name in ("twin:2b/28", "mini"):
        content["source"]["name"] = name
        (folder / "labkit.json").write_text(json.dumps(content))
        picture = str(paths.data_dir() / "scenes" / "cat_and_pizza.png")
        assert cli.main(["ask", picture, "Is there a cat?", "--model", str(folder)]) == 0
        noise = "a twin with random weights: its words are noise\n" in capsys.readouterr().err
        assert noise == (name != "mini")
