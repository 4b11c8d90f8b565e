"""MNN's own program ``llm_demo``, run on a picture and read: the learning path's comparison, end to end with a KV cache.

Natively it is timed, in pairs; in the emulated lane its instructions are counted, and its seconds say nothing
about an Arm CPU. It prints seconds with two decimals; where they are short, its tokens and pixels to a second are finer.
"""

from __future__ import annotations

import json
import platform
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from labkit.arm import counting
from labkit.arm.counting import Counts
from labkit.arm.kleidiai import RUNNING
from labkit.base import command
from labkit.base.errors import BuildError, QuestionError
from labkit.building.running import BuildRecord
from labkit.engine.lanes import Lane
from labkit.engine.mnn_llm import chat_config
from labkit.model import manifest
from labkit.model.images import ImageLike, prepare

if TYPE_CHECKING:
    from typing_extensions import Self

NUMBERS = {
    "prompt_tokens": r"prompt tokens num = (\d+)", "decode_tokens": r"decode tokens num = (\d+)", "vision_s": r"vision time = ([\d.]+) s",
    "prefill_s": r"prefill time = ([\d.]+) s", "decode_s": r"decode time = ([\d.]+) s",
}  # fmt: skip
SPEEDS = {
    "vision_s": r"vision speed = ([\d.]+) MP/s",
    "prefill_s": r"prefill speed = ([\d.]+) tok/s",
    "decode_s": r"decode speed = ([\d.]+) tok/s",
}
FILLER = " the"  # one token; repeated, it makes a prompt without a picture as long as one with
PHASES = ("vision", "prefill", "decode")


@dataclass(frozen=True, kw_only=True)
class DemoRun:
    """What one run of ``llm_demo`` printed.

    ``timed`` tells whether the seconds are a CPU's; ``kleidiai`` holds MNN's own messages of accelerated layer types.
    """

    answer: str
    prompt_tokens: int
    decode_tokens: int
    vision_s: float
    prefill_s: float
    decode_s: float
    kleidiai: tuple[str, ...]
    lane: str
    timed: bool
    peak_bytes: int | None = None


def parse(text: str, pixels: int = 0) -> dict[str, Any]:
    r"""The answer and the numbers in what ``llm_demo`` prints; ``pixels`` of the picture, if there was one.

    Raises
    ------
    BuildError
        If it ended before its figures.

    Examples
    --------
    >>> tail = "prompt tokens num = 44\ndecode tokens num = 4\n vision time = 0.20 s\nprefill time = 0.10 s\n decode time = 0.02 s"
    >>> parse("prompt file is p.txt\nA cat.\n\n#########\n" + tail)["answer"]
    'A cat.'
    """
    found = {name: re.search(pattern, text) for name, pattern in NUMBERS.items()}
    answer = re.search(r"prompt file is [^\n]*\n(.*?)\n#{5,}", text, re.DOTALL)
    if not answer or not all(found.values()):
        raise BuildError(f"expected llm_demo's answer and figures, got:\n{text[-600:]}")
    numbers = {
        name: (int if name.endswith("tokens") else float)(match[1])
        for name, match in found.items()
        if match
    }
    work = {
        "vision_s": pixels / 1e6,
        "prefill_s": numbers["prompt_tokens"],
        "decode_s": numbers["decode_tokens"],
    }
    for name, pattern in SPEEDS.items():  # as many digits as there are: 0.02 s is 1.045 MP/s
        speed = re.search(pattern, text)
        if speed and work[name] and numbers[name] < 1 and float(speed[1]) > 0.1:
            numbers[name] = work[name] / float(speed[1])
    return {"answer": answer[1].strip(), **numbers}


def ask(
    record: BuildRecord,
    model: Path,
    image: ImageLike,
    question: str,
    lane: Lane,
    *,
    max_new_tokens: int = 16,
    threads: int = 1,
) -> DemoRun:
    """Ask a build's ``llm_demo`` one question about one picture, seen at the size at which `labkit.model.chat` looks at it.

    Parameters
    ----------
    record
        The build.
    model
        A converted model.
    image, question
        As for `labkit.model.chat.Model.ask`; the question on one line.
    lane
        Where: the native lane, or the emulated one for a build for Arm.

    Raises
    ------
    BuildError
        If the build is for another lane, or the program does not answer.
    CommandFailed
        If it crashes.
    """
    with Desk(record, model, lane, threads) as desk:
        said = desk.run([desk.picture(image, question)], max_new_tokens)
        running = tuple(dict.fromkeys(RUNNING.findall(said)))
        return DemoRun(
            **parse(said, desk.pixels),
            kleidiai=running,
            lane=lane.label,
            timed=lane.may_be_timed,
            peak_bytes=desk.peak_bytes,
        )


