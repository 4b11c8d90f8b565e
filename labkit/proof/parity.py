"""Parity: whether the converted model computes what the original computes.

The same pictures and questions go through both, and each stage is compared. The
first stage that departs is where the conversion went wrong; everything after it is
only a consequence.
"""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from labkit.base import paths
from labkit.base.data import frozen
from labkit.base.errors import ConversionError
from labkit.base.records import from_json
from labkit.base.show import Table
from labkit.inside.probes import find_taps
from labkit.inside.reference import Reference
from labkit.model.chat import Model
from labkit.model.checkpoints import LARGE, Checkpoint
from labkit.model.images import ImageLike
from labkit.model.parts import Part, vision_inputs
from labkit.world.scenes import Scene, render

MEANING = {
    "pixel_values": "the picture, resized, normalised, cut into patches",
    "patch_embeddings": "each patch as a vector",
    "image_embeds": "visual tokens, as the language model gets them",
    "first_logits": "scores of the answer's first token, through MNN-LLM",
}
# Least cosine that a sound conversion reaches, by bits of the part that computes the stage.
# Measured on the embedded checkpoint, worst of 60 pictures: patch_embeddings 0.9997 with int4 and
# 0.99999 with int8, image_embeds 0.998 and 0.9999, first_logits 0.967 and 0.9975; with 16 bits
# 0.9999999 and first_logits 0.99999. Faults stay below: swapped colours at 0.96 in the patch
# embeddings, scrambled positions at 0.96 in the image embeddings of `examples`, another picture
# below 0.1 in their logits, MNN's own positions after a tall picture at 0.994 in the logits at 16
# bits.
LEAST_COSINE = {
    "pixel_values": {4: 0.9999, 8: 0.9999, 16: 0.9999},
    "patch_embeddings": {4: 0.99, 8: 0.999, 16: 0.9999},
    "image_embeds": {4: 0.98, 8: 0.999, 16: 0.9999},
    "first_logits": {4: 0.9, 8: 0.99, 16: 0.999},
}


@frozen
class StageParity:
    """One stage, compared: the worst over all pictures."""

    stage: str
    cosine: float
    max_error: float
    least_cosine: float

    @property
    def holds(self) -> bool:
        """Whether the stage agrees."""
        return self.cosine >= self.least_cosine


@frozen
class AnswerParity:
    """One question, answered by both."""

    question: str
    original: str
    converted: str


@frozen
class Parity:
    """A whole comparison."""

    stages: tuple[StageParity, ...]
    answers: tuple[AnswerParity, ...]

    @property
    def first_departure(self) -> str | None:
        """The first stage that does not agree; None if all do."""
        return next((s.stage for s in self.stages if not s.holds), None)

    @property
    def same_answers(self) -> int:
        """How many answers are word for word the same."""
        return sum(a.original == a.converted for a in self.answers)

    def require(self) -> None:
        """Raise unless every stage agrees.

        Raises
        ------
        ConversionError
            Naming the first stage that departs.
        """
        if self.first_departure:
            raise ConversionError(
                f"the converted model departs from the original at {self.first_departure!r} "
                f"({MEANING[self.first_departure]}).\n{self}\n"
                "What comes after that stage only follows from it. Try 8 bits for that part; "
                "if that departs too, the exporter and the checkpoint do not fit together."
            )

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Parity":
        """From the manifest, which has it as ``dataclasses.asdict`` gives it."""
        return msgspec.convert(content, cls)

    def __str__(self) -> str:
        rows = [
            (
                s.stage,
                f"{s.cosine:.6f}",
                f"{s.least_cosine:.4f}",
                f"{s.max_error:.4g}",
                "agrees" if s.holds else "DEPARTS",
            )
            for s in self.stages
        ]
        differing = [
            f"  {a.question}  original: {a.original}  converted: {a.converted}"
            for a in self.answers
            if a.original != a.converted
        ]
        same = f"{self.same_answers} of {len(self.answers)} answers are word for word the same"
        table = Table(("stage", "cosine", "at least", "max error", ""), rows)
        return "\n".join([repr(table), same, *differing])


