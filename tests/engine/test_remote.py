"""Another machine over SSH: a real server and real workers; each thing that goes wrong is named."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from loopback_sshd import Line, Loopback, line, loopback

from labkit import open_model
from labkit.arm.kleidiai import examine
from labkit.base.errors import EngineCrashed, LaneNotReady, ResultError
from labkit.base.records import to_json
from labkit.bench.measure import run
from labkit.bench.plan import BenchPlan, require_timed
from labkit.engine import known, lanes, remote
from labkit.engine.lanes import Lane
from labkit.engine.link import Link, link
from labkit.engine.remote import RemoteLane
from labkit.engine.remote_setup import remove, setup
from labkit.model.parts import decode

ASKED = "What is left of the pizza?"
SCENE = Path("data/scenes/cat_and_pizza.png")


@pytest.fixture(scope="module")
def sshd() -> Iterator[Loopback]:
    with loopback() as server:
        yield server


@pytest.fixture(scope="module")
def way(sshd: Loopback) -> Iterator[Line]:
    """A line to the server; ssh takes it for dead after some seconds of silence."""
    with line(sshd.port) as made:
        yield made


@pytest.fixture(autouse=True)
def _client(sshd: Loopback, way: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ssh that knows the server's key."""
    monkeypatch.setenv("LABKIT_SSH", client(sshd, way))


def client(sshd: Loopback, way: Line) -> str:
    return sshd.client(way.port, more="-oServerAliveInterval=3 -oServerAliveCountMax=1")


@pytest.fixture(scope="module")
def plain(sshd: Loopback, way: Line) -> Iterator[tuple[RemoteLane, int]]:
    """A machine whose Python has nothing, and the bytes that went there; over the line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_SSH", client(sshd, way))
        yield setup("plain", over(sshd, way), python=sshd.bare()), way.sent


@pytest.fixture(scope="module")
def board(sshd: Loopback, way: Line, emulated_lane: Lane) -> Iterator[RemoteLane]:
    """An AArch64 machine: its Python is the emulated lane's, which has all that is needed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_SSH", client(sshd, way))
        yield setup("board", sshd.target, python=sshd.arm())


def over(sshd: Loopback, way: Line) -> str:
    return f"{sshd.user}@127.0.0.1:{way.port}"


def bare(sshd: Loopback, way: Line) -> Link:
    return link(over(sshd, way), sshd.bare())


def files(folder: Path, size: int, count: int = 3) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    for number in range(count):
        (folder / f"part{number}").write_bytes(bytes([number]) * size)
    return {f"deep/{file.name}": file for file in sorted(folder.iterdir())}


# ---- a machine that works


def test_a_board_answers_as_this_machine_does(board: RemoteLane, mini_folder: Path) -> None:
    assert board.machine["machine"] == "aarch64"
    assert {"dotprod", "i8mm"} <= {*(board.features or ())}
    assert known.lane("board") == board
    with open_model(mini_folder, lane=board, threads=1) as there:
        assert there.ask(SCENE, ASKED, max_new_tokens=3).text == "A cat."


def test_seconds_of_a_python_under_emulation_are_not_believed(board: RemoteLane) -> None:
    assert lanes.native().may_be_timed
    assert not board.may_be_timed
    assert board.label == "board, aarch64 under emulation, over SSH"
    with pytest.raises(ResultError, match="received board, aarch64 under emulation"):
        require_timed(board)
    (row,) = known.status("board")
    assert row.works
    assert re.search(r"aarch64 under emulation, \d+ cores, MNN sees dotprod, .* GiB, ", row.found)


@pytest.mark.slow
def test_the_facts_about_kleidiai_there(board: RemoteLane, mini_folder: Path) -> None:
    report = examine(mini_folder, board, parts=[decode(mini_folder)], chat=False)
    assert (report.built, report.hint, report.running) == (True, True, True)
    assert "decode   not counted" in str(report)
    assert board.library.parent.name == "board"


def test_a_python_with_nothing_gets_wheels_and_all_is_copied_once(
    sshd: Loopback, way: Line, plain: tuple[RemoteLane, int], mini_folder: Path
) -> None:
    lane, copied = plain
    assert lane.site
    assert lane.may_be_timed
    assert copied > 50e6
    for most in (5e6, 3e5):
        way.sent = 0
        remote.copied.cache_clear()
        assert setup("plain", over(sshd, way), python=sshd.bare()) == lane
        with open_model(mini_folder, lane=lane, threads=1) as model:
            assert model.ask(SCENE, ASKED).text == "A cat."
        assert way.sent < most


