"""Parity: whether the converted model computes what the original computes.

The same pictures and questions go through both, and each stage is compared. The
first stage that departs is where the conversion went wrong; everything after it is
only a consequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labkit.base.errors import ConversionError
from labkit.inside import taps
from labkit.inside.looks import Inside
from labkit.inside.probes import Probe
from labkit.model.chat import Model
from labkit.model.checkpoints import Checkpoint
from labkit.model.images import ImageLike
from labkit.model.parts import vision_inputs
from labkit.model.vision import PATCH_SIZE, pixel_values
from labkit.world.drawing import render
from labkit.world.scenes import Background, Placed, Scene

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


@dataclass(frozen=True, kw_only=True)
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


@dataclass(frozen=True, kw_only=True)
class AnswerParity:
    """One question, answered by both."""

    question: str
    original: str
    converted: str


@dataclass(frozen=True, kw_only=True)
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

    def to_dict(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "stages": [asdict(s) for s in self.stages],
            "answers": [asdict(a) for a in self.answers],
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Parity:
        """From the manifest."""
        return cls(
            stages=tuple(StageParity(**s) for s in content["stages"]),
            answers=tuple(AnswerParity(**a) for a in content["answers"]),
        )

    def __str__(self) -> str:
        lines = [f"{'stage':18}{'cosine':>10}{'at least':>10}{'max error':>12}   "]
        lines += [
            f"{s.stage:18}{s.cosine:10.6f}{s.least_cosine:10.4f}{s.max_error:12.4g}   "
            f"{'agrees' if s.holds else 'DEPARTS'}"
            for s in self.stages
        ]
        lines.append(
            f"{self.same_answers} of {len(self.answers)} answers are word for word the same"
        )
        lines += [
            f"  {a.question}  original: {a.original}  converted: {a.converted}"
            for a in self.answers
            if a.original != a.converted
        ]
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class LayerParity:
    """Attention of one layer, compared with the original's: the worst over all pictures.

    ``moved`` is, for each head, the share of a query's attention that lies elsewhere than in the
    original (half the sum of absolute differences of a row, averaged over queries): 0 is the same,
    1 is all of it.
    """

    model: str
    part: str
    layer: int
    cosine: float
    moved: tuple[float, ...]


def examples() -> list[tuple[ImageLike, str]]:
    """Three pictures, square, wide and tall; the first word of each answer already depends on what
    is seen.
    """
    plain = Background(colour=(120, 180, 220), second=(90, 160, 210), pattern="stripes", period=14)
    cat_pizza = (Placed(name="cat", x=12, y=34, side=46), Placed(name="pizza", x=64, y=38, side=42))
    three = (
        Placed(name="house", x=6, y=20, side=48),
        Placed(name="tree", x=64, y=28, side=44),
        Placed(name="car", x=118, y=34, side=46),
    )
    tall = (Placed(name="sun", x=22, y=8, side=44), Placed(name="boat", x=24, y=100, side=48))
    return [
        (
            render(Scene(height=112, width=112, objects=cat_pizza, background=plain)),
            "Which objects are there?",
        ),
        (render(Scene(height=112, width=168, objects=three)), "How many trees are there?"),
        (
            render(
                Scene(
                    height=168, width=112, objects=tall, background=Background(colour=(70, 90, 160))
                )
            ),
            "Where is the boat?",
        ),
    ]


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
    pixels = model.prepare(image)
    rows, cols = pixels.shape[0] // PATCH_SIZE, pixels.shape[1] // PATCH_SIZE
    tap = taps.find(model.graph("visual.mnn"), "visual.mnn").hidden[0]
    values = pixel_values(pixels)
    given = vision_inputs(values, rows, cols)
    model.load_module("visual.mnn", list(given), [tap, "image_embeds"])
    out = model.engine.request("forward", given, key="visual.mnn")
    embeds = out["image_embeds"]
    return {
        "pixel_values": values,
        "patch_embeddings": out[tap].reshape(rows * cols, -1),
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
    import psutil

    from labkit.inside.reference import STAGES, Reference

    fits = psutil.virtual_memory().available > 5.5 * checkpoint.parameters
    reference = Reference(checkpoint, dtype="float32" if fits else "bfloat16")
    worst = dict.fromkeys(STAGES, (1.0, 0.0))
    answers = []
    with Model(folder) as model:
        bits = dict.fromkeys(STAGES, model.manifest.options["vision_bits"]) | {
            "first_logits": model.manifest.options["weight_bits"]
        }
        bits["first_logits"] = min(
            bits["first_logits"], bits["image_embeds"]
        )  # it inherits the vision tower's error
        for image, question in cases or examples():
            expected = reference.stages(image, question)
            answer = model.ask(image, question)
            found = {**vision_stages(model, image), "first_logits": answer.first_logits}
            for stage in STAGES:
                if found[stage].shape != expected[stage].shape:
                    raise ConversionError(
                        f"expected {stage} of shape {expected[stage].shape}, the converted model "
                        f"gives {found[stage].shape}"
                    )
                near, error = worst[stage]
                worst[stage] = (
                    float(
                        np.minimum(near, cosine(expected[stage], found[stage]))
                    ),  # unlike min and max, these keep a NaN
                    float(np.maximum(error, np.abs(expected[stage] - found[stage]).max())),
                )
            answers.append(
                AnswerParity(
                    question=question,
                    original=reference.ask(image, question).text,
                    converted=answer.text,
                )
            )
    stages = tuple(
        StageParity(
            stage=s,
            cosine=worst[s][0],
            max_error=worst[s][1],
            least_cosine=LEAST_COSINE[s][bits[s]],
        )
        for s in STAGES
    )
    return Parity(stages=stages, answers=tuple(answers))


def compare_layers(
    folders: Sequence[Path],
    checkpoint: Checkpoint,
    *,
    cases: list[tuple[ImageLike, str]] | None = None,
) -> list[LayerParity]:
    """Compare attention patterns layer by layer, vision tower and language model, for several
    conversions of one checkpoint.

    Both read the same pictures and the same tokens: those that the converted model says.

    Parameters
    ----------
    folders
        Converted models, such as one of 16, one of 8 and one of 4 bits.
    checkpoint
        What they were converted from.
    cases
        Pictures and questions; by default `examples`.
    """
    from labkit.inside.reference import Reference, ReferenceProbe

    original, rows = ReferenceProbe(Reference(checkpoint)), []
    for folder in folders:
        worst: dict[tuple[str, str, int], tuple[float, np.ndarray]] = {}
        with Model(folder) as model, Probe(model) as probe:
            for image, question in cases or examples():
                look, reading = probe.look(image), probe.read(image, question)
                pairs: list[tuple[str, Inside, Inside]] = [
                    ("vision", look, original.look(look.pixels)), ("language", reading, original.read(look.pixels, reading.tokens)),
                ]  # fmt: skip
                for part, found, expected in pairs:
                    for layer in range(found.layers):
                        a, b = expected.pattern(layer), found.pattern(layer)
                        moved = np.abs(a - b).sum(axis=-1).mean(axis=-1) / 2
                        near, most = worst.get(
                            (found.name, part, layer), (1.0, np.zeros_like(moved))
                        )
                        worst[found.name, part, layer] = (
                            float(np.minimum(near, cosine(a, b))),
                            np.maximum(most, moved),
                        )
        rows += [
            LayerParity(
                model=name,
                part=part,
                layer=layer,
                cosine=near,
                moved=tuple(float(m) for m in moved),
            )
            for (name, part, layer), (near, moved) in worst.items()
        ]
    return sorted(rows, key=lambda row: row.part, reverse=True)


def layers_table(rows: Sequence[LayerParity]) -> str:
    """Rows of `compare_layers` as a table."""
    lines = [f"{'part':10}{'model':18}{'layer':>6}{'cosine':>11}   attention that moved, by head"]
    lines += [
        f"{r.part:10}{r.model:18}{r.layer:6}{r.cosine:11.6f}   "
        f"{'  '.join(f'{m:6.2%}' for m in r.moved)}"
        for r in rows
    ]
    return "\n".join(lines)
