"""What is read from the converted model is what it computes.

And what the original computes, but for rounding.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from labkit import Model
from labkit.base.errors import ProbeError, QuestionError
from labkit.inside import probes
from labkit.inside.attention import attention_pattern, rope_2d, rotate
from labkit.inside.looks import Look, Reading
from labkit.inside.probes import Probe
from labkit.inside.reference import Reference
from labkit.model.vision import to_grid
from labkit.model.weights import embeddings, quantize
from labkit.proof.evaluate import held_out_cases
from labkit.proof.parity import cosine, examples, vision_stages
from labkit.world.scenes import render

WIDE, TALL = examples()[1], examples()[2]


@pytest.fixture(scope="module")
def probe(mini_model: Model) -> Iterator[Probe]:
    with Probe(mini_model) as probe:
        yield probe


@pytest.fixture(scope="module")
def original(mini_reference: Reference) -> Reference:
    return mini_reference


@pytest.mark.parametrize("image", [WIDE[0], TALL[0]], ids=["wide", "tall"])
def test_the_tower_of_both_is_the_same_but_for_int4(
    probe: Probe, original: Reference, image: Any
) -> None:
    converted = probe.look(image)
    expected = original.look(converted.pixels)
    assert (converted.layers, converted.heads, converted.rows * 14, converted.cols * 14) == (
        4,
        4,
        *converted.pixels.shape[:2],
    )
    assert (converted.name, expected.name) == ("int4 in MNN", "float32 in transformers")
    assert np.array_equal(converted.pixels, expected.pixels)
    for layer in range(converted.layers):
        assert converted.pattern(layer).shape == (
            4,
            converted.rows * converted.cols,
            converted.rows * converted.cols,
        )
        assert cosine(converted.pattern(layer), expected.pattern(layer)) > 0.99, layer
        assert cosine(converted.hidden[layer + 1], expected.hidden[layer + 1]) > 0.995, layer
        scrambled = to_grid(converted.q[layer], converted.rows, converted.cols, axis=1)
        assert cosine(scrambled, expected.q[layer]) < 0.95, "another order of patches would be seen"
    assert cosine(converted.image_embeds, expected.image_embeds) > 0.99


def test_probing_changes_nothing(probe: Probe, mini_model: Model) -> None:
    converted, stages = probe.look(WIDE[0]), vision_stages(mini_model, WIDE[0])
    assert np.array_equal(converted.image_embeds, stages["image_embeds"])
    assert np.array_equal(
        converted.patch_embeddings,
        to_grid(stages["patch_embeddings"], converted.rows, converted.cols),
    )
    assert np.array_equal(converted.hidden[0], converted.patch_embeddings)


def test_patterns_are_transformers_own_attention_weights(
    original: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eager attention computes patterns by itself: those of Q and K must be the same."""
    from transformers.models.qwen2_vl import modeling_qwen2_vl

    eager, weights = modeling_qwen2_vl.eager_attention_forward, []

    def noted(*given: Any, **named: Any) -> Any:
        out, pattern = eager(*given, **named)
        weights.append(pattern[0].detach().numpy())
        return out, pattern

    monkeypatch.setattr(modeling_qwen2_vl, "eager_attention_forward", noted)
    configs = (
        original.model.config.vision_config,
        original.model.config.text_config,
    )
    for config in configs:
        monkeypatch.setattr(config, "_attn_implementation_internal", "eager")
    look = original.look(WIDE[0])
    assert len(weights) == look.layers
    for layer, theirs in enumerate(weights):
        mine = to_grid(to_grid(theirs, look.rows, look.cols, axis=1), look.rows, look.cols, axis=2)
        assert np.abs(look.pattern(layer) - mine).max() < 1e-5
    weights.clear()
    ids = tuple(original.inputs(*WIDE)["input_ids"][0].tolist())
    checkpoint = original.checkpoint
    words = Reading(
        name="not read yet",
        layers=4,
        pixels=look.pixels,
        q=dict.fromkeys(range(4), np.empty(0)),
        k={},
        ids=ids,
        pieces=("?",) * len(ids),
        said=0,
        pad=checkpoint.image_pad,
        stop=tuple(checkpoint.stop),
    )
    reading = original.read(words)
    assert reading.name == "float32 in transformers"
    assert len(weights) == 4 + reading.layers
    for layer, theirs in enumerate(weights[4:]):
        assert np.abs(reading.pattern(layer) - theirs).max() < 1e-5


