"""labkit.model.manifest: a model is whole, or it is not opened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labkit.base.errors import ModelError
from labkit.model import manifest
from labkit.model.manifest import Manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Small files in place of a model's, and their manifest."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in manifest.REQUIRED:
        (folder / name).write_text(f'{{"this": "{name}", "tokenizer_file": "tokenizer.mtok"}}')
    manifest.write(
        folder,
        Manifest(
            source={"name": "mini", "parameters": 3},
            tools={},
            options={"weight_bits": 4, "vision_bits": 4},
            image={"min_pixels": 1, "max_pixels": 2},
            image_pad=3,
            stop=(4, 5),
            files=manifest.describe_files(folder),
            elapsed_s=1.5,
            peak_bytes=None,
        ),
    )
    return folder


def rewrite(folder: Path, **values: Any) -> None:
    file = folder / manifest.NAME
    content = json.loads(file.read_text()) | values
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))


def test_what_is_written_is_read(folder: Path) -> None:
    stored = manifest.read(folder)
    assert (stored.source, stored.stop, stored.elapsed_s, stored.peak_bytes, stored.parity) == (
        {"name": "mini", "parameters": 3},
        (4, 5),
        1.5,
        None,
        None,
    )
    assert stored.total_bytes == sum((folder / name).stat().st_size for name in manifest.REQUIRED)
    assert manifest.NAME not in stored.files
    manifest.write(folder, stored)
    assert manifest.read(folder) == stored
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [*manifest.REQUIRED, manifest.NAME]
    ), "nothing half-written stays"


def test_no_folder_and_no_manifest_say_how_to_make_one(folder: Path) -> None:
    with pytest.raises(ModelError, match="labkit convert mini --out"):
        manifest.read(folder / "nothing")
    (folder / manifest.NAME).unlink()
    with pytest.raises(ModelError, match="found none: not a model that labkit converted"):
        manifest.read(folder)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"schema": 1}', '{"schema": 1, "stop": 3}']
)
def test_a_damaged_manifest(folder: Path, text: str) -> None:
    (folder / manifest.NAME).write_text(text)
    with pytest.raises(ModelError, match=r"labkit\.json is damaged"):
        manifest.read(folder)


@pytest.mark.parametrize(
    "values",
    [
        {"files": []},
        {"files": {"llm.mnn": {}}},
        {"files": {"llm.mnn": 3}},
        {"stop": "4"},
        {"options": [4]},
        {"image": ...},
    ],
)
def test_a_manifest_of_another_shape(folder: Path, values: dict[str, Any]) -> None:
    rewrite(folder, **values)
    with pytest.raises(ModelError, match=r"labkit\.json is damaged"):
        manifest.read(folder)


def test_a_manifest_of_another_schema(folder: Path) -> None:
    rewrite(folder, schema=manifest.SCHEMA + 1)
    with pytest.raises(ModelError, match=rf"not of schema {manifest.SCHEMA} \(.* `\$\.schema`"):
        manifest.read(folder)


def test_a_missing_file_and_a_changed_size_are_seen_on_opening(folder: Path) -> None:
    (folder / "llm.mnn.weight").unlink()
    (folder / "visual.mnn").write_text("another size")
    with pytest.raises(
        ModelError, match=r"not whole: llm\.mnn\.weight, visual\.mnn missing or of another size"
    ):
        manifest.read(folder)


def test_a_manifest_that_lacks_a_part_is_refused(folder: Path) -> None:
    files = json.loads((folder / manifest.NAME).read_text())["files"]
    del files["tokenizer.mtok"]
    rewrite(folder, files=files)
    with pytest.raises(ModelError, match=r"not whole: tokenizer\.mtok"):
        manifest.read(folder)


def test_changed_content_of_the_same_size_is_found_by_verify_alone(folder: Path) -> None:
    text = (folder / "llm.mnn").read_text()
    (folder / "llm.mnn").write_text(text.swapcase())
    assert manifest.read(folder)
    stored = manifest.verify(folder)
    assert [name for name, same in stored.items() if not same] == ["llm.mnn"]
    assert set(stored) == set(manifest.REQUIRED)


@pytest.mark.parametrize("name", ["../other.mnn", "/etc/hostname", "linked.mnn"])
@pytest.mark.parametrize("file", ["config.json", "llm_config.json", manifest.NAME])
def test_a_file_outside_the_folder_is_never_opened(folder: Path, file: str, name: str) -> None:
    (folder.parent / "other.mnn").write_text("not the model's")
    (folder / "linked.mnn").symlink_to("../other.mnn")
    if file == manifest.NAME:
        files = json.loads((folder / file).read_text())["files"]
        rewrite(folder, files=files | {name: files["llm.mnn"]})
    else:
        config = {"mllm": {"visual_model": name}} if file == "config.json" else {"tmp_path": name}
        (folder / file).write_text(json.dumps(config))
    with pytest.raises(ModelError, match=rf"{file} names '{name}', expected a file in its own"):
        manifest.read(folder)


def test_a_second_configuration_is_looked_at_wherever_it_is(folder: Path) -> None:
    (folder / "config.json").write_text('{"llm_config": "other.json"}')
    (folder / "other.json").write_text('{"tokenizer_file": "../tokenizer.txt"}')
    with pytest.raises(ModelError, match=r"other\.json names '\.\./tokenizer\.txt'"):
        manifest.read(folder)


def test_a_part_that_is_a_link_out_is_refused(folder: Path) -> None:
    (folder / "visual.mnn").rename(folder.parent / "visual.mnn")
    (folder / "visual.mnn").symlink_to(folder.parent / "visual.mnn")
    with pytest.raises(ModelError, match=r"names 'visual\.mnn', expected a file in its own"):
        manifest.read(folder)


@pytest.mark.parametrize("text", ["{", "\xff"])
def test_a_configuration_that_is_no_json(folder: Path, text: str) -> None:
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelError, match=r"expected .* in .*config\.json"):
        manifest.read(folder)
