"""Exercises and quiz of notebook 04: a pattern by hand, rollout, the head that binds a word."""

from __future__ import annotations

from typing import Any

import numpy as np

from labkit.inside.attention import attention_pattern, attention_rollout
from labkit.lessons.cards import read_quiz
from labkit.lessons.diagnosis import Diagnosis, array_of, describe, near
from labkit.lessons.exercise import Attempt, Exercise, read_mistakes

RNG = np.random.default_rng(5)
PAIRS = tuple(
    tuple(RNG.standard_normal((2, n, d)).astype(np.float32)) for n, d in ((4, 8), (9, 32), (5, 16))
)
MAPS = tuple(
    (RNG.random((layers, heads, 12)).astype(np.float32) ** 3, RNG.permutation(12) < count)
    for layers, heads, count in ((4, 6, 3), (2, 3, 2), (3, 2, 5))
)
STACKS = tuple(
    (
        [
            attention_pattern(*RNG.standard_normal((2, heads, n, 8)).astype(np.float32))
            for _ in range(layers)
        ],
        residual,
    )
    for layers, heads, n, residual in ((2, 3, 4, 0.5), (3, 2, 6, 0.5), (1, 4, 5, 0.25))
)


def examine_pattern(attempt: Attempt) -> None:
    expected = [attention_pattern(q, k) for q, k in PAIRS]
    answers = [
        array_of(attempt(*case), "the pattern", right.shape)
        for case, right in zip(PAIRS, expected, strict=True)
    ]
    for (q, _), answer, right in attempt.misses(PAIRS, answers, expected, same=near):
        if not near(np.asarray(answer).sum(axis=1), np.ones(len(q))):
            raise attempt.wrong("rows", first=float(np.asarray(answer)[0].sum()))
        raise attempt.wrong(
            "other", n=len(q), d=q.shape[1], apart=float(np.abs(np.asarray(answer) - right).max())
        )


PATTERN = Exercise(
    id="04.1",
    title="One head, by hand",
    minutes=6,
    usage="pattern(q, k)",
    examine=examine_pattern,
    why_right=(
        "Each query asks every key how well they match, one number each; the softmax turns a "
        "row of numbers into shares that add up to 1. The root keeps the scores' spread at one "
        "whatever the width: without it a wide head would look at a single patch from the "
        "start. Both, Q and K, were turned by their positions before, which is the only way in "
        "which this tower knows where a patch lies."
    ),
    hints=(
        "Three steps: scores, a scale, shares.",
        (
            "Scores are `q @ k.T`, (n, n). Divide by the square root of the width of a query. "
            "Shares: exp, divided by the sum of the row."
        ),
        (
            "`weights = np.exp(scores - scores.max(axis=1, keepdims=True))`, then divide by "
            "`weights.sum(axis=1, keepdims=True)`."
        ),
    ),
    task="Attention of one head from rotated Q and K, both (n, d): (n, n), rows are queries.",
    solution_source="""\
import numpy as np

def pattern(q, k):
    scores = q @ k.T / np.sqrt(q.shape[1])
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)
""",
    mistakes=read_mistakes("""
no_scale: w = np.exp(q @ k.T); return w / w.sum(axis=1, keepdims=True)
    You leave the scale out. Scores are divided by the square root of the width before the softmax.
width: w = np.exp(q @ k.T / q.shape[1]); return w / w.sum(axis=1, keepdims=True)
    You divide the scores by the width. It is its square root: a sum of d products of unit numbers
    is about √d large.
columns: w = np.exp(q @ k.T / np.sqrt(q.shape[1])); return w / w.sum(axis=0)
    Your columns add up to 1. Each *query* shares out its attention: normalise along the rows.
swapped: w = np.exp(k @ q.T / np.sqrt(q.shape[1])); return w / w.sum(axis=1, keepdims=True)
    You swap queries and keys: row i of yours says who key i would look at, were it a query.
scores: return q @ k.T / np.sqrt(q.shape[1])
    You return the scores, the logits before the softmax. A pattern's rows are shares: none
    negative, and they add up to 1.
rows: w = np.exp(q @ k.T / np.sqrt(q.shape[1])); return w / w.sum()
    Expected rows that add up to 1, your first one adds up to {first:.3g}.
other: w = np.exp(q @ k.T / np.sqrt(q.shape[1])) + 1; return w / w.sum(axis=1, keepdims=True)
    For {n} patches and a width of {d} your shares are up to {apart:.2g} away.
shape: return np.zeros(3)
type: return "softmax"
"""),
)


