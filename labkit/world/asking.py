"""Questions of the scene composer: their words, and what to say about an answer."""

import re
from collections.abc import Sized
from functools import cache
from typing import Any

from labkit.world.answers import true_answer
from labkit.world.scenes import Scene
from labkit.world.sprites import NAMES
from labkit.world.words import TASKS, WORDINGS, needs_subject, wording

_ON_BUTTONS = (
    "Describe|Left of …|Right of …|Above …|Below …|Is there …|How many …|Which objects|Where is …"
)
LABELS = dict(zip(TASKS, _ON_BUTTONS.split("|"), strict=True))


@cache
def wordings() -> dict[str, dict[str, list[str]]]:
    """All wordings, by task and subject (``""`` where a task has none)."""
    return {
        task: {
            subject: [wording(task, subject, i) for i in range(len(variants))]
            for subject in (NAMES if needs_subject(task) else ("",))
        }
        for task, variants in WORDINGS.items()
    }


@cache
def _meanings() -> dict[str, tuple[str, str | None]]:
    return {
        _plain(question): (task, subject or None)
        for task, subjects in wordings().items()
        for subject, questions in subjects.items()
        for question in questions
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
    verdict = "Right" if text.strip() == right else "Wrong"
    return verdict, f"By the rules of this world the answer is “{right}”"


def facts(answer: Any) -> list[tuple[str, str]]:
    """Names and values to show beside an answer; what the answer does not carry is left out.

    >>> from types import SimpleNamespace
    >>> facts(SimpleNamespace(tokens=4, visual_tokens=25, times=SimpleNamespace(vision_s=0.0213)))
    [('Tokens', '4'), ('Visual tokens', '25'), ('Vision', '0.021 s')]
    """
    tokens, times = (getattr(answer, name, None) for name in ("tokens", "times"))
    known = {
        "Tokens": len(tokens) if isinstance(tokens, Sized) else tokens,  # themselves, or how many
        "Visual tokens": getattr(answer, "visual_tokens", None),
    }
    for part in ("Vision", "Prefill", "Decode"):
        seconds = getattr(times, f"{part.lower()}_s", None)
        if seconds is not None:
            known[part] = f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.1f} s"
    return [(name, str(value)) for name, value in known.items() if value is not None]
