"""An Android phone as a lane (`labkit.engine.adb` reaches it).

A phone has no Python, so no worker runs there. Programs do: ``llm_demo``, built static or by the
NDK, with a converted model (`labkit.building.llm_demo`).
"""

import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote

from labkit.base import files, hardware
from labkit.base.command import Finished, OnStage, Stages
from labkit.base.data import frozen
from labkit.base.errors import LaneNotReady
from labkit.base.hardware import Machine, Reading
from labkit.base.records import from_json, to_json
from labkit.engine import adb, remote
from labkit.engine.lanes import Lane, Status

ABI = "arm64-v8a"
PROGRAM_S = 1800
RECORD = "phone.json"
LOOK = f"""exec 2>/dev/null
echo "abi=$(getprop ro.product.cpu.abi)"
echo "name=$(getprop ro.product.manufacturer) $(getprop ro.product.model)"
echo "android=$(getprop ro.build.version.release)"
echo "kernel=$(uname -r)"
set -- $(df -k /data/local/tmp | tail -n 1) && echo "disk=$4"
set -- $(du -sk {adb.THERE}) && echo "held=$1"
set -- $(grep MemTotal /proc/meminfo) && echo "memory=$2"
set -- $(grep MemAvailable /proc/meminfo) && echo "available=$2"
command -v taskset >/dev/null && echo taskset=yes
for cpu in /sys/devices/system/cpu/cpu[0-9]*; do
echo "core ${{cpu##*cpu}} $(cat $cpu/cpufreq/cpuinfo_max_freq || cat $cpu/cpu_capacity)"; done
cat /proc/cpuinfo
true"""
READING = """exec 2>/dev/null
for zone in /sys/class/thermal/thermal_zone*; do echo "zone $(cat $zone/temp)"; done
dumpsys thermalservice | grep 'Thermal Status'
true"""


@frozen
class Phone:
    """What a phone says of itself; what it does not say is None or empty.

    ``big`` are its fastest cores, by their highest clock or else their capacity, where they can be
    told and chosen; ``held_bytes`` is what labkit has there.
    """

    abi: str
    machine: Machine
    big: tuple[int, ...]
    held_bytes: int


def parse(text: str) -> Phone:
    """Read what the script `LOOK` prints."""
    said = dict(re.findall(r"^(\w+)=(.+)$", text, re.MULTILINE))
    given = {name: int(kib) * 1024 for name, kib in said.items() if kib.isdigit()}
    cores = re.findall(r"^core (\d+) ?(\d*)", text, re.MULTILINE)
    ranks = {int(core): int(rank) for core, rank in cores if rank and "taskset" in said}
    cpu = hardware.parse_cpuinfo(text)
    machine = Machine(
        system=f"Android {said.get('android', '')}",
        release=said.get("kernel", ""),
        architecture="aarch64",
        cpu=f"{said.get('name', '')} {cpu.name or ''}".strip(),
        instruction_sets=cpu.instruction_sets,
        logical_cores=len(cores) or None,
        physical_cores=len(cores) or None,
        memory_total_bytes=given.get("memory"),
        memory_available_bytes=given.get("available"),
        disk_free_bytes=given.get("disk"),
    )
    big = tuple(core for core, rank in ranks.items() if rank == max(ranks.values()))
    return Phone(abi=said.get("abi", ""), machine=machine, big=big, held_bytes=given.get("held", 0))


