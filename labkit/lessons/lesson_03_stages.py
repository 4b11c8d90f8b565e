"""Exercise 03.3: find the first stage at which a converted model departs."""

from __future__ import annotations

from labkit.lessons.attempt import Attempt, describe, recognise
from labkit.lessons.exercise import Diagnosis, Exercise, judge

ALL_GOOD = "all good"
STAGES = ("pixel_values", "patch_embeddings", "image_embeds", "first_logits")
THRESHOLD = 0.99


def _table(*cosines: float) -> dict[str, float]:
    return dict(zip(STAGES, cosines, strict=True))


# Made so that each usual mistake gives a row of answers of its own.
BROKEN = (_table(1, 0.93, 0.41, 0.62), _table(1, 0.98, 0.9999, 0.72), _table(1, 0.9999, 0.9971, 0.12), _table(0.31, 0.35, 0.22, 0.48))
HEALTHY = _table(1, 0.9999, 0.9962, 0.9981)
EXACT = _table(1, THRESHOLD, 0.95, 0.991)
UNDEFINED = _table(1, 0.9999, float("nan"), 0.12)


@judge
def judge_first_broken(value: object) -> None:
    """Judge 03.3."""
    attempt = Attempt(value, "first_broken(cosines, threshold)")
    answers = [_stage(attempt(cosines, THRESHOLD), cosines) for cosines in BROKEN]
    recognise(answers, [mistaken_stage(cosines) for cosines in BROKEN], TEXTS)
    for cosines, answer in zip(BROKEN, answers, strict=True):
        _compare(cosines, answer)
    try:
        healthy = attempt(HEALTHY, THRESHOLD)
        seen = f"the answer was {describe(healthy)}."
    except Diagnosis as diagnosis:
        healthy, seen = None, diagnosis.text
    if healthy != ALL_GOOD:
        text = (
            f'Right for broken models. When no stage lies below the threshold, expected the text `"{ALL_GOOD}"`. For a healthy model {seen}'
        )
        raise Diagnosis("healthy", text)
    exact = attempt(EXACT, THRESHOLD)
    if exact == "patch_embeddings":
        raise Diagnosis(
            "equal", "Right, but for one case: a stage that lies exactly at the threshold still holds. Only below it is broken."
        )
    _compare(EXACT, exact)
    undefined = attempt(UNDEFINED, THRESHOLD)
    if undefined == "first_logits":
        raise Diagnosis(
            "nan",
            "Right, but for one trap: a cosine of `nan` (a stage that came out as all zeros, or with infinities) is neither below "
            "nor above any number, so `cosine < threshold` is False and the worst damage of all goes unnoticed. Ask the other way "
            "round: `not (cosine >= threshold)`.",
        )
    _compare(UNDEFINED, undefined)


def below(cosines: dict[str, float]) -> list[str]:
    """The stages that do not hold, in order; a NaN does not hold."""
    return [stage for stage, cosine in cosines.items() if not cosine >= THRESHOLD]


def _stage(answer: object, cosines: dict[str, float]) -> str:
    if isinstance(answer, (list, tuple)) and list(answer) == below(cosines):
        raise Diagnosis(
            "all",
            f"You return every stage below the threshold, {describe(answer, short=True)}. Return the first alone: the others come "
            "after it and may only suffer from it.",
        )
    if isinstance(answer, (int, float)):
        raise Diagnosis(
            "not_a_name",
            f"Expected the name of a stage (str), received {describe(answer)}. Loop over `cosines.items()` to have each name with its "
            "cosine.",
        )
    if not isinstance(answer, str):
        raise Diagnosis("type", f"Expected the name of a stage (str), received {describe(answer)}.")
    return answer


def _compare(cosines: dict[str, float], answer: object) -> None:
    expected = below(cosines)[0]
    if answer != expected:
        table = describe(cosines, short=True)
        raise Diagnosis("other", f"For `{table}` and threshold {THRESHOLD} expected `{expected}`, received {describe(answer)}.")


def mistaken_stage(cosines: dict[str, float]) -> dict[str, str]:
    """What the usual mistakes find in a table of a broken model."""
    broken = below(cosines)
    good = [stage for stage in cosines if stage not in broken]
    return {
        "worst": min(cosines, key=lambda stage: cosines[stage]),
        "last": broken[-1],
        "inverted": good[0] if good else ALL_GOOD,
        "before": [ALL_GOOD, *cosines][list(cosines).index(broken[0])],
        "blind": ALL_GOOD,
    }


TEXTS = {
    "worst": (
        "You return the stage with the lowest cosine. An error grows on its way through the layers, so the worst stage is often an "
        "innocent one behind the broken one. Return the first in order."
    ),
    "last": (
        "You return the last stage below the threshold. Each stage works on what the one before hands over: the first that departs "
        "is where to look. Leave the loop (`return`) at the first one."
    ),
    "inverted": (
        "You return the first stage that is still good. A cosine near 1 means “same direction”, so broken is what lies below the threshold."
    ),
    "before": "You return the stage before the first broken one: the last that holds. It is the next one that departs.",
    "blind": "You say that all is well for every table, but each of these has a broken stage. Does your loop get to the comparison?",
}

FIRST_BROKEN = Exercise(
    id="03.3",
    title="Which stage broke?",
    minutes=4,
    name="first_broken",
    judge=judge_first_broken,
    why_right=(
        "A model computes stage after stage, so what is wrong at the first one is wrong, and often worse, in all that follow. The "
        "first that departs is where to look: pixel values point at resizing or the order of colours, patch embeddings at the order "
        "inside a patch or the first weights, image embeddings at the tower and its quantisation, logits alone at the language "
        "model. A converted model that talks well and sees garbage is found out this way in a minute. And a check that lets `nan` "
        "pass is none."
    ),
    hints=(
        "Dictionaries keep their order: `for stage, cosine in cosines.items()` walks through the model from the front.",
        'Return from inside the loop as soon as a stage does not hold; after the loop, return `"all good"`.',
        "`nan < 0.99` is False, and so is `nan >= 0.99`. So test `if not (cosine >= threshold)`.",
    ),
    stub_source='''\
def first_broken(cosines, threshold):
    """Name of the first stage whose cosine does not reach the threshold, or "all good"."""
    ...
''',
    solution_source="""\
def first_broken(cosines, threshold):
    for stage, cosine in cosines.items():
        if not (cosine >= threshold):  # true for nan as well
            return stage
    return "all good"
""",
    wrong_examples={
        "worst": "return min(cosines, key=cosines.get)",
        "last": "return [stage for stage, cosine in cosines.items() if cosine < threshold][-1]",
        "inverted": f"for stage, cosine in cosines.items():\n    if cosine > threshold:\n        return stage\nreturn {ALL_GOOD!r}",
        "before": (
            f"last = {ALL_GOOD!r}\nfor stage, cosine in cosines.items():\n    if cosine < threshold:\n        return last\n    last = stage"
        ),
        "blind": f"return {ALL_GOOD!r}",
        "all": "return [stage for stage, cosine in cosines.items() if cosine < threshold]",
        "healthy": "for stage, cosine in cosines.items():\n    if cosine < threshold:\n        return stage",
        "equal": f"return next((stage for stage in cosines if not cosines[stage] > threshold), {ALL_GOOD!r})",
        "nan": f"return next((stage for stage in cosines if cosines[stage] < threshold), {ALL_GOOD!r})",
        "not_a_name": "return min(cosines.values())",
        "type": "return {stage for stage in cosines if cosines[stage] < threshold}",
        "other": "return 'the second'",
        "raised": "return cosines['logits']",
    },
)
