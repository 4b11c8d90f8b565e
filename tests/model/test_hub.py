"""Checkpoints from a hub: whole and checked, or an error that says what to do."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loopback_hub import REVISION, LoopbackHub

from labkit.base import hardware, paths
from labkit.base.errors import CheckpointError, LabkitError, ModelError
from labkit.model import hub, manifest
from labkit.model.checkpoints import resolve
from labkit.model.digest import fingerprint

NAME = LoopbackHub.hub_id
WEIGHTS = "model.safetensors"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for each test, and no proxy between it and loopback."""
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "home"


def serving(folder: Path, monkeypatch: pytest.MonkeyPatch) -> LoopbackHub:
    served = LoopbackHub(folder)
    monkeypatch.setenv("HF_ENDPOINT", served.url)
    return served


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """The embedded checkpoint's files on a hub."""
    with serving(paths.data_dir() / "mini-qwen2-vl", monkeypatch) as served:
        yield served


def refusal(tiny: LoopbackHub) -> str:
    """What is said when it cannot be had; nothing of it may count as here then."""
    with pytest.raises(CheckpointError) as failure:
        resolve(NAME)
    assert hub.kept(NAME) is None
    return str(failure.value)


def test_an_offer_says_size_and_licence_before_anything_comes(tiny: LoopbackHub) -> None:
    offer = hub.look(NAME)
    assert (offer.revision, offer.licence, offer.converted) == (REVISION, "apache-2.0", False)
    assert "README.md" not in offer.files
    assert offer.total_bytes == sum(len(tiny.files[name]) for name in offer.files)
    assert "11 files, 6.1 MB, 6.1 MB to come\nlicence  apache-2.0" in str(offer)
    assert tiny.asked == []


def test_what_one_that_was_killed_has_left_is_taken_away(tiny: LoopbackHub) -> None:
    left = [hub.place(NAME) / name for name in ("tmpabcdefgh", "tmp_8dd4-4fcd")]
    (left[0] / "tried").mkdir(parents=True)
    left[1].touch()
    resolve(NAME)
    assert not any(path.exists() for path in left)


def test_a_repository_comes_whole_and_is_not_asked_for_again(tiny: LoopbackHub) -> None:
    steps: list[tuple[int, int, str]] = []
    checkpoint = resolve(NAME, on_step=lambda *step: steps.append(step))
    embedded = resolve("mini")
    assert checkpoint.name == NAME
    assert fingerprint(checkpoint.folder) == fingerprint(embedded.folder)
    assert steps[-1][:2] == (len(steps), len(hub.look(NAME).files))
    assert steps[-1][2] == WEIGHTS, "weights come last"
    tiny.__exit__()
    assert resolve(NAME) == checkpoint, "without a network"
    assert hub.kept(NAME).missing_bytes == 0


def test_a_transfer_that_broke_off_goes_on_where_it_was(
    tiny: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)  # of 10 MB
    tiny.cut = {WEIGHTS}
    said = refusal(tiny)
    assert "the same command goes on from there" in said
    missing = hub.look(NAME).missing_bytes
    assert missing == pytest.approx(len(tiny.files[WEIGHTS]) / 2, abs=1000)
    tiny.cut = set()
    checkpoint = resolve(NAME)
    resumed = len(tiny.files[WEIGHTS]) - missing
    assert [first for name, first in tiny.asked if name == WEIGHTS] == [0, resumed]
    assert (checkpoint.folder / WEIGHTS).read_bytes() == tiny.files[WEIGHTS]


@pytest.mark.parametrize("name", [WEIGHTS, "tokenizer.json"])
def test_wrong_bytes_are_deleted_and_taken_again(tiny: LoopbackHub, name: str) -> None:
    tiny.wrong = {name}
    assert f"{name} of {NAME} came with other bytes than the hub says" in refusal(tiny)
    tiny.wrong = set()
    assert (resolve(NAME).folder / name).read_bytes() == tiny.files[name]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, "nothing under this name that is open to all"),
        (401, "private, or asks for an account"),
        (429, "try again in 7 seconds"),
        (503, "Check the network"),
    ],
)
def test_what_the_hub_answers_instead(tiny: LoopbackHub, status: int, words: str) -> None:
    tiny.status = status
    assert words in refusal(tiny)


