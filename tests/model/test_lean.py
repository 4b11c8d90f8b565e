"""Conversion in little memory gives what llmexport gives when it is left alone."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from labkit.model import manifest
from labkit.model.chat import Model
from labkit.model.checkpoints import Checkpoint, resolve
from labkit.model.convert import convert
from labkit.model.plan import ConversionPlan
from labkit.proof.parity import cosine, examples, vision_stages
from labkit.proof.ready import cached

if TYPE_CHECKING:
    from pathlib import Path

GIB = 2**30
LEFT_ALONE = """
import sys, types
sys.modules["labkit.model.lean"] = types.SimpleNamespace(install=lambda _: None)
from labkit.model.exporter import main
main()
"""

ALONE = """
import sys
from pathlib import Path
from labkit.model.checkpoints import resolve
from labkit.model.convert import convert
from labkit.model.plan import ConversionPlan
convert(ConversionPlan(checkpoint=resolve(sys.argv[1]), out=Path(sys.argv[2])))
"""


def left_alone(plan: ConversionPlan, monkeypatch: pytest.MonkeyPatch) -> Model:
    argv = ConversionPlan.argv

    def ordinary(self: ConversionPlan, folder: Path) -> list[str]:
        words = argv(self, folder)
        return [sys.executable, "-c", LEFT_ALONE, *words[words.index("--path") :]]

    with monkeypatch.context() as patch:
        patch.setattr(ConversionPlan, "argv", ordinary)
        patch.setattr("labkit.model.convert.STAGES", (("Done", "all"),))
        convert(plan)
    return Model(plan.out)


def records(model: Model) -> list[tuple[bytes, dict[str, Any]]]:
    """Of each stored layer of the tower, in the order in which they run: its bytes, its shape."""
    stored = (model.folder / "visual.mnn.weight").read_bytes()
    layers = [op for op in model.graph("visual.mnn") if op["layer"]]
    places = [(op["external"][0], sum(op["external"][1:4])) for op in layers]
    return [
        (stored[start : start + size], op["layer"])
        for (start, size), op in zip(places, layers, strict=True)
    ]


@pytest.mark.convert
@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {
            "weight_bits": 8,
            "block_size": 0,
            "symmetric": True,
            "vision_bits": 8,
            "vision_block": 32,
            "vision_symmetric": True,
        },
    ],
    ids=["as usual", "8 bits, symmetric"],
)
def test_the_same_model_byte_for_byte(
    mini: Checkpoint, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ConversionPlan(checkpoint=mini, out=tmp_path / "ordinary", **options)
    with left_alone(other, monkeypatch) as ordinary, Model(cached(**options)) as lean:
        for name in ("llm.mnn.weight", "embeddings_bf16.bin", "tokenizer.mtok", "llm_config.json"):
            same = (lean.folder / name).read_bytes() == (ordinary.folder / name).read_bytes()
            assert same, f"{name} differs"
        ours, theirs = records(lean), records(ordinary)
        assert len(ours) == len(theirs) == 28, "patch embedding twice, 6 for each block, 2 to merge"
        for number, (our, their) in enumerate(zip(ours, theirs, strict=True)):
            assert our == their, f"layer {number} of the tower"
        image, question = examples()[0]
        both = [vision_stages(model, image)["image_embeds"] for model in (lean, ordinary)]
        assert cosine(*both) > 0.9999, "the same weights, added up in another order"
        assert len({model.ask(image, question).text for model in (lean, ordinary)}) == 1


@pytest.mark.convert
@pytest.mark.slow
def test_a_large_checkpoint_takes_little_memory(tmp_path: Path) -> None:
    twin, out = resolve("twin:2b/28"), tmp_path / "out"
    assert twin.weights_bytes > 0.6 * GIB
    # In a process of its own: this one holds what other tests hold, their engines too.
    subprocess.run([sys.executable, "-c", ALONE, twin.name, str(out)], check=True)
    peak_bytes = manifest.read(out).peak_bytes
    assert peak_bytes
    # Pages of the checkpoint's files count while the system leaves them in memory: 1.0 to 1.25 GiB.
    assert peak_bytes < 1.5 * GIB, "left alone, the exporter takes three times as much"
