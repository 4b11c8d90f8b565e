"""pyproject.toml, environment.yml, constraints.txt, the CI file and the code declare the same."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import labkit
from labkit.cli import doctor

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
    pinned: dict[str, str] = {}
    for requirement in map(Requirement, lines):
        if requirement.marker is None or requirement.marker.evaluate(values):
            name = canonicalize_name(requirement.name)
            assert name not in pinned, f"{name} is pinned twice for Python {python}"
            pinned[name] = str(requirement.specifier)
    return pinned


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
    every = {canonicalize_name(Requirement(line).name) for line in PINS}
    book = {canonicalize_name(Requirement(line).name) for line in GROUPS["book"]}
    assert every - set(pins) == (book if python == "3.10" else {"tomli"})
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


def test_bootstrap_and_doctor_know_the_groups_and_the_pythons() -> None:
    spec = importlib.util.spec_from_file_location("bootstrap", REPO / "bootstrap.py")
    assert spec
    assert spec.loader
    bootstrap = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bootstrap)
    assert tuple(PYPROJECT["project"]["optional-dependencies"]) == bootstrap.GROUPS
    assert set(bootstrap.NEEDED_GIB) == set(doctor.PURPOSES) == set(GROUPS)
    supported = SpecifierSet(PYPROJECT["project"]["requires-python"])
    for minor in range(6, 20):
        here = f"3.{minor}.1" in supported
        assert bootstrap.suits((3, minor)) is here
        assert (doctor.check_python((3, minor, 1)).status == "ok") is here
        assert (f"3.{minor}" in PYTHONS) is here


def test_the_version_stands_in_one_place() -> None:
    assert "version" not in PYPROJECT["project"]
    assert PYPROJECT["project"]["dynamic"] == ["version"]
    attr = PYPROJECT["tool"]["setuptools"]["dynamic"]["version"]["attr"]
    module, _, name = attr.rpartition(".")
    assert getattr(importlib.import_module(module), name) == labkit.__version__
    released = re.search(r"^## (\d\S*)$", (REPO / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released
    assert released[1] == labkit.__version__


def test_every_file_of_the_package_is_packed() -> None:
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]["*"]
    for path in (REPO / "labkit").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".py":
            rooms = (parent for parent in path.parents if (parent / "__init__.py").is_file())
            inside = path.relative_to(next(rooms)).as_posix()
            alike = [p for p in patterns if p.count("/") == inside.count("/")]
            assert any(fnmatch(inside, pattern) for pattern in alike), path


def test_import_labkit_loads_the_standard_library_only() -> None:
    code = "import sys; before = set(sys.modules); import labkit; print(*set(sys.modules) - before)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "labkit" in loaded
    assert loaded - {"labkit"} <= sys.stdlib_module_names


# ---- what the code imports, and what is declared

PROVIDED = {  # comes with another package that is declared
    "_tools": "MNN",
    "IPython": "ipykernel",
    "jupyter_server": "jupyterlab",
    "docutils": "myst-nb",
    "markupsafe": "jinja2",
    "httpx": "jupyterlab",
    "nbclient": "jupyterlab",
    "tornado": "jupyterlab",
    "utils": "llmexport",
}
NOT_IMPORTED = {  # programs, plugins, and what another package needs to do its work
    "base": {"cmake", "ipykernel", "ninja"},
    "convert": {"onnx", "onnxruntime"},  # the exporter's
    "book": {"sphinx-book-theme"},  # a program and its look
    "test": {
        "check-jsonschema",
        "import-linter",
        "mypy",
        "pytest-timeout",
        "ruff",
        "types-psutil",
        "types-tqdm",
    },
}
DISTRIBUTIONS = {
    module: {canonicalize_name(name) for name in names}
    for module, names in metadata.packages_distributions().items()
}


def imports(tree: ast.AST) -> Iterator[str]:
    """The first names of all modules that are imported when the code runs, at whatever depth."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").partition(".")[0]
        yield from imports(node)


def code(where: str) -> Iterator[str]:
    """Every source below a folder: modules, and notebooks' cells without magic."""
    for path in (REPO / where).rglob("*.py") if (REPO / where).is_dir() else [REPO / where]:
        yield path.read_text(encoding="utf-8")
    for path in (REPO / where).rglob("*.ipynb"):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                lines = "".join(cell["source"]).splitlines()
                yield "\n".join(line for line in lines if not line.startswith(("%", "!")))


def of_peers() -> set[str]:
    """What other engines are made of: their scripts run in a Python of their own."""
    text = (REPO / "labkit" / "bench" / "peers.json").read_text(encoding="utf-8")
    lines = [line for peer in json.loads(text).values() for line in peer["packages"]]
    assert all(re.fullmatch(r"[\w-]+==[\w.]+", line) for line in lines)
    return {canonicalize_name(Requirement(line).name) for line in lines}


def packages(where: str) -> set[str]:
    """The packages whose modules are imported below a folder."""
    own = {
        name
        for folder in ("data", "notebooks", "tests")
        for path in (REPO / folder).rglob("*.py")
        for name in (path.stem, path.parent.name)
    }
    modules = {name for text in code(where) for name in imports(ast.parse(text))}
    modules -= own | set(sys.stdlib_module_names) | {"labkit", "bootstrap"}
    return {
        canonicalize_name(PROVIDED.get(module) or next(iter(DISTRIBUTIONS.get(module, [module]))))
        for module in modules
    }


def declared(*groups: str) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for g in groups for line in GROUPS[g]}


@pytest.mark.parametrize(
    ("where", "groups"),
    [
        ("bootstrap.py", ()),
        ("labkit", ("base", "convert", "sweep")),
        ("notebooks", ("base", "convert", "book")),
        ("data", ("base", "convert")),
        ("tests", ("base", "convert", "sweep", "test")),
    ],
)
def test_what_is_imported_is_declared(where: str, groups: tuple[str, ...]) -> None:
    peers = of_peers() if where == "labkit" else set()
    assert packages(where) - declared(*groups) - peers == set()


def test_what_is_declared_is_imported_or_known_to_be_needed_otherwise() -> None:
    used = set().union(*map(packages, ("labkit", "notebooks", "data", "tests")))
    for group, others in NOT_IMPORTED.items():
        assert declared(group) - used == others, group


@pytest.mark.parametrize("name", ["ci", "book"])
def test_the_workflows_fit_the_public_schema(name: str) -> None:
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.github-workflows",
        f".github/workflows/{name}.yml",
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
