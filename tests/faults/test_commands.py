"""Killed anywhere, refused any write, a command leaves nothing that is taken for whole."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
import pytest
from faults.namespaces import read_only, small
from faults.sandbox import LONG, NUMBERS, TALLY, Sandbox, a_place, chance, rounds
from faults.subjects import LABKIT, Subject, furnish

from labkit.base import paths

WAYS = ("parent killed", "all killed", "child killed", "TERM", "INT")
ERRORS = ("ENOSPC", "EIO")
LATER = ("lane setup", "prepare")  # too long for the short form
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One command in its place, and what its unhurt run has shown."""

    name: str
    place: Sandbox
    steps: int
    seconds: float
    clean: frozenset[str]  # what it leaves
    largest: int  # bytes of its largest file

    @property
    def subject(self) -> Subject:
        return LABKIT[self.name]

    def chosen(self, about: str) -> list[int]:
        """Some steps, by chance, in order."""
        drawn = chance(about, self.name).sample(range(1, self.steps + 1), self.steps)
        return sorted(drawn[: rounds(*self.subject.steps)])

    def tell(self, part: str, outcome: str) -> None:
        TALLY[part, self.name, outcome] += 1

    def require_nothing_half(self, about: str) -> None:
        """All that is there is what a whole run leaves, or what the next one goes on from."""
        self.subject.whole(self.place)
        assert not self.half({*self.place.left()}), about

    def half(self, names: set[str]) -> set[str]:
        return {n for n in names - self.clean if not re.fullmatch(self.subject.stays, n)}

    def require_next_succeeds(self, about: str) -> None:
        """The same once more, and all is as if nothing had happened."""
        if self.subject.makes and self.subject.whole(self.place):
            self.subject.forget(self.place)
        again = self.place.run(*self.subject.argv)
        assert again.code == 0, f"{about}: {again.err}"
        assert self.subject.whole(self.place), about
        assert {*self.place.left()} == self.clean, about


@pytest.fixture(scope="module", params=[name for name in LABKIT if LONG or name not in LATER])
def case(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    mini_folder: Path,
    result_text: str,
) -> Iterator[Case]:
    subject = LABKIT[request.param]
    with a_place(tmp_path_factory.mktemp("case") / "place") as place:
        furnish(place, request.param, mini_folder, result_text)
        begun = time.monotonic()
        done = place.run(*subject.argv, fault="COUNT:0")
        steps = re.search(r"steps: (\d+)", done.err)
        assert steps, done
        assert (done.code, subject.whole(place)) == (0, True), done
        yield Case(
            name=request.param,
            place=place,
            steps=int(steps[1]),
            seconds=time.monotonic() - begun,
            clean=frozenset(place.left()),
            largest=max(p.stat().st_size for p in place.folder.rglob("*") if p.is_file()),
        )


def test_killed_at_any_step_the_next_one_succeeds(case: Case) -> None:
    for number in case.chosen("kills"):
        case.subject.forget(case.place)
        done = case.place.run(*case.subject.argv, fault=f"KILL:{number}")
        assert done.kind == "killed", done
        case.tell("kills", "killed at a step")
        case.require_next_succeeds(f"killed at step {number} of {case.steps}")


def test_ended_at_any_moment_the_next_one_succeeds(case: Case) -> None:
    random = chance("moments", case.name)
    for _ in range(rounds(*case.subject.moments)):
        way, moment = random.choice(WAYS), random.uniform(0, case.seconds)
        case.subject.forget(case.place)
        process = case.place.start(*case.subject.argv)
        time.sleep(moment)
        end(case.place, process.pid, way)
        code = case.place.wait(process).code
        case.tell("kills", f"{way}, {'too late' if code == 0 else 'in time'}")
        case.require_next_succeeds(f"{way} after {moment:.2f} of {case.seconds:.2f} s")


def end(place: Sandbox, pid: int, way: str) -> None:
    """End the command, all that belongs to it, or one of its children."""
    if way in ("TERM", "INT"):
        os.kill(pid, signal.Signals[f"SIG{way}"])
        return
    children = [process for process in place.processes() if process.pid != pid]
    chosen = [] if way == "child killed" else [psutil.Process(pid)]
    for process in chosen + children * (way != "parent killed"):
        with suppress(psutil.Error):
            process.kill()


def test_a_step_that_fails_is_named_and_leaves_nothing(case: Case) -> None:
    hurt = [(number, error) for error in ERRORS for number in case.chosen(error)]
    for number, error in hurt:
        case.subject.forget(case.place)
        done = case.place.run(*case.subject.argv, fault=f"{error}:{number}")
        about = f"{error} at step {number} of {case.steps}: {done}"
        case.tell("writes", f"{error}: {done.kind}")
        said = done.code or done.out.startswith("This could not be saved")
        assert said or case.subject.whole(case.place), about
        case.require_nothing_half(about)
    if hurt:
        case.subject.forget(case.place)
        case.require_next_succeeds("after failures")


def test_on_a_small_disk_it_is_named_and_nothing_is_left(case: Case, tmp_path: Path) -> None:
    place, subject = case.place, case.subject
    if case.name in ("convert", "lane setup"):
        return  # they look for room first; the limit below fills their files up
    made = paths.size_bytes(place.folder)
    subject.forget(place)
    sound = place.folder.with_name(f"{place.folder.name}.sound")
    shutil.copytree(place.folder, sound, dirs_exist_ok=True)
    had = paths.size_bytes(sound)
    for _ in range(rounds(*subject.limits)):
        size = had + chance("small", case.name, _).randrange(65536, made - had + 65536)
        done = place.run(*subject.argv, before=small(place.folder, size))
        assert done.code != 99, done.err
        case.tell("writes", f"small disk: {done.kind}")
        left = {*re.findall(rf"left: .*?/{place.folder.name}/out/\.\./(.*)", done.err)}
        assert "out" in left, done.err
        assert not case.half({NUMBERS.sub("N", name) for name in left}), (size, left)
        assert done.code == 0 or f"out/{subject.told}" not in left, done.err


def test_beyond_a_limit_of_bytes_it_is_named_and_nothing_is_left(case: Case) -> None:
    place, subject = case.place, case.subject
    for number in range(rounds(*subject.limits)):
        subject.forget(place)
        most = chance("limit", case.name, number).randrange(16, case.largest)
        limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (most, most))
        done = place.run(*subject.argv, limits=limit)
        case.tell("writes", f"limit of a file: {done.kind}")
        case.require_nothing_half(f"limit of {most} bytes: {done}")
        assert done.code == 0 or not (subject.told and (place.out / subject.told).exists())


def test_where_nothing_may_be_written_it_is_named(case: Case) -> None:
    subject, place = case.subject, case.place
    subject.forget(place)
    before = place.left()
    done = place.run(*subject.argv, before=read_only(place.folder))
    assert done.code != 99, done.err
    case.tell("writes", f"read-only: {done.kind}")
    assert done.code or done.out.startswith("This could not be saved"), done
    assert place.left() == before
