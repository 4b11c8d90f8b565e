"""labkit.cli.doctor: every finding has a word, and something to type when it is amiss."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from labkit import cli
from labkit.base import hardware
from labkit.cli import doctor, pins
from labkit.cli.doctor import Check, Report, check_pins
from labkit.cli.pins import installed_version, read_pins

PINS = {"numpy": "2.4.6", "MNN": "3.6.1"}


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_everything_as_pinned_is_ok() -> None:
    (check,) = check_pins("base", PINS, PINS.get)
    assert (check.status, check.todo) == ("ok", "")
    assert check.found == "all 2 as pinned, for reading and running the notebooks"


def test_a_pin_that_differs_names_package_wanted_found_and_command() -> None:
    (base,) = check_pins("base", PINS, {**PINS, "numpy": "2.3.0"}.get, own_venv=False)
    assert base.status == "warning"
    assert base.found == "numpy: wanted 2.4.6, found 2.3.0"
    assert base.todo == "python -m pip install numpy==2.4.6"


def test_in_the_kits_own_venv_bootstrap_mends() -> None:
    (base,) = check_pins("base", PINS, {**PINS, "numpy": "2.3.0"}.get)
    assert base.todo == "python3 bootstrap.py setup"


def test_a_group_that_is_not_there_is_told_but_base_is_a_problem() -> None:
    (base,) = check_pins("base", PINS, {"numpy": "2.4.6"}.get)
    assert (base.status, base.found) == ("problem", "not installed: MNN")
    assert base.todo.endswith("python3 bootstrap.py setup")
    (convert,) = check_pins("convert", {"torch": "2.13.0"}, {}.get)
    assert (convert.status, convert.found) == ("info", "not installed")
    assert convert.todo == "for converting checkpoints: python3 bootstrap.py setup --groups convert"


def test_what_is_missing_and_what_differs_are_two_findings() -> None:
    differs, missing = check_pins("base", PINS, {"numpy": "1.0"}.get)
    assert (differs.status, missing.status) == ("warning", "problem")


def test_a_local_build_of_a_pinned_release_counts_as_that_release(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pins.metadata, "version", lambda name: "2.13.0+cpu")
    assert installed_version("torch") == "2.13.0"


def test_a_package_that_is_not_installed_has_no_version() -> None:
    assert installed_version("surely-not-installed") is None


def test_pins_follow_the_python_they_are_for() -> None:
    pyproject = Path(doctor.__file__).parents[2] / "pyproject.toml"
    old, new = (read_pins(pyproject, {"python_version": python}) for python in ("3.10", "3.12"))
    assert (old["base"]["numpy"], new["base"]["numpy"]) == ("2.2.6", "2.4.6")
    assert old["base"]["MNN"] == new["base"]["MNN"] == "3.6.1"
    assert set(new) == set(doctor.PURPOSES)


@pytest.mark.parametrize(
    ("version", "status"),
    [((3, 9, 18), "problem"), ((3, 10, 0), "ok"), ((3, 13, 1), "ok"), ((3, 14, 0), "problem")],
)
def test_python(version: tuple[int, int, int], status: str) -> None:
    check = doctor.check_python(version)
    assert check.status == status
    assert bool(check.todo) is (status == "problem")


@pytest.mark.parametrize(
    "printed", ["", "The device supports: i8sdot:0", "Segmentation fault", "ImportError: libMNN.so"]
)
def test_an_mnn_that_does_not_load_is_a_problem(printed: str) -> None:
    check = doctor.check_mnn(printed)
    assert check.status == "problem"
    assert "bootstrap.py setup" in check.todo


def test_a_machine_that_cannot_be_read_is_said_to_be_unread() -> None:
    unread = replace(
        hardware.describe(),
        cpu=None,
        instruction_sets=None,
        logical_cores=None,
        memory_total_bytes=None,
        memory_available_bytes=None,
        disk_free_bytes=None,
    )
    checks = doctor.check_machine(unread)
    assert len(checks) == 5
    assert {(c.status, c.found) for c in checks} == {("info", "could not be read")}


def test_little_memory_and_disk_are_warnings_with_a_way_out() -> None:
    small = replace(
        hardware.describe(),
        memory_total_bytes=2**30,
        memory_available_bytes=2**29,
        disk_free_bytes=2**29,
    )
    checks = by_name(doctor.check_machine(small))
    assert checks["Memory"].status == checks["Disk"].status == "warning"
    assert checks["Memory"].found == "0.5 of 1.0 GiB available"
    assert "labkit clean" in checks["Disk"].todo


def test_a_broken_checkpoint_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor.checkpoints.paths, "data_dir", lambda: tmp_path)
    check = doctor.check_checkpoint()
    assert check.status == "problem"
    assert "git checkout" in check.todo


def report(*statuses: doctor.Status) -> Report:
    checks = tuple(
        Check(name=f"<{s}>", status=s, found="a & b", todo="do" if s == "problem" else "")
        for s in statuses
    )
    return Report(machine=hardware.describe(), checks=checks)


@pytest.mark.parametrize(
    ("statuses", "ready", "verdict"),
    [
        (("ok", "info"), True, "Ready."),
        (("ok", "warning"), True, "with 1 warning"),
        (("warning", "problem"), False, "1 problem"),
    ],
)
def test_the_verdict(statuses: tuple[doctor.Status, ...], ready: bool, verdict: str) -> None:
    made = report(*statuses)
    assert made.ready is ready
    assert verdict in made.verdict
    assert made.verdict in repr(made)


def test_the_table_escapes_and_says_states_in_words() -> None:
    html = report("ok", "problem")._repr_html_()
    assert "&lt;problem&gt;" in html
    assert "a &amp; b" in html
    assert "✗ problem" in html
    assert "a &amp; b → do" in html
    assert "color" not in html


def test_a_real_report(capsys: pytest.CaptureFixture[str]) -> None:
    exit_code = cli.main(["doctor", "--json"])
    data = json.loads(capsys.readouterr().out)
    checks = {check["name"]: check for check in data["checks"]}
    assert data["ready"] is (exit_code == 0)
    assert checks["Python"]["found"] == ".".join(map(str, sys.version_info[:3]))
    assert checks["MNN"]["found"].startswith("3.")
    assert {"Lane: native", "Lane: emulated", "Embedded checkpoint"} <= set(checks)
    assert all(
        check["todo"] for check in data["checks"] if check["status"] in {"warning", "problem"}
    )
