"""A checkpoint of the real dimensions with random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from labkit.base import paths
from labkit.base.errors import CheckpointError
from labkit.model import mapped, twin
from labkit.model.checkpoints import inspect, resolve

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def small() -> Path:
    """One layer of each part, with the real vocabulary: 0.3 billion weights."""
    return twin.cached("twin:2b/28")


def test_it_is_a_whole_checkpoint_of_the_real_widths(small: Path) -> None:
    known = inspect(small)
    assert known.dtype == "BF16"
    assert known.config["text_config"]["hidden_size"] == 1536
    assert known.image == {"min_pixels": 3136, "max_pixels": 12845056}
    language, tower = 46_797_824, 19_677_440  # weights of one layer of each
    rest = 151_936 * 1536 + 1536 + 1280 * 1176 + 2 * 1280 + 5120 * 5121 + 1536 * 5121
    assert known.parameters == language + tower + rest
    assert rest + 28 * language + 32 * tower == pytest.approx(2.209e9, rel=1e-3)


def test_a_block_has_the_real_widths_and_few_words() -> None:
    known = resolve("twin:2b/block")
    text, tower = known.config["text_config"], known.config["vision_config"]
    assert (text["num_hidden_layers"], tower["depth"], text["intermediate_size"]) == (1, 1, 8960)
    assert known.parameters < 110e6
    assert text["vocab_size"] > known.image_pad
    mapped.load(known.folder)


def test_transformers_takes_every_tensor_and_misses_none(small: Path) -> None:
    model = mapped.load(small)  # strict: names, numbers and shapes
    assert (
        model.lm_head.weight.data_ptr() == model.model.language_model.embed_tokens.weight.data_ptr()
    )


def test_a_name_gives_the_same_weights_again_and_another_name_others() -> None:
    name, shape = "model.layers.0.self_attn.o_proj.weight", [1536, 1536]
    first = twin.values(name, shape, 28)
    assert first.equal(twin.values(name, shape, 28))
    assert not first.equal(twin.values(name.replace("0", "1"), shape, 28))
    wide = twin.values(name.replace("o_", "q_"), shape, 28).float().std()
    assert float(wide) == pytest.approx(1536**-0.5, rel=0.01)
    narrow = float(first.float().std() / wide)
    assert narrow == pytest.approx(0.5 * 56**-0.5, rel=0.01), (
        "small where it joins the other layers"
    )


@pytest.mark.parametrize("name", ["twin:2b/0", "twin:2b/29", "twin:7b", "twin:", "twin:2b/"])
def test_a_twin_that_there_is_not(name: str) -> None:
    with pytest.raises(CheckpointError, match="expected twin:2b, or twin:2b/N with N up to 28"):
        resolve(name)


def test_interrupted_it_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(folder: Path, *_: object) -> None:
        (folder / "half").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(twin, "_write", stop)
    with pytest.raises(KeyboardInterrupt):
        resolve("twin:2b/27")
    assert not [*(paths.cache_dir() / "twins").glob("*27*")]