def examine_rollout(attempt: Attempt) -> None:
    expected = [attention_rollout(patterns, residual=residual) for patterns, residual in STACKS]
    answers = [
        array_of(attempt(*case), "the rollout", right.shape)
        for case, right in zip(STACKS, expected, strict=True)
    ]
    for (patterns, residual), answer, right in attempt.misses(STACKS, answers, expected, same=near):
        apart = float(np.abs(np.asarray(answer) - right).max())
        raise attempt.wrong("other", layers=len(patterns), residual=residual, apart=apart)


ROLLOUT = Exercise(
    id="04.2",
    title="Rollout, and its residual",
    minutes=6,
    usage="rollout(patterns, residual)",
    examine=examine_rollout,
    why_right=(
        "A layer adds what attention brings to what a patch already was: part of every vector "
        "comes straight down the residual path. Leave it out, and after a few layers every "
        "patch seems to come from everywhere: products of shares flatten, and the map shows a "
        "mixture that the model never made. With it, a patch keeps much of itself. How much is "
        "truly kept depends on the vectors' lengths, which rollout ignores: one half is a "
        "convention, not a measurement."
    ),
    hints=(
        "For one layer: the mean over heads, mixed with the identity.",
        (
            "`residual * np.eye(n) + (1 - residual) * pattern.mean(axis=0)`. Which one stands on "
            "the left when two layers are multiplied?"
        ),
        "The first layer acts first, so it stands on the right: `rolled = mixed @ rolled`.",
    ),
    task="The product of residual * I + (1 - residual) * mean over heads of each layer: (n, n).",
    solution_source="""\
import numpy as np

def rollout(patterns, residual):
    rolled = np.eye(patterns[0].shape[-1])
    for pattern in patterns:
        mixed = residual * np.eye(len(rolled)) + (1 - residual) * pattern.mean(axis=0)
        rolled = mixed @ rolled
    return rolled
""",
    mistakes=read_mistakes("""
no_residual: e = np.eye(patterns[0].shape[-1]); return np.linalg.multi_dot([e, *(p.mean(axis=0) \
for p in patterns[::-1]), e])
    You leave the residual path out: no patch keeps anything of itself but what it attends to. Mix
    each layer with the identity.
order: e = np.eye(len(patterns[0][0])); r = residual; return np.linalg.multi_dot([e, *(r * e + \
(1 - r) * p.mean(0) for p in patterns), e])
    You multiply in the wrong order. The first layer acts first, so it stands at the right end of
    the product.
last: p = patterns[-1]; return residual * np.eye(p.shape[-1]) + (1 - residual) * p.mean(axis=0)
    You use the last layer alone. Rollout follows attention through all of them: multiply.
swapped: e = np.eye(len(patterns[0][0])); return np.linalg.multi_dot([e, *(e + residual * \
(p.mean(0) - e) for p in patterns[::-1]), e])
    You swap the two shares: `residual` is what a patch keeps of itself, the rest is attention's.
averaged: return sum(residual * np.eye(p.shape[-1]) + (1 - residual) * p.mean(axis=0) for p in \
patterns) / len(patterns)
    You average over the layers. What a layer attends to has been mixed by the layers before it:
    multiply.
other: return np.full(patterns[0].shape[1:], 0.5)
    With {layers} layers and a residual of {residual} your values are up to {apart:.2g} away.
shape: return patterns[0]
type: return None or "rolled"
"""),
)


def binder(maps: np.ndarray, box: np.ndarray) -> tuple[int, int]:
    """The head with the most attention in a box."""
    layer, head = divmod(int(maps[:, :, box].sum(axis=-1).argmax()), maps.shape[1])
    return layer, head


