"""Questions of the scene composer: their words, and what to say about an answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Sized
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from PIL import Image

from labkit.mini.sprites import NAMES
from labkit.mini.world import TASKS, WORDINGS, Scene, true_answer, wording

LABELS: dict[str, str] = {
    "describe": "Describe",
    "left_of": "Left of …",
    "right_of": "Right of …",
    "above": "Above …",
    "below": "Below …",
    "is_there": "Is there …",
    "how_many": "How many …",
    "which": "Which objects",
    "where": "Where is …",
}
"""What stands on the button of each task."""


class Ask(Protocol):
    """Anything that answers a question about a picture: ``Model.ask``, or a function like it."""

    def __call__(self, image: Image.Image, question: str, /, *, on_text: Callable[[str], None]) -> Any:
        """Answer; ``on_text`` is called with each new piece. The result has at least ``.text``."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the world's rules say about an answer: a word, and a sentence."""

    word: str
    sentence: str


def needs_subject(task: str) -> bool:
    """True for a task that asks about one object."""
    return "{" in WORDINGS[task][0]


@lru_cache(maxsize=1)
def _meanings() -> dict[str, tuple[str, str | None]]:
    meanings: dict[str, tuple[str, str | None]] = {}
    for task in TASKS:
        for subject in NAMES if needs_subject(task) else (None,):
            for index in range(len(WORDINGS[task])):
                meanings[_plain(wording(task, subject, index))] = (task, subject)
    return meanings


def _plain(question: str) -> str:
    return re.sub(r"[\s?.!]+", " ", question).strip().casefold()


def understand(question: str) -> tuple[str, str | None] | None:
    """The task and subject of a question in the world's own words, else None.

    >>> understand("what is left of the  pizza")
    ('left_of', 'pizza')
    >>> understand("Is the cat happy?") is None
    True
    """
    return _meanings().get(_plain(question))


def wordings() -> dict[str, dict[str, list[str]]]:
    """All wordings, by task and subject (``""`` where a task has none), for the browser."""
    return {
        task: {
            subject or "": [wording(task, subject, i) for i in range(len(WORDINGS[task]))]
            for subject in (NAMES if needs_subject(task) else (None,))
        }
        for task in TASKS
    }


def judge(scene: Scene, question: str, text: str) -> Verdict:
    """Compare an answer with the one right answer of the world's rules."""
    meaning = understand(question)
    if meaning is None:
        return Verdict(word="Your own words", sentence="The rules of this world know no answer to compare with.")
    right = true_answer(scene, *meaning)
    if right is None:
        return Verdict(word="Open", sentence="The rules leave this open: as the scene stands, no answer is beyond doubt.")
    if text.strip() == right:
        return Verdict(word="Right", sentence=f"By the rules of this world the answer is “{right}”")
    return Verdict(word="Wrong", sentence=f"By the rules of this world the answer is “{right}”")


def facts(answer: Any) -> list[tuple[str, str]]:
    """Names and values to show beside an answer; what the answer does not carry is left out.

    ``answer.tokens`` may be the tokens themselves or their number.

    >>> from types import SimpleNamespace
    >>> facts(SimpleNamespace(tokens=4, visual_tokens=25, times=SimpleNamespace(vision_s=0.0213)))
    [('Tokens', '4'), ('Visual tokens', '25'), ('Vision', '0.021 s')]
    """
    tokens = getattr(answer, "tokens", None)
    rows = [("Tokens", len(tokens) if isinstance(tokens, Sized) else tokens), ("Visual tokens", getattr(answer, "visual_tokens", None))]
    shown = [(label, str(value)) for label, value in rows if value is not None]
    times = getattr(answer, "times", None)
    for label, field in (("Vision", "vision_s"), ("Prefill", "prefill_s"), ("Decode", "decode_s")):
        value = getattr(times, field, None)
        if value is not None:
            shown.append((label, f"{value:.2g} s" if value < 1 else f"{value:.1f} s"))
    return shown
