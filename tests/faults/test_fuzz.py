"""Whatever is read, the outcome is an answer or a named error."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from faults.damage import changed, damaged
from faults.sandbox import SEED, TALLY, rounds
from hypothesis import HealthCheck, given, seed, settings
from PIL import Image
from safetensors.numpy import save

from labkit.base.errors import LabkitError
from labkit.base.records import to_json
from labkit.bench import report, results, sweep, swept
from labkit.engine import qemu
from labkit.engine.client import EngineProcess
from labkit.engine.lanes import emulated
from labkit.engine.phone import PhoneLane, lane
from labkit.engine.protocol import ProtocolError, pack, read_frame
from labkit.lessons import store
from labkit.model import adopted, checkpoints, hub, images, manifest
from labkit.model.fetch import catalogue
from labkit.model.pace import Pace
from labkit.model.plan import ConversionPlan
from labkit.proof.ready import open_model

MINI = checkpoints.resolve("mini").folder
REPOSITORY = MINI.parents[1]
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "ICO", "AVIF")
GIGABYTES = 3 * 2**30
pytestmark = [pytest.mark.slow, pytest.mark.timeout(6000)]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Something that labkit reads: where it stands, how it is damaged, and who reads it.

    ``named`` are errors beside labkit's own, whose readers turn them into one.
    """

    file: str
    read: Callable[[Path], object]
    json: bool = False
    head: int = 64
    named: tuple[type[BaseException], ...] = ()
    cases: tuple[int, int] = (25, 1000)


def picture(kind: str) -> bytes:
    rows = np.arange(24 * 40 * 3, dtype=np.uint32).reshape(24, 40, 3) * 7 % 256
    saved = io.BytesIO()
    Image.fromarray(rows.astype(np.uint8)).save(saved, kind)
    return saved.getvalue()


def furnish(root: Path, model: Path, result: str) -> None:
    """A sound one of everything."""
    for kind in FORMATS:
        (root / f"picture.{kind}").write_bytes(picture(kind))
    shutil.copytree(model, root / "model")
    (root / "result.json").write_text(result)
    points = {"weight_bits": (16, 4), "vision_bits": (16,), "measure": ("size", "score", "drift")}
    plan = sweep.SweepPlan(**points)
    (root / "sweep.json").write_text(to_json(swept.put_together(plan, fake_outcomes(plan))))
    shutil.copy(REPOSITORY / "data" / "tradeoffs.toml", root / "plan.toml")
    image, ids = np.zeros((4, 4, 3), np.uint8), np.arange(5)
    (root / "frame").write_bytes(pack({"op": "ask", "stop": [1, 2], "image": image, "ids": ids}))
    (root / "checkpoint").mkdir()
    for file in MINI.glob("*.json"):
        shutil.copy(file, root / "checkpoint")
    small = {"visual.patch_embed.proj.weight": np.ones((4, 6), np.float16), "norm": np.ones(4)}
    (root / "checkpoint" / "model.safetensors").write_bytes(
        save({name: array.astype(np.float32) for name, array in small.items()})
    )
    shutil.copytree(MINI, root / "whole")
    weights = {"weight_map": dict.fromkeys(small, "model.safetensors")}
    (root / "checkpoint" / checkpoints.INDEX).write_text(json.dumps(weights))
    tiny = {"a": hub.HubFile(bytes=1, digest="0" * 64)}
    offer = hub.Offer(hub_id="someone/tiny", revision="1", licence="mit", files=tiny)
    system = qemu.System(python="3.11", mnn="3", numpy="2", qemu="7.2", files={"a": 1})
    saved = {"schema": 2, "exercises": ["02.1"], "quizzes": ["02"], "reset": []}
    for name, record in (
        (PROGRESS, saved),
        (OFFER, offer),
        (LANE, system),
        (PHONE, PhoneLane(name="phone", serial="R58M", big=(6, 7))),
        (PACE, {"vision": {64: 1.5, 256: 4.0}}),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(to_json(record))
    for folder in (OFFER.replace("labkit.json", "snapshots/1"), LANE.replace("/lane.json", "")):
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / "a").write_text("a")


