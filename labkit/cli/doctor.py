"""Is this machine ready? Every check says what it found and, if something is amiss, what to type.

``labkit doctor`` prints the report, notebook 00 shows it as a table.
"""

import os
import platform
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import labkit
from labkit.base import hardware, paths
from labkit.base.data import frozen
from labkit.base.errors import LabkitError
from labkit.base.hardware import GIB, Machine
from labkit.base.show import Table
from labkit.building import plans
from labkit.building.host import Host, look
from labkit.cli.pins import installed_version, read_pins
from labkit.cli.shared import show
from labkit.engine import known, lanes
from labkit.model import checkpoints

Status = Literal["ok", "warning", "problem", "info"]
MARKS = {"ok": "✓", "info": "·", "warning": "!", "problem": "✗"}
"""A sign beside the word, so that a table is read at a glance without colours."""
BROWSER = "sudo apt-get install chromium" if platform.system() == "Linux" else "install Chrome"
AMISS: dict[str, tuple[Status, str]] = {
    "Python": ("problem", "expected 3.10 to 3.13: python3.11 bootstrap.py setup"),
    "MNN": ("problem", "python -c 'import MNN' shows why; then python3 bootstrap.py setup"),
    "Memory": ("warning", "close other programs: converting needs 2 GiB"),
    "Disk": ("warning", "free 1 GiB: `labkit clean` shows what labkit keeps"),
    "Build MNN": ("info", "to build one: labkit build accelerated --dry-run says what is missing"),
    "Embedded checkpoint": ("problem", "git checkout -- data/mini-qwen2-vl brings it back"),
    "Class": ("problem", "the teacher types: labkit prepare --shared $LABKIT_SHARED"),
    "Test browser": ("info", f"for the tests: {BROWSER}"),
}
"""How a check stands that is not ok, and what to do."""
PURPOSES = {
    "base": "reading and running the notebooks",
    "convert": "converting checkpoints",
    "test": "running the tests",
    "sweep": "sweeps over many machines",
    "book": "building the lessons as a site",
}
KLEIDIAI = {
    True: "KleidiAI's kernels can run here",
    False: "KleidiAI's kernels need an Arm CPU with dotprod and i8mm",
    None: "whether KleidiAI's kernels can run here could not be read",
}


@frozen
class Check:
    """One row: what was looked at, how it stands, what was found and what to do."""

    name: str
    status: Status
    found: str
    todo: str = ""


def judge(name: str, fine: object, found: str | None) -> Check:
    """A check that is ok, or else stands as `AMISS` says; None could not be read."""
    if found is None:
        return Check(name=name, status="info", found="could not be read")
    if fine:
        return Check(name=name, status="ok", found=found)
    status, todo = AMISS[name]
    return Check(name=name, status=status, found=found, todo=todo)


@frozen
class Report:
    """All checks of one machine."""

    machine: Machine
    checks: tuple[Check, ...]

    @property
    def ready(self) -> bool:
        """Whether nothing stands in the way."""
        return all(check.status != "problem" for check in self.checks)

    @property
    def verdict(self) -> str:
        """The report in one sentence."""
        statuses = [check.status for check in self.checks]
        problems, warnings = statuses.count("problem"), statuses.count("warning")
        if problems:
            return f"Not ready: {problems} problem(s). Each row marked problem says what to type."
        return f"Ready, with {warnings} warning(s)." if warnings else "Ready."

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``: plain data with a schema version."""
        return {"schema": 1, "ready": self.ready, **asdict(self)}

    def table(self) -> Table:
        """A row for each check, with what to do after an arrow."""
        rows = [
            (f"{MARKS[c.status]} {c.status}", c.name, " → ".join(filter(None, (c.found, c.todo))))
            for c in self.checks
        ]
        return Table(("State", "What", "Found, and what to do"), rows)

    def __repr__(self) -> str:
        return f"{self.table()}\n\n{self.verdict}"

    def _repr_html_(self) -> str:
        return self.table().to_html(caption=self.verdict)


def check_pins(
    group: str,
    pins: Mapping[str, str],
    version: Callable[[str], str | None] = installed_version,
    *,
    own_venv: bool = True,
) -> list[Check]:
    """Compare what is installed with the pins of one group.

    A package that is not there is only told, because its group may not be wanted; of "base" it is
    a problem.
    """
    title, purpose, base = f"Packages: {group}", f"for {PURPOSES[group]}", group == "base"
    installed = {name: version(name) for name in pins}
    missing = [name for name in pins if installed[name] is None]
    differ = [name for name in pins if installed[name] not in {None, pins[name]}]

    def mend(names: Sequence[str]) -> str:
        if own_venv:
            return f"python3 bootstrap.py setup{'' if base else f' --groups {group}'}"
        return f"python -m pip install {' '.join(f'{name}=={pins[name]}' for name in names)}"

    checks = []
    if differ:
        both = "; ".join(f"{name}: wanted {pins[name]}, found {installed[name]}" for name in differ)
        checks.append(Check(name=title, status="warning", found=both, todo=mend(differ)))
    if missing:
        names = f": {', '.join(missing)}" if len(missing) < len(pins) else ""
        status: Status = "problem" if base else "info"
        todo = f"{purpose}: {mend(missing)}"
        checks.append(Check(name=title, status=status, found=f"not installed{names}", todo=todo))
    return checks or [judge(title, True, f"all {len(pins)} as pinned, {purpose}")]


def check_python(version: tuple[int, int, int]) -> Check:
    """Whether the pins have releases for this Python."""
    return judge("Python", (3, 10) <= version[:2] <= (3, 13), ".".join(map(str, version)))


def check_mnn(printed: str) -> Check:
    r"""Whether MNN loads, by what a process printed that imported it: one for another CPU does not.

    >>> check_mnn("The device supports: i8sdot:0\nlabkit-mnn 3.6.1").found
    '3.6.1, loads'
    """
    version = re.search(r"^labkit-mnn (\S+)$", printed, re.MULTILINE)
    return judge("MNN", version, f"{version[1]}, loads" if version else "does not load")


def check_machine(machine: Machine) -> list[Check]:
    """CPU, cores, memory and disk."""
    known, cores = machine.instruction_sets, machine.logical_cores
    sets = None if known is None else ", ".join(known) or "none of those that matter here"
    usable = (
        f"{cores} usable, {machine.physical_cores or '?'} physical; a model takes "
        f"{hardware.default_threads()} threads"
        if cores
        else None
    )
    memory = f"of {(machine.memory_total_bytes or 0) / GIB:.1f} GiB available"
    return [
        judge("CPU", True, machine.cpu),
        judge("Instruction sets", True, sets),
        judge("Cores", True, usable),
        _space("Memory", machine.memory_available_bytes, 2, memory),
        _space("Disk", machine.disk_free_bytes, 1, "GiB free for converted models"),
    ]


def _space(name: str, free: int | None, needed: int, words: str) -> Check:
    gib = (free or 0) / GIB
    return judge(name, gib >= needed, None if free is None else f"{gib:.1f} {words}")


def check_lanes(machine: Machine, rows: Sequence[lanes.Status]) -> list[Check]:
    """Which lanes will work, and whether KleidiAI's kernels can run natively."""
    kleidiai = {"native": f"; {KLEIDIAI[machine.can_run_kleidiai]}"}
    return [
        Check(
            name=f"Lane: {row.name}",
            status="ok" if row.works else "info",
            found=row.found + kleidiai.get(row.name, ""),
            todo=row.todo,
        )
        for row in rows
    ]


