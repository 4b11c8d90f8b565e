"""Setting the emulated lane up: arm64 packages and wheels, unpacked as an ordinary user.

What was interrupted goes on where it stopped; the lane gets its name when it has been tried.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path

from labkit.base import command, files, paths, records
from labkit.base.command import OnStage, Stages
from labkit.base.errors import CommandFailed, LaneNotReady
from labkit.engine import qemu
from labkit.engine.lanes import Lane, emulated

NEEDED_BYTES = 400_000_000
PACKAGES = ("python3-minimal", "libpython3-stdlib", "libstdc++6", "zlib1g", "libgomp1")
SOURCES = "LABKIT_APT_SOURCES"  # a file in the form of sources.list, in place of the system's
UBUNTU = (
    "Ubuntu keeps arm64 packages on other servers than amd64: name them in a file in the form of "
    f"sources.list and set {SOURCES} to it."
)
# The system's apt for another architecture, as an ordinary user, in a folder of its own.
APT = """
APT::Architecture "arm64";
APT::Architectures "arm64";
APT::Sandbox::User "";
Dir::State "{folder}";
Dir::State::Lists "{folder}/lists";
Dir::State::status "/dev/null";
Dir::Cache "{folder}";
Dir::Cache::archives "{folder}/debs";
Acquire::Languages "none";
Debug::NoLocking "1";
"""
APT_SOURCES = """
Dir::Etc::sourcelist "{sources}";
Dir::Etc::sourceparts "-";
"""
PIP = (
    "-m pip install --quiet --disable-pip-version-check --no-compile --only-binary=:all: "
    "--implementation=cp"
)
PLATFORMS = [f"manylinux_2_{minor}_aarch64" for minor in (17, 27, 28)]
TRIAL = """
import json, platform, MNN, numpy
versions = {"python": platform.python_version(), "mnn": MNN.version(), "numpy": numpy.__version__}
print("LANE", json.dumps(versions))
"""


def setup_emulated(on_stage: OnStage = None) -> Lane:
    """Set the emulated lane up, or mend it; returns at once if it stands.

    What was downloaded is kept between attempts. The lane gets its name only when a worker's
    imports have run in it.

    Parameters
    ----------
    on_stage
        Called after each stage.

    Raises
    ------
    LaneNotReady
        If it cannot work on this machine, QEMU is missing, or a stage fails; says which and why.
    """
    qemu.program()
    with _alone() as work:
        with suppress(LaneNotReady):
            return emulated()
        work.mkdir(exist_ok=True)
        free = shutil.disk_usage(work).free
        if free < NEEDED_BYTES:
            raise LaneNotReady(
                f"expected {NEEDED_BYTES / 1e6:.0f} MB free for the emulated lane, "
                f"found {free / 1e6:.0f} MB at {work}. Free some, or set LABKIT_HOME to a folder "
                f"on another disk; then type again: {qemu.SETUP}"
            )
        stages = Stages(list(STAGES), on_stage)
        for name, carry_out in STAGES.items():
            try:
                carry_out(work)
            except (CommandFailed, OSError) as error:
                raise LaneNotReady(
                    f"the emulated lane could not be set up; the stage {name!r} failed: {error}\n"
                    "What was downloaded is kept. If the network or the disk was the cause, mend "
                    f"that and type again: {qemu.SETUP}\n{UBUNTU}"
                ) from error
            stages.end(name)
    return emulated()


def remove_emulated() -> int:
    """Delete one's own emulated lane; returns the bytes that were freed."""
    freed = 0
    with _alone() as work:
        for folder in (work.with_suffix(""), work):
            freed += paths.size_bytes(folder)
            shutil.rmtree(folder, ignore_errors=True)
    return freed


@contextmanager
def _alone() -> Iterator[Path]:
    """The folder in which the lane is made; two set-ups at once wait for each other."""
    lanes = paths.cache_dir() / "lanes"
    with files.alone(lanes.parent):
        lanes.mkdir(exist_ok=True)
        yield lanes / "emulated.part"


