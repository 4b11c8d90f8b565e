"""pyproject.toml, environment.yml, constraints.txt and the CI file agree, and `import labkit` stays light."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPO = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())
GROUPS = {
    "base": PYPROJECT["project"]["dependencies"],
    **PYPROJECT["project"]["optional-dependencies"],
}
PINS = [line for lines in GROUPS.values() for line in lines]
CONSTRAINTS = [
    line
    for line in (REPO / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


def chosen(lines: list[str], python: str) -> dict[str, str]:
    """Package and version of the lines that apply to a Python on Linux."""
    values = {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "sys_platform": "linux",
        "os_name": "posix",
        "extra": "",
    }
    found: dict[str, str] = {}
    for requirement in map(Requirement, lines):
        if requirement.marker is None or requirement.marker.evaluate(values):
            name = canonicalize_name(requirement.name)
            assert name not in found, f"{name} is pinned twice for Python {python}"
            found[name] = str(requirement.specifier)
    return found


def test_conda_environment_is_the_same_set() -> None:
    environment = yaml.safe_load((REPO / "environment.yml").read_text())
    assert environment["channels"][0] == "conda-forge"
    *conda, pip = environment["dependencies"]
    assert conda == [f"python {PYPROJECT['project']['requires-python']}", "pip"]
    assert pip["pip"][0] == "-c constraints.txt"
    assert sorted(pip["pip"][1:]) == sorted(PINS)


@pytest.mark.parametrize("line", [*PINS, *CONSTRAINTS])
def test_every_pin_is_exact(line: str) -> None:
    assert re.fullmatch(r"==[0-9][^*,]*", str(Requirement(line).specifier)), line


@pytest.mark.parametrize("python", PYTHONS)
def test_every_pin_stands_in_the_constraints(python: str) -> None:
    pins, constraints = chosen(PINS, python), chosen(CONSTRAINTS, python)
    assert len(pins) >= 29
    assert {name: constraints.get(name) for name in pins} == pins


@pytest.mark.parametrize(
    "name", ["pyproject.toml", "environment.yml", "constraints.txt", "bootstrap.py", ".ci/run"]
)
def test_no_index_address_anywhere(name: str) -> None:
    text = (REPO / name).read_text()
    assert not re.search(
        r"https?://|file://|index-url|find-links|extra-index|trusted-host|--hash", text
    )


def test_torchvision_and_gpu_libraries_are_not_in_the_set() -> None:
    names = {canonicalize_name(Requirement(line).name) for line in [*PINS, *CONSTRAINTS]}
    assert not {name for name in names if re.match(r"torchvision|nvidia|cuda|triton", name)}


def test_reading_notebooks_needs_no_torch() -> None:
    assert not {"torch", "transformers", "onnx", "llmexport"} & set(chosen(GROUPS["base"], "3.11"))


def test_bootstrap_knows_the_groups_and_the_pythons() -> None:
    text = (REPO / "bootstrap.py").read_text()
    assert (
        f"GROUPS = {tuple(PYPROJECT['project']['optional-dependencies'])}".replace("'", '"') in text
    )
    assert PYPROJECT["project"]["requires-python"] == ">=3.10,<3.14"
    assert "OLDEST, NEWEST = (3, 10), (3, 13)" in text


def test_import_labkit_is_light() -> None:
    code = "import sys, labkit; print([m for m in ('torch', 'MNN', 'ipywidgets', 'transformers', 'matplotlib') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_ci_file_fits_the_public_schema() -> None:
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.github-workflows",
        ".github/workflows/ci.yml",
    ]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_ci_file_runs_what_people_run_on_three_machines() -> None:
    job = yaml.safe_load((REPO / ".github/workflows/ci.yml").read_text())["jobs"]["test"]
    assert [row["runner"] for row in job["strategy"]["matrix"]["include"]] == [
        "ubuntu-24.04",
        "ubuntu-24.04-arm",
        "macos-14",
    ]
    assert "python3 bootstrap.py test" in [step.get("run") for step in job["steps"]]
