"""The training script: an interrupted run ends as any other; questions do not see neighbours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import train
from train import Trainer, TrainPlan, cell_labels, picture_inputs, random_for, scenes, steps

from labkit.inside.reference import Reference
from labkit.model import checkpoints
from labkit.world.chance import random_question, random_scene
from labkit.world.scenes import NAMES, Background, Placed, Scene

TINY = TrainPlan(workers=1, tower_steps=2, tower_batch=2, steps=2, batch=2, questions=2)


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    torch.set_num_threads(1)
    return Trainer(replace(TINY, batch=2, questions=3))


def state(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {
        **trainer.model.state_dict(),
        **{f"head.{k}": v for k, v in trainer.head.state_dict().items()},
    }


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# ---- resuming


@pytest.mark.parametrize(
    "stop", [1, 2, 3], ids=["in the tower's phase", "between the phases", "in the model's phase"]
)
def test_a_resumed_run_ends_with_the_same_numbers(tmp_path: Path, stop: int) -> None:
    whole = Trainer(TINY)
    begun = {name: value.clone() for name, value in state(whole).items()}
    told = list(steps(whole))
    assert len(told) == 4
    assert not same(begun, state(whole))

    first = Trainer(TINY)
    parts = [first.run_step() for _ in range(stop)]
    first.save(tmp_path)
    first.save(tmp_path)  # again, over the old one
    second = Trainer(TINY)
    assert second.resume(tmp_path)
    assert (second.phase, second.step) == (first.phase, first.step)
    parts += list(steps(second))
    np.testing.assert_equal(
        parts, told
    )  # equal to the last bit, and a NaN (no object in sight) equals a NaN
    assert same(state(second), state(whole))
    assert [p.name for p in tmp_path.iterdir()] == ["state.safetensors"]


def test_nothing_to_resume_and_another_plan(
    tmp_path: Path, trainer: Trainer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not trainer.resume(tmp_path)
    first = Trainer(TINY)
    first.save(tmp_path)
    assert Trainer(replace(TINY, steps=3)).resume(tmp_path)
    assert "was begun with another plan" in capsys.readouterr().err


def test_every_step_and_worker_has_scenes_of_its_own() -> None:
    drawn = {
        random_for(TINY, phase, step, worker).random()
        for phase in ("tower", "model")
        for step in range(5)
        for worker in range(2)
    }
    assert len(drawn) == 20
    assert random_for(TINY, "tower", 3, 1).random() in drawn


# ---- the command


def test_the_command_makes_a_whole_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = "--workers 1 --tower-steps 1 --tower-batch 2 --steps 1 --batch 2 --questions 1"
    assert train.main([str(tmp_path / "mini"), *arguments.split(), "--seed", "3"]) == 0
    made = checkpoints.inspect(tmp_path / "mini")
    embedded = checkpoints.resolve("mini")
    assert (made.dtype, made.parameters) == ("F16", embedded.parameters)
    assert (made.image, made.image_pad, made.stop) == (
        embedded.image,
        embedded.image_pad,
        embedded.stop,
    )
    widths = [c["hidden_size"] for c in (made.config["text_config"], made.config["vision_config"])]
    assert all(
        width % 32 == 0
        for width in [
            *widths,
            made.config["text_config"]["intermediate_size"],
            made.config["vision_config"]["embed_dim"],
        ]
    )
    answer = Reference(made).ask(
        np.zeros((112, 112, 3), np.uint8), "Is there a cat?", max_new_tokens=2
    )
    assert len(answer.tokens) == 2
    assert "labkit eval --checkpoint" in capsys.readouterr().out


@pytest.mark.slow
def test_two_workers_share_their_gradients(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    arguments = "--tower-steps 1 --tower-batch 2 --steps 1 --batch 2 --questions 1".split()
    made = []
    for workers in ("1", "2"):
        assert train.main([str(tmp_path / workers), *arguments, "--workers", workers]) == 0
        made.append(load_file(tmp_path / workers / "model.safetensors"))
    name = (
        "model.visual.patch_embed.proj.weight"
        if "model.visual.patch_embed.proj.weight" in made[0]
        else "visual.patch_embed.proj.weight"
    )
    assert not torch.equal(made[0][name], made[1][name]), "the second worker's scenes count"


# ---- packing


def packed(trainer: Trainer, seed: int) -> tuple[list[Scene], dict[str, torch.Tensor]]:
    rng = np.random.default_rng(seed)
    batch = scenes(rng, 2)
    return batch, trainer.pack(batch, rng, 3)


def hidden(trainer: Trainer, content: dict[str, Any], tokens: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        embeds = trainer.model.get_input_embeddings()(content["ids"])
        embeds = embeds.masked_scatter(
            (content["ids"] == trainer.pack.image_pad)[:, :, None], tokens
        )
        states: torch.Tensor = trainer.model.model.language_model(
            inputs_embeds=embeds,
            position_ids=content["positions"],
            attention_mask=content["mask"],
            use_cache=False,
        ).last_hidden_state
    return states


def test_a_question_sees_the_picture_and_itself_and_never_its_neighbours(trainer: Trainer) -> None:
    batch, content = packed(trainer, 5)
    picture = picture_inputs(batch)
    with torch.no_grad():
        tokens = trainer.tower(picture["pixels"], grid_thw=picture["grid"])
    together = hidden(trainer, content, tokens)
    cells = picture["cells"].reshape(2, -1).shape[1]
    prefix = len(trainer.pack.before) + cells + len(trainer.pack.after)
    length = content["ids"].shape[1]
    for row in range(2):
        # A question's tokens are those that see its first token; its own length ends where the next
        # one begins.
        inside = content["mask"][row, 0]
        starts = [
            place for place in range(prefix, length) if int(inside[place].sum()) == prefix + 1
        ]
        assert len(starts) >= 3
        for number, start in enumerate(starts[:3]):
            end = starts[number + 1] if number + 1 < len(starts) else length
            keep = torch.tensor([*range(prefix), *range(start, end)])
            alone = {
                "ids": content["ids"][row : row + 1, keep],
                "positions": content["positions"][:, row : row + 1, keep],
                "mask": torch.ones(len(keep), len(keep), dtype=torch.bool).tril()[None, None],
            }
            single = hidden(trainer, alone, tokens.reshape(2, cells, -1)[row])
            assert (single[0] - together[row, keep]).abs().max() < 1e-4, (
                "float32 sums in another order"
            )
    spoilt = {**content, "ids": content["ids"].clone()}
    spoilt["ids"][1, starts[0] : starts[1]] = 7
    changed = (hidden(trainer, spoilt, tokens) - together).abs().amax(-1)
    assert changed[1, starts[0] : starts[1]].min() > 1e-3
    changed[1, starts[0] : starts[1]] = 0
    assert not changed.any()


def test_each_target_is_the_next_token_of_an_answer(trainer: Trainer) -> None:
    _, content = packed(trainer, 6)
    end = trainer.tokenizer.convert_tokens_to_ids("<|im_end|>")
    for ids, targets in zip(content["ids"].tolist(), content["targets"].tolist(), strict=True):
        learned = [place for place, target in enumerate(targets) if target != -100]
        assert all(targets[place] == ids[place + 1] for place in learned)
        answers = trainer.tokenizer.decode([targets[place] for place in learned]).split(
            "<|im_end|>"
        )
        assert len(answers) == 4
        assert answers[3] == ""
        assert all(answer.endswith(".") for answer in answers[:3])
        assert [targets[place] for place in learned].count(end) == 3


def test_one_question_is_laid_out_as_the_chat_template_does(trainer: Trainer) -> None:
    rng = np.random.default_rng(9)
    scene = random_scene(rng, (112, 140))
    question = random_question(np.random.default_rng(1), scene)
    content = trainer.pack([scene], np.random.default_rng(1), 1)
    parts = [{"type": "image"}, {"type": "text", "text": question.text}]
    prompt = trainer.tokenizer.apply_chat_template(
        [{"role": "user", "content": parts}], tokenize=False, add_generation_prompt=True
    )
    prompt = prompt.replace("<|image_pad|>", "<|image_pad|>" * 20)
    expected = trainer.tokenizer(prompt + question.answer + "<|im_end|>")["input_ids"]
    assert content["ids"][0].tolist() == expected
    theirs, _ = trainer.model.model.get_rope_index(content["ids"], torch.tensor([[1, 8, 10]]))
    asked = len(trainer.tokenizer(prompt)["input_ids"])
    assert torch.equal(content["positions"][:, :, :asked], theirs[:, :, :asked])
    further = set((content["positions"] - theirs)[:, :, asked:].flatten().tolist())
    assert further in ({0}, {20 - 5}), "where Qwen2-VL goes on, or where MNN-LLM 3.6.1 does"


def test_half_of_the_answers_stand_where_mnn_puts_them(trainer: Trainer) -> None:
    scene = random_scene(np.random.default_rng(9), (112, 112))
    far = 0
    for seed in range(60):
        content = trainer.pack([scene], np.random.default_rng(seed), 1)
        far += bool((content["positions"][0, 0].diff() > 4).any())
    assert 15 < far < 45


# ---- what the tower learns first


def test_cells_are_named_by_what_covers_them() -> None:
    ground = Background()
    labels = cell_labels(
        Scene(
            height=112,
            width=84,
            objects=(Placed(name="pizza", x=28, y=28, side=52),),
            background=ground,
        )
    ).reshape(4, 3)
    assert labels[1, 1] == NAMES.index("pizza") + 1
    assert labels[0, 0] == labels[3, 0] == 0
    assert set(labels.ravel()) <= {0, -100, NAMES.index("pizza") + 1}
    assert not cell_labels(Scene(height=56, width=56, objects=())).any()


def test_words_begin_where_the_tower_points() -> None:
    fresh = Trainer(TINY)
    before = fresh.model.get_input_embeddings().weight.detach().clone()
    fresh.point_words_at_pictures()
    moved = fresh.model.get_input_embeddings().weight.detach() - before
    cat = NAMES.index("cat")
    for words in fresh.words:
        assert torch.allclose(moved[words[cat]], fresh.head.weight[cat + 1], atol=1e-6)
    untouched = torch.ones(len(moved), dtype=torch.bool)
    untouched[[word for words in fresh.words for word in words]] = False
    assert not moved[untouched].any()
