"""Is this machine ready? Every check says what it found and, if something is amiss, what to type.

``labkit doctor`` prints the report, notebook 00 shows it as a table.
"""

from __future__ import annotations

import json as json_format
import platform
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from labkit.base import hardware, paths
from labkit.base.errors import LabkitError
from labkit.base.hardware import GIB, Machine
from labkit.building import plans
from labkit.engine import lanes
from labkit.model import checkpoints

Status = Literal["ok", "warning", "problem", "info"]
PURPOSES = {
    "base": "reading and running the notebooks",
    "convert": "converting checkpoints",
    "test": "running the tests",
}
UNREAD = "could not be read"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One row: what was looked at, how it stands, what was found and what to do."""

    name: str
    status: Status
    found: str
    todo: str = ""


@dataclass(frozen=True, kw_only=True)
class Pin:
    """A release that this project was run with, for this Python."""

    name: str
    version: str
    group: str


@dataclass(frozen=True, kw_only=True, repr=False)
class Report:
    """All checks of one machine."""

    machine: Machine
    checks: tuple[Check, ...]

    @property
    def ready(self) -> bool:
        """Whether nothing stands in the way."""
        return all(check.status != "problem" for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``: plain data with a schema version."""
        return {
            "schema": 1,
            "ready": self.ready,
            "machine": asdict(self.machine),
            "checks": [asdict(c) for c in self.checks],
        }

    def verdict(self) -> str:
        """The report in one sentence."""
        counts = {
            status: sum(c.status == status for c in self.checks)
            for status in ("problem", "warning")
        }
        if counts["problem"]:
            return f"Not ready: {counts['problem']} problem(s). Each row marked problem says what to type."
        if counts["warning"]:
            return f"Ready, with {counts['warning']} warning(s)."
        return "Ready."

    def to_text(self) -> str:
        """For a terminal: one line for each check, and what to do below it."""
        width = max(len(check.name) for check in self.checks)
        lines = []
        for check in self.checks:
            lines.append(f"{check.status:8} {check.name:{width}}  {check.found}")
            if check.todo:
                lines.append(f"{'':8} {'':{width}}  → {check.todo}")
        return "\n".join([*lines, "", self.verdict()])

    def __repr__(self) -> str:
        return self.to_text()

    def _repr_html_(self) -> str:
        cells = (
            f"<tr><td>{mark(c.status)} {c.status}</td><th scope='row' style='text-align:left'>{escape(c.name)}</th>"
            f"<td style='text-align:left'>{escape(c.found)}</td><td style='text-align:left'>{escape(c.todo)}</td></tr>"
            for c in self.checks
        )
        head = "<tr><th scope='col'>State</th><th scope='col'>What</th><th scope='col'>Found</th><th scope='col'>What to do</th></tr>"
        return f"<table><caption>{escape(self.verdict())}</caption><thead>{head}</thead><tbody>{''.join(cells)}</tbody></table>"


def mark(status: Status) -> str:
    """A sign beside the word, so that a table is read at a glance without colours."""
    return {"ok": "✓", "info": "·", "warning": "!", "problem": "✗"}[status]


# ---- pins


