"""labkit.model.checkpoints: a folder is a whole Qwen2-VL, or the error says what is amiss."""

from __future__ import annotations

import json
import math
import os
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from labkit.base.errors import CheckpointError
from labkit.model import digest
from labkit.model.checkpoints import Checkpoint, inspect, resolve
from labkit.model.digest import file_sha256, fingerprint

TENSORS = {"model.visual.patch_embed.proj.weight": [4, 3, 2, 14, 14], "lm_head.weight": [8, 4]}
BYTES = {"F16": 2, "BF16": 2, "F32": 4, "I8": 1}


def write_shard(path: Path, shapes: dict[str, list[int]], dtype: str = "F16") -> None:
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + BYTES[dtype] * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header | {"__metadata__": {"format": "pt"}}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))


def change(file: Path, **values: Any) -> None:
    content = json.loads(file.read_text()) | values
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole checkpoint in one file: nothing but what `inspect` looks at."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps({"model_type": "qwen2_vl", "image_token_id": 5, "eos_token_id": 2})
    )
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"min_pixels": 3136, "max_pixels": 12544})
    )
    (folder / "tokenizer.json").write_text("{}")
    write_shard(folder / "model.safetensors", TENSORS)
    return folder


@pytest.fixture
def sharded(folder: Path) -> Path:
    """The same in two files and an index."""
    (folder / "model.safetensors").unlink()
    where = {}
    for number, (name, shape) in enumerate(TENSORS.items(), 1):
        where[name] = f"model-{number:05}-of-00002.safetensors"
        write_shard(folder / where[name], {name: shape}, "BF16")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as failure:
        inspect(folder)
    return str(failure.value)


def test_the_embedded_checkpoint_is_whole(mini: Checkpoint) -> None:
    assert (mini.name, mini.dtype) == ("mini", "F16")
    assert 2e6 < mini.parameters < 6e6
    assert mini.weights_bytes < 12e6
    assert mini.config["vision_config"]["spatial_merge_size"] == 2


def test_one_file(folder: Path) -> None:
    checkpoint = resolve(folder)
    assert (
        checkpoint.name,
        checkpoint.dtype,
        checkpoint.parameters,
        checkpoint.stop,
        checkpoint.image_pad,
    ) == (
        "tiny",
        "F16",
        4 * 3 * 2 * 14 * 14 + 32,
        (2,),
        5,
    )
    assert checkpoint.image == {"min_pixels": 3136, "max_pixels": 12544}
    assert checkpoint.weights_bytes == (folder / "model.safetensors").stat().st_size


def test_several_shards_with_an_index(sharded: Path) -> None:
    checkpoint = inspect(sharded)
    assert (checkpoint.dtype, checkpoint.parameters) == ("BF16", 4 * 3 * 2 * 14 * 14 + 32)
    assert checkpoint.weights_bytes == sum(
        file.stat().st_size for file in sharded.glob("*.safetensors")
    )


def test_newer_spellings_of_sizes_and_of_stop_tokens(folder: Path) -> None:
    change(
        folder / "preprocessor_config.json",
        min_pixels=None,
        max_pixels=None,
        size={"shortest_edge": 784, "longest_edge": 5000},
    )
    change(folder / "config.json", eos_token_id=None, text_config={"eos_token_id": 7})
    checkpoint = inspect(folder)
    assert checkpoint.image == {"min_pixels": 784, "max_pixels": 5000}
    assert checkpoint.stop == (7,)
    (folder / "generation_config.json").write_text('{"eos_token_id": [7, 9]}')
    assert inspect(folder).stop == (7, 9)


def test_another_architecture(folder: Path) -> None:
    change(folder / "config.json", model_type="qwen2_5_vl")
    assert "found 'qwen2_5_vl'" in refusal(folder)


def test_text_only_weights(folder: Path) -> None:
    write_shard(folder / "model.safetensors", {"lm_head.weight": [8, 4]})
    assert "expected a vision tower" in refusal(folder)


def test_code_of_its_own(folder: Path) -> None:
    change(folder / "config.json", auto_map={"AutoModel": "evil.Model"})
    assert "'auto_map'" in refusal(folder)


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_weights_that_were_quantised_before(folder: Path, method: str) -> None:
    settings = {"quantization_config": {"quant_method": method, "bits": 4}}
    for values in (settings, {"quantization_config": None, "text_config": settings}):
        change(folder / "config.json", **values)
        assert "quantised already" in refusal(folder)
        assert "Take the original checkpoint" in refusal(folder)


@pytest.mark.parametrize(
    "name", ["config.json", "preprocessor_config.json", "model.safetensors", "tokenizer.json"]
)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert name in refusal(folder)


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "expected JSON in"), ("[1]", "found list"), ("\xff", "expected JSON in")],
)
def test_bad_json(folder: Path, text: str, words: str) -> None:
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    assert words in refusal(folder)


@pytest.mark.parametrize("key", ["image_token_id", "eos_token_id"])
def test_a_configuration_without_a_token_that_is_needed(folder: Path, key: str) -> None:
    for value in (None, "5", [None]):
        change(folder / "config.json", **{key: value})
        assert repr(key) in refusal(folder)


