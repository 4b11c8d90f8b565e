#!/usr/bin/env python3
"""Set up and start the lab with nothing but Python.

    python3 bootstrap.py lab      open the lab in a browser
    python3 bootstrap.py test     run everything that CI runs; --faults: what breaks, at length
    python3 bootstrap.py book     build the lessons as a site, into build/book
    python3 bootstrap.py setup    only set up

All of them make ``.venv`` beside this file when it is missing, old or half-made.
This file must start on any Python from 3.6 on, to be able to say which one it needs:
no third-party import, no newer syntax.
"""

import argparse
import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

REPO = Path(__file__).resolve().parent
VENV = REPO / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "labkit-ready.json"  # written when the set-up is complete
UNFINISHED = VENV / "labkit-unfinished"  # lies there from the first moment until then
LOG = REPO / "build" / "setup.log"  # what venv and pip said

OLDEST, NEWEST = (3, 10), (3, 13)
PREFERRED = ("3.11", "3.12", "3.13", "3.10")  # the first is the one everything was run with
GROUPS = ("convert", "test", "sweep", "book")
DEFAULT = ("convert", "test", "sweep")
GIB = 1024**3
NEEDED_GIB = {"base": 0.9, "convert": 1.6, "test": 0.5, "sweep": 0.1, "book": 0.2}
GPU_TORCH_GIB = 7.0  # what torch takes where the package index gives its GPU build first (Linux)
FOREIGN = ("PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_PREFIX", "__PYVENV_LAUNCHER__")
LAB = (  # listens on this machine only, keeps its token, and asks no server for news or versions
    "--ServerApp.ip=127.0.0.1",
    "--ServerApp.port_retries=100",
    "--ServerApp.log_level=WARN",  # the address is logged as critical, so it stays
    "--LabApp.log_level=WARN",
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.extension_manager=readonly",
    "--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb",
)
# JupyterLab asks its makers' server for news through this plugin, too.
PAGE = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
NETWORK = (
    r"(?:New|Timeout|Proxy|Reset)\w*Error|CERTIFICATE_VERIFY_FAILED|Max retries"
    "|Connection refused|timed out|unreachable"
)
CAUSES = {  # what pip prints: what happened, and what to do
    "No space left on device": (
        "The disk filled up.",
        "free some space (for temporary files too, see $TMPDIR), then type the same again",
    ),
    NETWORK: (
        "The package index could not be reached.",
        "is the network up? HTTPS_PROXY (a proxy) set? `pip config list` right? Then try again",
    ),
    "No matching distribution found|ResolutionImpossible": (
        "The package index lacks a pinned release for this machine.",
        "is your index complete (`pip config list`)? Does this system use glibc (Alpine does not)?",
    ),
    "Permission denied": (
        "A file could not be written.",
        "make this whole folder yours, then type the same again",
    ),
    "": (
        "pip could not install the packages.",
        "delete the folder .venv and type the same again: that is safe",
    ),
}
Answer = Optional[Tuple[int, int, bool]]  # major, minor, can make a virtual environment


class Trouble(Exception):
    """Something the person at the keyboard can mend; the message says how."""

    def __init__(
        self, what: str, expected: str = "", found: str = "", todo: str = "type the same again"
    ) -> None:
        rows = [("Expected:", expected), ("Found:", found), ("Next:", todo)]
        super().__init__("\n".join([what] + [f"  {name:11}{text}" for name, text in rows if text]))


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def seconds(since: float) -> str:
    """The time since then for people: ``0.3 s``, ``2 min 5 s``."""
    value = time.monotonic() - since
    return f"{value:.1f} s" if value < 60 else f"{int(value) // 60} min {int(value) % 60} s"


def indented(text: str, lines: int) -> str:
    """The last lines of a text, set in."""
    return "\n".join(f"    {line[:160]}" for line in text.splitlines()[-lines:])


@contextlib.contextmanager
def stage(title: str) -> Iterator[None]:
    """Say what begins, and how long it took."""
    say(f"· {title} …")
    start = time.monotonic()
    yield
    say(f"  done in {seconds(start)}")