def read_pins(pyproject: Path, environment: Mapping[str, str] | None = None) -> tuple[Pin, ...]:
    """The pins of ``pyproject.toml`` that apply to one Python.

    Parameters
    ----------
    pyproject
        The file.
    environment
        Values for markers, such as ``{"python_version": "3.10"}``; by default this Python's.

    Returns
    -------
    tuple of Pin
        In the file's order; groups are "base", "convert" and "test".
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    from packaging.requirements import Requirement

    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    groups = {"base": project["dependencies"], **project["optional-dependencies"]}
    return tuple(
        Pin(name=requirement.name, version=next(iter(requirement.specifier)).version, group=group)
        for group, lines in groups.items()
        for requirement in map(Requirement, lines)
        if requirement.marker is None or requirement.marker.evaluate(dict(environment or {}))
    )


def installed_version(name: str) -> str | None:
    """The installed release without its local part (``2.13.0+cpu`` is ``2.13.0``); None if there is none."""
    try:
        return metadata.version(name).partition("+")[0]
    except metadata.PackageNotFoundError:
        return None


def check_pins(
    pins: Sequence[Pin],
    version: Callable[[str], str | None] = installed_version,
    *,
    own_venv: bool = True,
) -> list[Check]:
    """Compare what is installed with the pins, group by group.

    A package of a group that is not there is only told, because that group may not be wanted; of "base" it is a problem.
    """
    checks = []
    for group in dict.fromkeys(pin.group for pin in pins):
        ours = [pin for pin in pins if pin.group == group]
        missing = [pin for pin in ours if version(pin.name) is None]
        differ = [pin for pin in ours if version(pin.name) not in {None, pin.version}]
        name, wanted = f"Packages: {group}", len(ours)
        if differ:
            found = "; ".join(
                f"{pin.name}: wanted {pin.version}, found {version(pin.name)}" for pin in differ
            )
            checks.append(
                Check(name=name, status="warning", found=found, todo=_mend(differ, own_venv))
            )
        if missing:
            names = ", ".join(pin.name for pin in missing)
            status: Status = "problem" if group == "base" else "info"
            found = f"not installed: {names}" if len(missing) < wanted else "not installed"
            todo = (
                _mend(missing, own_venv)
                if group == "base"
                else f"for {PURPOSES.get(group, group)}: {_mend(missing, own_venv, group)}"
            )
            checks.append(Check(name=name, status=status, found=found, todo=todo))
        if not differ and not missing:
            checks.append(
                Check(
                    name=name,
                    status="ok",
                    found=f"all {wanted} as pinned, for {PURPOSES.get(group, group)}",
                )
            )
    return checks


def _mend(pins: Sequence[Pin], own_venv: bool, group: str = "") -> str:
    if own_venv:
        return "python3 bootstrap.py setup" + (f" --groups {group}" if group else "")
    return "python -m pip install " + " ".join(f"{pin.name}=={pin.version}" for pin in pins)


# ---- the rest


def check_python(version: tuple[int, int, int]) -> Check:
    """Whether the pins have releases for this Python."""
    text = ".".join(map(str, version))
    if (3, 10) <= version[:2] <= (3, 13):
        return Check(name="Python", status="ok", found=text)
    return Check(
        name="Python",
        status="problem",
        found=f"{text}, expected 3.10 to 3.13",
        todo="python3.11 bootstrap.py setup",
    )


def mnn_version(printed: str) -> str | None:
    r"""MNN's version from what a process printed that imported it, among other things; None if it did not get there.

    >>> mnn_version("The device supports: i8sdot:0\nlabkit-mnn 3.6.1")
    '3.6.1'
    """
    found = re.search(r"^labkit-mnn (\S+)$", printed, re.MULTILINE)
    return found.group(1) if found else None


def check_mnn(printed: str) -> Check:
    """Whether MNN loads; a wheel for another CPU is installed but does not."""
    version = mnn_version(printed)
    if version:
        return Check(name="MNN", status="ok", found=f"{version}, loads")
    return Check(
        name="MNN",
        status="problem",
        found="does not load",
        todo="python -c 'import MNN' shows why; then python3 bootstrap.py setup",
    )


def check_machine(machine: Machine) -> list[Check]:
    """CPU, cores, memory and disk."""
    sets = machine.instruction_sets
    cores = f"{machine.logical_cores or '?'} usable, {machine.physical_cores or '?'} physical"
    checks = [
        Check(name="CPU", status="ok" if machine.cpu else "info", found=machine.cpu or UNREAD),
        Check(
            name="Instruction sets",
            status="info" if sets is None else "ok",
            found=UNREAD if sets is None else ", ".join(sets) or "none of those that matter here",
        ),
        Check(
            name="Cores",
            status="ok" if machine.logical_cores else "info",
            found=cores if machine.logical_cores else UNREAD,
        ),
    ]
    if machine.memory_available_bytes is None or machine.memory_total_bytes is None:
        checks.append(Check(name="Memory", status="info", found=UNREAD))
    else:
        found = f"{machine.memory_available_bytes / GIB:.1f} of {machine.memory_total_bytes / GIB:.1f} GiB available"
        enough = machine.memory_available_bytes >= 2 * GIB
        todo = "" if enough else "close other programs: converting needs 2 GiB"
        checks.append(
            Check(name="Memory", status="ok" if enough else "warning", found=found, todo=todo)
        )
    if machine.disk_free_bytes is None:
        checks.append(Check(name="Disk", status="info", found=UNREAD))
    else:
        enough = machine.disk_free_bytes >= GIB
        todo = "" if enough else "free 1 GiB: `labkit clean` shows what labkit keeps"
        found = f"{machine.disk_free_bytes / GIB:.1f} GiB free for converted models"
        checks.append(
            Check(name="Disk", status="ok" if enough else "warning", found=found, todo=todo)
        )
    return checks


def check_lanes(machine: Machine, rows: Sequence[lanes.Status]) -> list[Check]:
    """Which lanes will work, and whether KleidiAI's kernels can run natively."""
    kleidiai = {
        True: "KleidiAI's kernels can run here",
        False: "KleidiAI's kernels need an Arm CPU with dotprod and i8mm",
        None: "whether KleidiAI's kernels can run here could not be read",
    }[machine.can_run_kleidiai]
    return [
        Check(
            name=f"Lane: {row.name}",
            status="ok" if row.works else "info",
            found=f"{row.found}; {kleidiai}" if row.name == "native" else row.found,
            todo=row.todo,
        )
        for row in rows
    ]


