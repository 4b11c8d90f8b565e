"""bootstrap.py: its decisions, and cheap real failures in copies of the checkout."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

REPO = Path(__file__).resolve().parents[2]
TOOLS = "strace adb mksh toybox openssh-server"
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "labkit"
version = "0"
[project.optional-dependencies]
convert = []
test = []
book = []
"""
# A build backend without any dependency, so that a real set-up takes seconds and no network.
BACKEND = """
import base64, hashlib, zipfile
def build_editable(folder, config_settings=None, metadata_directory=None):
    files = {
        "labkit_copy.py": "",
        "labkit-0.dist-info/METADATA": "Metadata-Version: 2.1\\nName: labkit\\nVersion: 0\\n"
        "Provides-Extra: convert\\nProvides-Extra: test\\nProvides-Extra: book\\n",
        "labkit-0.dist-info/WHEEL": "Wheel-Version: 1.0\\nGenerator: test\\n"
        "Root-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    def digest(text):
        code = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
        return code.rstrip(b"=").decode()
    record = "".join(f"{n},sha256={digest(t)},{len(t)}\\n" for n, t in files.items())
    files["labkit-0.dist-info/RECORD"] = record + "labkit-0.dist-info/RECORD,,\\n"
    with zipfile.ZipFile(f"{folder}/labkit-0-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    return "labkit-0-py3-none-any.whl"
build_wheel = build_editable
"""


class Disk(NamedTuple):
    """What shutil.disk_usage returns."""

    total: int
    used: int
    free: int


def load(folder: Path) -> ModuleType:
    """The bootstrap.py of one folder, as a module."""
    spec = importlib.util.spec_from_file_location(
        f"bootstrap_{abs(hash(folder))}", folder / "bootstrap.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def checkout(folder: Path) -> Path:
    """A small copy: the real bootstrap.py and a project that needs nothing."""
    folder.mkdir(parents=True)
    shutil.copy(REPO / "bootstrap.py", folder)
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "backend.py").write_text(BACKEND)
    (folder / "constraints.txt").write_text("")
    return folder