def _run(work: Path, *argv: str, **env: str) -> tuple[str, ...]:
    """What a command prints; it goes to the set-up's log, too."""
    return command.run(argv, log=work / "setup.log", timeout_s=900, env=env).lines


def _apt(work: Path, *words: str) -> None:
    """The system's apt, with all that it keeps in ``work``."""
    for folder in ("lists/partial", "debs/partial"):
        (work / folder).mkdir(parents=True, exist_ok=True)
    options = APT.format(folder=work)
    if sources := os.environ.get(SOURCES):
        options += APT_SOURCES.format(sources=Path(sources).expanduser().absolute())
    (work / "apt.conf").write_text(options, encoding="utf-8")
    argv = ("apt-get", f"--config-file={work / 'apt.conf'}", "--quiet", *words)
    _run(work, *argv, LC_ALL="C", DEBIAN_FRONTEND="noninteractive")


def _unpack(work: Path) -> None:
    shutil.rmtree(work / "root", ignore_errors=True)
    for deb in sorted((work / "debs").glob("*.deb")):
        _run(work, "dpkg-deb", "-x", str(deb), str(work / "root"))


def _version(work: Path) -> str:
    """The version of the lane's Python, such as "3.11"."""
    interpreter = (work / "root" / qemu.PYTHON).resolve()
    if interpreter.exists():
        return interpreter.name.removeprefix("python")
    raise LaneNotReady(
        "expected an arm64 Python among the distribution's packages, found none: its package lists "
        f"have no arm64. {UBUNTU} Then type again: {qemu.SETUP}"
    )


def _wheels(work: Path) -> None:
    shutil.rmtree(work / "site", ignore_errors=True)
    wheels(work / "site", _version(work), PLATFORMS, work / "setup.log")


def wheels(target: Path, python: str, platforms: Sequence[str], log: Path) -> None:
    """Unpack the wheels of MNN, in the version that is here, and NumPy for another Python.

    Parameters
    ----------
    target
        The folder for them.
    python
        That Python's version; where it is this one's, NumPy is, too.
    platforms
        Whose wheels run there, such as ``"manylinux_2_17_aarch64"``.
    log
        The file for what pip prints.

    Raises
    ------
    CommandFailed
        If there are none.
    """
    major, minor = python.split(".")[:2]
    same = sys.version.startswith(f"{major}.{minor}.")
    options = (
        *PIP.split(),
        f"--python-version={major}.{minor}",
        f"--abi=cp{major}{minor}",
        *(f"--platform={platform}" for platform in platforms),
        f"--target={target}",
        f"MNN=={metadata.version('MNN')}",
        f"numpy=={metadata.version('numpy')}" if same else "numpy",
    )
    with files.temporary("pip") as folder:  # pip, ended by a signal, leaves what it unpacks
        env = {"TMPDIR": str(folder)}
        command.run((sys.executable, *options), log=log, timeout_s=900, env=env)


def _finish(work: Path) -> None:
    """Import in the lane what a worker imports, write down what stands there, and name it."""
    argv, env = qemu.python(work, "max")
    printed = _run(work, *argv, "-c", TRIAL, **env)
    versions = next(json.loads(line[5:]) for line in printed if line.startswith("LANE "))
    files = (next((work / "site").glob("_mnncengine*.so")), work / "root" / qemu.PYTHON)
    system = qemu.System(
        **versions,
        qemu=qemu.version(argv[0]),
        files={str(file.relative_to(work)): file.stat().st_size for file in files},
    )
    (work / "lane.json").write_text(records.to_json(system), encoding="utf-8")
    shutil.rmtree(work.with_suffix(""), ignore_errors=True)
    done = work.rename(work.with_suffix(""))
    for leftover in ("debs", "lists"):
        shutil.rmtree(done / leftover, ignore_errors=True)


STAGES: dict[str, Callable[[Path], None]] = {
    "arm64 packages: lists": lambda work: _apt(work, "update"),
    "arm64 packages: download": lambda work: _apt(
        work, "install", "-y", "--no-install-recommends", "--download-only", *PACKAGES
    ),
    "arm64 packages: unpack": _unpack,
    "arm64 wheels of MNN and NumPy": _wheels,
    "try it": _finish,
}
