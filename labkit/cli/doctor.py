"""Is this machine ready? Every check says what it found and, if something is amiss, what to type.

``labkit doctor`` prints the report, notebook 00 shows it as a table.
"""

import platform
import re
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from labkit.base import hardware, paths
from labkit.base.errors import LabkitError
from labkit.base.hardware import GIB, Machine
from labkit.base.show import Table
from labkit.building import plans
from labkit.building.host import Host, look
from labkit.cli.pins import installed_version, read_pins
from labkit.cli.shared import as_json, command, show
from labkit.engine import lanes
from labkit.model import checkpoints

Status = Literal["ok", "warning", "problem", "info"]
MARKS = {"ok": "✓", "info": "·", "warning": "!", "problem": "✗"}
"""A sign beside the word, so that a table is read at a glance without colours."""
PURPOSES = {
    "base": "reading and running the notebooks",
    "convert": "converting checkpoints",
    "test": "running the tests",
}
UNREAD = "could not be read"
KLEIDIAI = {
    True: "KleidiAI's kernels can run here",
    False: "KleidiAI's kernels need an Arm CPU with dotprod and i8mm",
    None: "whether KleidiAI's kernels can run here could not be read",
}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One row: what was looked at, how it stands, what was found and what to do."""

    name: str
    status: Status
    found: str
    todo: str = ""


def judge(
    name: str, fine: bool, found: str, todo: str = "", *, otherwise: Status = "info"
) -> Check:
    """A check that is ok, or else stands as ``otherwise`` says, with what to do."""
    if fine:
        return Check(name=name, status="ok", found=found)
    return Check(name=name, status=otherwise, found=found, todo=todo)


@dataclass(frozen=True, kw_only=True, repr=False)
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
            (
                f"{MARKS[c.status]} {c.status}",
                c.name,
                f"{c.found} → {c.todo}" if c.todo else c.found,
            )
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
    title, purpose = f"Packages: {group}", f"for {PURPOSES[group]}"
    options = "" if group == "base" else f" --groups {group}"

    def mend(names: Sequence[str]) -> str:
        exact = " ".join(f"{name}=={pins[name]}" for name in names)
        return (
            f"python3 bootstrap.py setup{options}" if own_venv else f"python -m pip install {exact}"
        )

    installed = {name: version(name) for name in pins}
    missing = [name for name in pins if installed[name] is None]
    differ = [name for name in pins if installed[name] not in {None, pins[name]}]
    checks = []
    if differ:
        both = "; ".join(f"{name}: wanted {pins[name]}, found {installed[name]}" for name in differ)
        checks.append(judge(title, False, both, mend(differ), otherwise="warning"))
    if missing:
        names = "not installed" + (f": {', '.join(missing)}" if len(missing) < len(pins) else "")
        status: Status = "info" if options else "problem"
        checks.append(judge(title, False, names, f"{purpose}: {mend(missing)}", otherwise=status))
    return checks or [judge(title, True, f"all {len(pins)} as pinned, {purpose}")]


def check_python(version: tuple[int, int, int]) -> Check:
    """Whether the pins have releases for this Python."""
    fine, found = (3, 10) <= version[:2] <= (3, 13), ".".join(map(str, version))
    if not fine:
        found += ", expected 3.10 to 3.13"
    return judge("Python", fine, found, "python3.11 bootstrap.py setup", otherwise="problem")


def check_mnn(printed: str) -> Check:
    r"""Whether MNN loads, by what a process printed that imported it: one for another CPU does not.

    >>> check_mnn("The device supports: i8sdot:0\nlabkit-mnn 3.6.1").found
    '3.6.1, loads'
    """
    version = re.search(r"^labkit-mnn (\S+)$", printed, re.MULTILINE)
    found = f"{version[1]}, loads" if version else "does not load"
    todo = "python -c 'import MNN' shows why; then python3 bootstrap.py setup"
    return judge("MNN", bool(version), found, todo, otherwise="problem")


def check_machine(machine: Machine) -> list[Check]:
    """CPU, cores, memory and disk."""
    sets, cores, total = machine.instruction_sets, machine.logical_cores, machine.memory_total_bytes
    known = {
        "CPU": machine.cpu,
        "Instruction sets": sets and ", ".join(sets),
        "Cores": cores and f"{cores} usable, {machine.physical_cores or '?'} physical",
    }
    if sets == ():
        known["Instruction sets"] = "none of those that matter here"
    memory = f"of {total / GIB:.1f} GiB available" if total else "GiB available"
    close = "close other programs: converting needs 2 GiB"
    clean = "free 1 GiB: `labkit clean` shows what labkit keeps"
    return [
        *(judge(name, bool(found), found or UNREAD) for name, found in known.items()),
        _check_space("Memory", machine.memory_available_bytes, 2 * GIB, memory, close),
        _check_space("Disk", machine.disk_free_bytes, GIB, "GiB free for converted models", clean),
    ]


def _check_space(name: str, free: int | None, needed: int, words: str, todo: str) -> Check:
    if free is None:
        return judge(name, False, UNREAD)
    return judge(name, free >= needed, f"{free / GIB:.1f} {words}", todo, otherwise="warning")


def check_lanes(machine: Machine, rows: Sequence[lanes.Status]) -> list[Check]:
    """Which lanes will work, and whether KleidiAI's kernels can run natively."""
    kleidiai = {"native": f"; {KLEIDIAI[machine.can_run_kleidiai]}"}
    return [
        judge(f"Lane: {row.name}", row.works, row.found + kleidiai.get(row.name, ""), row.todo)
        for row in rows
    ]


def check_builds(host: Host) -> Check:
    """For which targets MNN can be built here; learners can follow without."""
    able = [
        target
        for target in plans.TARGETS
        if not plans.plan("accelerated", target, host=host).missing
    ]
    unable = ", ".join(target for target in plans.TARGETS if target not in able)
    found = (", ".join(able) or "for no target") + (f"; not {unable}" if unable else "")
    todo = "to build one: labkit build accelerated --dry-run says what is missing"
    return judge("Build MNN", "native" in able, found, todo)


def check_checkpoint() -> Check:
    """Whether the embedded checkpoint is whole."""
    name, todo = "Embedded checkpoint", "git checkout -- data/mini-qwen2-vl brings it back"
    try:
        mini = checkpoints.resolve(checkpoints.MINI)
    except LabkitError as error:
        return judge(name, False, str(error).partition("\n")[0], todo, otherwise="problem")
    size = f"{mini.weights_bytes / 1e6:.1f} MB"
    return judge(name, True, f"{mini.parameters / 1e6:.1f} million parameters, {size}")


def check_browser(browser: Path | None) -> Check:
    """Whether the browser tests can run; learners do not need it."""
    linux = platform.system() == "Linux"
    todo = f"for the tests: {'sudo apt-get install chromium' if linux else 'install Chrome'}"
    found = browser.name if browser else "no Chromium or Chrome"
    return judge("Test browser", bool(browser), found, todo)


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
        *check_lanes(machine, lanes.status()),
        check_builds(look(machine)),
        check_checkpoint(),
        check_browser(hardware.find_browser()),
    ]
    return Report(machine=machine, checks=tuple(checks))


@command("doctor", as_json("the findings"))
def run(args: Namespace) -> int:
    """Print the report; 1 if something stands in the way, else 0."""
    report = examine()
    show(args, report.to_dict(), report)
    return int(not report.ready)