def check_browser(browser: Path | None) -> Check:
    """Whether the browser tests can run; learners do not need it."""
    if browser:
        return Check(name="Test browser", status="ok", found=browser.name)
    todo = (
        "for the tests: sudo apt-get install chromium"
        if platform.system() == "Linux"
        else "for the tests: install Chrome"
    )
    return Check(name="Test browser", status="info", found="no Chromium or Chrome", todo=todo)


def check_builds(host: plans.Host) -> Check:
    """For which targets MNN can be built here; learners can follow without."""
    ready = {
        target: not plans.plan("accelerated", target, host=host).missing for target in plans.TARGETS
    }
    able, unable = ([target for target in ready if ready[target] is well] for well in (True, False))
    todo = (
        ""
        if "native" in able
        else "to build one: labkit build accelerated --dry-run says what is missing"
    )
    found = ", ".join(able) or "for no target"
    return Check(
        name="Build MNN",
        status="ok" if able else "info",
        found=f"{found}; not {', '.join(unable)}" if unable else found,
        todo=todo,
    )


def check_checkpoint() -> Check:
    """Whether the embedded checkpoint is whole."""
    try:
        mini = checkpoints.resolve(checkpoints.MINI)
    except LabkitError as error:
        todo = "git checkout -- data/mini-qwen2-vl brings it back"
        return Check(
            name="Embedded checkpoint",
            status="problem",
            found=str(error).partition("\n")[0],
            todo=todo,
        )
    found = f"{mini.parameters / 1e6:.1f} million parameters, {mini.weights_bytes / 1e6:.1f} MB"
    return Check(name="Embedded checkpoint", status="ok", found=found)


def examine() -> Report:
    """Look at everything. Takes a second or two, most of it for loading MNN in a process of its own.

    Returns
    -------
    Report
        A table in a notebook, text elsewhere.
    """
    machine = hardware.describe()
    root = paths.repository()
    printed = hardware.printed_by(
        [sys.executable, "-c", "import MNN; print('\\nlabkit-mnn', MNN.version(), flush=True)"]
    )
    own_venv = Path(sys.prefix).resolve() == (root / ".venv").resolve()
    checks = [
        check_python(sys.version_info[:3]),
        *check_pins(read_pins(root / "pyproject.toml"), own_venv=own_venv),
        check_mnn(printed),
        *check_machine(machine),
        *check_lanes(machine, lanes.status()),
        check_builds(plans.look(machine)),
        check_checkpoint(),
        check_browser(hardware.find_browser()),
    ]
    return Report(machine=machine, checks=tuple(checks))


def run(json: bool = False) -> int:
    """Print the report; 1 if something stands in the way, else 0."""
    report = examine()
    print(json_format.dumps(report.to_dict(), indent=2) if json else report.to_text())
    return 0 if report.ready else 1