def test_a_missing_shard_is_named(sharded: Path) -> None:
    (sharded / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002-of-00002.safetensors" in refusal(sharded)


def test_an_index_of_another_kind(sharded: Path) -> None:
    for content in ({"weight_map": [1]}, {"weight_map": {"a": 1}}, {"weight_map": {}}, {}):
        (sharded / "model.safetensors.index.json").write_text(json.dumps(content))
        assert "model.safetensors" in refusal(sharded)


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/hostname", "linked.safetensors"])
def test_weights_outside_the_folder_are_never_read(sharded: Path, name: str) -> None:
    write_shard(sharded.parent / "other.safetensors", TENSORS)
    (sharded / "linked.safetensors").symlink_to("../other.safetensors")
    change(sharded / "model.safetensors.index.json", weight_map=dict.fromkeys(TENSORS, name))
    assert f"found {sharded / name}, which is outside" in refusal(sharded)


def test_one_file_of_weights_that_is_a_link_out(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "elsewhere")
    (folder / "model.safetensors").symlink_to(folder.parent / "elsewhere")
    assert "model.safetensors, which is outside" in refusal(folder)


def test_links_into_a_hub_cache_of_its_own_are_inside(sharded: Path, tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b/snapshots/1f"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sharded.iterdir()):
        file.rename(blobs / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    assert inspect(snapshot).parameters == 4 * 3 * 2 * 14 * 14 + 32
    linked = tmp_path / "linked"
    linked.symlink_to(snapshot)
    assert inspect(linked).dtype == "BF16"
    (snapshot / "model-00001-of-00002.safetensors").unlink()
    (snapshot / "model-00001-of-00002.safetensors").symlink_to("../../../somewhere")
    assert "which is outside" in refusal(snapshot)


def test_an_index_that_promises_more_than_its_shards_hold(sharded: Path) -> None:
    index = sharded / "model.safetensors.index.json"
    where = json.loads(index.read_text())["weight_map"]
    change(index, weight_map=where | {"model.norm.weight": where["lm_head.weight"]})
    assert "model.norm.weight" in refusal(sharded)


@pytest.mark.parametrize("kept", [0, 5, 60, -1])
def test_a_shard_that_was_cut_off(folder: Path, kept: int) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:kept])
    assert "damaged or cut off" in refusal(folder)


def test_a_shard_with_more_behind_it(folder: Path) -> None:
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"??")
    assert "damaged or cut off" in refusal(folder)


@pytest.mark.parametrize(
    "header",
    [
        b"not json",
        b"[1, 2]",
        b'{"w": 3}',
        b'{"w": {"dtype": "F16", "shape": ["x"], "data_offsets": [0, 0]}}',
        b'{"w": {"dtype": "F16", "shape": [2], "data_offsets": [0, 0]}}',
    ],
)
def test_a_garbage_header(folder: Path, header: bytes) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    assert "damaged or cut off" in refusal(folder)
    assert "header" in refusal(folder)


def test_a_page_saved_in_place_of_the_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_text("<html>Sign in to download</html>")
    assert "(32 bytes) is damaged or cut off, or not safetensors" in refusal(folder)


def test_quantised_weights(folder: Path) -> None:
    write_shard(folder / "model.safetensors", TENSORS, "I8")
    assert "expected weights of type BF16, F16, F32" in refusal(folder)
    assert "found I8" in refusal(folder)


def test_pickled_weights_are_never_read(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "pickled weights (.bin), which can run code" in refusal(folder)


def test_what_is_no_checkpoint_at_all(tmp_path: Path) -> None:
    for source in ("", "no such thing", tmp_path / "nothing", str(tmp_path / "a" / "b" / "c")):
        with pytest.raises(CheckpointError, match="expected"):
            resolve(source)
    with pytest.raises(CheckpointError, match=r"expected config\.json"):
        resolve(tmp_path)


@pytest.mark.parametrize("source", ["../nothing", "./nothing", "models/nothing."])
def test_a_relative_folder_that_is_not_there_is_no_crash(
    source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="nothing"):
        resolve(source)


def test_files_as_they_were_are_not_read_again_for_their_fingerprint(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []

    def counted(path: Path) -> str:
        reads.append(path.name)
        return file_sha256(path)

    monkeypatch.setattr(digest, "file_sha256", counted)
    fresh = fingerprint(folder)
    assert fingerprint(folder) == fresh
    assert len(reads) == 2 * len(set(reads)), "so new that a change might not show"
    monkeypatch.setattr(digest, "SETTLED_NS", 0)
    assert fingerprint(folder) == fresh
    reads.clear()
    assert fingerprint(folder) == fresh
    assert reads == []
    time.sleep(0.02)  # a file system's clock may tick every few milliseconds
    config, before = folder / "config.json", (folder / "config.json").stat()
    config.write_bytes(config.read_bytes().replace(b"qwen2_vl", b"qwen2_vx"))
    os.utime(config, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a copy that keeps times
    assert fingerprint(folder) != fresh


def test_the_fingerprint_sees_contents_and_names_but_not_times(folder: Path) -> None:
    first = fingerprint(folder)
    (folder / "tokenizer.json").write_text("{}")
    (folder / "README.md").write_text("not read by a conversion")
    assert fingerprint(folder) == first
    (folder / "tokenizer.json").write_text("{ }")
    second = fingerprint(folder)
    (folder / "tokenizer.json").rename(folder / "vocab.json")
    assert len({first, second, fingerprint(folder)}) == 3