def fake_outcomes(plan: sweep.SweepPlan) -> list[sweep.Done]:
    both = {"language": 1, "vision": 2}
    size = {"bytes": both, "layers": {part: {"": 3} for part in both}, "tools": {"mnn": "3"}}
    values = {
        "size": size,
        "score": {"scenes": 100, "wrong": [7]},
        "drift": {"moved": both, "departs": ""},
    }
    return [sweep.Done(task=t, value=values[t.measure], cpu="x") for t in sweep.tasks(plan)]


def inspected(path: Path) -> object:
    found = checkpoints.inspect(path.parent)
    return str(ConversionPlan(checkpoint=found, out=Path("out")))


def loaded(path: Path) -> object:
    from labkit.inside.reference import Reference

    original = Reference(checkpoints.inspect(path.parent))
    return original.inputs(np.zeros((56, 56, 3), np.uint8), "Is there a cat?")


def opened(path: Path) -> object:
    """A model, but for its engine; what the manifest says of its files is true."""
    about = path.parent / manifest.NAME
    if path != about:
        stated = json.loads(about.read_text())
        stated["files"][path.name]["bytes"] = path.stat().st_size
        about.write_text(json.dumps(stated))
    with open_model(path.parent) as model:
        about = model.manifest
        kinds = [about.kind(name) for name in ("weight_bits", "vision_bits")]
        seen = model.budget.seen(np.zeros((300, 500), np.uint8))
        return seen, kinds, about.caveat, about.total_bytes


def shown(path: Path) -> object:
    result = results.read(path)
    return str(result), report.page([result])


def swept_shown(path: Path) -> object:
    found = swept.read(path)
    return str(found), report.page([found])


def progressed(path: Path) -> object:
    store.load()
    for aside in path.parent.glob("progress.unreadable-*"):
        aside.unlink()
    return store.record("03")


def paced(path: Path) -> object:
    pace = Pace("test")
    path.replace(pace._file) if path != pace._file else None
    return Pace("test").expected("vision", 100)


PROGRESS, PACE = "progress/progress.json", "cache/paces/pace.json"
OFFER, LANE = "cache/hub/models--someone--tiny/labkit.json", "cache/lanes/emulated/lane.json"
PHONE = "cache/lanes/phone/phone.json"
DESCRIPTIONS = ("config.json", "generation_config.json", "preprocessor_config.json")
SUBJECTS = {
    **{f"picture {k}": Subject(file=f"picture.{k}", read=images.load_rgb) for k in FORMATS},
    "safetensors": Subject(file="checkpoint/model.safetensors", read=inspected, head=160),
    **{
        f"checkpoint's {name}": Subject(file=f"checkpoint/{name}", read=inspected, json=True)
        for name in (*DESCRIPTIONS, checkpoints.INDEX)
    },
    **{
        f"model's {name}": Subject(file=f"model/{name}", read=opened, json=True)
        for name in (manifest.NAME, "config.json", "llm_config.json")
    },
    "tokenizer.mtok": Subject(file="model/tokenizer.mtok", read=adopted.stop_tokens, head=200),
    "tokenizer.json": Subject(file="whole/tokenizer.json", read=loaded, json=True, cases=(2, 200)),
    "benchmark result": Subject(file="result.json", read=shown, json=True, cases=(10, 1000)),
    "sweep": Subject(file="sweep.json", read=swept_shown, json=True, cases=(10, 1000)),
    "plan of a sweep": Subject(file="plan.toml", read=sweep.read_plan, cases=(10, 1000)),
    "frame": Subject(
        file="frame",
        read=lambda path: read_frame(io.BytesIO(path.read_bytes())),
        head=200,
        named=(ProtocolError, EOFError),
    ),
    "progress": Subject(file=PROGRESS, read=progressed, json=True),
    "offer of a hub": Subject(file=OFFER, read=lambda _: str(catalogue()), json=True),
    "lane": Subject(file=LANE, read=lambda _: emulated(), json=True),
    "phone": Subject(file=PHONE, read=lambda _: lane("phone"), json=True),
    "pace": Subject(file=PACE, read=paced, json=True),
}


