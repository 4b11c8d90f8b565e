"""Train the embedded checkpoint: ``python data/mini-qwen2-vl/training/train.py OUT``.

Two phases, both seeded and resumable. First the vision tower alone learns to name
the object under each visual token; from scratch, the language model would find
nothing to hold on to. The words for the objects then begin where the tower already
points, and stay near it, and one head of the second layer is shown where to look, so
that "cat" in a question finds the cat in the picture.
Then the whole model learns to answer, several questions to a
picture: the picture stands once in the sequence, and each question and answer sees
the picture and itself, not its neighbours.

The work is shared by worker processes of one thread each, which is faster than one
process of several threads and holds its pace when a core is busy. The plan's batch
sizes are per worker; gradients are averaged over workers.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from make_tokenizer import SYSTEM, make_tokenizer
from safetensors.torch import load_file, save_file
from torch import distributed
from torch.multiprocessing.spawn import spawn
from torch.nn import functional
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLImageProcessor

from labkit.model.vision import FACTOR, PATCH_SIZE, mrope_positions, pixel_values
from labkit.world.chance import random_question, random_scene
from labkit.world.questions import plural
from labkit.world.scenes import NAMES, SIZES, Scene, render_array, sprite

MOST_CELLS = 8  # rows or columns of visual tokens in the largest scene, and some room
MIN_PIXELS, MAX_PIXELS = 112 * 112, 140 * 140


@dataclass(frozen=True, kw_only=True)
class TrainPlan:
    """Everything that decides the result."""

    seed: int = 1
    workers: int = 2
    tower_steps: int = 1000
    tower_batch: int = 32
    steps: int = 8000
    batch: int = 16
    questions: int = 6
    lr: float = 2e-3
    tower_share: float = 0.5
    cells_weight: float = 0.3
    pointing_weight: float = 0.4
    weight_decay: float = 0.02


def model_config(tokenizer: Any) -> Qwen2VLConfig:
    """Qwen2-VL's architecture with small dimensions; each linear layer's input is k × 32 wide.

    ``rope_theta`` is 20, not 1,000,000: with heads 32 wide the column of a picture
    gets the slowest rotations, and at a million they would hardly turn within one.
    """
    ids = tokenizer.convert_tokens_to_ids
    return Qwen2VLConfig(
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
        tie_word_embeddings=False,
        text_config=dict(
            hidden_size=192,
            intermediate_size=448,
            num_hidden_layers=4,
            num_attention_heads=6,
            num_key_value_heads=2,
            vocab_size=-(-len(tokenizer) // 64) * 64,
            max_position_embeddings=2048,
            tie_word_embeddings=False,
            bos_token_id=ids("<|endoftext|>"),
            eos_token_id=ids("<|im_end|>"),
            pad_token_id=ids("<|endoftext|>"),
            rope_theta=20.0,
            rope_scaling={"type": "mrope", "mrope_section": [4, 6, 6]},
        ),
        vision_config=dict(
            depth=4,
            embed_dim=128,
            hidden_size=192,
            num_heads=4,
            mlp_ratio=4,
            patch_size=PATCH_SIZE,
            spatial_merge_size=2,
            temporal_patch_size=2,
        ),
    )


# ---- data


def random_for(plan: TrainPlan, phase: str, step: int, worker: int) -> np.random.Generator:
    """The generator of one step: a run that was resumed sees the same scenes."""
    return np.random.default_rng([plan.seed, {"tower": 1, "model": 2}[phase], step, worker])


def cell_labels(scene: Scene) -> np.ndarray:
    """What lies under each visual token: (rows * cols,) int64.

    0 is ground, 1 and more an object, -100 too little of one to say.
    """
    cover = np.zeros((len(NAMES) + 1, scene.height // FACTOR, scene.width // FACTOR), np.float32)
    for o in scene.objects:
        mask = np.zeros((scene.height, scene.width), np.float32)
        mask[o.y : o.y + o.side, o.x : o.x + o.side] = (
            np.asarray(sprite(o.name, o.side))[:, :, 3] > 127
        )
        cells = mask.reshape(scene.height // FACTOR, FACTOR, scene.width // FACTOR, FACTOR).mean(
            (1, 3)
        )
        cover[NAMES.index(o.name) + 1] += cells
    best = cover.argmax(0)
    labels = np.where(cover.max(0) > 0.3, best, np.where(cover.max(0) < 0.05, 0, -100))
    return labels.reshape(-1)


def scenes(rng: np.random.Generator, count: int) -> list[Scene]:
    """A batch of scenes of one size, so that their sequences line up."""
    size = SIZES[int(rng.integers(len(SIZES)))]
    return [random_scene(rng, size) for _ in range(count)]


def picture_inputs(batch: list[Scene]) -> dict[str, torch.Tensor]:
    """Patches, grid and cell labels of a batch."""
    pixels = np.concatenate([pixel_values(render_array(s)) for s in batch])
    grid = [[1, s.height // PATCH_SIZE, s.width // PATCH_SIZE] for s in batch]
    return {
        "pixels": torch.from_numpy(pixels),
        "grid": torch.tensor(grid),
        "cells": torch.from_numpy(np.concatenate([cell_labels(s) for s in batch])),
    }


class Packer:
    """Lays several questions about one picture into one sequence."""

    def __init__(self, tokenizer: Any) -> None:
        self.encode: Callable[[str], list[int]] = lambda text: list(tokenizer(text)["input_ids"])
        self.image_pad = tokenizer.convert_tokens_to_ids("<|image_pad|>")
        self.before = self.encode(
            f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n<|vision_start|>"
        )
        self.after = self.encode("<|vision_end|>")
        self.cache: dict[str, list[int]] = {}
        self.words = [{self.encode(f" {n}")[0], self.encode(f" {plural(n)}")[0]} for n in NAMES]

    def _ids(self, text: str) -> list[int]:
        if text not in self.cache:
            self.cache[text] = self.encode(text)
        return self.cache[text]

    def __call__(
        self, batch: list[Scene], rng: np.random.Generator, questions: int
    ) -> dict[str, torch.Tensor]:
        """Scenes with questions as the model takes them.

        ids, targets (-100 where nothing is learned), M-RoPE positions (3, batch, length) and mask
        (batch, 1, length, length).
        """
        rows, cols = batch[0].height // FACTOR, batch[0].width // FACTOR
        prefix = self.before + [self.image_pad] * (rows * cols) + self.after
        positions = mrope_positions(len(self.before), rows, cols, len(self.after))
        start = int(positions.max()) + 1
        # MNN-LLM 3.6.1 counts tokens, not M-RoPE positions, once it decodes: the answer starts this
        # much too far on. Half of the answers are learned there, so that the checkpoint also talks
        # in `llm_demo`.
        jump = rows * cols - max(rows, cols)
        all_ids, all_targets, all_blocks, all_positions = [], [], [], []
        subjects: list[
            tuple[int, int, int, int]
        ] = []  # scene, place of the word, place where the answer begins, object
        for row, scene in enumerate(batch):
            ids, targets, blocks, places = (
                list(prefix),
                [-100] * len(prefix),
                [0] * len(prefix),
                [positions],
            )
            for number in range(1, questions + 1):
                q = random_question(rng, scene)
                asked, answered = (
                    self._ids(f"{q.text}<|im_end|>\n<|im_start|>assistant\n"),
                    self._ids(f"{q.answer}<|im_end|>"),
                )
                if q.subject:
                    which = NAMES.index(q.subject)
                    subjects += [
                        (row, len(ids) + at, len(ids) + len(asked) - 1, which + 1)
                        for at, token in enumerate(asked)
                        if token in self.words[which]
                    ]
                ids += asked + answered
                targets += [-100] * (len(asked) - 1) + answered + [-100]
                blocks += [number] * (len(asked) + len(answered))
                steps_on = np.arange(start, start + len(asked) + len(answered))
                if rng.random() < 0.5:
                    steps_on[len(asked) :] += jump
                places.append(np.tile(steps_on, (3, 1)))
            all_ids.append(ids)
            all_targets.append(targets)
            all_blocks.append(blocks)
            all_positions.append(np.concatenate(places, axis=1))
        length = max(map(len, all_ids))
        block = _padded(all_blocks, length, -1)
        causal = torch.ones(length, length, dtype=torch.bool).tril()
        mask = causal & ((block[:, None, :] == 0) | (block[:, None, :] == block[:, :, None]))
        return {
            "ids": _padded(all_ids, length, 0),
            "targets": _padded(all_targets, length, -100),
            "positions": torch.stack(
                [_padded([p[axis].tolist() for p in all_positions], length, 0) for axis in range(3)]
            ),
            "mask": mask[:, None],
            "subjects": torch.tensor(subjects).reshape(-1, 4),
        }


def _padded(rows: list[list[int]], length: int, value: int) -> torch.Tensor:
    return torch.tensor([row + [value] * (length - len(row)) for row in rows])


# ---- steps


class Trainer:
    """The model, its optimiser and where it stands; all of it in safetensors and JSON."""

    def __init__(self, plan: TrainPlan, worker: int = 0) -> None:
        torch.manual_seed(plan.seed)
        self.plan, self.worker, self.tokenizer = plan, worker, make_tokenizer()
        self.pack = Packer(self.tokenizer)
        self.model = Qwen2VLForConditionalGeneration(model_config(self.tokenizer))
        self.tower = self.model.model.visual
        self.head = torch.nn.Linear(192, len(NAMES) + 1)
        self.places = torch.nn.Linear(192, 2 * MOST_CELLS)
        spellings = (
            [f" {n}" for n in NAMES],
            [f" {plural(n)}" for n in NAMES],
            [n.capitalize() for n in NAMES],
        )
        self.words = [[self.pack.encode(word)[0] for word in words] for words in spellings]
        self.looking = {
            layer: self.model.model.language_model.layers[layer].self_attn for layer in (1, 2)
        }
        for attention in self.looking.values():
            attention.register_forward_pre_hook(self._remember, with_kwargs=True)
        self.remembered: dict[int, dict[str, Any]] = {}
        self.phase, self.step = "tower", 0
        self.optimizer = self._optimizer()

    def _optimizer(self) -> torch.optim.AdamW:
        tower = [*self.tower.parameters(), *self.head.parameters()]
        rest = [p for n, p in self.model.named_parameters() if not n.startswith("model.visual")] + [
            *self.places.parameters()
        ]
        groups = [{"params": tower, "scale": 1.0}]
        if self.phase == "model":
            groups = [
                {"params": tower, "scale": self.plan.tower_share},
                {"params": rest, "scale": 1.0},
            ]
        return torch.optim.AdamW(
            groups, lr=self.plan.lr, betas=(0.9, 0.98), weight_decay=self.plan.weight_decay
        )

    @property
    def total(self) -> int:
        """Steps of the present phase."""
        return self.plan.tower_steps if self.phase == "tower" else self.plan.steps

    def _rate(self) -> float:
        done = self.step / self.total
        floor = 0.1 if self.phase == "tower" else 0.02
        return (
            self.plan.lr
            * min(1.0, (self.step + 1) / 200)
            * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done)))
        )

    def _cells_loss(self, tokens: torch.Tensor, cells: torch.Tensor) -> tuple[torch.Tensor, float]:
        weight = self.head.weight
        if (
            self.phase == "model"
        ):  # named by the words themselves: a visual token is drawn to the word of what it shows
            weight = torch.cat(
                [weight[:1], self.model.get_input_embeddings().weight[self.words[0]]]
            )
        logits = functional.linear(tokens, weight, self.head.bias)
        named = cells > 0
        right = float((logits.argmax(-1)[named] == cells[named]).float().mean())
        return functional.cross_entropy(logits, cells, ignore_index=-100), right

    def run_step(self) -> dict[str, float]:
        """One update; returns the numbers to show."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["scale"] * self._rate()
        rng = random_for(self.plan, self.phase, self.step, self.worker)
        shown: dict[str, float] = {}
        if self.phase == "tower":
            picture = picture_inputs(scenes(rng, self.plan.tower_batch))
            loss, shown["cells"] = self._cells_loss(
                self.tower(picture["pixels"], grid_thw=picture["grid"]), picture["cells"]
            )
        else:
            batch = scenes(rng, self.plan.batch)
            picture = picture_inputs(batch)
            packed = self.pack(batch, rng, self.plan.questions)
            tokens = self.tower(picture["pixels"], grid_thw=picture["grid"])
            cells_loss, shown["cells"] = self._cells_loss(tokens, picture["cells"])
            logits, targets = self._answer_logits(packed, tokens)
            answers = functional.cross_entropy(logits, targets)
            shown["answer tokens"] = float((logits.argmax(-1) == targets).float().mean())
            pointing_loss, shown["pointing"] = self._pointing_loss(
                packed, picture["cells"].reshape(len(batch), -1)
            )
            places_loss = self._places_loss(batch[0].height // FACTOR, batch[0].width // FACTOR)
            shown["places"] = float(places_loss.detach())
            loss = (
                answers
                + self.plan.cells_weight * cells_loss
                + self.plan.pointing_weight * (pointing_loss + 0.5 * places_loss)
            )
        shown = {"loss": float(loss.detach()), **shown}
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._share_gradients()
        torch.nn.utils.clip_grad_norm_(
            [p for g in self.optimizer.param_groups for p in g["params"]], 1.0
        )
        self.optimizer.step()
        self.step += 1
        if self.phase == "tower" and self.step >= self.total:
            self.point_words_at_pictures()
            self.phase, self.step = "model", 0
            self.optimizer = self._optimizer()
        return shown

    def _remember(self, attention: Any, _: Any, kwargs: dict[str, Any]) -> None:
        self.remembered[attention.layer_idx] = kwargs

    def _scores(self, layer: int, scene: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        """Attention logits of a layer's head 0, as in the model: (chosen queries, length)."""
        attention, seen = self.looking[layer], self.remembered[layer]
        hidden, (cos, sin) = seen["hidden_states"], seen["position_embeddings"]
        width, section = attention.head_dim, attention.rope_scaling["mrope_section"] * 2
        cos, sin = (
            torch.cat([part[i % 3] for i, part in enumerate(x.split(section, dim=-1))], dim=-1)
            for x in (cos, sin)
        )

        def turned(
            x: torch.Tensor, linear: torch.nn.Linear, cos: torch.Tensor, sin: torch.Tensor
        ) -> torch.Tensor:
            y = functional.linear(x, linear.weight[:width], linear.bias[:width])
            return y * cos + torch.cat([-y[..., width // 2 :], y[..., : width // 2]], dim=-1) * sin

        query = turned(hidden[scene, place], attention.q_proj, cos[scene, place], sin[scene, place])
        key = turned(hidden, attention.k_proj, cos, sin)
        return torch.einsum("md,mnd->mn", query, key[scene]) / math.sqrt(width)

    def _pointing_loss(
        self, packed: dict[str, torch.Tensor], cells: torch.Tensor
    ) -> tuple[torch.Tensor, float]:
        """How far two heads are from the chain that answers need.

        L1H0 shall look, at the word for an object in a question, at the object's visual tokens, or
        at ``<|vision_start|>`` if there is none; L2H0, where the answer begins, at that word.
        Without this the answers alone must find both at once, and "Is there a cat?" stays at
        chance for thousands of steps.
        """
        scene, place, end, what = packed["subjects"].unbind(1)
        image = slice(len(self.pack.before) - 1, len(self.pack.before) + cells.shape[1])
        match = cells[scene] == what[:, None]
        match = torch.cat([~match.any(1, keepdim=True), match], dim=1)
        first, right = _looks_at(self._scores(1, scene, place)[:, image], match)
        scores = self._scores(2, scene, end).masked_fill(~packed["mask"][scene, 0, end], -math.inf)
        second, _ = _looks_at(scores, functional.one_hot(place, scores.shape[1]).bool())
        return first + second, right

    def _places_loss(self, rows: int, cols: int) -> torch.Tensor:
        """How far each visual token is, after the first layer, from telling its own row and column.

        The tower's positions are relative, so only here, measured from ``<|vision_start|>``, can a
        token know its place.
        """
        hidden = self.remembered[1]["hidden_states"][
            :, len(self.pack.before) : len(self.pack.before) + rows * cols
        ]
        guess = self.places(hidden).flatten(0, 1)
        row, col = (
            torch.arange(rows * cols).repeat(hidden.shape[0]).div(cols, rounding_mode="floor"),
            torch.arange(cols).repeat(hidden.shape[0] * rows),
        )
        return functional.cross_entropy(guess[:, :MOST_CELLS], row) + functional.cross_entropy(
            guess[:, MOST_CELLS:], col
        )

    @torch.no_grad()
    def point_words_at_pictures(self) -> None:
        """Let the words for each object begin in the direction in which the tower shows it."""
        for words in self.words:
            self.model.get_input_embeddings().weight[words] += self.head.weight[1:]

    def _share_gradients(self) -> None:
        """Average the gradients over workers, in one message."""
        if not distributed.is_initialized():
            return
        gradients = [
            p.grad for g in self.optimizer.param_groups for p in g["params"] if p.grad is not None
        ]
        flat = torch.cat([g.reshape(-1) for g in gradients])
        distributed.all_reduce(flat)
        flat /= self.plan.workers
        for gradient, piece in zip(
            gradients, flat.split([g.numel() for g in gradients]), strict=True
        ):
            gradient.copy_(piece.view_as(gradient))

    def _answer_logits(
        self, packed: dict[str, torch.Tensor], tokens: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        embeds = self.model.get_input_embeddings()(packed["ids"])
        where = packed["ids"] == self.pack.image_pad
        embeds = embeds.masked_scatter(where[:, :, None], tokens)
        hidden = self.model.model.language_model(
            inputs_embeds=embeds,
            position_ids=packed["positions"],
            attention_mask=packed["mask"],
            use_cache=False,
        ).last_hidden_state
        learned = packed["targets"] != -100
        return self.model.lm_head(hidden[learned]), packed["targets"][learned]

    # ---- resuming

    def save(self, folder: Path) -> None:
        """Write where the run stands; the old state stays until the new one is whole."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"head.{k}": v for k, v in self.head.state_dict().items()}
        tensors |= {f"places.{k}": v for k, v in self.places.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": v for k, v in state.items()}
        folder.mkdir(parents=True, exist_ok=True)
        meta = {"plan": json.dumps(asdict(self.plan)), "phase": self.phase, "step": str(self.step)}
        save_file(
            {k: v.detach().contiguous().clone() for k, v in tensors.items()},
            folder / "state.new",
            metadata=meta,
        )
        os.replace(folder / "state.new", folder / "state.safetensors")

    def resume(self, folder: Path) -> bool:
        """Go on from what ``save`` wrote; False if nothing is there."""
        file = folder / "state.safetensors"
        if not file.exists():
            return False
        from safetensors import safe_open

        with safe_open(file, "pt") as opened:
            meta = opened.metadata()
        if json.loads(meta["plan"]) != asdict(self.plan):
            print(
                f"note: {file} was begun with another plan; going on with the present one",
                file=sys.stderr,
            )
        tensors = load_file(file)
        self.phase, self.step = meta["phase"], int(meta["step"])
        self.optimizer = self._optimizer()
        self.model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
        self.head.load_state_dict({k[5:]: v for k, v in tensors.items() if k.startswith("head.")})
        self.places.load_state_dict(
            {k[7:]: v for k, v in tensors.items() if k.startswith("places.")}, strict=False
        )
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".")
                state.setdefault(int(index), {})[name] = value
        if state:
            self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        return True

    def export(self, folder: Path) -> None:
        """Write the checkpoint as a user gets it: fp16 safetensors, tokenizer, configs."""
        model = Qwen2VLForConditionalGeneration(self.model.config).half()
        model.load_state_dict(self.model.state_dict())
        model.generation_config.do_sample = False
        model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        Qwen2VLImageProcessor(
            min_pixels=MIN_PIXELS, max_pixels=MAX_PIXELS, patch_size=PATCH_SIZE, merge_size=2
        ).save_pretrained(folder)


def _looks_at(scores: torch.Tensor, match: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Cross-entropy of the attention on all matching keys; how often one has the largest score."""
    inside = scores.masked_fill(~match, -math.inf).logsumexp(1)
    right = match.gather(1, scores.argmax(1, keepdim=True)).float().mean()
    return (scores.logsumexp(1) - inside).mean(), float(right)


def steps(trainer: Trainer) -> Iterator[dict[str, float]]:
    """Run to the end of the plan."""
    while not (trainer.phase == "model" and trainer.step >= trainer.total):
        yield trainer.run_step()


def work(worker: int, plan: TrainPlan, out: Path, save_every: int, rendezvous: str) -> None:
    """One worker's whole run; worker 0 prints and saves."""
    torch.set_num_threads(1)
    if plan.workers > 1:
        distributed.init_process_group(
            "gloo", init_method=rendezvous, rank=worker, world_size=plan.workers
        )
    trainer, state = Trainer(plan, worker), out.with_name(out.name + ".state")
    resumed = trainer.resume(state)
    if worker == 0:
        print(
            f"{sum(p.numel() for p in trainer.model.parameters()):,} parameters,",
            "resumed" if resumed else "from the start",
            flush=True,
        )
    begun = time.perf_counter()
    sums: dict[str, float] = {}
    for done, shown in enumerate(steps(trainer), 1):
        sums = {k: sums[k] * 0.98 + v * 0.02 if k in sums else v for k, v in shown.items()}
        if worker == 0 and done % 50 == 0:
            pace = (time.perf_counter() - begun) / done
            left = pace * (trainer.total - trainer.step) / 60
            numbers = " ".join(f"{k} {v:.4f}" for k, v in sums.items())
            print(
                f"{trainer.phase} {trainer.step}/{trainer.total} {numbers} | "
                f"{pace:.2f} s a step, {left:.0f} min left in this phase",
                flush=True,
            )
        if worker == 0 and done % save_every == 0:
            trainer.save(state)
    if worker == 0:
        trainer.save(state)
        trainer.export(out)


def main(argv: list[str] | None = None) -> int:
    """Command line of the training."""
    parser = argparse.ArgumentParser(
        prog="python data/mini-qwen2-vl/training/train.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "out",
        type=Path,
        help="folder of the finished checkpoint; the running state is kept beside it in OUT.state",
    )
    parser.add_argument(
        "--save-every",
        type=int,
        default=200,
        metavar="STEPS",
        help="how often the state is kept (default 200)",
    )
    for name, value in asdict(TrainPlan()).items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(value),
            default=value,
            help=f"(default {value})",
        )
    args = parser.parse_args(argv)
    plan = replace(TrainPlan(), **{name: getattr(args, name) for name in asdict(TrainPlan())})
    with TemporaryDirectory() as meeting:
        job = (plan, args.out, args.save_every, f"file://{meeting}/workers")
        if plan.workers > 1:
            spawn(work, job, nprocs=plan.workers)
        else:
            work(0, *job)
    print(f"checkpoint in {args.out}; score it with: labkit eval --checkpoint {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