def test_q_is_turned_by_the_position(original: Reference) -> None:
    look = original.look(WIDE[0])
    block = original.model.model.visual.blocks[0]
    import torch

    with torch.no_grad():
        flat = block.attn.qkv(block.norm1(torch.from_numpy(look.hidden[0]))).numpy()
    q = flat.reshape(len(flat), 3, look.heads, -1)[:, 0].transpose(1, 0, 2)
    assert np.abs(rotate(q, rope_2d(look.rows, look.cols, q.shape[2])) - look.q[0]).max() < 1e-4


@pytest.mark.parametrize("case", [WIDE, TALL], ids=["wide", "tall"])
def test_a_reading_of_both_is_the_same_but_for_int4(
    probe: Probe, original: Reference, mini_model: Model, case: Any
) -> None:
    converted = probe.read(*case)
    expected = original.read(converted)
    answer = mini_model.ask(*case)
    assert converted.answer == answer.text
    assert "".join(converted.words) == case[1] + answer.text
    assert converted.said == len(answer.tokens)
    said = len(converted.words) - converted.said
    assert np.array_equal(converted.queries[:said], converted.places[:said])
    assert np.array_equal(converted.queries[said:], converted.places[said:] - 1)
    for layer in range(converted.layers):
        assert cosine(converted.pattern(layer), expected.pattern(layer)) > 0.98, layer
        maps = converted.text_to_patch(layer)
        assert maps.shape == (6, len(converted.words), converted.rows * converted.cols)
        taken = converted.pattern(layer)[:, converted.queries][:, :, converted.visual]
        assert np.allclose(maps, taken, atol=1e-5)


def test_words_arrive_while_the_answer_streams(probe: Probe) -> None:
    seen: list[Reading] = []
    whole = probe.read(*WIDE, on_word=seen.append)
    assert [r.answer for r in seen] == [whole.answer[: len(r.answer)] for r in seen]
    assert len(seen) == whole.said
    for layer in range(whole.layers):  # a word's attention does not depend on what comes after it
        assert np.allclose(
            seen[0].text_to_patch(layer)[:, -1],
            whole.text_to_patch(layer)[:, -whole.said],
            atol=2e-3,
        )


def test_some_layers_only(probe: Probe) -> None:
    look, whole = probe.look(WIDE[0], layers=[2]), probe.look(WIDE[0])
    assert np.array_equal(look.pattern(2), whole.pattern(2))
    assert np.array_equal(look.pattern(2, 1), whole.pattern(2)[1])
    assert [p.shape for p in look.patterns()] == [(4, 96, 96)]
    with pytest.raises(
        ProbeError, match=r"layers that were looked at \(2 of 4\), received 0; pass layers=\[0\]"
    ):
        look.pattern(0)
    with pytest.raises(ProbeError, match="a head from 0 to 3, received 4"):
        look.pattern(2, 4)
    with pytest.raises(ProbeError, match="layers from 0 to 3, received 1, 9"):
        probe.look(WIDE[0], layers=[9, 1])


def test_the_smallest_and_a_very_large_picture(probe: Probe, mini_model: Model) -> None:
    small = probe.look(np.full((1, 1, 3), 200, np.uint8))
    assert small.pixels.shape == mini_model.prepare(np.zeros((1, 1, 3), np.uint8)).shape
    assert small.rows == small.cols
    assert (small.pixels == 200).all()
    large = probe.look(np.zeros((4000, 6000, 3), np.uint8))
    area = mini_model.budget.max_pixels
    assert large.rows * large.cols * 196 <= area
    assert large.cols > large.rows