def attempt(subject: str, read: Callable[[], object], named: Sequence[type[BaseException]]) -> None:
    """Read, and count how it ended; whatever is not named fails the test."""
    try:
        read()
        outcome = "answer"
    except (LabkitError, *named) as error:
        outcome = type(error).__name__
    TALLY["fuzz", subject, outcome] += 1


def many(cases: tuple[int, int]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """So many cases, the same with the same seed."""
    how = settings(
        max_examples=rounds(*cases),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    return lambda test: seed(SEED)(how(test))


@pytest.fixture
def root(
    tmp_path: Path, mini_folder: Path, result_text: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    furnish(tmp_path, mini_folder, result_text)
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("name", SUBJECTS)
def test_damage_is_an_answer_or_a_named_error(name: str, root: Path) -> None:
    subject = SUBJECTS[name]
    path = root / subject.file
    sound = path.read_bytes()
    subject.read(path)

    @many(subject.cases)
    @given(
        content=changed(sound) | damaged(sound) if subject.json else damaged(sound, subject.head)
    )
    def damage(content: bytes) -> None:
        path.write_bytes(content)
        attempt(name, lambda: subject.read(path), subject.named)

    damage()


class Engine:
    """One engine for many damaged files; a new one when it has ended."""

    def __init__(self, model: Path) -> None:
        self.process: EngineProcess | None = None
        about = manifest.read(model)
        self.ids = {"image_pad": about.image_pad, "stop": list(about.stop)}

    def alive(self) -> EngineProcess:
        if not (self.process and self.process.alive):
            self.close()
            self.process = EngineProcess()
            if hasattr(psutil, "RLIMIT_AS"):  # a damaged size may ask for all memory
                limits = (GIGABYTES, GIGABYTES)
                psutil.Process(self.process.pid).rlimit(psutil.RLIMIT_AS, limits)
        return self.process

    def close(self) -> None:
        if self.process:
            self.process.close()

    def ask(self, folder: Path) -> object:
        """Open a model, look into its graphs and ask it; each within some seconds."""
        engine, soon = self.alive(), {"timeout_s": 30}
        options = {"threads": 1, "precision": "normal", "memory": "low"}
        engine.request("load_chat", directory=str(folder), **options, **soon)
        question = {"question": "Is there a cat?", "positions": "mrope", "max_new_tokens": 2}
        image = {"image": np.zeros((56, 56, 3), np.uint8)}
        engine.request("ask", image, **question, **self.ids, **soon)
        return engine.request("graph", file=str(folder / "visual.mnn"), **soon)

    def hear(self, frame: bytes) -> object:
        """Send bytes as they are; the worker's reply."""
        return list(self.alive()._frames("hello", frame, 1.5))


@pytest.fixture
def engine(mini_folder: Path) -> Iterator[Engine]:
    engine = Engine(mini_folder)
    yield engine
    engine.close()


@pytest.mark.parametrize("file", [*manifest.REQUIRED])
def test_a_damaged_model_ends_no_more_than_its_engine(
    file: str, root: Path, engine: Engine
) -> None:
    path = root / "model" / file
    sound = path.read_bytes()

    @many((3, 150))
    @given(content=damaged(sound, 2000))
    def damage(content: bytes) -> None:
        path.write_bytes(content)
        attempt(f"engine: {file}", lambda: engine.ask(path.parent), ())

    damage()
    path.write_bytes(sound)
    assert engine.ask(path.parent)


def test_damaged_frames_end_no_more_than_a_worker(root: Path, engine: Engine) -> None:
    sound = pack({"op": "forward", "key": "x", "repeat": 1, "a": np.zeros((2, 3), np.float32)})

    @many((5, 300))
    @given(content=damaged(sound, len(sound)))
    def damage(content: bytes) -> None:
        attempt("engine: frames", lambda: engine.hear(content), ())

    damage()
    assert engine.alive().request("hello")