def examples() -> list[tuple[ImageLike, str]]:
    """Three pictures, square, wide and tall, and a question about each.

    The first word of each answer already depends on what is seen.
    """
    stored = (paths.data_dir() / "scenes" / "parity.json").read_bytes()
    return [(render(scene), text) for scene, text in from_json(list[tuple[Scene, str]], stored)]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of the angle between two arrays, taken as one vector each.

    >>> cosine(np.array([1.0, 0.0]), np.array([1.0, 1.0])).__round__(3)
    0.707
    """
    x, y = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
    norm = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / norm if norm else float(np.array_equal(x, y))


def vision_stages(model: Model, image: ImageLike) -> dict[str, np.ndarray]:
    """What stands after each stage of the vision tower *of the converted model*.

    Returns
    -------
    dict of numpy.ndarray
        As `labkit.inside.reference.Reference.stages`, without the logits.
    """
    given = vision_inputs(model.prepare(image))
    tap = find_taps(model, "visual.mnn").hidden[0]
    tower = Part(
        name="visual.mnn",
        file=model.folder / "visual.mnn",
        outputs=(tap, "image_embeds"),
        arrays=given,
    )
    computed = model.forward(tower)
    embeds = computed["image_embeds"]
    return {
        "pixel_values": given["patches"],
        "patch_embeddings": computed[tap].reshape(len(given["patches"]), -1),
        "image_embeds": embeds.reshape(-1, embeds.shape[-1]),
    }


def compare(
    folder: Path, checkpoint: Checkpoint, *, cases: list[tuple[ImageLike, str]] | None = None
) -> Parity:
    """Run both models over the cases and compare each stage.

    Parameters
    ----------
    folder
        The converted model.
    checkpoint
        What it was converted from.
    cases
        Pictures and questions; by default `examples`.

    Returns
    -------
    Parity
        The worst of all cases, stage by stage.
    """
    cases = cases or examples()
    tokens = 4 if checkpoint.parameters > LARGE else 64
    with Model(folder) as model:  # one after the other: never both in memory
        answered = [model.ask(*case, max_new_tokens=tokens) for case in cases]
        model.close()  # the next call starts a new engine, which holds the tower alone
        seen = [
            vision_stages(model, image) | {"first_logits": answer.first_logits}
            for (image, _), answer in zip(cases, answered, strict=True)
        ]
    reference = Reference(checkpoint)
    measured, answers = [], []
    for (image, question), answer, computed in zip(cases, answered, seen, strict=True):
        expected = reference.stages(image, question)
        measured.append([_apart(stage, expected[stage], computed[stage]) for stage in MEANING])
        original = reference.ask(image, question, max_new_tokens=tokens).text
        answers.append(AnswerParity(question=question, original=original, converted=answer.text))
    near, far = np.array(measured).transpose(2, 0, 1)  # each (cases, stages)
    vision_bits, weight_bits = (model.manifest.options[n] for n in ("vision_bits", "weight_bits"))
    bits = dict.fromkeys(MEANING, vision_bits)
    bits["first_logits"] = min(vision_bits, weight_bits)  # they inherit the vision tower's error
    # Unlike Python's min and max, NumPy's keep a NaN.
    worst = zip(bits.items(), near.min(axis=0).tolist(), far.max(axis=0).tolist(), strict=True)
    stages = tuple(
        StageParity(stage=stage, cosine=c, max_error=e, least_cosine=LEAST_COSINE[stage][n])
        for (stage, n), c, e in worst
    )
    return Parity(stages=stages, answers=tuple(answers))


def _apart(stage: str, expected: np.ndarray, computed: np.ndarray) -> tuple[float, float]:
    """Cosine and largest difference of what both models have at one stage."""
    if computed.shape != expected.shape:
        raise ConversionError(
            f"expected {stage} of shape {expected.shape}, the converted model gives "
            f"{computed.shape}"
        )
    return cosine(expected, computed), float(np.abs(expected - computed).max())