def environment() -> Dict[str, str]:
    """Environment of everything we start: the ``.venv``, and nothing of other Pythons."""
    env = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    env.update(
        VIRTUAL_ENV=str(VENV),
        PATH=str(PYTHON.parent) + os.pathsep + env.get("PATH", os.defpath),
        JUPYTER_PLATFORM_DIRS="1",
        PYTHONNOUSERSITE="1",
        PYTHONUNBUFFERED="1",
        PIP_USER="0",
        PIP_DISABLE_PIP_VERSION_CHECK="1",
        PIP_ROOT_USER_ACTION="ignore",
    )
    return env


def log_text() -> str:
    """What venv and pip said until now."""
    return LOG.read_text(encoding="utf-8", errors="replace")


def run_logged(command: Sequence[str]) -> int:
    """Run a command into the log, and show now and then what it is at. Returns its exit code."""
    start, live = time.monotonic(), sys.stdout.isatty()
    width = max(40, shutil.get_terminal_size().columns - 1)
    with LOG.open("a", encoding="utf-8") as log:
        print("\n$", *command, file=log, flush=True)
        process = subprocess.Popen(
            command,
            cwd=str(REPO),
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        while True:
            try:
                return process.wait(0.5 if live else 20)
            except subprocess.TimeoutExpired:
                latest = [s for s in log_text().splitlines() if s and "uninstall" not in s.lower()]
                line = f"  {seconds(start):>12}  {latest[-1].strip() if latest else ''}"[:width]
                print("\r" + line.ljust(width) if live else line, end="" if live else "\n")
                sys.stdout.flush()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    finally:
        print("\r" + " " * width + "\r" if live else "", end="", flush=True)


# ---- a Python that suits


def suits(version: Tuple[int, int]) -> bool:
    """Whether the pins have releases for this Python."""
    return OLDEST <= version <= NEWEST


def ask_python(python: str) -> Answer:
    """What this Python is; None if it does not even start."""
    code = (
        "import sys, importlib.util as u; "
        "print(*sys.version_info[:2], int(all(map(u.find_spec, ('venv', 'ensurepip')))))"
    )
    try:
        printed = subprocess.check_output(
            [python, "-I", "-c", code], stderr=subprocess.DEVNULL, timeout=30
        )
        major, minor, venv = map(int, printed.split())
        return major, minor, bool(venv)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def candidates() -> Iterator[str]:
    """Pythons worth asking, best first: the running one, then those on PATH, then pyenv's."""
    yield sys.executable
    for name in [f"python{v}" for v in PREFERRED] + ["python3"]:
        yield shutil.which(name) or ""
    versions = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser() / "versions"
    for wanted in PREFERRED:
        yield from sorted(str(p) for p in versions.glob(f"{wanted}.*/bin/python{wanted}"))


def find_python(system: bool = False, ask: Callable[[str], Answer] = ask_python) -> str:
    """A Python that suits and can make a virtual environment."""
    without_venv = ""
    for python in filter(None, candidates()):
        answer = ask(python)
        if answer and suits(answer[:2]):
            if answer[2]:
                return python
            without_venv = without_venv or "python{}.{}-venv".format(*answer[:2])
    if without_venv:
        install([without_venv], "the part of Python that makes virtual environments", system)
        return find_python(False, ask)
    debian = (
        "install Python 3.11 and its venv module "
        "(Debian and Ubuntu: sudo apt-get install python3.11-venv)"
    )
    todo = "brew install python@3.11" if sys.platform == "darwin" else debian
    version = "{}.{}".format(*sys.version_info[:2])
    raise Trouble(
        "No suitable Python was found.",
        expected="Python 3.10, 3.11, 3.12 or 3.13: the pinned packages have releases for these",
        found=f"Python {version} ({sys.executable}), and none of the four on PATH",
        todo=f"{todo}, then: python3.11 bootstrap.py {' '.join(sys.argv[1:])}",
    )


def install(packages: List[str], purpose: str, system: bool) -> None:
    """Install Debian packages if allowed, else raise with the exact line to type."""
    names, missing = " ".join(packages), f"Something is missing: {purpose}."
    line = f"sudo apt-get update && sudo apt-get install -y --no-install-recommends {names}"
    again = "then type the same again"
    if not shutil.which("apt-get"):
        raise Trouble(missing, todo=f"install {names} with your system's package manager, {again}")
    if not system:
        offer = f"\n{'':13}(or type the same again with --system, which does it for you)"
        raise Trouble(missing, todo=line + offer)
    if os.geteuid() and not shutil.which("sudo"):
        as_root = f"as root: {line.replace('sudo ', '')}"
        raise Trouble(missing, expected="to be root, or sudo, for --system", todo=as_root)
    apt = ["sudo", "-n", "apt-get"] if os.geteuid() else ["apt-get"]
    with stage(f"Installing Debian packages: {names}"):
        for arguments in ["update", "-q"], ["install", "-yq", "--no-install-recommends", *packages]:
            done = subprocess.run(
                apt + arguments,
                env=dict(os.environ, DEBIAN_FRONTEND="noninteractive"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode:  # of the installation: a failed update may have left usable lists
            end = indented(done.stdout.decode(errors="replace"), 8)
            failed = f"apt-get could not install {names} (exit code {done.returncode})."
            raise Trouble(f"{end}\n\n{failed}", todo=line)


# ---- .venv


def fingerprint(python: Tuple[int, int]) -> str:
    """Changes whenever the installed set might have to."""
    project = (REPO / "pyproject.toml").read_text(encoding="utf-8")
    pins = project.partition("\n[tool.ruff]")[0]  # what follows installs nothing
    constraints = (REPO / "constraints.txt").read_text(encoding="utf-8")
    known = repr((python, platform.machine(), pins, constraints))
    return hashlib.sha256(known.encode()).hexdigest()


def read_stamp() -> Dict[str, Any]:
    """What the last complete set-up noted; empty if there is none."""
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
        return stamp if isinstance(stamp, dict) else {}
    except (OSError, ValueError):
        return {}


def state(groups: Sequence[str]) -> Tuple[str, str]:
    """What ``.venv`` needs: "ready", "update" (install into it) or "make" (anew); and why."""
    if not VENV.exists():
        return "make", "there is none yet"
    answer, stamp = ask_python(str(PYTHON)), read_stamp()
    if answer is None:
        return "make", "its Python is gone or does not start"
    if UNFINISHED.exists():
        return "make", "an earlier set-up was interrupted"
    if not suits(answer[:2]):
        return "make", "its Python is {}.{}".format(*answer[:2])
    if stamp and stamp.get("repo") != str(REPO):
        return "make", "this folder was moved or copied"
    if not stamp:
        return "update", "it was not completed, or not made by this script"
    if stamp.get("fingerprint") != fingerprint(answer[:2]):
        return "update", "the pins have changed"
    if not set(groups) <= set(stamp.get("groups", ())):
        return "update", "more packages are needed"
    for name in stamp.get("installed", ()):
        if not (VENV / name).is_dir():
            return "update", f"{Path(name).stem} is no longer there"
    return "ready", ""


def check_folder(groups: Sequence[str], usage: Callable[[str], Any] = shutil.disk_usage) -> None:
    """Raise if this folder cannot be written to or cannot hold the set-up."""
    try:
        LOG.parent.mkdir(exist_ok=True)
        LOG.write_text("", encoding="utf-8")
    except OSError as error:
        raise Trouble(
            "This folder cannot be written to.",
            expected="a folder of your own: .venv goes beside bootstrap.py",
            found=f"{REPO} ({error.strerror})",
            todo="copy the whole folder into your home folder and start it there",
        ) from error
    needed = NEEDED_GIB["base"] + sum(NEEDED_GIB[group] for group in groups)
    free = usage(str(REPO)).free / GIB
    if free < needed:
        raise Trouble(
            "There is not enough disk space for the set-up.",
            expected=f"{needed:.1f} GiB free in {REPO}",
            found=f"{free:.1f} GiB",
            todo="free some space, or move this folder to a larger disk; then type the same again",
        )
    most = needed + GPU_TORCH_GIB
    if "convert" in groups and sys.platform == "linux" and free < most:
        say(
            f"  Note: {free:.1f} GiB are free. "
            f"If your package index gives torch's GPU build, it may take {most:.0f} GiB."
        )


def explain(log: str, python: str) -> Trouble:
    """Why pip failed, in words, from what it printed."""
    here = f"Python {python} on {platform.system()} {platform.machine()}; the full log is {LOG}"
    what, todo = next(words for pattern, words in CAUSES.items() if re.search(pattern, log))
    return Trouble(f"{indented(log, 20)}\n\n{what}", found=here, todo=todo)


def make(python: str) -> None:
    """An empty ``.venv``, in place of what stands there."""
    if VENV.is_symlink() or VENV.is_file():
        VENV.unlink()
    shutil.rmtree(str(VENV), ignore_errors=True)
    VENV.mkdir()
    UNFINISHED.touch()
    if run_logged([python, "-m", "venv", str(VENV)]):
        end = indented(log_text(), 15)
        raise Trouble(f"{end}\n\n{python} could not make .venv.", found=f"see {LOG}")


def set_up(groups: Sequence[str], system: bool = False) -> None:
    """Bring ``.venv`` to the pinned set, by as little work as possible."""
    start = time.monotonic()
    what, why = state(groups)
    if what == "ready":
        say(f"· .venv is ready ({seconds(start)})")
        return
    groups = sorted({*groups, *read_stamp().get("groups", ())} & set(GROUPS))
    check_folder(groups)
    say(f"· Setting up .venv ({why}). This takes some minutes, once. Full log: {LOG}")
    if what == "make":
        python = find_python(system)
        with stage(f"Making .venv with {python}"):
            make(python)
    elif STAMP.exists():  # ours: if this is interrupted, it is made anew
        UNFINISHED.touch()
        STAMP.unlink()
    version = "{}.{}".format(*(ask_python(str(PYTHON)) or "??")[:2])
    names = ", ".join(["base", *groups])
    with stage(f"Installing the pinned packages ({names}) for Python {version}"):
        command = [str(PYTHON), "-m", "pip", "install", "--progress-bar=off", "--retries=3"]
        command += ["--constraint=constraints.txt", "--editable", f".[{','.join(groups)}]"]
        if run_logged(command):
            if what == "update" and UNFINISHED.exists():
                UNFINISHED.unlink()  # pip leaves a working set as it was when it cannot download
            raise explain(log_text(), version)
    finish(groups)
    say(f"· Set up in {seconds(start)}")


def finish(groups: Sequence[str]) -> None:
    """Note that the set-up is complete, as its very last step."""
    answer = ask_python(str(PYTHON))
    if answer is None:
        todo = "delete the folder .venv and type the same again"
        raise Trouble(f"{PYTHON} does not start any more.", todo=todo)
    page = VENV / "etc" / "jupyter" / "labconfig" / "page_config.json"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(json.dumps(PAGE), encoding="utf-8")
    packages = VENV.glob("lib/python3.*/site-packages/*.dist-info")
    stamp = {
        "fingerprint": fingerprint(answer[:2]),
        "groups": sorted(groups),
        "repo": str(REPO),
        "installed": sorted(str(package.relative_to(VENV)) for package in packages),
    }
    partial = STAMP.with_suffix(".part")
    partial.write_text(json.dumps(stamp, indent=1), encoding="utf-8")
    partial.replace(STAMP)
    if UNFINISHED.exists():
        UNFINISHED.unlink()


# ---- commands


def ensure_browser(system: bool) -> None:
    """Make sure that the browser tests have a Chromium."""
    code = "from labkit.base.hardware import find_browser as f; raise SystemExit(0 if f() else 3)"
    if subprocess.call([str(PYTHON), "-c", code], cwd=str(REPO), env=environment()) == 3:
        purpose = "a Chromium or Chrome for the browser tests (LABKIT_BROWSER may name one)"
        install(["chromium"], purpose, system)


def ensure_emulation(system: bool) -> None:
    """Make sure that Linux has what tests of the emulated lane, of phones and of faults need."""
    if platform.system() != "Linux":
        return
    tools = {  # what provides them: programs of which one is enough
        "qemu-user": ["qemu-aarch64"],
        "gcc libc6-dev": ["cc", "gcc", "clang"],
        "g++-aarch64-linux-gnu": ["aarch64-linux-gnu-g++"],
        "llvm-19": ["llvm-mca-19", "llvm-mca"],
        "strace": ["strace"],
        "adb": ["adb"],
        "mksh": ["mksh"],
        "toybox": ["toybox"],
        "openssh-server": ["sshd", "/usr/sbin/sshd"],
    }
    if platform.machine() in {"aarch64", "arm64"}:
        del tools["g++-aarch64-linux-gnu"]
    missing = [names for names, programs in tools.items() if not any(map(shutil.which, programs))]
    if missing:
        purpose = (
            "QEMU, compilers, llvm-mca, strace, an SSH server, adb, a phone's tools, for the tests"
        )
        install(" ".join(missing).split(), purpose, system)


def lab_command(args: argparse.Namespace) -> List[str]:
    """What opens JupyterLab on the first notebook; root is refused by default."""
    return (
        [str(PYTHON), "-m", "jupyterlab", f"--ServerApp.root_dir={REPO}"]
        + [f"--ServerApp.port={args.port}", *LAB]
        + ["--no-browser"] * args.no_browser
        + ["--allow-root"] * (os.geteuid() == 0)
    )


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    system = argparse.ArgumentParser(add_help=False)
    system.add_argument(
        "--system",
        action="store_true",
        default=argparse.SUPPRESS,
        help="may install missing Debian packages (CI=true says the same)",
    )
    parser = argparse.ArgumentParser(
        prog="bootstrap.py", description="Set up and start the lab.", parents=[system]
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    lab = commands.add_parser("lab", help="open the lab in a browser", parents=[system])
    lab.add_argument("--no-browser", action="store_true", help="only print the address")
    port = "where to listen, or the next free one (default: 8888)"
    lab.add_argument("--port", type=int, default=8888, help=port)
    test = commands.add_parser("test", help="run everything that CI runs", parents=[system])
    quick = "under three minutes: no browser, no slow tests, no notebooks"
    test.add_argument("--quick", action="store_true", help=quick)
    faults = "only kills, full disks, damaged files and the like, in their long form: hours"
    test.add_argument("--faults", action="store_true", help=faults)
    site = "build the lessons as a site, into build/book"
    commands.add_parser("book", help=site, parents=[system])
    setup = commands.add_parser("setup", help="only set up", parents=[system])
    able = f"what to be able to do (default: {' '.join(DEFAULT)})"
    setup.add_argument("--groups", nargs="*", choices=GROUPS, default=list(DEFAULT), help=able)
    args = parser.parse_args(argv)
    return args if args.command else parser.error("say what to do: lab, test, book or setup")


def run(args: argparse.Namespace) -> int:
    """Run one command; all but `setup` go on in another program, in place of this process."""
    system = "system" in args or os.environ.get("CI", "").lower() in {"1", "true"}
    if os.name != "posix":
        raise Trouble(
            "This kit runs on Linux and macOS.",
            found=platform.system(),
            todo="open WSL and type the same there",
        )
    wanted = {
        "lab": read_stamp().get("groups", DEFAULT),  # as chosen before
        "book": ("convert", "book"),
    }
    set_up(wanted.get(args.command, getattr(args, "groups", DEFAULT)), system)
    if args.command == "setup":
        return 0
    if args.command == "lab":
        command = lab_command(args)
        say(
            "· Starting JupyterLab; Ctrl-C, twice, ends it. "
            "If no browser opens, open the address below that has a token in it."
        )
    elif args.command == "book":
        command = [str(PYTHON), str(REPO / "notebooks" / "book" / "build.py")]
    else:
        command = [str(PYTHON), str(REPO / "tests" / "run_all.py")] + ["--quick"] * args.quick
        command += ["--faults"] * args.faults
        ensure_emulation(system)
        if not (args.quick or args.faults):
            ensure_browser(system)
    os.chdir(str(REPO))
    return os.execve(command[0], command, environment())  # noqa: S606 - no shell wanted


def main(argv: Sequence[str]) -> int:
    """Run and report; returns the exit code."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal that knows only ASCII
    try:
        return run(parse(argv))
    except Trouble as trouble:
        say(f"\n{trouble}")
        return 1
    except KeyboardInterrupt:
        say("\nStopped. Nothing is lost: type the same again to go on.")
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