def count(
    record: BuildRecord, model: Path, image: ImageLike, question: str, lane: Lane, *, tokens: int = 8,
    on_step: Callable[[str], None] = lambda _: None,
) -> dict[str, Counts]:  # fmt: skip
    """Instructions of each of `PHASES`, of a run in the emulated lane: differences of whole runs, so that all else cancels.

    A second question in the same run costs vision and prefill without loading and packing; the same with a prompt of as
    many tokens without a picture costs prefill alone. ``decode`` is one token.

    Raises
    ------
    CountingFailed
        In another lane.
    QuestionError
        If the answer is too short to tell decode from prefill.
    """
    with Desk(record, model, lane, 1) as desk:
        seen = desk.picture(image, question)
        total = int(parse(desk.run([seen], 1))["prompt_tokens"])
        bare = int(parse(desk.run([question], 1))["prompt_tokens"])
        blind = question + FILLER * (total - bare)
        runs = {}
        jobs = {
            "seen": [seen],
            "seen twice": [seen] * 2,
            "blind": [blind],
            "blind twice": [blind] * 2,
            "answered": [seen],
        }
        for name, prompts in jobs.items():
            on_step(f"{record.variant}: llm_demo, {name}")
            runs[name] = desk.count(prompts, 1 + tokens if name == "answered" else 1)
    if runs["blind"][1]["prompt_tokens"] != total:
        raise QuestionError(
            f"expected a prompt of {total} tokens without a picture, made one of {runs['blind'][1]['prompt_tokens']}"
        )
    more = runs["answered"][1]["decode_tokens"] - runs["seen"][1]["decode_tokens"]
    if more < 2:
        raise QuestionError(
            f"expected an answer of 3 tokens or more, received {runs['answered'][1]['answer']!r}. Ask: Describe the image."
        )
    both = counting.difference(runs["seen twice"][0], runs["seen"][0])
    prefill = counting.difference(runs["blind twice"][0], runs["blind"][0])
    return {
        "vision": counting.difference(both, prefill), "prefill": prefill,
        "decode": counting.difference(runs["answered"][0], runs["seen"][0], by=more),
    }  # fmt: skip


class Desk:
    """A folder in which one build's program runs on one model; nothing is written beside the model."""

    def __init__(self, record: BuildRecord, model: Path, lane: Lane, threads: int) -> None:
        arm = record.architecture == "aarch64"
        if lane.name == "emulated" and not arm:
            raise BuildError(
                f"expected a build for aarch64 in the emulated lane, this one is for {record.architecture}"
            )
        if lane.name == "native" and record.architecture not in {platform.machine(), "unknown"}:
            raise BuildError(
                f"expected a build for {platform.machine()} here, this one is for {record.architecture}: use --lane emulated"
            )
        self.record, self.model, self.lane = record, model.resolve(), lane
        self.area = manifest.read(model).image
        self._folder = tempfile.TemporaryDirectory(prefix="labkit-demo-")
        self.folder = Path(self._folder.name)
        config = chat_config(str(self.model), threads=threads, precision="normal", memory="low")
        (self.folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        self._runs, self.pixels = 0, 0
        self.peak_bytes: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def picture(self, image: ImageLike, question: str) -> str:
        """The line that asks about a picture, saved here under a name without a comma or a space."""
        if "\n" in question or "<" in question:
            raise QuestionError("expected a question of plain words on one line, without '<'")
        pixels = prepare(image, **self.area)
        self.pixels = pixels.shape[0] * pixels.shape[1]
        Image.fromarray(pixels).save(self.folder / "picture.png")
        return f"<img><hw>{pixels.shape[0]},{pixels.shape[1]}</hw>{self.folder / 'picture.png'}</img>{question}"

    def run(self, prompts: list[str], max_new_tokens: int, plugin: str | None = None) -> str:
        """What the program prints."""
        (self.folder / "prompts.txt").write_text(
            "".join(f"{prompt}\n" for prompt in prompts), encoding="utf-8"
        )
        words = ("config.json", "prompts.txt", str(max_new_tokens))
        argv, said = (
            self.lane.program_command(self.record.program, *words, plugin=plugin),
            list[str](),
        )
        finished = command.run(
            argv, log=self.folder / "log", cwd=self.folder, timeout_s=1800, on_line=said.append
        )
        self.peak_bytes = finished.peak_bytes
        return "\n".join(said)

    def count(self, prompts: list[str], max_new_tokens: int) -> tuple[Counts, dict[str, Any]]:
        """All instructions of one run, and what it printed."""
        self._runs += 1
        prefix = self.folder / f"count{self._runs}"
        said = self.run(prompts, max_new_tokens, plugin=f"{counting.plugin()},out={prefix},exit=on")
        return counting.at_exit(prefix), parse(said)
