"""Which of MNN's options suit a model on this machine: its own answers, timed in pairs.

One option at a time is tried against the best so far. Each trial is a fresh process that loads the
model and answers one question about one picture, as `labkit ask` does. What is faster must also
give the same answer: the same words, and first scores that point the same way.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from labkit.base import hardware, stats
from labkit.base.data import frozen
from labkit.base.show import Table
from labkit.bench.measure import minutes, orders
from labkit.bench.plan import require_pairs
from labkit.bench.rows import amount
from labkit.engine.client import EngineProcess
from labkit.model import manifest, tuned
from labkit.model.budget import budget
from labkit.model.checkpoints import TWIN
from labkit.model.images import prepare
from labkit.model.laid import laid
from labkit.proof.evaluate import held_out_cases
from labkit.world.scenes import render

PARTS = ("load", "vision", "prefill", "decode")
ANSWER_TOKENS = 16
SIDES = 448  # of the picture in pixels, as far as the model's budget lets it
COSINE = 0.999
HOPELESS, LEAST = 1.25, 3  # so much slower in each of the first pairs is told without an interval
MEANING: dict[str, dict[Any, str]] = {
    "threads": {},
    "memory": {"low": "weights stay quantised", "normal": "weights unpacked to float32"},
    "precision": {"normal": "float32", "low": "float16"},
    "attention": {8: "fused", 0: "step by step", 10: "fused, keys and values int8"},
    "rounding": {0: "activations to int8 block by block", 2: "by rows"},
    "mmap": {0: "weights laid out at each load", 1: "kept on the disk as laid out"},
}
"""What MNN-LLM 3.6.1 was seen to heed on a CPU: each changes scores, memory or seconds."""


@frozen
class Answered:
    """One trial: seconds by part, the most memory, the words' tokens and the first scores."""

    seconds: Mapping[str, float]
    peak_bytes: int
    tokens: tuple[int, ...]
    logits: np.ndarray

    @property
    def total_s(self) -> float:
        """From the start of loading to the last word."""
        return sum(self.seconds.values())


@frozen
class Tried:
    """One value of an option against the best so far.

    ``ratio`` is None where it was hopeless; ``cosine`` and ``same`` compare its answer with that of
    the usual options.
    """

    option: str
    value: Any
    against: Any
    seconds: dict[str, float]
    peak_bytes: int
    ratio: stats.Ratio | None
    cosine: float
    same: bool

    @property
    def verdict(self) -> str:
        """What is taken is "faster" and answers alike."""
        told = self.ratio.verdict if self.ratio else "slower"
        return "faster, but answers otherwise" if told == "faster" and not self.same else told


@frozen
class Tuning:
    """What was tried on a model, and the best of it; ``print`` shows both."""

    model: str
    usual: dict[str, Any]
    usual_seconds: dict[str, float]
    best: dict[str, Any]
    tried: tuple[Tried, ...]

    def __str__(self) -> str:
        header = ("option", "value", "against", *PARTS, "memory", "answer's speed-up", "verdict")
        first = (amount(self.usual_seconds[part]) for part in PARTS)
        rows = [("as usual", tuned.words(self.usual), "", *first, "", "", "")]
        for row in self.tried:
            label = MEANING[row.option].get(row.value, "")
            rows.append(
                (
                    row.option,
                    f"{row.value} ({label})" if label else str(row.value),
                    str(row.against),
                    *(amount(row.seconds[part]) for part in PARTS),
                    f"{row.peak_bytes / 1e6:,.0f} MB",
                    str(row.ratio or f"under {1 / HOPELESS:.2g}× in each of {LEAST} pairs"),
                    row.verdict,
                )
            )
        changed = {k: v for k, v in self.best.items() if v != self.usual[k]}
        best = tuned.words(changed) if changed else "as usual: nothing else was surely faster"
        return f"{Table(header, rows)}\n\nBest for {self.model} here: {best}"