@frozen
class PhoneLane(Lane):
    """A phone by its serial number; programs run on its cores ``big``, or any if it has none."""

    serial: str
    big: tuple[int, ...] = ()

    @property
    def record(self) -> Path:
        """The file that says that this is a lane."""
        return _record(self.name)

    @property
    def label(self) -> str:
        """For tables."""
        return f"{self.name}, Android phone {self.serial}"

    @property
    def builds(self) -> tuple[str, ...]:
        """None of Linux's libraries are there."""
        return "aarch64-static", "android"

    def worker_command(
        self,
        plugin: str | None = None,  # noqa: ARG002 - as of other lanes
    ) -> tuple[list[str], dict[str, str]]:
        """There is none."""
        raise LaneNotReady(
            f"the lane {self.name} is a phone: it has no Python, and runs builds' own programs "
            f"only. Type: labkit demo BASELINE ACCELERATED --lane {self.name}"
        )

    def look(self) -> Phone:
        """What the phone says of itself."""
        return parse("\n".join(adb.shell(self.serial, LOOK).lines))

    def describe(self) -> Machine:
        """The phone, and which of its cores are used."""
        return self.used(self.look().machine)

    def used(self, machine: Machine) -> Machine:
        """The part of the phone that programs run on."""
        cores = f"core {', '.join(map(str, self.big))} by taskset" if self.big else "any core"
        used = len(self.big) or machine.logical_cores
        return replace(machine, cpu=f"{machine.cpu}, on {cores}", logical_cores=used)

    def reading(self) -> Reading:
        """Its warmest sensor, and whether Android says that it slows down, where that is told."""
        text = "\n".join(adb.shell(self.serial, READING).lines)
        milli = map(int, re.findall(r"^zone (\d{4,6})$", text, re.MULTILINE))
        return Reading(
            time_s=time.monotonic(),
            celsius=max(milli, default=0) / 1000 or None,
            throttled=bool(re.search(r"Status: [1-9]", text)),
        )

    def placed(self, path: Path) -> str:
        """The phone's name for a file, or for a folder of files; what it lacks is pushed.

        Raises
        ------
        LaneNotReady
            If the phone is lost or has no room, or something arrives damaged.
        """
        if path.is_file():
            return f"{self.placed(path.parent)}/{path.name}"
        return adb.place(self.serial, path.iterdir())

    def run_program(
        self,
        program: Path,
        *arguments: str,
        folder: Path,
        libraries: Sequence[Path] = (),
        plugin: str | None = None,  # noqa: ARG002 - it is QEMU's
    ) -> Finished:
        """Run a program in a copy of the folder there, beside its libraries."""
        chosen = f"taskset {sum(1 << core for core in self.big):x}" if self.big else ""
        line = " ".join(map(quote, (program.name, *arguments)))
        with files.alone(self.record.parent):
            home = adb.place(self.serial, [program, *libraries])
            desk = adb.place(self.serial, folder.iterdir(), "desk")
            script = f"cd {desk} && LD_LIBRARY_PATH={home} {chosen} {home}/{line}"
            return adb.shell(self.serial, script, timeout_s=PROGRAM_S)


def setup(name: str, serial: str = "", on_stage: OnStage = None) -> PhoneLane:
    """Make a phone a lane, or look at it again; a small program has run there then.

    Parameters
    ----------
    name
        The lane's.
    serial
        As for `connected`.
    on_stage
        Called after each stage.

    Raises
    ------
    LaneNotReady
        If the phone cannot be used; says why, and what to do.
    CommandFailed
        If nothing runs there.
    """
    remote.require_name(name, remote.names(), "phone --adb")
    stages = Stages(["find the phone", "look at it", "run something there"], on_stage)
    lane = PhoneLane(name=name, serial=adb.connected(serial))
    stages.end("find the phone")
    phone = lane.look()
    if phone.abi != ABI:
        raise LaneNotReady(
            f"expected a phone for {ABI} programs, {lane.serial} is for {phone.abi or 'unknown'}. "
            "Take one, or an emulator's image, of 64-bit Arm"
        )
    lane = replace(lane, big=phone.big)
    stages.end("look at it")
    lane.record.parent.mkdir(parents=True, exist_ok=True)
    with files.temporary("phone") as folder:
        trial = folder / "trial"  # what has no header is run by the shell
        trial.write_text("echo labkit runs\n", encoding="utf-8")
        lane.run_program(trial, folder=folder)
    files.write(lane.record, to_json(lane))
    stages.end("run something there")
    return lane


def _record(name: str) -> Path:
    return remote.folder(name) / RECORD


def names() -> list[str]:
    """The phones that were set up."""
    return sorted(file.parent.name for file in remote.folder("").glob(f"*/{RECORD}"))


def lane(name: str) -> PhoneLane:
    """A phone that was set up, by the name it got then.

    Raises
    ------
    LaneNotReady
        If its record cannot be read.
    """
    try:
        return from_json(PhoneLane, _record(name).read_bytes())
    except (OSError, ValueError) as error:
        raise LaneNotReady(
            f"expected the record of a phone in {_record(name)}, found none, or another labkit's. "
            f"Type: labkit lane setup {name} --adb"
        ) from error


def remove(name: str) -> int:
    """Delete what labkit has on a phone, and its record here; the bytes freed there."""
    known = lane(name)
    try:
        freed = known.look().held_bytes
        adb.remove(known.serial)
    except LaneNotReady as error:
        raise LaneNotReady(
            f"{error}\nTo take it out here without that: labkit lane remove {name} --forget "
            f"(what was pushed stays there, in {adb.THERE})"
        ) from error
    shutil.rmtree(known.record.parent)
    return freed


def status() -> tuple[Status, ...]:
    """The phones as they stand, each asked now."""
    return tuple(map(_status, names()))


def _status(name: str) -> Status:
    try:
        known = lane(name)
        phone, reading = known.look(), known.reading()
    except LaneNotReady as error:
        return Status(name=name, works=False, found=str(error))
    m = known.used(phone.machine)
    found = (
        f"{m.cpu}: {', '.join(m.instruction_sets or ())}; {m.system}, "
        f"{(m.memory_total_bytes or 0) / 2**30:.1f} GiB, {reading.celsius or 0:.0f} °C"
        f"{', slowed down by warmth' if reading.throttled else ''}"
    )
    return Status(name=name, works=True, found=found, bytes=phone.held_bytes)
