"""What README, CONTRIBUTING and the model card say of the checkout holds."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from labkit import cli

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPO = Path(__file__).resolve().parents[2]
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "data/mini-qwen2-vl/README.md",
    "notebooks/workshop/instructor_guide.md",
    "notebooks/workshop/handout.md",
)
FILE = r"[\w.-]+(?:/[\w.-]+)*\.(?:py|cfg|json|toml|yml|txt|md|ipynb|png|npz)"
MADE = {"labkit.json", "probe.json", "probe.npz", "result.json", "roof.png", "lesson_NN.py"}


def words(document: str) -> list[str]:
    """What stands in code: between backticks, or indented."""
    text = (REPO / document).read_text(encoding="utf-8")
    blocks = re.findall(r"^```\n(.*?)^```|^    (.*)$", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in "".join(block).splitlines()]
    return lines + re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_that_is_named_is_there(document: str) -> None:
    named = {name for code in words(document) for name in re.findall(FILE, code)}
    named = {name for name in named if not re.search(r"NN|ROOM|MODULE", name)} - MADE
    assert named
    files = [str(path.relative_to(REPO)) for path in REPO.rglob("*.*") if ".git" not in path.parts]
    gone = {name for name in named if not any(f"/{file}".endswith(f"/{name}") for file in files)}
    assert gone == set()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_that_is_named_is_one(document: str) -> None:
    named = {name for code in words(document) for name in re.findall(r"labkit ([a-z]+)\b", code)}
    assert named <= {name for summaries in cli.COMMANDS.values() for name in summaries}


def test_the_rooms_stand_in_the_order_that_is_checked() -> None:
    text = (REPO / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.partition("| room |")[2].partition("\n\n")[0]
    rows = [re.findall(r"`(\w+)`", row.split("|")[1]) for row in table.splitlines()[2:]]
    contracts = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = contracts["tool"]["importlinter"]["contracts"]
    assert rows == [layer.split(" | ") for layer in reversed(contract["layers"])]