def check_builds(host: Host) -> Check:
    """For which targets MNN can be built here; learners can follow without."""
    missing = {name: plans.plan("accelerated", name, host=host).missing for name in plans.TARGETS}
    able = [name for name in missing if not missing[name]]
    unable = ", ".join(name for name in missing if missing[name])
    found = f"{', '.join(able) or 'for no target'}{unable and f'; not {unable}'}"
    return judge("Build MNN", "native" in able, found)


def check_checkpoint() -> Check:
    """Whether the embedded checkpoint is whole."""
    try:
        mini = checkpoints.resolve(checkpoints.MINI)
    except LabkitError as error:
        return judge("Embedded checkpoint", False, str(error).partition("\n")[0])
    millions, size = mini.parameters / 1e6, mini.weights_bytes / 1e6
    return judge("Embedded checkpoint", True, f"{millions:.1f} million parameters, {size:.1f} MB")


def check_class() -> list[Check]:
    """What a class shares, where this is one."""
    if not (named := os.environ.get("LABKIT_SHARED")):
        return []
    from labkit.lessons.prepare import prepared

    try:
        done = prepared(Path(named))
    except LabkitError as error:
        return [judge("Class", False, str(error))]
    now = (labkit.__version__, metadata.version("mnn"), platform.machine())
    fits = (done.labkit, done.mnn, done.machine) == now
    made = f"{done.bytes / 1e6:,.0f} MB, made {done.made}"
    return [
        judge("Class", fits, made if fits else f"{made} for labkit {done.labkit}, MNN {done.mnn}")
    ]


def check_browser(browser: Path | None) -> Check:
    """Whether the browser tests can run; learners do not need it."""
    return judge("Test browser", browser, browser.name if browser else "no Chromium or Chrome")


def examine() -> Report:
    """Look at everything; takes a second or two, most of it for loading MNN in its own process.

    Returns
    -------
    Report
        A table in a notebook, text elsewhere.
    """
    machine, root = hardware.describe(), paths.repository()
    load = "import MNN; print('\\nlabkit-mnn', MNN.version(), flush=True)"
    own_venv = Path(sys.prefix).resolve() == (root / ".venv").resolve()
    checks = [check_python(sys.version_info[:3])]
    for group, pins in read_pins(root / "pyproject.toml").items():
        checks += check_pins(group, pins, own_venv=own_venv)
    checks += [
        check_mnn(hardware.printed_by([sys.executable, "-c", load])),
        *check_machine(machine),
        *check_lanes(machine, known.status()),
        check_builds(look(machine)),
        check_checkpoint(),
        *check_class(),
        check_browser(hardware.find_browser()),
    ]
    return Report(machine=machine, checks=tuple(checks))


def doctor(*, json: bool = False) -> int:
    """Print the report; 1 if something stands in the way, else 0.

    Parameters
    ----------
    json
        print the findings as JSON
    """
    report = examine()
    show(json, report.to_dict(), report)
    return int(not report.ready)
