"""A phone as a lane: adb's own client, a daemon of ours (`adbd`), AArch64 programs under QEMU."""

from __future__ import annotations

import platform
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from building.adbd import Phone

from labkit import cli
from labkit.base import files
from labkit.base.errors import BuildError, CommandFailed, LaneNotReady
from labkit.base.records import to_json
from labkit.bench import results
from labkit.bench.demos import demos
from labkit.building import llm_demo
from labkit.building.record import RECORD, BuildRecord, Product
from labkit.engine import adb, known
from labkit.engine import phone as phones
from labkit.engine.client import EngineProcess
from labkit.engine.phone import PhoneLane

pytestmark = pytest.mark.skipif(
    platform.system() != "Linux", reason="QEMU's user-mode emulation needs Linux"
)
SCENE = Path(__file__).resolve().parents[2] / "data" / "scenes" / "cat_and_pizza.png"
QUESTION = "Describe the image."
# What llm_demo does, as far as it is seen from outside: it opens the model and the picture, and
# prints. Built for Arm, so that a phone's program runs.
DEMO = r"""
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
static char config[9999], prompts[9999], file[9999];
static int is_there(const char *name) { FILE *f = fopen(name, "rb"); return f && !fclose(f); }
int main(int count, char **words) {
  fread(config, 1, 9998, fopen(words[1], "rb"));
  fread(prompts, 1, 9998, fopen(words[2], "rb"));
  char *folder = strchr(strchr(strstr(config, "\"base_dir\""), ':'), '"') + 1;
  snprintf(file, 9998, "%.*sllm.mnn.weight", (int)(strchr(folder, '"') - folder), folder);
  if (!is_there(file) || !is_there("picture.png")) return 4;
  if (strstr(prompts, "Be killed.")) raise(SIGKILL);
  if (strstr(prompts, "Mumble.")) return puts("mumble") < 0;
  if (strstr(prompts, "Think.")) sleep(60);
  printf("KleidiAI is running! AccelType is QI4_ASYM_BLKQT_F32.\n"
         "prompt file is prompts.txt\nA cat left of a pizza.\n\n#########\n"
         "prompt tokens num = 41\ndecode tokens num = 8\n vision time = %.2f s\n"
         "prefill time = %.2f s\n decode time = %.2f s\n", .2 * SLOW, .12 * SLOW, .04 * SLOW);
  return 0;
}
"""


