"""MNN beside a peer that is a script: protocol, pairs, what goes wrong; and how one is set up."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from labkit import cli
from labkit.base import paths
from labkit.base.errors import PeerError, ResultError
from labkit.base.records import to_json
from labkit.bench import comparisons, peers, report, results, rounds, to_gguf, work
from labkit.bench.peers import Peer, PeerLane
from labkit.bench.plan import BenchPlan
from labkit.model import checkpoints, manifest
from labkit.model.digest import fingerprint
from labkit.model.plan import OPTIONS

FAKE = PeerLane(
    name="native", python=Path(sys.executable), script=Path(__file__).with_name("fake_peer.py")
)


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A home with a peer called fake; MNN is one, too, and twice as fast."""
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "home"))
    fake = Peer(label="the fake", words="a script", packages=("nothing==1",), bits=(4.5, 8))
    monkeypatch.setitem(peers.PEERS, "fake", fake)
    monkeypatch.setitem(comparisons.PEERS, "fake", fake.words)
    monkeypatch.setattr(peers, "_lane", lambda name: FAKE)
    monkeypatch.setattr(rounds, "native", lambda build: FAKE)
    peers.folder("fake").mkdir(parents=True)
    (peers.folder("fake") / peers.READY).write_text(to_json(fake.packages), encoding="utf-8")


@pytest.fixture
def plan(tmp_path: Path) -> BenchPlan:
    """With a converted model in name only: whoever answers for MNN does not read it."""
    mini, folder = checkpoints.resolve("mini"), tmp_path / "model"
    folder.mkdir()
    for name in manifest.required(folder) | {"tokenizer.txt"}:
        (folder / name).write_text("{}", encoding="utf-8")
    options = {name: 4 for names in OPTIONS.values() for name in names}
    about = manifest.Manifest(
        source={"name": "mini", "sha256": fingerprint(mini.folder), "parameters": mini.parameters},
        tools={},
        options=options,
        image=mini.image,
        image_pad=mini.image_pad,
        stop=mini.stop,
        files=manifest.describe_files(folder),
        elapsed_s=10.0,
    )
    manifest.write(folder, about)
    return BenchPlan(model=folder, comparisons=("fake",), prompt_tokens=60)


def test_every_engine_is_measured_in_rounds_and_stands_in_a_table(plan: BenchPlan) -> None:
    result = rounds.run(plan)
    assert [row.part for row in result.rows] == ["load", "vision", "prefill", "decode"]
    vision, decode = result.rows[1], result.rows[3]
    assert set(vision.order) == {"AB", "BA"}
    assert (vision.ratio.speedup, vision.ratio.verdict) == (2, "faster")
    assert decode.baseline.median_s == pytest.approx(2 / 8)
    assert vision.size == "112×112 pixels, 60 prompt tokens"
    assert result.versions["fake"] == "1.0"
    assert str(result.engines()).splitlines()[1].startswith("the fake  3.25 s  2 s ")
    assert "the fake" in report.page([result])
    assert results.parse(to_json(result)) == result
    config = checkpoints.resolve("mini").config
    done = {(one.engine, one.part): one.work for one in work.achieved(result, config)}
    assert done["the fake", "vision"].bytes < 2 * done["MNN int4", "vision"].bytes


def test_stopped_it_goes_on_where_it_was(plan: BenchPlan) -> None:
    def stop_at(number: int) -> Callable[[int, int, str], None]:
        def step(done: int, *_: object) -> None:
            seen.append(done)
            if done == number:
                raise KeyboardInterrupt

        return step

    seen: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        rounds.run(plan, on_step=stop_at(9))
    assert seen == list(range(10))
    seen.clear()
    assert len(rounds.run(plan, on_step=stop_at(-1)).rows[0].order) == 9
    assert seen == list(range(8, 19))  # the ninth was within a round
    assert not list((paths.cache_dir() / "unfinished").iterdir())


