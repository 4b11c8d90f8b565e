"""A phone as the client ``adb`` reaches it: found, told what to run, and brought files.

All that labkit puts there is in one folder, `THERE`. A file has its name there only once its
SHA-256 was right; of one that was interrupted the rest is sent.
"""

import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path
from shlex import quote
from typing import Any, TypeAlias

from tqdm import tqdm

from labkit.base import command, files, hardware, paths
from labkit.base.command import Finished
from labkit.base.errors import CommandFailed, LaneNotReady
from labkit.engine.there import sha256

THERE = "/data/local/tmp/labkit"
SPARE_BYTES = 50_000_000
BLOCK = 1 << 20
SLOWEST = 100_000  # bytes a second of a link that is still waited for
INSTALL = "sudo apt-get install adb (on a Mac: brew install android-platform-tools)"
FULL = "Free some there; labkit lane remove NAME frees what labkit has there"
KEPT = "Then type the same again: what was pushed is kept"
STATES = {
    "authori": "has not allowed this computer yet. Unlock it, and confirm on the phone's screen",
    "offline": "does not answer (offline). Put its cable in again, or turn USB debugging off and "
    "on there",
    "permission": "may not be opened by this user. Type: sudo apt-get install "
    "android-sdk-platform-tools-common, and put its cable in again",
}
"""Part of what ``adb devices`` says of a phone that cannot be used: in words, with what to do."""
Push: TypeAlias = tuple[str, Path, str, str]  # serial number, file, its SHA-256, folder there
PLACED: set[tuple[str, str]] = set()
"""What was found whole: to read gigabytes there before each question would warm the phone up."""

# How it ended is printed, because a link that broke is exit code 1 as well. toybox's time tells how
# much memory was held, where it can.
SCRIPT = """t='toybox time -v'; $t true >/dev/null 2>&1 || t=
$t sh -c {} 2>&1"""
FREE = "set -- $(df -k . | tail -n 1) && echo $4"
# Of a file that is whole -1, of another one the bytes that an interrupted push has left.
LACKS = """case $(sha256sum {0} 2>/dev/null) in {1}*) echo -1;;
*) stat -c %s {0}.part 2>/dev/null || echo 0;; esac"""
ENDED = re.compile(r"^labkit ended (\d+)$", re.MULTILINE)
PEAK = re.compile(r"Max RSS \(KiB\): (\d+)")


@cache
def client() -> str:
    """The client, with its server running.

    Raises
    ------
    LaneNotReady
        If there is none, or its server does not start.
    """
    path = shutil.which("adb")
    if not path:
        raise LaneNotReady(f"adb, which speaks to Android phones, is not on PATH. Type: {INSTALL}")
    try:
        command.run([path, "start-server"], timeout_s=20)
    except CommandFailed as error:
        raise LaneNotReady(f"adb's server could not be started: {error}") from error
    return path


def states() -> dict[str, str]:
    """The state of each device that adb knows, by its serial number."""
    lines = hardware.printed_by([client(), "devices"]).splitlines()
    return dict(line.split("\t", 1) for line in lines if "\t" in line)


def connected(serial: str = "") -> str:
    """The serial number of the phone that is meant, if it can be used.

    Parameters
    ----------
    serial
        As ``adb devices`` shows it, or HOST:PORT of one that listens; of an only phone it may be
        left out.

    Raises
    ------
    LaneNotReady
        If there is none, more than one, another one, or it cannot be used; says what to do.
    """
    if ":" in serial and states().get(serial) != "device":
        for what in ("disconnect", "connect"):  # it stays offline for long by itself
            hardware.printed_by([client(), what, serial])
    there = states()
    known = ", ".join(there) or "none"
    if not serial and len(there) > 1:
        raise LaneNotReady(f"expected one phone, adb finds {known}. Name yours: --adb SERIAL")
    serial = serial or next(iter(there), "")
    state = there.get(serial)
    if not state:
        raise LaneNotReady(
            f"expected {f'the phone {serial}' if serial else 'a phone'}, adb finds {known}. Turn "
            "on USB debugging (Settings, About, tap the build number seven times; then Developer "
            f"options), and connect it. {KEPT}"
        )
    for word, what in STATES.items():
        if word in state:
            raise LaneNotReady(f"the phone {serial} {what}. {KEPT}")
    if state != "device":
        raise LaneNotReady(f"expected a phone that has started, {serial} is in its {state}. {KEPT}")
    return serial