@pytest.fixture(scope="module", autouse=True)
def _adb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A server of adb of the tests' own: the user's phones and keys are not touched."""
    with socket.create_server(("127.0.0.1", 0)) as free, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANDROID_ADB_SERVER_PORT", str(free.getsockname()[1]))
        patch.setenv("HOME", str(tmp_path_factory.mktemp("adb")))
        free.close()
        adb.client.cache_clear()
        yield
        subprocess.run(["adb", "kill-server"], check=True, capture_output=True)
        adb.client.cache_clear()


@pytest.fixture
def phone(tmp_path: Path) -> Iterator[Phone]:
    made = Phone(tmp_path / "phone")
    yield made
    made.unplug()
    subprocess.run(["adb", "disconnect"], check=True, capture_output=True)
    adb.PLACED.clear()


@pytest.fixture
def lane(phone: Phone) -> Iterator[PhoneLane]:
    assert phone
    made = phones.setup("phone", phone.serial)
    yield made
    shutil.rmtree(made.record.parent, ignore_errors=True)


@pytest.fixture
def builds(tmp_path: Path) -> tuple[BuildRecord, BuildRecord]:
    """A slow one and a fast one."""
    arm = platform.machine() in {"aarch64", "arm64"}
    records = []
    for variant, slow in (("baseline", 2), ("accelerated", 1)):
        folder = tmp_path / variant
        folder.mkdir()
        (folder / "demo.c").write_text(DEMO)
        compiler = "cc" if arm else "aarch64-linux-gnu-gcc"
        given = f"-DSLOW={slow} -w -O1 -static -o llm_demo demo.c"
        subprocess.run([compiler, *given.split()], cwd=folder, check=True)
        record = BuildRecord(
            folder=folder,
            variant=variant,
            target="aarch64-static",
            version="3.6.1",
            options={},
            toolchain="",
            compiler="",
            architecture="aarch64",
            seconds={},
            products=(Product(path="llm_demo", bytes=1, sha256=""),),
            kernels={},
            machine={},
        )
        files.write(folder / RECORD, to_json(record))
        records.append(record)
    return records[0], records[1]


def test_two_builds_are_timed_on_a_phone_and_pushed_once(
    phone: Phone,
    builds: tuple[BuildRecord, BuildRecord],
    mini_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["lane", "setup", "phone", "--adb", phone.serial]) == 0
    assert "phone  works" in capsys.readouterr().out
    folders = [str(build.folder) for build in builds]
    words = ["demo", *folders, "--lane", "phone", "--model", str(mini_folder), "--out"]
    assert cli.main([*words, str(tmp_path / "result.json")]) == 0
    result = results.read(tmp_path / "result.json")
    assert [row.part for row in result.rows] == ["vision", "prefill", "decode"]
    assert all(row.ratio.verdict == "faster" for row in result.rows)
    assert all(row.ratio.speedup == pytest.approx(2) for row in result.rows)
    assert result.rows[0].baseline.kleidiai_running == ("QI4_ASYM_BLKQT_F32",)
    assert result.rows[0].baseline.peak_bytes > 1e6
    where = "Nobody Phone 1 Cortex-A55 + Cortex-A715, on core 1 by taskset, aarch64, Android 14"
    assert result.where.startswith(f"{where}, 1 cores, 8 GiB, phone lane; asimd, fp16, dotprod")
    assert len([script for script in phone.scripts if "taskset 2 /" in script]) == 1 + 18
    page = tmp_path / "page.html"
    assert cli.main(["report", str(tmp_path / "result.json"), "--out", str(page)]) == 0
    assert "on core 1 by taskset" in page.read_text()
    pushed = phone.received_bytes
    assert pushed > sum(file.stat().st_size for file in mini_folder.iterdir())
    adb.PLACED.clear()  # as in another process
    again = llm_demo.ask(builds[0], mini_folder, SCENE, QUESTION, phones.lane("phone"))
    assert again.answer == "A cat left of a pizza."
    assert phone.received_bytes == pushed
    assert cli.main(["lane", "remove", "phone"]) == 0
    assert not phone.held.exists()
    assert cli.main(["lane", "setup", "emulated", "--adb", phone.serial]) == 1
    assert "that no lane has, received 'emulated'" in capsys.readouterr().err


def test_an_interrupted_push_goes_on_and_is_not_taken_for_whole(
    phone: Phone, lane: PhoneLane, tmp_path: Path
) -> None:
    folder = tmp_path / "model with a space"
    folder.mkdir()
    content = bytes(range(256)) * 40_000
    (folder / "llm.mnn.weight").write_bytes(content)
    before = phone.received_bytes
    phone.cut_after_bytes = before + 6_000_000
    with pytest.raises(LaneNotReady, match=r"phone 127.*: what was pushed is kept"):
        lane.placed(folder)
    assert not list(phone.held.glob("*/llm.mnn.weight"))
    part = next(phone.held.glob("*/llm.mnn.weight.part"))
    assert 0 < part.stat().st_size < len(content)
    phone.plug()
    there = lane.placed(folder)
    assert Path(f"{phone.root}{there}", "llm.mnn.weight").read_bytes() == content
    assert phone.received_bytes - before < 1.2 * len(content)
    assert not list(phone.held.rglob("*.part"))
    adb.PLACED.clear()
    (phone.root / there[1:] / "llm.mnn.weight").write_bytes(content[:-1])
    (phone.root / there[1:] / "llm.mnn.weight.part").write_bytes(b"another's")
    assert lane.placed(folder / "llm.mnn.weight") == f"{there}/llm.mnn.weight"
    assert (phone.root / there[1:] / "llm.mnn.weight").read_bytes() == content


def test_a_phone_without_room_is_said(phone: Phone, lane: PhoneLane, tmp_path: Path) -> None:
    file = tmp_path / "one" / "weights"
    file.parent.mkdir()
    file.write_bytes(bytes(3_000_000))
    phone.full = True
    with pytest.raises(LaneNotReady, match=r"has no room for all of weights. Free some there; la"):
        lane.placed(file)
    assert not list(phone.held.rglob("weights*"))
    phone.tool("df", "echo /dev/fuse 100000 90000 10000 90% /data")
    pushed = phone.received_bytes
    with pytest.raises(LaneNotReady, match=r"expected 53 MB free on the phone .*, found 10 MB"):
        lane.placed(file)
    assert phone.received_bytes == pushed


def test_what_runs_there_and_fails(
    phone: Phone,
    lane: PhoneLane,
    builds: tuple[BuildRecord, BuildRecord],
    mini_folder: Path,
) -> None:
    def ask(question: str) -> llm_demo.DemoRun:
        return llm_demo.ask(builds[0], mini_folder, SCENE, question, lane)

    with pytest.raises(CommandFailed, match=r"killed by SIGKILL on the phone, as Android does"):
        ask("Be killed.")
    with pytest.raises(BuildError, match=r"expected llm_demo's answer and figures, got:\nmumble"):
        ask("Mumble.")
    phone.unplug_on = "llm_demo config.json"
    with pytest.raises(LaneNotReady, match=r"phone 127.* (finds none|does not answer|middle)"):
        ask("Think.")
    phone.plug()
    assert ask(QUESTION).answer == "A cat left of a pizza."


def test_a_warm_phone_makes_its_result_doubtful(
    phone: Phone,
    lane: PhoneLane,
    builds: tuple[BuildRecord, BuildRecord],
    mini_folder: Path,
) -> None:
    def warm(done: int, *_: object) -> None:
        phone.warm(31.5 + 3 * done)
        phone.tool("dumpsys", f"echo Thermal Status: {done // 5}")

    result = demos(*builds, mini_folder, SCENE, QUESTION, lane=lane, on_step=warm)
    warnings = "\n".join(result.rows[0].warnings)
    assert "temperature: the CPU was 56 °C warm, 24 more than before" in warnings
    assert "throttled: the machine says that it is slowed down" in warnings


def test_the_lane_says_what_the_phone_is(phone: Phone, lane: PhoneLane) -> None:
    assert known.lane("phone", worker=False) == lane
    with pytest.raises(LaneNotReady, match=r"is a phone: it has no Python"):
        known.lane("phone")
    assert phones.names() == ["phone"]
    status = known.status()[-1]
    assert (status.name, status.works) == ("phone", True)
    assert "Cortex-A715, on core 1 by taskset: asimd, fp16, dotprod; Android 14" in status.found
    assert status.found.endswith("7.6 GiB, 32 °C")
    assert status.bytes > 0
    with pytest.raises(LaneNotReady, match=r"is a phone: it has no Python.*labkit demo BASELINE"):
        EngineProcess(lane)
    phone.unplug()
    status = known.status()[-1]
    assert (status.name, status.works) == ("phone", False)
    assert "Turn on USB debugging" in status.found
    with pytest.raises(LaneNotReady, match=r"(?s)adb finds none.*labkit lane remove phone --forge"):
        phones.remove("phone")
    phone.plug()
    assert phones.remove("phone") > 0
    assert not phone.held.exists()
    assert phones.names() == []
    with pytest.raises(LaneNotReady, match="labkit lane setup phone --adb"):
        phones.lane("phone")


def test_cores_that_cannot_be_told_are_not_chosen(phone: Phone, lane: PhoneLane) -> None:
    phone.scripts.clear()
    shutil.rmtree(phone.root / "sys")
    assert phones.setup("phone", phone.serial) == replace(lane, big=())
    lane = phones.lane("phone")
    assert "on any core" in str(lane.describe().cpu)
    assert not any("taskset 2" in script for script in phone.scripts)
    for core, capacity in enumerate((400, 1024, 1024, 400)):
        phone.write(f"sys/devices/system/cpu/cpu{core}/cpu_capacity", str(capacity))
    assert lane.look().big == (1, 2)


def test_a_build_that_needs_linux_is_refused(
    lane: PhoneLane, builds: tuple[BuildRecord, BuildRecord], mini_folder: Path
) -> None:
    linux = replace(builds[0], target="aarch64-linux")
    with pytest.raises(BuildError, match=r"expected a build for aarch64-static or android in the"):
        llm_demo.ask(linux, mini_folder, SCENE, QUESTION, lane)


def test_what_stands_in_the_way_of_a_phone_is_said(
    phone: Phone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LaneNotReady, match=r"expected a phone, adb finds none. Turn on USB debug"):
        adb.connected()
    with pytest.raises(LaneNotReady, match=r"expected the phone R58, adb finds none"):
        adb.connected("R58")
    assert adb.connected(phone.serial) == adb.connected() == phone.serial
    other = Phone(tmp_path / "other")
    assert adb.connected(other.serial) == other.serial
    with pytest.raises(LaneNotReady, match=rf"adb finds .*{other.serial}.*. Name yours: --adb S"):
        adb.connected()
    other.unplug()
    subprocess.run(["adb", "disconnect"], check=True, capture_output=True)
    phone.write("props", "ro.product.cpu.abi=x86_64\n")
    with pytest.raises(LaneNotReady, match=r"expected a phone for arm64-v8a programs, .* x86_64"):
        phones.setup("phone", phone.serial)
    assert phones.names() == []
    subprocess.run(["adb", "disconnect"], check=True, capture_output=True)
    phone.authorized = False
    with pytest.raises(LaneNotReady, match=r"has not allowed this computer yet. Unlock it, and c"):
        adb.connected(phone.serial)


def test_a_client_that_is_missing_or_cannot_start_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def answer() -> None:  # as something that is not adb's server
        with suppress(OSError):
            taken.accept()[0].close()

    adb.client.cache_clear()
    with socket.create_server(("127.0.0.1", 0)) as taken, monkeypatch.context() as patch:
        threading.Thread(target=answer, daemon=True).start()
        patch.setenv("ANDROID_ADB_SERVER_PORT", str(taken.getsockname()[1]))
        with pytest.raises(LaneNotReady, match=r"adb's server could not be started"):
            adb.client()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LaneNotReady, match=r"is not on PATH. Type: sudo apt-get install adb"):
        adb.client()
