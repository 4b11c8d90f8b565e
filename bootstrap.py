#!/usr/bin/env python3
"""Set up and start the lab with nothing but Python.

    python3 bootstrap.py lab      open the lab in a browser
    python3 bootstrap.py test     run everything that CI runs
    python3 bootstrap.py setup    only set up

All of them make ``.venv`` beside this file when it is missing, old or half-made.
This file must start on any Python from 3.6 on, to be able to say which one it needs:
no third-party import, no newer syntax. What comes after the set-up is in labkit/cli/lab.py and tests/run_all.py.
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
import threading
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
GROUPS = ("convert", "test")
GIB = 1024**3
NEEDED_GIB = {"base": 0.9, "convert": 1.6, "test": 0.5}
GPU_TORCH_GIB = 7.0  # what torch takes where the package index gives its GPU build first (Linux)
PIPES: Dict[str, Any] = {
    "stdin": subprocess.DEVNULL,
    "stdout": subprocess.PIPE,
    "stderr": subprocess.STDOUT,
}
Answer = Optional[Tuple[int, int, bool]]  # major, minor, can make a virtual environment


class Trouble(Exception):
    """Something the person at the keyboard can mend; the message says how."""

    def __init__(
        self, what: str, *, expected: str = "", found: str = "", todo: str = "type the same again"
    ) -> None:
        rows = [("Expected:", expected), ("Found:", found), ("Next:", todo)]
        super().__init__("\n".join([what] + [f"  {name:11}{text}" for name, text in rows if text]))


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def seconds(value: float) -> str:
    """A time for people: ``0.3 s``, ``2 min 5 s``."""
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
    say(f"  done in {seconds(time.monotonic() - start)}")


def environment() -> Dict[str, str]:
    """Environment of everything we start: the ``.venv``, and nothing of other Pythons."""
    env = {
        k: v
        for k, v in os.environ.items()
        if k not in {"PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_PREFIX", "__PYVENV_LAUNCHER__"}
    }
    env.update(
        VIRTUAL_ENV=str(VENV),
        PATH=str(PYTHON.parent) + os.pathsep + env.get("PATH", os.defpath),
        JUPYTER_PLATFORM_DIRS="1",
    )
    env.update(
        PYTHONNOUSERSITE="1",
        PYTHONUNBUFFERED="1",
        PIP_USER="0",
        PIP_DISABLE_PIP_VERSION_CHECK="1",
        PIP_ROOT_USER_ACTION="ignore",
    )
    return env


def run_logged(command: Sequence[str], interval_s: float = 20.0) -> int:
    """Run a command into the log, and show now and then what it is at. Returns its exit code."""
    start, latest = time.monotonic(), [""]
    with LOG.open("a", encoding="utf-8") as log:
        log.write("\n$ " + " ".join(command) + "\n")
        process = subprocess.Popen(
            command, cwd=str(REPO), env=environment(), encoding="utf-8", errors="replace", **PIPES
        )

        def read() -> None:
            for line in process.stdout or ():
                log.write(line)
                log.flush()
                latest[0] = (
                    line.strip() if line.strip() and "uninstall" not in line.lower() else latest[0]
                )

        reader = threading.Thread(target=read)
        reader.start()
        live, width = sys.stdout.isatty(), max(40, shutil.get_terminal_size().columns - 1)
        try:
            while reader.is_alive():
                reader.join(0.5 if live else interval_s)
                if reader.is_alive():
                    line = f"  {seconds(time.monotonic() - start):>12}  {latest[0]}"[:width]
                    print(
                        "\r" + line.ljust(width) if live else line,
                        end="" if live else "\n",
                        flush=True,
                    )
        except BaseException:
            process.terminate()
            process.wait()
            raise
        finally:
            print("\r" + " " * width + "\r" if live else "", end="", flush=True)
            reader.join()
        return process.wait()


# ---- a Python that suits


def suits(version: Tuple[int, int]) -> bool:
    """Whether the pins have releases for this Python."""
    return OLDEST <= version <= NEWEST


def ask_python(python: str) -> Answer:
    """What this Python is; None if it does not even start."""
    code = "import sys, importlib.util as u; print(*sys.version_info[:2], int(all(map(u.find_spec, ('venv', 'ensurepip')))))"
    try:
        done = subprocess.run(
            [python, "-I", "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=30,
            check=True,
        )
        major, minor, venv = done.stdout.split()
        return int(major), int(minor), venv == b"1"
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
        if answer and suits(answer[:2]) and answer[2]:
            return python
        if answer and suits(answer[:2]):
            without_venv = without_venv or "python{}.{}-venv".format(*answer[:2])
    if without_venv:
        install([without_venv], "the part of Python that makes virtual environments", system)
        return find_python(False, ask)
    debian = "install Python 3.11 and its venv module (Debian and Ubuntu: sudo apt-get install python3.11-venv)"
    todo = "brew install python@3.11" if sys.platform == "darwin" else debian
    raise Trouble(
        "No suitable Python was found.",
        expected="Python 3.10, 3.11, 3.12 or 3.13: the pinned packages have releases for these",
        found="Python {}.{} ({}), and none of the four on PATH".format(
            *sys.version_info[:2], sys.executable
        ),
        todo=f"{todo}, then: python3.11 bootstrap.py {' '.join(sys.argv[1:])}",
    )


def install(packages: List[str], purpose: str, system: bool) -> None:
    """Install Debian packages if allowed, else raise with the exact line to type."""
    names, missing = " ".join(packages), f"Something is missing: {purpose}."
    line = f"sudo apt-get update && sudo apt-get install -y --no-install-recommends {names}"
    if not shutil.which("apt-get"):
        raise Trouble(
            missing,
            todo=f"install {names} with your system's package manager, then type the same again",
        )
    if not system:
        raise Trouble(
            missing,
            todo=f"{line}\n{'':13}(or type the same again with --system, which does it for you)",
        )
    if os.geteuid() and not shutil.which("sudo"):
        raise Trouble(
            missing,
            expected="to be root, or sudo, for --system",
            todo=f"as root: {line.replace('sudo ', '')}",
        )
    apt = ["apt-get"] if os.geteuid() == 0 else ["sudo", "-n", "apt-get"]
    env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    with stage(f"Installing Debian packages: {names}"):
        for arguments in (
            ["update", "-q"],
            ["install", "-y", "-q", "--no-install-recommends", *packages],
        ):
            done = subprocess.run([*apt, *arguments], env=env, check=False, **PIPES)
        if done.returncode:  # of the installation: a failed update may have left usable lists
            end = indented(done.stdout.decode(errors="replace"), 8)
            raise Trouble(
                f"{end}\n\napt-get could not install {names} (exit code {done.returncode}).",
                todo=line,
            )


# ---- .venv


def fingerprint(python: Tuple[int, int]) -> str:
    """Changes whenever the installed set might have to."""
    project = (
        (REPO / "pyproject.toml").read_text(encoding="utf-8").partition("\n[tool.ruff]")[0]
    )  # what follows installs nothing
    constraints = (REPO / "constraints.txt").read_text(encoding="utf-8")
    return hashlib.sha256(
        repr((python, platform.machine(), project, constraints)).encode()
    ).hexdigest()


def read_stamp() -> Dict[str, Any]:
    """What the last complete set-up noted; empty if there is none."""
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
        return stamp if isinstance(stamp, dict) else {}
    except (OSError, ValueError):
        return {}


def state(groups: Sequence[str]) -> Tuple[str, str]:
    """What ``.venv`` needs: "ready", "update" (install into it) or "make" (anew); and why."""
    answer = ask_python(str(PYTHON)) if PYTHON.exists() else None
    stamp = read_stamp()
    if not VENV.exists():
        return "make", "there is none yet"
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
    gone = [name for name in stamp.get("installed", ()) if not (VENV / name).is_dir()]
    return ("update", f"{Path(gone[0]).stem} is no longer there") if gone else ("ready", "")


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
    needed = NEEDED_GIB["base"] + sum(NEEDED_GIB[g] for g in groups)
    free = usage(str(REPO)).free / GIB
    if free < needed:
        raise Trouble(
            "There is not enough disk space for the set-up.",
            expected=f"{needed:.1f} GiB free in {REPO}",
            found=f"{free:.1f} GiB",
            todo="free some space, or move this folder to a larger disk; then type the same again",
        )
    if "convert" in groups and sys.platform == "linux" and free < needed + GPU_TORCH_GIB:
        say(
            f"  Note: {free:.1f} GiB are free. If your package index gives torch's GPU build, it may take {needed + GPU_TORCH_GIB:.0f} GiB."
        )


CAUSES = (  # what pip prints, and what that means: (pattern, what happened, what to do)
    (
        "No space left on device",
        "The disk filled up.",
        "free some space (for temporary files too, see $TMPDIR), then type the same again",
    ),
    (
        "(?:New|Timeout|Proxy|Reset)\\w*Error|CERTIFICATE_VERIFY_FAILED|Max retries|Connection refused|timed out|unreachable",
        "The package index could not be reached.",
        "is the network up? Behind a proxy, set HTTPS_PROXY; with an index of your own, see `pip config list`. Then try again",
    ),
    (
        "No matching distribution found|ResolutionImpossible",
        "The package index lacks a pinned release for this machine.",
        "is your index complete (`pip config list`)? Does this system use glibc (Alpine does not)?",
    ),
    (
        "Permission denied",
        "A file could not be written.",
        "make this whole folder yours, then type the same again",
    ),
    (
        "",
        "pip could not install the packages.",
        "delete the folder .venv and type the same again: that is safe",
    ),
)


def explain(log: str, python: str) -> Trouble:
    """Why pip failed, in words, from what it printed."""
    here = f"Python {python} on {platform.system()} {platform.machine()}"
    for pattern, what, todo in CAUSES:
        if re.search(pattern, log):
            return Trouble(
                f"{indented(log, 20)}\n\n{what}", found=f"{here}; the full log is {LOG}", todo=todo
            )
    raise AssertionError("the last pattern matches everything")


def set_up(groups: Sequence[str], system: bool = False) -> None:
    """Bring ``.venv`` to the pinned set, by as little work as possible."""
    start = time.monotonic()
    what, why = state(groups)
    if what == "ready":
        say(f"· .venv is ready ({seconds(time.monotonic() - start)})")
        return
    groups = sorted({*groups, *read_stamp().get("groups", ())} & set(GROUPS))
    check_folder(groups)
    say(f"· Setting up .venv ({why}). This takes some minutes, once. Full log: {LOG}")
    if what == "make":
        python = find_python(system)
        with stage(f"Making .venv with {python}"):
            if VENV.is_symlink() or VENV.is_file():
                VENV.unlink()
            shutil.rmtree(str(VENV), ignore_errors=True)
            VENV.mkdir()
            UNFINISHED.write_text("", encoding="utf-8")
            if run_logged([python, "-m", "venv", str(VENV)]):
                raise Trouble(
                    f"{indented(LOG.read_text(encoding='utf-8'), 15)}\n\n{python} could not make .venv.",
                    found=f"see {LOG}",
                )
    elif STAMP.exists():  # ours: if this is interrupted, it is made anew
        UNFINISHED.write_text("", encoding="utf-8")
        STAMP.unlink()
    version = "{}.{}".format(*(ask_python(str(PYTHON)) or "??")[:2])
    with stage(
        f"Installing the pinned packages ({', '.join(['base', *groups])}) for Python {version}"
    ):
        target = f".[{','.join(groups)}]" if groups else "."
        options = [
            "--progress-bar=off",
            "--retries=3",
            "--constraint=constraints.txt",
            "--editable",
            target,
        ]
        if run_logged([str(PYTHON), "-m", "pip", "install", *options]):
            if what == "update" and UNFINISHED.exists():
                UNFINISHED.unlink()  # pip leaves a working set as it was when it cannot download
            raise explain(LOG.read_text(encoding="utf-8"), version)
    finish(groups)
    say(f"· Set up in {seconds(time.monotonic() - start)}")


def finish(groups: Sequence[str]) -> None:
    """Note that the set-up is complete, as its very last step."""
    answer = ask_python(str(PYTHON))
    if answer is None:
        raise Trouble(
            f"{PYTHON} does not start any more.",
            todo="delete the folder .venv and type the same again",
        )
    # JupyterLab asks its makers' server for news through this plugin; nothing here calls the network unasked.
    page = VENV / "etc" / "jupyter" / "labconfig" / "page_config.json"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(
        json.dumps({"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}),
        encoding="utf-8",
    )
    installed = sorted(
        str(p.relative_to(VENV)) for p in VENV.glob("lib/python3.*/site-packages/*.dist-info")
    )
    stamp = {
        "fingerprint": fingerprint(answer[:2]),
        "groups": sorted(groups),
        "repo": str(REPO),
        "installed": installed,
    }
    partial = STAMP.with_suffix(".part")
    partial.write_text(json.dumps(stamp, indent=1), encoding="utf-8")
    partial.replace(STAMP)
    if UNFINISHED.exists():
        UNFINISHED.unlink()


# ---- commands


def ensure_browser(system: bool) -> None:
    """Make sure that the browser tests have a Chromium."""
    code = "from labkit.base.hardware import find_browser; raise SystemExit(0 if find_browser() else 3)"
    if (
        subprocess.run(
            [str(PYTHON), "-c", code], cwd=str(REPO), env=environment(), check=False
        ).returncode
        == 3
    ):
        install(
            ["chromium"],
            "a Chromium or Chrome for the browser tests (LABKIT_BROWSER may name one)",
            system,
        )


def ensure_emulation(system: bool) -> None:
    """Make sure that Linux has an emulated Arm lane to test, and a compiler for its counter."""
    if platform.system() != "Linux":
        return
    missing = [] if shutil.which("qemu-aarch64") else ["qemu-user"]
    missing += [] if any(map(shutil.which, ("cc", "gcc", "clang"))) else ["gcc", "libc6-dev"]
    if platform.machine() not in {"aarch64", "arm64"} and not shutil.which("aarch64-linux-gnu-g++"):
        missing += ["g++-aarch64-linux-gnu"]
    missing += [] if any(map(shutil.which, ("llvm-mca-19", "llvm-mca"))) else ["llvm-19"]
    if missing:
        install(
            missing,
            "QEMU, C compilers or llvm-mca, for the emulated Arm lane and its kernels",
            system,
        )


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    system = argparse.ArgumentParser(add_help=False)
    may = "may install missing Debian packages (CI=true says the same)"
    system.add_argument("--system", action="store_true", default=argparse.SUPPRESS, help=may)
    parser = argparse.ArgumentParser(
        prog="bootstrap.py", description="Set up and start the lab.", parents=[system]
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    lab = commands.add_parser("lab", help="open the lab in a browser", parents=[system])
    lab.add_argument("--no-browser", action="store_true", help="only print the address")
    lab.add_argument(
        "--port",
        type=int,
        default=8888,
        help="where to listen, or the next free one (default: 8888)",
    )
    test = commands.add_parser("test", help="run everything that CI runs", parents=[system])
    test.add_argument(
        "--quick",
        action="store_true",
        help="under three minutes: no browser, no slow tests, no notebooks",
    )
    setup = commands.add_parser("setup", help="only set up", parents=[system])
    setup.add_argument(
        "--groups",
        nargs="*",
        choices=GROUPS,
        default=list(GROUPS),
        help="what to be able to do (default: both)",
    )
    args = parser.parse_args(argv)
    return args if args.command else parser.error("say what to do: lab, test or setup")


def run(args: argparse.Namespace) -> int:
    """Run one command; `lab` and `test` go on in another program, in place of this process."""
    system = "system" in args or os.environ.get("CI", "").lower() in {"1", "true"}
    if os.name != "posix":
        raise Trouble(
            "This kit runs on Linux and macOS.",
            found=platform.system(),
            todo="open WSL and type the same there",
        )
    groups = (
        read_stamp().get("groups", GROUPS)
        if args.command == "lab"
        else getattr(args, "groups", GROUPS)
    )  # lab: as chosen before
    set_up(groups, system)
    if args.command == "setup":
        return 0
    if args.command == "lab":
        rest = ["-m", "labkit.cli.lab", f"--port={args.port}"] + ["--no-browser"] * args.no_browser
    else:
        rest = [str(REPO / "tests" / "run_all.py")] + ["--quick"] * args.quick
        ensure_emulation(system)
        if not args.quick:
            ensure_browser(system)
    os.chdir(str(REPO))
    return os.execve(str(PYTHON), [str(PYTHON), *rest], environment())  # noqa: S606 - no shell wanted


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
