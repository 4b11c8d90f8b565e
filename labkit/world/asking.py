"""Questions of the scene composer: their words, and what to say about an answer."""

from __future__ import annotations

import re
from collections.abc import Sized
from functools import lru_cache
from typing import Any

from labkit.world.answers import true_answer
from labkit.world.scenes import Scene
from labkit.world.sprites import NAMES
from labkit.world.words import TASKS, WORDINGS, needs_subject, wording

_ON_BUTTONS = (
    "Describe|Left of …|Right of …|Above …|Below …|Is there …|How many …|Which objects|Where is …"
)
LABELS = dict(zip(TASKS, _ON_BUTTONS.split("|"), strict=True))


@lru_cache(maxsize=1)
def wordings() -> dict[str, dict[str, list[str]]]:
    """All wordings, by task and subject (``""`` where a task has none)."""
    subjects = {task: NAMES if needs_subject(task) else ("",) for task in TASKS}
    return {
        task: {x: [wording(task, x, i) for i in range(len(WORDINGS[task]))] for x in subjects[task]}
        for task in TASKS
    }


@lru_cache(maxsize=1)
def _meanings() -> dict[str, tuple[str, str | None]]:
    return {
        _plain(words): (task, x or None)
        for task, by in wordings().items()
        for x, variants in by.items()
        for words in variants
    }


def _plain(question: str) -> str:
    return re.sub(r"[\s?.!]+", " ", question).strip().casefold()


def understand(question: str) -> tuple[str, str | None] | None:
    """The task and subject of a question in the world's own words, else None.

    >>> understand("what is left of the  pizza")
    ('left_of', 'pizza')
    """
    return _meanings().get(_plain(question))


def judge(scene: Scene, question: str, text: str) -> tuple[str, str]:
    """What the world's rules say about an answer: a word and a sentence."""
    meaning = understand(question)
    if meaning is None:
        return "Your own words", "The rules of this world know no answer to compare with."
    right = true_answer(scene, *meaning)
    if right is None:
        return "Open", "The rules leave this open: as the scene stands, no answer is beyond doubt."
    return (
        "Right" if text.strip() == right else "Wrong",
        f"By the rules of this world the answer is “{right}”",
    )


def facts(answer: Any) -> list[tuple[str, str]]:
    """Names and values to show beside an answer; what the answer does not carry is left out.

    >>> from types import SimpleNamespace
    >>> facts(SimpleNamespace(tokens=4, visual_tokens=25, times=SimpleNamespace(vision_s=0.0213)))
    [('Tokens', '4'), ('Visual tokens', '25'), ('Vision', '0.021 s')]
    """
    tokens = getattr(answer, "tokens", None)  # themselves, or their number
    rows = [
        ("Tokens", len(tokens) if isinstance(tokens, Sized) else tokens),
        ("Visual tokens", getattr(answer, "visual_tokens", None)),
    ]
    shown = [(label, str(value)) for label, value in rows if value is not None]
    for label, field in (("Vision", "vision_s"), ("Prefill", "prefill_s"), ("Decode", "decode_s")):
        value = getattr(getattr(answer, "times", None), field, None)
        if value is not None:
            shown.append((label, f"{value:.2g} s" if value < 1 else f"{value:.1f} s"))
    return shown