def test_what_would_take_too_much_is_refused_before_it_runs(
    probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert probe.cost(WIDE[0]).startswith(
        "8×12 = 96 patches, 4 layers × 4 heads. "
        "Q, K and hidden states: 639 kB; one head's pattern: 36.9 kB"
    )
    monkeypatch.setattr(probes, "MOST_BYTES", 500_000)
    with pytest.raises(
        ProbeError, match=r"at most 500 kB; 4 layers at 96 patches take 639 kB\. Name some layers"
    ):
        probe.look(WIDE[0])
    assert probe.look(WIDE[0], layers=[0, 3]).q.keys() == {0, 3}


def test_a_reading_needs_a_picture_and_a_question(probe: Probe) -> None:
    with pytest.raises(QuestionError, match="expected a picture to look at"):
        probe.read(None, "Is there a cat?")  # type: ignore[arg-type]
    with pytest.raises(QuestionError, match="expected a question, received nothing"):
        probe.read(WIDE[0], " ")


@pytest.mark.parametrize(
    ("attention", "norms"),
    [(0, 0), (0, 9), (4, 8), (4, 4)],
    ids=["another model", "not fused", "no norm at the end", "norms fused"],
)
def test_a_graph_that_is_built_otherwise_is_named(attention: int, norms: int) -> None:
    graph = [{"type": "Attention", "inputs": ["q", "k", "v"]}] * attention + [
        {"type": "LayerNorm", "inputs": ["x"]}
    ] * norms
    with pytest.raises(ProbeError, match=f"found {attention} Attention and {norms} LayerNorm"):
        probes.find_taps(SimpleNamespace(graph=lambda _: graph), "visual.mnn")  # type: ignore[arg-type]


def test_the_engine_may_crash(mini_model: Model) -> None:
    with Probe(mini_model) as probe:
        before = probe.look(WIDE[0])
        engine = probe.beside.engine
        os.kill(engine.pid, signal.SIGKILL)
        while engine.alive:
            time.sleep(0.01)
        assert np.array_equal(probe.look(WIDE[0]).image_embeds, before.image_embeds)


@pytest.mark.parametrize("bits", [4, 8])
def test_embeddings_tied_to_the_head_are_read_from_its_codes(tmp_path: Path, bits: int) -> None:
    table = np.random.default_rng(0).standard_normal((20, 64)).astype(np.float32)
    coded = quantize(table, bits=bits, block_size=32)
    codes = coded.codes if bits == 8 else (coded.codes[:, ::2] << 4) | coded.codes[:, 1::2]
    alpha = np.stack([coded.minimum + coded.scale * 2 ** (bits - 1), coded.scale], -1).astype(
        np.float32
    )
    (tmp_path / "llm.mnn.weight").write_bytes(b"\0" * 12 + codes.tobytes() + alpha.tobytes())
    tied = [12, 12 + codes.nbytes, alpha.nbytes, bits, 32]
    (tmp_path / "llm_config.json").write_text(
        json.dumps({"hidden_size": 64, "tie_embeddings": tied})
    )
    assert np.allclose(embeddings(tmp_path, [3, 19, 3]), coded.dequantized()[[3, 19, 3]], atol=1e-5)


def test_embeddings_are_the_checkpoints(mini_folder: Path, mini_reference: Reference) -> None:
    theirs = mini_reference.model.model.language_model.embed_tokens.weight.detach().numpy()
    assert (
        np.abs(embeddings(mini_folder, range(700)) - theirs[:700]).max()
        < 0.01 * np.abs(theirs).max()
    )  # bfloat16


def test_where_words_look_can_be_recomputed_from_q_and_k(probe: Probe) -> None:
    case = held_out_cases(1)[0]
    reading = probe.read(render(case.scene), case.question.text)
    q, k = reading.qk(1)
    at = int(reading.queries[0])
    row = attention_pattern(q[:, at : at + 1], k[:, : at + 1])[:, 0]
    visual = row[:, reading.visual]
    assert np.allclose(reading.text_to_patch(1)[:, 0], visual, atol=1e-6)
    assert isinstance(probe.look(render(case.scene)), Look)