def test_what_a_machine_does_is_read_there(plain: tuple[RemoteLane, int]) -> None:
    lane, _ = plain
    now, later = lane.reading(), lane.reading()
    assert (now.used_s or 0) > 0
    assert later.time_s > now.time_s
    assert (later.own_s or 0) > (now.own_s or 0)
    assert lane.describe().logical_cores


def test_only_published_mnn_runs_there(plain: tuple[RemoteLane, int], tmp_path: Path) -> None:
    lane, _ = plain
    for other in (replace(lane, build=tmp_path), replace(lane, module="labkit.inside.reference")):
        with pytest.raises(LaneNotReady, match="run on this machine only"):
            other.worker_command()
    with pytest.raises(LaneNotReady, match="received 'plain' with CPU 'max'"):
        known.lane("plain", "max")


@pytest.mark.slow
def test_a_benchmark_there_is_of_that_machine(
    plain: tuple[RemoteLane, int], mini_folder: Path
) -> None:
    lane, _ = plain
    plan = BenchPlan(model=mini_folder, comparisons=("quantised",), parts=("decode",), lane=lane)
    result = run(plan)
    assert result.lane == "plain"
    assert result.versions["python"] == lane.machine["python"]
    assert len(result.rows[0].baseline.values_s) == 9


# ---- a line that breaks


def test_a_copy_goes_on_where_it_broke_off(sshd: Loopback, way: Line, tmp_path: Path) -> None:
    given = files(tmp_path / "model", 800_000)
    far = bare(sshd, way)
    way.sent, way.cut_after, way.bytes_per_s = 0, 1_600_000, 2e6  # it may well keep up
    with pytest.raises(LaneNotReady, match=r"broke, or .* What was copied is kept"):
        far.copy("models", given)
    part = next(sshd.there.rglob("*.part"))
    way.sent, way.bytes_per_s = 0, None
    folder = Path(far.copy("models", given))
    assert way.sent < 2_000_000
    assert not part.exists()
    copied = {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("part*")}
    assert copied == {name: file.read_bytes() for name, file in given.items()}


def test_what_was_damaged_on_its_way_is_not_taken(
    sshd: Loopback, way: Line, tmp_path: Path
) -> None:
    given = files(tmp_path / "model", 1000, 2)
    near = bare(sshd, way)
    whole = Path(near.copy("damaged", given))
    part = whole.rename(f"{whole}.part")
    (part / "deep" / "part0").write_bytes(b"x" * 1000)
    with pytest.raises(LaneNotReady, match="expected deep/part0 to arrive whole"):
        near.copy("damaged", given)
    assert Path(near.copy("damaged", given), "deep", "part0").read_bytes() == bytes(1000)


def test_a_slow_line_takes_its_time(sshd: Loopback, way: Line, tmp_path: Path) -> None:
    way.bytes_per_s = 200_000
    far = bare(sshd, way)
    begun = time.monotonic()
    far.copy("slow", files(tmp_path / "model", 200_000, 2))
    way.bytes_per_s = None
    assert time.monotonic() - begun > 1.5


@pytest.mark.parametrize("how", ["cut", "silent"])
def test_a_line_that_breaks_in_the_middle_of_an_answer(
    plain: tuple[RemoteLane, int], way: Line, mini_folder: Path, how: str
) -> None:
    lane, _ = plain

    def breaks(event: dict[str, object]) -> None:
        if event["event"] == "vision":
            way.cut() if how == "cut" else way.silent.set()

    with open_model(mini_folder, lane=lane, threads=1) as model:
        begun = time.monotonic()
        with pytest.raises(EngineCrashed, match=r"the link to .* broke, or what ran"):
            model.ask(SCENE, ASKED, on_event=breaks)
        assert time.monotonic() - begun < 90
        way.silent.clear()
        assert model.ask(SCENE, ASKED, max_new_tokens=3).text == "A cat."


# ---- what stands in the way


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"host": None}, r"is not known here yet.*Type: ssh -p \d+ .*fingerprint"),
        ({"host": "other"}, r"another one than ssh knows.*ssh-keygen -R '\[127.0.0.1\]:\d+'"),
        ({"key": "other"}, r"does not let you in.*ssh-copy-id -p \d+"),
    ],
)
def test_keys(
    sshd: Loopback, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], words: str
) -> None:
    monkeypatch.setenv("LABKIT_SSH", sshd.client(**given))
    with pytest.raises(LaneNotReady, match=words):
        setup("amiss", sshd.target)
    assert "amiss" not in remote.names()


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("ada@127.0.0.1:1", "refuses connections.*systemctl enable --now ssh"),
        ("ada@board.invalid", "no machine of the name ada@board.invalid"),
        ("-oProxyCommand=x", "expected a machine such as"),
    ],
)
def test_machines_that_are_not_there(target: str, words: str) -> None:
    with pytest.raises(LaneNotReady, match=words):
        setup("amiss", target)


