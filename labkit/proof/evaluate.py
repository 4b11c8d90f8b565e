"""Score the embedded checkpoint on scenes that it never saw.

Half of the scenes hold a pair of objects that never stood together in training. An
answer counts only if it is right to the letter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from labkit.inside.reference import Reference
from labkit.model.chat import Model
from labkit.model.manifest import kind
from labkit.world.chance import Question, has_held_out_pair, random_question, random_scene
from labkit.world.drawing import render
from labkit.world.scenes import Scene
from labkit.world.words import TASKS

SEED = 99


@dataclass(frozen=True, kw_only=True)
class Case:
    """One scene and one question about it."""

    scene: Scene
    question: Question

    @property
    def held_out_pair(self) -> bool:
        """Whether two of its objects never stood together in training."""
        return has_held_out_pair(self.scene.kinds)


@dataclass(frozen=True, kw_only=True)
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


@dataclass(frozen=True, kw_only=True)
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


def _outcome(case: Case, answered: str) -> Outcome:
    q = case.question
    return Outcome(
        task=q.task,
        held_out_pair=case.held_out_pair,
        question=q.text,
        expected=q.answer,
        answered=answered,
    )


def score_model(
    model: Model, cases: list[Case], *, on_case: Callable[[int], None] | None = None
) -> Score:
    """Ask a converted model every question, through MNN-LLM."""
    options = model.manifest.options
    outcomes = []
    for number, case in enumerate(cases, 1):
        outcomes.append(
            _outcome(
                case, model.ask(render(case.scene), case.question.text, max_new_tokens=24).text
            )
        )
        if on_case:
            on_case(number)
    name = f"MNN {kind(options['weight_bits'])} (vision {kind(options['vision_bits'])})"
    return Score(engine=name, outcomes=tuple(outcomes))


def score_reference(
    reference: Reference,
    cases: list[Case],
    *,
    on_case: Callable[[int], None] | None = None,
    batch: int = 32,
) -> Score:
    """Score the original in transformers.

    The greedy answer equals the expected one if, and only if, each of its tokens is the likeliest
    after those before it; so one forward pass over question and answer decides, and only wrong ones
    are generated.
    """
    outcomes: dict[int, Outcome] = {}
    for chunk in _by_size(cases, batch):
        for index, right in zip(chunk, _right(reference, [cases[i] for i in chunk]), strict=True):
            case = cases[index]
            text = (
                case.question.answer
                if right
                else reference.ask(render(case.scene), case.question.text, max_new_tokens=24).text
            )
            outcomes[index] = _outcome(case, text)
        if on_case:
            on_case(len(outcomes))
    return Score(
        engine=f"transformers {str(reference.model.dtype).removeprefix('torch.')}",
        outcomes=tuple(outcomes[i] for i in range(len(cases))),
    )


def _by_size(cases: list[Case], batch: int) -> Iterator[list[int]]:
    sizes: dict[tuple[int, int], list[int]] = {}
    for index, case in enumerate(cases):
        sizes.setdefault((case.scene.height, case.scene.width), []).append(index)
    for indices in sizes.values():
        for start in range(0, len(indices), batch):
            yield indices[start : start + batch]


def _right(reference: Reference, cases: list[Case]) -> list[bool]:
    import torch

    inputs = [reference.inputs(render(c.scene), c.question.text) for c in cases]
    answers = [reference.tokenizer(c.question.answer + "<|im_end|>")["input_ids"] for c in cases]
    rows = [i["input_ids"][0].tolist() + a for i, a in zip(inputs, answers, strict=True)]
    width = max(map(len, rows))
    with torch.no_grad():
        logits = reference.model(
            input_ids=torch.tensor([row + [0] * (width - len(row)) for row in rows]),
            attention_mask=torch.tensor(
                [[1] * len(row) + [0] * (width - len(row)) for row in rows]
            ),
            pixel_values=torch.cat([i["pixel_values"] for i in inputs]),
            image_grid_thw=torch.cat([i["image_grid_thw"] for i in inputs]),
        ).logits.argmax(-1)
    return [
        logits[n, len(row) - len(a) - 1 : len(row) - 1].tolist() == a
        for n, (row, a) in enumerate(zip(rows, answers, strict=True))
    ]


def table(scores: list[Score]) -> str:
    """Scores side by side, per task."""
    names = [s.engine for s in scores]
    lines = [f"{'task':16}{'cases':>6}  " + "  ".join(f"{n:>26}" for n in names)]
    kinds: list[tuple[str, dict[str, Any]]] = [(task, {"task": task}) for task in TASKS]
    kinds += [
        ("new scenes", {"held_out_pair": False}),
        ("held-out pairs", {"held_out_pair": True}),
        ("all", {}),
    ]
    for label, choice in kinds:
        found = [s.accuracy(**choice) for s in scores]
        if found[0][1]:
            lines.append(
                f"{label:16}{found[0][1]:6}  "
                + "  ".join(f"{100 * right / total:25.1f}%" for right, total in found)
            )
    for score in scores:
        lines += ["", f"commonest wrong answers, {score.engine}:"]
        lines += [
            f"  {count:3} × {task:9} expected {expected!r}, answered {answered!r}"
            for task, expected, answered, count in score.confusions()
        ]
    return "\n".join(lines)
