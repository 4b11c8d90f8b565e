"""Carrying out a `BuildPlan`: progress, a full log, resuming, and a look into what came out.

Everything happens inside the plan's folder, and for cloned sources in labkit's cache.
``build.json`` is written last: a folder without it holds a build that was not finished, and the
same command goes on with it.
"""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from labkit.base import command, files, hardware
from labkit.base.command import OnStage
from labkit.base.errors import BuildError, CommandFailed
from labkit.base.records import from_json, to_json
from labkit.building import sources, zig_compiler
from labkit.building.commands import TOOLS
from labkit.building.plans import BuildPlan
from labkit.building.record import LOG, PLAN, RECORD, BuildRecord, inspect, product, read_record

SECONDS = "seconds.json"
DECIDE = ("source", "kleidiai_source", "options", "python", "target")
STEP = re.compile(r"\[(\d+)/(\d+)\]")
# The first complaint of CMake or a compiler, which the last lines seldom show.
COMPLAINT = re.compile(r"^.*(?:\berror:|CMake Error|fatal error).*(?:\n.*){0,5}", re.MULTILINE)
WITHOUT = re.compile(r"(KleidiAI [^\n]*?(?:failed|mismatch|not found)[^\n]*)")
UNUSED = "Manually-specified variables were not used by the project"
SPACE = 300_000_000  # bytes of free disk; a build folder takes 25 to 60 MB

Progress = Callable[[int, int], object]
"""Called with (files done, files in all) while compiling."""


def run_build(
    plan: BuildPlan,
    *,
    on_stage: OnStage = None,
    on_progress: Progress = lambda *_: None,
) -> BuildRecord:
    """Carry out a plan, or go on where it stopped; returns at once if it is finished.

    Parameters
    ----------
    on_stage
        Called after each stage.
    on_progress
        Called with (files done, files in all) while compiling.

    Raises
    ------
    BuildError
        If something is missing, no space is left, the folder holds something else, a command fails,
        or KleidiAI was asked for and is not in the result.
    """
    if plan.missing:
        lines = [f"  {what}. Type: {line}" for what, line in plan.missing]
        raise BuildError("\n".join(["this build needs more than this machine has:", *lines]))
    _prepare(plan)
    with files.alone(plan.folder, partial(_refuse, plan.folder)):
        with suppress(BuildError, OSError):
            record, folder = read_record(plan.folder), plan.folder
            now = [product(folder, folder / p.path) for p in record.products]
            if _same(plan) and now == list(record.products):
                return record
        return _run(plan, on_stage, on_progress)


def _prepare(plan: BuildPlan) -> None:
    """The folder, which must be ours or empty, and enough space."""
    folder, stages = plan.folder, dict(plan.commands)
    cloned = [source for name, source in sources.PINNED.items() if f"clone {name}" in stages]
    needed = SPACE + 1_000_000 * sum(source.megabytes for source in cloned)
    free = hardware.free_disk_bytes(folder)
    if free is not None and free < needed:
        raise BuildError(
            f"expected {needed / 1e6:.0f} MB of free disk at {folder}, found {free / 1e6:.0f} MB. "
            "Free some, or choose --out"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()) and not (folder / PLAN).is_file():
            raise BuildError(
                f"expected an empty folder, or one with a build, at {folder}, found other files. "
                "Choose --out"
            )
    except OSError as error:
        raise BuildError(
            f"expected to be able to write to {folder}, got: {error.strerror}. Choose --out"
        ) from error


def _same(plan: BuildPlan) -> bool:
    """Whether the folder's build is this plan's."""
    try:
        before = from_json(dict[str, Any], (plan.folder / PLAN).read_bytes())
    except (OSError, ValueError):
        return False
    now = plan.to_dict()
    return all(str(before.get(key)) == str(now[key]) for key in DECIDE)


def _refuse(folder: Path) -> None:
    raise BuildError(f"another build is running in {folder}. Wait for it, or choose --out")


def _run(
    plan: BuildPlan,
    on_stage: OnStage,
    on_progress: Progress,
) -> BuildRecord:
    folder = plan.folder
    if not _same(plan):  # another plan's leavings: nothing of them may decide this build
        shutil.rmtree(plan.build, ignore_errors=True)
        for name in (LOG, SECONDS):
            (folder / name).unlink(missing_ok=True)
    (folder / RECORD).unlink(missing_ok=True)
    files.write(folder / PLAN, to_json(plan.to_dict()))
    if plan.target == "aarch64-static":
        zig_compiler.write_tools(folder / TOOLS)
    if plan.python:
        (folder / "python").mkdir(exist_ok=True)

    stages = command.Stages(list(dict(plan.commands)), on_stage)
    for name, argv in plan.commands:
        with _seconds_kept(folder / SECONDS, name):
            if name.startswith("clone"):
                with files.new_folder(Path(argv[-1])) as clone:
                    _command(plan, name, (*argv[:-1], str(clone)), on_progress)
            else:
                printed = _command(plan, name, argv, on_progress)
                if name == "configure":
                    _check_configured(plan, printed)
        stages.end(name)
    return inspect(plan, from_json(dict[str, float], (folder / SECONDS).read_bytes()))


@contextmanager
def _seconds_kept(file: Path, stage: str) -> Iterator[None]:
    """Add the seconds of the block to those of earlier runs, even if it is interrupted."""
    total = from_json(dict[str, float], file.read_bytes()) if file.is_file() else {}
    begun = time.perf_counter() - total.get(stage, 0.0)
    try:
        yield
    finally:
        total[stage] = round(time.perf_counter() - begun, 1)
        files.write(file, to_json(total))


def _command(plan: BuildPlan, stage: str, argv: tuple[str, ...], on_progress: Progress) -> str:
    """Run a stage's command; what it printed."""
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        if step := STEP.match(line):
            on_progress(int(step[1]), int(step[2]))

    try:
        env = {"LC_ALL": "C", "CLICOLOR_FORCE": "0"}
        command.run(argv, log=plan.folder / LOG, on_line=on_line, env=env)
    except CommandFailed as error:
        complaint = COMPLAINT.search("\n".join(lines))
        todo = (
            "Check the network, or name a checkout you have with --source and --kleidiai-source"
            if stage.startswith("clone")
            else "Mend what it says and type the same command again: what was compiled is kept"
        )
        raise BuildError(
            f"the stage {stage!r} failed, {error.reason}:\n"
            f"{complaint[0] if complaint else error.output}\n{todo}. "
            f"The whole log: {error.log}"
        ) from error
    return "\n".join(lines)


def _check_configured(plan: BuildPlan, printed: str) -> None:
    """Raise `BuildError` if CMake went on where it had to stop."""
    version = sources.mnn_version(plan.source)
    if UNUSED in printed:
        names = re.findall(r"^    (\S+)", printed.partition(UNUSED)[2], re.MULTILINE)
        raise BuildError(
            f"MNN {version} at {plan.source} does not know the option{'s'[: len(names) != 1]} "
            f"{', '.join(names)}: it is the source of another version than the plan's. "
            f"Use release {sources.RELEASE}"
        )
    if plan.wants_kleidiai and (without := WITHOUT.search(printed)):
        raise BuildError(
            "KleidiAI was asked for, and CMake went on without it, where MNN only warns: "
            f"{without[1]}. Name a checkout of KleidiAI v{sources.KLEIDIAI} with --kleidiai-source"
        )