def call(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a folder's bootstrap.py for real."""
    clean = {k: v for k, v in os.environ.items() if k not in {"CI", "VIRTUAL_ENV"}}
    command, full = [sys.executable, "bootstrap.py", *arguments], {**clean, **env}
    return subprocess.run(
        command,
        cwd=folder,
        env=full,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def mended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A copy whose set-up was killed midway, set up for real; and what that printed."""
    folder = checkout(tmp_path_factory.mktemp("made") / "a path with spaces, and ü")
    boot = load(folder)
    boot.PYTHON.parent.mkdir(parents=True)
    boot.PYTHON.symlink_to(sys.executable)
    boot.UNFINISHED.write_text("")
    done = call(folder, "setup")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


@pytest.fixture
def fresh(tmp_path: Path) -> ModuleType:
    """The module of a copy without a .venv."""
    return load(checkout(tmp_path / "copy"))


def fake_venv(boot: ModuleType, groups: list[str]) -> None:
    """A .venv that looks complete, around the Python that runs this."""
    boot.PYTHON.parent.mkdir(parents=True)
    boot.PYTHON.symlink_to(sys.executable)
    stamp = {
        "fingerprint": boot.fingerprint(sys.version_info[:2]),
        "groups": groups,
        "repo": str(boot.REPO),
        "installed": [],
    }
    boot.STAMP.write_text(json.dumps(stamp))


# ---- which Python


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ((3, 9), False),
        ((3, 10), True),
        ((3, 11), True),
        ((3, 13), True),
        ((3, 14), False),
        ((4, 0), False),
        ((2, 7), False),
    ],
)
def test_only_pythons_that_the_pins_support_suit(
    fresh: ModuleType, version: tuple[int, int], expected: bool
) -> None:
    assert fresh.suits(version) is expected


@pytest.mark.parametrize("version", [(3, 7), (3, 9), (3, 14)])
def test_without_a_suitable_python_the_message_says_which_are(
    fresh: ModuleType, version: tuple[int, int]
) -> None:
    with pytest.raises(fresh.Trouble) as trouble:
        fresh.find_python(ask=lambda python: (*version, True))
    assert "3.10, 3.11, 3.12 or 3.13" in str(trouble.value)
    assert sys.executable in str(trouble.value)
    assert "Next:" in str(trouble.value)


def test_another_python_on_path_is_taken_when_the_running_one_does_not_suit(
    fresh: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        fresh, "candidates", lambda: iter(["/old/python", "", "/broken/python", "/good/python3.12"])
    )
    answers = {
        "/old/python": (3, 9, True),
        "/broken/python": None,
        "/good/python3.12": (3, 12, True),
    }
    assert fresh.find_python(ask=answers.__getitem__) == "/good/python3.12"


def test_a_python_without_ensurepip_names_the_debian_package(
    fresh: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fresh.shutil, "which", lambda name: f"/usr/bin/{name}")
    with pytest.raises(
        fresh.Trouble, match=r"apt-get install -y --no-install-recommends python3\.11-venv"
    ):
        fresh.find_python(ask=lambda python: (3, 11, False))


def test_a_program_that_is_not_python_is_no_candidate(fresh: ModuleType, tmp_path: Path) -> None:
    assert fresh.ask_python("/bin/false") is None
    assert fresh.ask_python(str(tmp_path / "missing")) is None
    assert fresh.ask_python(sys.executable) == (*sys.version_info[:2], True)


def test_the_file_has_no_syntax_that_python_3_6_does_not_know() -> None:
    import ast

    ast.parse((REPO / "bootstrap.py").read_text(), feature_version=(3, 6))


# ---- what .venv needs


def test_states_of_a_venv(fresh: ModuleType) -> None:
    assert fresh.state(["convert"])[0] == "make"
    fake_venv(fresh, ["convert"])
    assert fresh.state(["convert"]) == ("ready", "")
    assert fresh.state([])[0] == "ready"
    assert fresh.state(["convert", "test"]) == ("update", "more packages are needed")
    (fresh.REPO / "constraints.txt").write_text("numpy==1.0\n")
    assert fresh.state(["convert"]) == ("update", "the pins have changed")
    fresh.STAMP.write_text("{ half")
    assert fresh.state(["convert"])[0] == "update"
    fresh.UNFINISHED.write_text("")
    assert fresh.state(["convert"]) == ("make", "an earlier set-up was interrupted")


def test_a_venv_whose_python_is_gone_is_made_anew(fresh: ModuleType) -> None:
    fake_venv(fresh, [])
    fresh.PYTHON.unlink()
    fresh.PYTHON.symlink_to("/nowhere/python")
    assert fresh.state([]) == ("make", "its Python is gone or does not start")


def test_a_moved_folder_is_set_up_anew(tmp_path: Path) -> None:
    boot = load(checkout(tmp_path / "before"))
    fake_venv(boot, [])
    (tmp_path / "before").rename(tmp_path / "after")
    assert load(tmp_path / "after").state([]) == ("make", "this folder was moved or copied")


def test_a_package_that_went_away_is_noticed(fresh: ModuleType) -> None:
    fake_venv(fresh, [])
    stamp = json.loads(fresh.STAMP.read_text())
    fresh.STAMP.write_text(
        json.dumps({**stamp, "installed": ["lib/python3.11/site-packages/numpy-2.4.6.dist-info"]})
    )
    assert fresh.state([]) == ("update", "numpy-2.4.6 is no longer there")


# ---- the folder


def test_too_little_space_is_said_in_numbers(fresh: ModuleType) -> None:
    with pytest.raises(fresh.Trouble) as trouble:
        fresh.check_folder(fresh.GROUPS, usage=lambda path: Disk(10**12, 10**12, 2**29))
    assert f"{sum(fresh.NEEDED_GIB.values()):.1f} GiB" in str(trouble.value)
    assert "0.5 GiB" in str(trouble.value)


def test_enough_space_is_no_trouble_and_fewer_groups_need_less(fresh: ModuleType) -> None:
    room = fresh.NEEDED_GIB["base"] * 2**30 + 1
    fresh.check_folder([], usage=lambda path: Disk(10**12, 0, room))
    with pytest.raises(fresh.Trouble):
        fresh.check_folder(["convert"], usage=lambda path: Disk(10**12, 0, room))


def test_a_folder_that_cannot_be_written_to(fresh: ModuleType) -> None:
    (fresh.REPO / "build").write_text(
        "a file where the log's folder should be, which stops root too"
    )
    with pytest.raises(fresh.Trouble, match=r"cannot be written to.*\n.*\n.*Found:.*copy"):
        fresh.check_folder([])


# ---- pip's failures in words


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (
            "ERROR: Could not install packages: [Errno 28] No space left on device",
            "The disk filled up",
        ),
        (
            "WARNING: Retrying after connection broken by 'NewConnectionError(...)': /numpy/",
            "could not be reached",
        ),
        (
            "pip._vendor.urllib3.exceptions.ReadTimeoutError: Read timed out.",
            "could not be reached",
        ),
        ("ERROR: No matching distribution found for torch==2.13.0", "lacks a pinned release"),
        ("ERROR: ResolutionImpossible: for help visit", "lacks a pinned release"),
        ("PermissionError: [Errno 13] Permission denied: '/x'", "could not be written"),
        ("ERROR: something never seen", "pip could not install the packages"),
    ],
)
def test_pip_failures_are_told_apart(fresh: ModuleType, log: str, expected: str) -> None:
    message = str(fresh.explain(f"Collecting numpy\n{log}\n", "3.11"))
    assert expected in message
    assert log in message
    assert "setup.log" in message
    assert "Next:" in message


# ---- Debian packages


APT = "apt-get install -y --no-install-recommends chromium"


@pytest.mark.parametrize(
    ("there", "system", "expected"),
    [
        ({"apt-get", "sudo"}, False, f"sudo apt-get update && sudo {APT}"),
        ({"apt-get", "sudo"}, False, "the same again with --system, which does it for you"),
        ({"apt-get"}, True, f"as root: apt-get update && {APT}"),
        (set(), True, "install chromium with your system's package manager"),
    ],
)
def test_a_missing_tool_gets_the_line_to_type(
    fresh: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    there: set[str],
    system: bool,
    expected: str,
) -> None:
    monkeypatch.setattr(fresh.shutil, "which", lambda name: name if name in there else None)
    monkeypatch.setattr(fresh.os, "geteuid", lambda: 1000)
    with pytest.raises(fresh.Trouble) as trouble:
        fresh.install(["chromium"], "a browser", system)
    assert expected in str(trouble.value)


@pytest.mark.parametrize(
    ("there", "machine", "wanted"),
    [
        (set(), "x86_64", f"qemu-user gcc libc6-dev g++-aarch64-linux-gnu llvm-19 {TOOLS}"),
        (set(), "aarch64", f"qemu-user gcc libc6-dev llvm-19 {TOOLS}"),
        ({"qemu-aarch64", "clang", "aarch64-linux-gnu-g++"}, "x86_64", f"llvm-19 {TOOLS}"),
        (
            {"qemu-aarch64", "cc", "aarch64-linux-gnu-g++", "llvm-mca", "sshd", *TOOLS.split()},
            "x86_64",
            "",
        ),
    ],
)
def test_only_what_is_missing_for_the_emulated_lane_is_installed(
    fresh: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    there: set[str],
    machine: str,
    wanted: str,
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(fresh.platform, "system", lambda: "Linux")
    monkeypatch.setattr(fresh.platform, "machine", lambda: machine)
    monkeypatch.setattr(fresh.shutil, "which", lambda name: name if name in there else None)
    monkeypatch.setattr(fresh, "install", lambda packages, purpose, system: asked.extend(packages))
    fresh.ensure_emulation(False)
    assert asked == wanted.split()


def test_with_system_apt_is_called_and_its_failure_shown(
    fresh: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    apt = tmp_path / "bin" / "apt-get"
    apt.parent.mkdir()
    apt.write_text(
        '#!/bin/sh\necho "apt-get $*"\n'
        '[ "$1" = update ] || { echo "E: Unable to locate package"; exit 100; }\n'
    )
    apt.chmod(apt.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(apt.parent), prepend=os.pathsep)
    monkeypatch.setattr(fresh.os, "geteuid", lambda: 0)
    with pytest.raises(fresh.Trouble) as trouble:
        fresh.install(["chromium"], "a browser", True)
    assert "install -yq --no-install-recommends chromium" in str(trouble.value)
    assert "E: Unable to locate package" in str(trouble.value)


# ---- real runs


def test_a_long_command_shows_what_it_is_at(
    fresh: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh.check_folder([])
    monkeypatch.setattr(fresh.sys.stdout, "isatty", lambda: True)
    script = (
        "import time; print('Collecting numpy', flush=True); time.sleep(1.3); raise SystemExit(7)"
    )
    assert fresh.run_logged([sys.executable, "-c", script]) == 7
    assert "Collecting numpy" in capsys.readouterr().out
    assert fresh.log_text().splitlines()[-1] == "Collecting numpy"


def test_a_set_up_killed_midway_is_mended_in_a_path_with_spaces(mended: tuple[Path, str]) -> None:
    folder, printed = mended
    boot = load(folder)
    assert "an earlier set-up was interrupted" in printed
    assert boot.state(["convert", "test"]) == ("ready", "")
    assert not boot.UNFINISHED.exists()
    assert list(
        json.loads((boot.VENV / "etc/jupyter/labconfig/page_config.json").read_text())[
            "disabledExtensions"
        ].values()
    ) == [True]


def test_the_second_start_takes_under_two_seconds(mended: tuple[Path, str]) -> None:
    start = time.monotonic()
    done = call(mended[0], "setup")
    assert done.returncode == 0
    assert ".venv is ready" in done.stdout
    assert time.monotonic() - start < 2


def test_a_failing_pip_shows_its_last_words_and_keeps_what_works(
    mended: tuple[Path, str], tmp_path: Path
) -> None:
    folder, _ = mended
    boot = load(folder)
    (folder / "backend.py").write_text(
        BACKEND.replace("Version: 0\\n", "Version: 0\\nRequires-Dist: numpy\\n", 1)
    )
    (folder / "constraints.txt").write_text("numpy==1.0\n")
    offline = {
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_FIND_LINKS": str(tmp_path),
    }
    done = call(folder, "setup", **offline)
    assert done.returncode == 1
    assert "The package index could not be reached" in done.stdout
    assert str(boot.LOG) in done.stdout
    assert boot.state([])[0] == "update", "the .venv was thrown away because the network was down"


def test_without_a_command_it_says_which_there_are() -> None:
    done = call(REPO)
    assert done.returncode == 2
    assert "lab, test, book or setup" in done.stderr


# ---- the lab


def lab_command(boot: ModuleType, *options: str) -> list[str]:
    command: list[str] = boot.lab_command(boot.parse(["lab", *options]))
    return command


def test_the_lab_listens_here_only_keeps_its_token_and_calls_nobody(
    fresh: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fresh.os, "geteuid", lambda: 1000)
    command = lab_command(fresh, "--port", "9999")
    assert command[:3] == [str(fresh.PYTHON), "-m", "jupyterlab"]
    assert {
        "--ServerApp.ip=127.0.0.1",
        "--ServerApp.port=9999",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    } <= set(command)
    assert not [part for part in command if "token" in part or "password" in part]
    assert not {"--no-browser", "--allow-root"} & set(command)


def test_root_is_allowed_only_for_root_and_the_first_notebook_opens(
    fresh: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fresh.os, "geteuid", lambda: 0)
    command = lab_command(fresh, "--no-browser")
    assert {"--allow-root", "--no-browser"} <= set(command)
    (start,) = [part.partition("=/lab/tree/")[2] for part in command if "default_url" in part]
    assert (REPO / start).is_file()


def test_jupyterlab_knows_every_option(fresh: ModuleType) -> None:
    from jupyter_server.serverapp import ServerApp
    from jupyterlab.labapp import LabApp

    owners = {"LabApp": LabApp, "ServerApp": ServerApp}
    options = [part[2:].partition("=")[0] for part in fresh.LAB]
    assert len(options) > 5
    for option in options:
        owner, _, trait = option.partition(".")
        assert owners[owner].class_traits(config=True)[trait]
