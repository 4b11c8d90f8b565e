"""Score the embedded checkpoint on scenes that it never saw.

Half of the scenes hold a pair of objects that never stood together in training. An
answer counts only if it is right to the letter.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from labkit.base.data import frozen
from labkit.base.show import Table
from labkit.inside.reference import Reference
from labkit.model.chat import Model
from labkit.world.chance import Question, has_held_out_pair, random_question, random_scene
from labkit.world.questions import TASKS
from labkit.world.scenes import Scene, render

SEED = 99


@frozen
class Case:
    """One scene and one question about it."""

    scene: Scene
    question: Question

    @property
    def held_out_pair(self) -> bool:
        """Whether two of its objects never stood together in training."""
        return has_held_out_pair(self.scene.kinds)


@frozen
class Outcome:
    """One case, answered."""

    task: str
    held_out_pair: bool
    question: str
    expected: str
    answered: str

    @property
    def right(self) -> bool:
        """Right to the letter."""
        return self.expected == self.answered


@frozen
class Score:
    """All outcomes of one engine."""

    engine: str
    outcomes: tuple[Outcome, ...]

    def accuracy(
        self, task: str | None = None, *, held_out_pair: bool | None = None
    ) -> tuple[int, int]:
        """How many are right, of how many, overall or of one kind."""
        chosen = [
            o
            for o in self.outcomes
            if task in (None, o.task) and held_out_pair in (None, o.held_out_pair)
        ]
        return sum(o.right for o in chosen), len(chosen)

    def confusions(self, most: int = 10) -> list[tuple[str, str, str, int]]:
        """The commonest wrong answers: task, expected, answered, how often."""
        wrong = Counter((o.task, o.expected, o.answered) for o in self.outcomes if not o.right)
        return [(*key, count) for key, count in wrong.most_common(most)]

    def to_dict(self) -> dict[str, Any]:
        """For JSON: scores per task, and every wrong answer."""
        rows = {task: self.accuracy(task) for task in TASKS}
        return {
            "engine": self.engine,
            "all": self.accuracy(),
            "new_scenes": self.accuracy(held_out_pair=False),
            "held_out_pairs": self.accuracy(held_out_pair=True),
            "tasks": rows,
            "wrong": [asdict(o) for o in self.outcomes if not o.right],
        }


def held_out_cases(count: int) -> list[Case]:
    """The same cases every time: even ones new scenes, odd ones with a held-out pair."""
    cases = []
    for i in range(count):
        rng = np.random.default_rng([SEED, i])
        scene = random_scene(rng, held_out=i % 2 == 1)
        cases.append(Case(scene=scene, question=random_question(rng, scene)))
    return cases


def score_model(model: Model, cases: Iterable[Case]) -> Score:
    """Ask a converted model every question, through MNN-LLM, one after the other."""
    weights, vision = map(model.manifest.kind, ("weight_bits", "vision_bits"))
    return Score(
        engine=f"MNN {weights} (vision {vision})",
        outcomes=tuple(_outcome(case, _said(model, case)) for case in cases),
    )


def score_reference(reference: Reference, cases: Iterable[Case], *, batch: int = 32) -> Score:
    """Score the original in transformers.

    The greedy answer equals the expected one if, and only if, each of its tokens is the likeliest
    after those before it; so one forward pass over question and answer decides, and only wrong
    ones are generated. Cases are taken ``batch`` at a time.
    """
    outcomes: list[Outcome] = []
    ahead = iter(cases)
    while chunk := list(islice(ahead, batch)):
        for case, right in zip(chunk, _right(reference, chunk), strict=True):
            said = case.question.answer if right else _said(reference, case)
            outcomes.append(_outcome(case, said))
    dtype = str(reference.dtype).removeprefix("torch.")
    return Score(engine=f"transformers {dtype}", outcomes=tuple(outcomes))


def _said(model: Model | Reference, case: Case) -> str:
    return model.ask(render(case.scene), case.question.text, max_new_tokens=24).text


def _outcome(case: Case, answered: str) -> Outcome:
    asked = case.question
    return Outcome(
        task=asked.task,
        held_out_pair=case.held_out_pair,
        question=asked.text,
        expected=asked.answer,
        answered=answered,
    )


def _right(reference: Reference, cases: list[Case]) -> list[bool]:
    """Whether every token of each case's answer is the likeliest after those before it."""
    torch = reference.torch
    inputs = [reference.inputs(render(c.scene), c.question.text) for c in cases]
    prompts = [given.pop("input_ids")[0].tolist() for given in inputs]
    answers = reference.tokenizer([f"{c.question.answer}<|im_end|>" for c in cases])["input_ids"]
    rows = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
    pad = partial(torch.nn.utils.rnn.pad_sequence, batch_first=True)
    batch = {
        "input_ids": pad([torch.tensor(row) for row in rows]),
        "attention_mask": pad([torch.ones(len(row), dtype=torch.long) for row in rows]),
    }
    for name in ("pixel_values", "image_grid_thw"):
        batch[name] = torch.cat([given[name] for given in inputs])
    with torch.no_grad():
        likeliest = reference.model(**batch).logits.argmax(-1).tolist()
    return [
        taken[len(prompt) - 1 : len(row) - 1] == answer
        for taken, prompt, row, answer in zip(likeliest, prompts, rows, answers, strict=True)
    ]


def table(scores: list[Score]) -> str:
    """Scores side by side, per task, and each engine's commonest wrong answers."""
    kinds: dict[str, dict[str, Any]] = {task: {"task": task} for task in TASKS} | {
        "new scenes": {"held_out_pair": False},
        "held-out pairs": {"held_out_pair": True},
        "all": {},
    }
    rows = []
    for label, choice in kinds.items():
        counts = [score.accuracy(**choice) for score in scores]
        if total := counts[0][1]:
            rows.append((label, total, *(f"{right / total:.1%}" for right, _ in counts)))
    lines = [repr(Table(("task", "cases", *(score.engine for score in scores)), rows))]
    for score in scores:
        lines += ["", f"commonest wrong answers, {score.engine}:"]
        lines += [
            f"  {count:3} × {task:9} expected {expected!r}, answered {answered!r}"
            for task, expected, answered, count in score.confusions()
        ]
    return "\n".join(lines)