def test_a_machine_that_says_nothing(way: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_SSH", "ssh -oConnectTimeout=1")
    way.silent.set()
    with pytest.raises(LaneNotReady, match=r"no way to ada@127\.0\.0\.1, .*ping 127\.0\.0\.1"):
        setup("amiss", f"ada@127.0.0.1:{way.port}")
    way.silent.clear()


def test_a_configuration_that_ssh_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_SSH", "ssh -oNoSuchOption=1")
    with pytest.raises(LaneNotReady, match=r"cannot use its configuration: .*nosuchoption"):
        setup("amiss", "ada@127.0.0.1")


def test_a_name_that_is_none(sshd: Loopback) -> None:
    for name in ("native", "emulated", "Pi", "../x", ""):
        with pytest.raises(LaneNotReady, match="expected a name of small letters"):
            setup(name, sshd.target)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("exec python9", "found none as .*--python PATH"),
        ("echo LABKIT-OLD 3.8 >&2; exit 1", r"expected Python 3.10 to 3.13 .* found 3.8"),
        ("echo \"'python3' is not recognized as an internal command\" >&2; exit 1", "Windows"),
        ('echo Welcome!; exec {python} -S "$@"', "prints nothing by itself.*Welcome"),
        ("kill -9 $$", "what ran there was killed"),
        ("exit 3", "did not do what was asked of it .exit code 3."),
    ],
)
def test_pythons_that_do_not_answer(sshd: Loopback, text: str, words: str) -> None:
    python = sshd.script("amiss", text.replace("{python}", sshd.python))
    with pytest.raises(LaneNotReady, match=words):
        setup("amiss", sshd.target, python=python)


@pytest.mark.parametrize(
    ("before", "words"),
    [
        ("import os; os.confstr = lambda *_: None", "expected glibc .*musl"),
        ("import sys; sys.maxsize = 2**31", "system of 64 bits.* has 32"),
        (
            "import platform; platform.machine = lambda: 'riscv64'",
            "expected wheels of MNN .* Linux riscv64, Python .* got none",
        ),
    ],
)
def test_machines_that_mnn_is_not_made_for(sshd: Loopback, before: str, words: str) -> None:
    with pytest.raises(LaneNotReady, match=words):
        setup("amiss", sshd.target, python=sshd.bare("amiss", before))


def test_no_room_there(sshd: Loopback, tmp_path: Path) -> None:
    given = files(tmp_path / "model", 2_000_000)
    before = "import shutil; shutil.disk_usage = lambda _: type('U', (), {'free': 10**6})"
    for python, words in (
        (sshd.bare("full", before), r"expected 6 MB free on the disk of .*, found 1 MB"),
        (sshd.script("limited", f'ulimit -f 1000; exec {sshd.bare()} "$@"'), "File too large"),
    ):
        port = sshd.port
        with pytest.raises(LaneNotReady, match=words):
            Link(target=f"{sshd.user}@127.0.0.1", port=port, python=python).copy("full", given)


def test_a_clock_that_is_off_is_told(
    sshd: Loopback, plain: tuple[RemoteLane, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    lane, _ = plain
    behind = "import time; now = time.time; time.time = lambda: now() - 7200"
    late = replace(lane.link, python=sshd.bare("late", behind))
    monkeypatch.setattr(remote, "lane", lambda _: replace(lane, link=late))
    assert "its clock is 120 minutes behind" in known.status("plain")[0].todo


def test_a_machine_that_is_gone_can_be_forgotten(plain: tuple[RemoteLane, int]) -> None:
    gone = replace(plain[0], name="gone", link=link("ada@127.0.0.1:1", None))
    folder = remote.folder("gone")
    folder.mkdir()
    (folder / "lane.json").write_text(to_json(gone))
    (row,) = known.status("gone")
    assert not row.works
    assert "refuses connections" in row.found
    with pytest.raises(LaneNotReady, match="labkit lane remove gone --forget"):
        remove("gone")
    remove("gone", forget=True)
    assert "gone" not in remote.names()


def test_removed_there_nothing_is_left(sshd: Loopback, plain: tuple[RemoteLane, int]) -> None:
    assert remove("plain") > 50e6
    assert not list(sshd.there.rglob("*.py"))
    with pytest.raises(LaneNotReady, match="received 'plain'"):
        known.lane("plain")