@pytest.mark.parametrize(
    ("does", "words"),
    [
        ("crash", r"(?s)the fake did not answer: the engine ended.*out of luck"),
        ("full", r"(?s)fake could not convert mini .*No space left.*Nothing half-written"),
    ],
)
def test_what_goes_wrong_is_named(
    plan: BenchPlan, does: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_PEER", does)
    with pytest.raises(PeerError, match=words):
        rounds.run(plan)
    if does == "full":
        assert not list((peers.folder("fake") / "models").iterdir())


def test_a_prompt_that_is_too_short_for_the_picture_is_refused(plan: BenchPlan) -> None:
    small = BenchPlan(model=plan.model, comparisons=("fake",), prompt_tokens=20)
    with pytest.raises(PeerError, match="expected a prompt of 20 tokens, 16 of them visual"):
        rounds.run(small)


def test_without_its_environment_the_error_names_the_command(plan: BenchPlan) -> None:
    (peers.folder("fake") / peers.READY).write_text('["other==2"]', encoding="utf-8")
    with pytest.raises(PeerError, match=r"other packages\. Type: labkit peer setup fake"):
        rounds.run(plan)
    assert peers.remove("fake") > 0
    with pytest.raises(PeerError, match=r"found none\. Type: labkit peer setup fake"):
        rounds.run(plan)


def test_another_checkpoint_than_the_models_is_refused(plan: BenchPlan, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for file in checkpoints.resolve("mini").folder.iterdir():
        if file.is_file():
            (other / file.name).write_bytes(file.read_bytes())
    (other / "generation_config.json").write_text("{}", encoding="utf-8")
    changed = BenchPlan(
        model=plan.model, comparisons=("fake",), prompt_tokens=60, checkpoint=str(other)
    )
    with pytest.raises(ResultError, match="which is another one"):
        rounds.run(changed)


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (("avx2", "fma"), ""),
        (("avx2", "avx512f"), ", plain build"),
        (("asimd",), ""),
        (("asimd", "dotprod"), ", plain build"),
        (None, ""),
    ],
)
def test_a_build_that_leaves_instructions_idle_says_so(
    sets: tuple[str, ...] | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    machine = SimpleNamespace(instruction_sets=sets)
    monkeypatch.setattr("labkit.base.hardware.describe", lambda: machine)
    assert peers.label("llamacpp") == f"llama.cpp Q4_0, tower Q8_0{words}"
    assert "plain" not in peers.label("openvino")


def test_a_checkpoints_tensors_as_llama_cpp_has_them() -> None:
    def tensor(*shape: int) -> SimpleNamespace:
        values = np.arange(np.prod(shape), dtype=np.float32)
        return SimpleNamespace(dtype="F32", shape=shape, mmap_bytes=lambda: values.view(np.uint8))

    tied = {
        "model.embed_tokens.weight": tensor(3, 256),
        "visual.blocks.0.attn.qkv.weight": tensor(6, 4),
        "visual.patch_embed.proj.weight": tensor(2, 3, 2, 1, 1),
    }
    kept = {name: (numbers, kind) for name, numbers, kind in to_gguf.parts(tied)}
    assert kept["visual.blocks.0.attn.k.weight"][0].tolist() == [[8, 9, 10, 11], [12, 13, 14, 15]]
    second = kept["visual.patch_embed.proj.weight.1"][0]
    assert second.shape == (2, 3, 1, 1)
    assert second.ravel().tolist() == [1, 3, 5, 7, 9, 11]
    assert {name.split(".")[-2]: kind for name, (_, kind) in kept.items()} == {
        "embed_tokens": "Q6_K",
        "q": "Q8_0",
        "k": "Q8_0",
        "v": "Q8_0",
        "proj": "F16",
        "weight": "F16",
    }
    untied = to_gguf.parts(tied | {"lm_head.weight": tensor(3, 32)})
    wide = {name: kind for name, _, kind in untied if not name.startswith("visual.")}
    assert wide == {"lm_head.weight": "Q8_0", "model.embed_tokens.weight": "Q4_0"}


@pytest.mark.slow
def test_a_setup_that_fails_says_why_and_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(PeerError, match=r"(?s)nothing==1.*type again: labkit peer setup fake"):
        peers.setup("fake")
    with pytest.raises(PeerError, match="found none"):
        peers.lane("fake")


def test_the_command_shows_peers_and_removes_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["peer", "status"]) == 0
    assert "works: nothing==1" in capsys.readouterr().out
    assert cli.main(["peer", "remove"]) == 1
    assert "expected the name of a peer" in capsys.readouterr().err
    assert cli.main(["peer", "remove", "fake"]) == 0
    assert "Type: labkit peer setup fake" in capsys.readouterr().out
    assert not peers.folder("fake").exists()