def examine_binding(attempt: Attempt) -> None:
    answers: list[Any] = []
    for case in MAPS:
        answer = attempt(*case)
        if not isinstance(answer, (tuple, list)) or len(answer) != 2:
            raise Diagnosis(
                "type",
                f"Expected a layer and a head, as `(layer, head)`, received {describe(answer)}.",
            )
        if not all(
            isinstance(part, (int, np.integer)) and not isinstance(part, bool) for part in answer
        ):
            raise Diagnosis(
                "parts",
                "Expected layer and head as whole numbers, "
                f"received {describe(tuple(answer), short=True)}.",
            )
        answers.append(tuple(int(part) for part in answer))
    for (maps, _), answer, expected in attempt.misses(
        MAPS, answers, [binder(*case) for case in MAPS]
    ):
        layers, heads = maps.shape[:2]
        raise attempt.wrong("other", layers=layers, heads=heads, answer=answer, expected=expected)


BINDING = Exercise(
    id="04.3",
    title="Find the head that binds",
    minutes=6,
    usage="binding_head(maps, box)",
    examine=examine_binding,
    why_right=(
        "Sum what falls into the box, for every head, and take the largest. On one scene this "
        "finds a head that may be lucky; averaged over scenes it finds one that does it "
        "reliably. And choosing the best of 24 heads on the very scenes on which you then "
        "report it makes the number too good: choose on one half, report the other."
    ),
    hints=(
        "What is the share of one head, `maps[2, 3]`, that falls into the box? `box` is a mask.",
        "`maps[:, :, box].sum(axis=-1)` is a table of (layers, heads). Where is its largest value?",
        (
            "`.argmax()` counts through the whole table; `np.unravel_index(number, table.shape)` "
            "gives layer and head."
        ),
    ),
    task="(layer, head) with most attention in the box; maps (layers, heads, n), box (n,).",
    solution_source="""\
import numpy as np

def binding_head(maps, box):
    table = maps[:, :, box].sum(axis=-1)
    layer, head = np.unravel_index(table.argmax(), table.shape)
    return int(layer), int(head)
""",
    mistakes=read_mistakes("""
largest: t = np.where(box, maps, 0).max(axis=-1); return tuple(int(i) for i in \
np.unravel_index(t.argmax(), t.shape))
    You take the head with the largest single value in the box. All that falls into the box counts:
    sum it up.
everywhere: t = maps.max(axis=-1); return tuple(int(i) for i in np.unravel_index(t.argmax(), \
t.shape))
    You leave the box out: your head has the largest value anywhere in the picture.
swapped: t = maps[:, :, box].sum(axis=-1).T; return tuple(int(i) for i in \
np.unravel_index(t.argmax(), t.shape))
    You return the head before the layer. L2H3 is layer 2, head 3.
outside: t = maps[:, :, ~box].sum(axis=-1); return tuple(int(i) for i in \
np.unravel_index(t.argmax(), t.shape))
    Your head has the most attention *outside* the box: the mask is the wrong way round.
other: return 0, 0
    Among {layers} layers of {heads} heads you found {answer}. Expected {expected}.
parts: return 0.5, "H1"
type: return int(maps[:, :, box].sum(axis=-1).argmax())
"""),
)

EXERCISES = (PATTERN, ROLLOUT, BINDING)
QUIZ = read_quiz(
    "04",
    "Quiz 04: what a map shows",
    """
A head of the vision tower looks, from every patch, at one empty corner. What follows?
- The corner is important for the answer
    Patches without content are a usual place to put attention that has nothing to do: shares must
    add up to 1, even when nothing is wanted.
+ Nothing yet: its values may be near zero, or carry something global
    A pattern says where from, not what, nor how much of it survives the next matrix.
- The model is broken
    Most trained towers have such heads.
Why does this tower have no map "of the class token"?
+ It has no such token: all its patches go on to the language model
    Code that takes row 0 of DINO's attention takes the top left patch here.
- It was removed by the conversion
    The original in transformers has none either.
- Its attention is in the language model
    That one has no class token either; its words look at visual tokens.
You choose the best of 24 heads on 100 scenes and report its score on the same scenes. What is \
wrong?
- Nothing, if it is reported to the last digit
    More digits do not make a biased number honest.
- 100 scenes are never enough
    They give an interval, as any number of them does.
+ The best of many is partly luck: choose on one half, report the other
    Else the luck is reported as if it were skill.
Int4 moved 4 % of a head's attention elsewhere, and the answers stay as good. What do you conclude?
- Quantisation is harmless
    For this model and these questions. Another task may hang on what moved.
+ These answers do not hang on what moved
    That is what was measured, and no more.
- The attention maps are of no use
    They show what moved, and where: that is how one finds a conversion that went wrong.
""",
)