def candidates() -> list[tuple[str, Any]]:
    """What is worth trying on this machine, option by option."""
    cores, most = hardware.default_threads(), hardware.usable_cores() or 1
    threads = sorted({1, cores // 2, cores, most} - {0})
    values: dict[str, list[Any]] = {name: list(words) for name, words in MEANING.items()}
    values["threads"] = threads
    if not hardware.describe().is_arm64:  # there "low" changes nothing, by its scores
        del values["precision"]
    return [(name, value) for name, row in values.items() for value in row]


def tune(
    folder: Path,
    *,
    pairs: int = stats.LEAST_PAIRS,
    on_step: Callable[[int, int, str], object] = lambda *_: None,
    on_words: Callable[[str], object] = lambda _: None,
    answer: Callable[[dict[str, Any]], Answered] | None = None,
) -> Tuning:
    """Try one option after the other; what is surely faster and answers alike, stays.

    Parameters
    ----------
    folder
        Of a converted model. What was chosen for it before does not count.
    pairs
        Of each comparison.
    on_step, on_words
        As `labkit.bench.measure.run`.
    answer
        Gives a trial; tests give another one.

    Raises
    ------
    ResultError
        If there are too few pairs.
    ModelError, EngineCrashed, EngineError
        The model or an engine failed.
    """
    require_pairs(pairs)
    about, rng = manifest.read(folder), np.random.default_rng(0)
    answer = answer or asked(folder)
    usual = tuned.usual()
    best, first, tried = dict(usual), answer(usual), list[Tried]()
    todo = [(option, value) for option, value in candidates() if usual[option] != value]
    noise = about.source["name"].startswith(TWIN)
    on_words(f"at most {minutes(2 * pairs * len(todo) * first.total_s)}")
    for done, (option, value) in enumerate(todo):
        on_step(done, len(todo), f"{option} {value}")
        sides = {"A": best, "B": best | {option: value}}
        taken = _pairs(sides, orders(pairs, rng), answer)
        a, b = ([one.total_s for one in taken[key]] for key in "AB")
        last = taken["B"][-1]
        cosine = float(
            last.logits @ first.logits / np.linalg.norm(last.logits) / np.linalg.norm(first.logits)
        )
        row = Tried(
            option=option,
            value=value,
            against=best[option],
            seconds=_medians(taken["B"]),
            peak_bytes=max(one.peak_bytes for one in taken["B"]),
            ratio=stats.ratio(a, b) if len(a) == pairs else None,
            cosine=cosine,
            same=cosine > COSINE and (noise or last.tokens == first.tokens),
        )
        tried.append(row)
        if row.verdict == "faster":
            best = sides["B"]
    on_step(len(todo), len(todo), "done")
    return Tuning(
        model=about.source["name"],
        usual=usual,
        usual_seconds=dict(first.seconds),
        best=best,
        tried=tuple(tried),
    )


def asked(folder: Path) -> Callable[[dict[str, Any]], Answered]:
    """Trials of a model: a fresh process answers a question about a scene of the emoji world."""
    about, case = manifest.read(folder), held_out_cases(1)[0]
    picture = render(case.scene).resize((SIDES, SIDES))
    given: dict[str, Any] = {
        "image": prepare(picture, **budget(about, None).area),
        "question": case.question.text,
        "image_pad": about.image_pad,
        "stop": [],  # always as many tokens
        "max_new_tokens": ANSWER_TOKENS,
        "positions": "mrope",
    }

    def answer(options: dict[str, Any]) -> Answered:
        ready = laid(folder, options)
        with EngineProcess() as engine:
            loaded = engine.request("load_chat", directory=folder.resolve(), **ready)
            said = engine.request("ask", **given)
            peak_bytes = engine.request("memory")["peak_bytes"]
        words = [n for n, token in enumerate(said["tokens"]) if token in about.stop]
        times = {name.removesuffix("_s"): s for name, s in said["times"].items()}
        return Answered(
            seconds={"load": loaded["load_s"], **times},
            peak_bytes=peak_bytes,
            tokens=tuple(said["tokens"][: words[0] if words else None]),
            logits=said["first_logits"].astype(float),
        )

    return answer


def _pairs(
    sides: Mapping[str, dict[str, Any]],
    order: tuple[str, ...],
    answer: Callable[[dict[str, Any]], Answered],
) -> dict[str, list[Answered]]:
    """Answers of both sides, pair by pair; what is hopeless ends early."""
    taken = defaultdict[str, list[Answered]](list)
    for pair in order:
        for key in pair:
            taken[key].append(answer(sides[key]))
        both = list(zip(taken["A"], taken["B"], strict=True))
        if len(both) == LEAST and all(b.total_s > HOPELESS * a.total_s for a, b in both):
            break
    return taken


def _medians(answers: list[Answered]) -> dict[str, float]:
    return {part: float(np.median([one.seconds[part] for one in answers])) for part in PARTS}