def test_the_hub_asks_to_wait_in_the_middle(
    tiny: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer = hub.look(NAME)

    def later(done: int, *_: object) -> None:
        tiny.status = 429 if done == 3 else tiny.status

    with pytest.raises(CheckpointError, match="try again in 7 seconds"):
        hub.take(offer, on_step=later)
    assert hub.kept(NAME) is None
    tiny.status = 0
    before = len(tiny.asked)
    assert hub.take(offer)
    assert len(tiny.asked) - before == len(offer.files) - 3, "what had come is not asked for again"


def test_no_network_says_what_to_copy_where(tiny: LoopbackHub) -> None:
    tiny.__exit__()
    said = refusal(tiny)
    assert "Connection refused" in said
    assert f"labkit fetch {NAME} --yes` on a machine with one, and copy that folder here" in said
    assert str(hub.place(NAME)) in said


def test_a_folder_copied_from_another_machine_is_here(
    tiny: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    resolve(NAME)
    tiny.__exit__()
    taken = hub.place(NAME)
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "other"))
    shutil.copytree(taken, hub.place(NAME), symlinks=True)
    assert resolve(NAME).folder.is_relative_to(tmp_path / "other")


def test_a_full_disk(tiny: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import file_download

    take = file_download.http_get

    class Full:
        """Room for 100,000 bytes."""

        def __init__(self, file: Any) -> None:
            self.file = file

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def write(self, data: bytes) -> None:
            self.file.write(data[:100_000])
            if len(data) > 100_000:
                raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(
        file_download, "http_get", lambda url, file, **more: take(url, Full(file), **more)
    )
    said = refusal(tiny)
    assert "expected room for more" in said
    assert "LABKIT_HOME=DIR" in said
    monkeypatch.setattr(file_download, "http_get", take)
    assert fingerprint(resolve(NAME).folder) == fingerprint(resolve("mini").folder)


def test_a_disk_that_is_too_small_is_seen_before(
    tiny: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "free_disk_bytes", lambda folder: 5_000_000)
    assert "expected 6.1 MB of free disk" in refusal(tiny)
    assert tiny.asked == []


def test_what_was_not_checked_to_the_end_is_not_whole(tiny: LoopbackHub) -> None:
    folder = resolve(NAME).folder
    (hub.place(NAME) / hub.TAKEN).rename(hub.place(NAME) / "elsewhere")
    tiny.__exit__()
    assert "Connection refused" in refusal(tiny), "every file is there, but not known to be right"
    (hub.place(NAME) / "elsewhere").rename(hub.place(NAME) / hub.TAKEN)
    assert resolve(NAME).folder == folder
    weights = (folder / WEIGHTS).resolve()
    weights.write_bytes(weights.read_bytes()[:-1])
    assert "Connection refused" in refusal(tiny)


def test_a_byte_that_changed_later_is_found_by_taking_it_again(tiny: LoopbackHub) -> None:
    weights = (resolve(NAME).folder / WEIGHTS).resolve()
    weights.write_bytes(tiny.files[WEIGHTS][:-1] + b"?")
    offer = hub.kept(NAME)
    with pytest.raises(CheckpointError, match="came with other bytes"):
        hub.take(offer)
    hub.take(offer)
    assert weights.read_bytes() == tiny.files[WEIGHTS]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model_type": "llama"}, "found 'llama'"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised already"),
        ({"auto_map": {"AutoModel": "evil.Model"}}, "code of its own"),
    ],
)
def test_what_cannot_be_converted_is_seen_before_its_weights_come(
    tiny: LoopbackHub, values: dict[str, Any], words: str
) -> None:
    config = json.loads(tiny.files["config.json"]) | values
    tiny.files["config.json"] = json.dumps(config).encode()
    assert words in refusal(tiny)
    assert WEIGHTS not in dict(tiny.asked)