def shell(serial: str, script: str, timeout_s: float = 60) -> Finished:
    """Run a script there: what it printed, errors among it, and how much memory it held.

    Raises
    ------
    LaneNotReady
        If the phone cannot be reached, or is lost meanwhile.
    CommandFailed
        If the script ends with an error.
    """
    inner = quote(f"({script}\n); code=$?; echo; echo labkit ended $code")
    argv = [client(), "-s", connected(serial), "shell", SCRIPT.format(inner)]
    try:
        text = "\n".join(command.run(argv, timeout_s=timeout_s).lines)
    except CommandFailed as error:
        text = f"{error.reason}: {error.output}"
    if not (ended := ENDED.search(text)):
        connected(serial)
        raise LaneNotReady(f"the phone {serial} was lost in the middle ({text[-300:]}). {KEPT}")
    lines, code = text[: ended.start()].rstrip().splitlines(), int(ended[1])
    if code:
        reason = f"{command.exit_words(128 - code if code > 128 else code)} on the phone"
        if code == 128 + 9:
            reason += ", as Android does when memory runs out: close apps, or take a smaller model"
        output = "\n".join(lines[-12:])
        raise CommandFailed(argv=[script], reason=reason, log=None, output=output)
    peak = PEAK.search(text, ended.end())
    return Finished(lines=tuple(lines), peak_bytes=int(peak[1]) * 1024 if peak else None)


def place(serial: str, given: Iterable[Path], name: str = "") -> str:
    """The folder there in which these files stand; what it lacks is pushed.

    A bar shows the bytes of what takes longer than a second.

    Parameters
    ----------
    name
        The folder's; without one it is made of the contents.

    Raises
    ------
    LaneNotReady
        If the phone is lost or has no room, or something arrives damaged.
    """
    digests = {file: _sha256(file, file.stat().st_mtime_ns) for file in sorted(given)}
    there = f"{THERE}/{name or paths.named([(file.name, sha) for file, sha in digests.items()])}"
    if (serial, there) in PLACED:
        return there
    asked = "\n".join(LACKS.format(quote(file.name), sha) for file, sha in digests.items())
    listed = shell(serial, f"mkdir -p {there} && cd {there} && {FREE}\n{asked}", timeout_s=600)
    free, *begun = map(int, listed.lines)
    lacking = {file: have for file, have in zip(digests, begun, strict=True) if have >= 0}
    total, initial = sum(file.stat().st_size for file in lacking), sum(lacking.values())
    needed = total - initial + SPARE_BYTES
    if lacking and free * 1024 < needed:
        raise LaneNotReady(
            f"expected {needed / 1e6:,.0f} MB free on the phone {serial}, found "
            f"{free * 1024 / 1e6:,.0f} MB. {FULL}"
        )
    with tqdm(
        total=total, initial=initial, desc="to the phone", unit="B", unit_scale=True, delay=1
    ) as bar:
        for file, have in lacking.items():
            # What an interrupted push has left may be damaged: then once more, from the start.
            push = serial, file, digests[file], there
            if not any(_push(push, begin, bar) for begin in (have, 0)):
                raise LaneNotReady(
                    f"expected {file.name} to arrive whole on the phone {serial}, found another "
                    f"SHA-256 two times. Take another cable or port. {KEPT}"
                )
    if not name:
        PLACED.add((serial, there))
    return there


def remove(serial: str) -> None:
    """Delete all that labkit has there."""
    shell(serial, f"rm -rf {THERE}")
    PLACED.clear()


def _push(push: Push, have: int, bar: Any) -> bool:
    """Push a file from a byte on; whether it is whole now, and so has its name."""
    serial, file, digest, there = push
    name = quote(file.name)
    take = f"cd {there} && cat {'>>' if have else '>'} {name}.part"
    argv = [client(), "-s", serial, "shell", take]
    with files.temporary("push") as folder:
        log = folder / "log"
        with (
            suppress(BrokenPipeError),
            file.open("rb") as opened,
            command.spawn(argv, log=log) as process,
            command.time_limit(process, 60 + file.stat().st_size / SLOWEST),
        ):
            assert process.stdin
            opened.seek(have)
            try:
                while block := opened.read(BLOCK):
                    process.stdin.write(block)
                    bar.update(len(block))
                process.communicate()
            finally:
                command.end(process)
        full = "No space left" in files.read(log)
    whole = shell(
        serial,
        f"cd {there} && case $(sha256sum {name}.part) in {digest}*) chmod 755 {name}.part && "
        f"mv {name}.part {name} && echo whole;; *) rm -f {name}.part;; esac",
        timeout_s=600,
    )
    if full:
        raise LaneNotReady(f"the phone {serial} has no room for all of {file.name}. {FULL}")
    return "whole" in whole.lines


@lru_cache(maxsize=4096)
def _sha256(file: Path, _changed_ns: int) -> str:
    return sha256(file)