def test_what_can_run_code_or_leads_elsewhere_is_left_there(tiny: LoopbackHub, home: Path) -> None:
    names = "../../evil.json sub/config.json .hidden.json pytorch_model.bin modeling.py".split()
    tiny.files |= dict.fromkeys(names, b"{}")
    resolve(NAME)
    assert not set(names) & dict(tiny.asked).keys()
    assert not [*home.rglob("evil*"), *home.rglob("sub"), *home.rglob("*.py")]


def test_a_repository_of_another_kind(tiny: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    del tiny.files[WEIGHTS]
    tiny.files["pytorch_model.pkl"] = b"?"
    assert "expected a checkpoint in safetensors or a model in MNN" in refusal(tiny)
    monkeypatch.setattr(tiny, "described", lambda: {"id": NAME, "siblings": None})
    assert "expected a checkpoint in safetensors" in refusal(tiny)


def test_a_mirror_without_hashes(tiny: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tiny.described()
    monkeypatch.setattr(tiny, "digest", lambda name: "../../x")
    assert "expected size and hash of every file" in refusal(tiny)
    for file in whole["siblings"]:
        file["size"] = None
    monkeypatch.setattr(tiny, "described", lambda: whole)
    assert "expected size and hash of every file" in refusal(tiny)


# ---- models that others converted


@pytest.fixture
def theirs(
    mini_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LoopbackHub]:
    """A converted model's files on a hub, without our manifest and bounds of pictures."""
    ours = (manifest.NAME, "preprocessor_config.json")
    folder = shutil.copytree(mini_folder, tmp_path / "theirs", ignore=lambda *_: ours)
    with serving(folder, monkeypatch) as served:
        yield served


def test_a_model_that_others_converted_is_checked_and_asked(
    theirs: LoopbackHub, mini_folder: Path
) -> None:
    from labkit.proof.parity import examples
    from labkit.proof.ready import open_model

    offer = hub.look(NAME)
    assert offer.converted
    folder = hub.take(offer)
    adopted, own = manifest.read(folder), manifest.read(mini_folder)
    assert "converted by others, no parity" in adopted.caveat
    assert adopted.parity is None
    assert (adopted.stop, adopted.image_pad, adopted.options) == (
        own.stop,
        own.image_pad,
        own.options,
    )
    assert all(manifest.verify(folder).values())
    with open_model(NAME) as model, open_model(mini_folder) as ours:
        image, question = examples()[0]
        assert model.ask(image, question).text == ours.ask(image, question).text


@pytest.mark.parametrize("name", ["visual.mnn", "llm.mnn.weight", "tokenizer.mtok"])
def test_a_model_that_lacks_a_part_is_no_model(theirs: LoopbackHub, name: str) -> None:
    del theirs.files[name]
    with pytest.raises(ModelError, match=f"expected {name} beside llm"):
        hub.take(hub.look(NAME))
    assert hub.kept(NAME) is None


@pytest.mark.parametrize(
    ("file", "values", "words"),
    [
        ("config.json", {"visual_model": "../../../x.mnn"}, "names '../../../x.mnn'"),
        ("llm_config.json", {"model_type": "qwen2_5_vl"}, "found 'qwen2_5_vl'"),
        ("llm_config.json", {"image_pad": None}, "an exporter too old"),
    ],
)
def test_a_model_that_is_none_of_ours_is_seen_before_its_weights_come(
    theirs: LoopbackHub, file: str, values: dict[str, Any], words: str
) -> None:
    theirs.files[file] = json.dumps(json.loads(theirs.files[file]) | values).encode()
    with pytest.raises(LabkitError) as failure:
        hub.take(hub.look(NAME))
    assert words in str(failure.value)
    assert "llm.mnn.weight" not in dict(theirs.asked)


def test_a_checkpoint_is_wanted_and_a_model_is_there(theirs: LoopbackHub) -> None:
    with pytest.raises(CheckpointError, match=f"labkit ask PICTURE QUESTION --model {NAME}"):
        resolve(NAME)
