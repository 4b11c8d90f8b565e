"""MNN's own program ``llm_demo``, run on a picture and read.

It is the learning path's comparison, end to end with a KV cache. Natively it is timed, in pairs; in
the emulated lane its instructions are counted, and its seconds say nothing about an Arm CPU. It
prints seconds with two decimals; where they are short, its tokens and pixels to a second are finer.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from labkit.arm import plugin
from labkit.arm.counts import Counts, difference
from labkit.arm.kleidiai import accelerated_types
from labkit.base import files
from labkit.base.data import frozen
from labkit.base.errors import BuildError, QuestionError
from labkit.base.records import to_json
from labkit.building.record import BuildRecord
from labkit.engine.lanes import Lane
from labkit.engine.mnn_llm import chat_config
from labkit.model import manifest
from labkit.model.budget import budget
from labkit.model.images import ImageLike, prepare

FILLER = " the"  # one token; repeated, it makes a prompt without a picture as long as one with
PHASES = ("vision", "prefill", "decode")
ANSWER_TOKENS = 16
COUNTED_TOKENS = 8
FIGURE = re.compile(r"(\w+ (?:tokens num|time|speed)) = ([\d.]+)")
ANSWER = re.compile(r"prompt file is [^\n]*\n(.*?)\n#{5,}", re.DOTALL)


@frozen
class DemoRun:
    """What one run of ``llm_demo`` printed.

    ``seconds`` are those of each of `PHASES`; ``kleidiai`` holds MNN's own messages of accelerated
    layer types.
    """

    answer: str
    prompt_tokens: int
    decode_tokens: int
    seconds: dict[str, float]
    kleidiai: tuple[str, ...]
    peak_bytes: int | None


def parse(text: str, *, pixels: int = 0, peak_bytes: int | None = None) -> DemoRun:
    r"""Read what ``llm_demo`` prints.

    Parameters
    ----------
    text
        What it printed.
    pixels
        Of the picture, if there was one.
    peak_bytes
        The most memory that it held.

    Raises
    ------
    BuildError
        If it ended before its figures.

    Examples
    --------
    >>> tail = "prompt tokens num = 44\ndecode tokens num = 4\n vision time = 0.20 s\n"
    >>> tail += "prefill time = 0.10 s\n decode time = 0.02 s"
    >>> parse("prompt file is p.txt\nA cat.\n\n#########\n" + tail).answer
    'A cat.'
    """
    printed, answer = dict(FIGURE.findall(text)), ANSWER.search(text)
    try:
        prompt, decoded = (int(printed[f"{name} tokens num"]) for name in ("prompt", "decode"))
        seconds = {phase: float(printed[f"{phase} time"]) for phase in PHASES}
    except KeyError:
        answer = None
    if not answer:
        raise BuildError(f"expected llm_demo's answer and figures, got:\n{text[-600:]}")
    for phase, work in zip(PHASES, (pixels / 1e6, prompt, decoded), strict=True):
        speed = float(printed.get(f"{phase} speed", 0))
        if speed > 0.1 and work and seconds[phase] < 1:
            seconds[phase] = work / speed  # as many digits as there are: 0.02 s is 1.045 MP/s
    return DemoRun(
        answer=answer[1].strip(),
        prompt_tokens=prompt,
        decode_tokens=decoded,
        seconds=seconds,
        kleidiai=accelerated_types(text),
        peak_bytes=peak_bytes,
    )


def ask(record: BuildRecord, model: Path, image: ImageLike, question: str, lane: Lane) -> DemoRun:
    """Ask a build's ``llm_demo`` one question about one picture, on one thread.

    The program sees the picture at the size at which `labkit.model.chat` looks at it.

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
    with files.temporary("demo") as folder:
        desk = _Desk(record, model, lane, folder)
        return desk.run([desk.picture(image, question)], ANSWER_TOKENS)


def count(
    record: BuildRecord,
    model: Path,
    image: ImageLike,
    question: str,
    lane: Lane,
    *,
    on_step: Callable[[str], None] = lambda _: None,
) -> dict[str, Counts]:
    """Instructions of each of `PHASES`, of a run in the emulated lane.

    They are differences of whole runs, so that all else cancels. A second question in the same run
    costs vision and prefill without loading and packing; the same with a prompt of as many tokens
    without a picture costs prefill alone. ``decode`` is one token.

    Raises
    ------
    CountingFailed
        In another lane.
    QuestionError
        If the answer is too short to tell decode from prefill.
    """
    with files.temporary("demo") as folder:
        desk = _Desk(record, model, lane, folder)
        seen = desk.picture(image, question)
        total, bare = (desk.run([prompt], 1).prompt_tokens for prompt in (seen, question))
        blind = question + FILLER * (total - bare)

        def counted(name: str, *prompts: str, tokens: int = 1) -> tuple[Counts, DemoRun]:
            on_step(f"{record.variant}: llm_demo, {name}")
            out = desk.folder / name.replace(" ", "-")
            run = desk.run(prompts, tokens, plugin.option(out, at_exit=True))
            return plugin.at_exit(out), run

        once, seen_run = counted("seen", seen)
        twice, _ = counted("seen twice", seen, seen)
        blind_once, blind_run = counted("blind", blind)
        blind_twice, _ = counted("blind twice", blind, blind)
        answered, long_run = counted("answered", seen, tokens=1 + COUNTED_TOKENS)
    if blind_run.prompt_tokens != total:
        raise QuestionError(
            f"expected a prompt of {total} tokens without a picture, made one of "
            f"{blind_run.prompt_tokens}"
        )
    more = long_run.decode_tokens - seen_run.decode_tokens
    if more < 2:
        raise QuestionError(
            f"expected an answer of 3 tokens or more, received {long_run.answer!r}. "
            "Ask: Describe the image."
        )
    prefill = difference(blind_twice, blind_once)
    return {
        "vision": difference(difference(twice, once), prefill),
        "prefill": prefill,
        "decode": difference(answered, once, by=more),
    }


class _Desk:
    """A folder in which one build's program runs on one model; nothing is written beside that."""

    def __init__(self, record: BuildRecord, model: Path, lane: Lane, folder: Path) -> None:
        if not {record.architecture, record.target} & {*lane.builds}:
            todo = ": use --lane emulated" if lane.name == "native" else ""
            raise BuildError(
                f"expected a build for {' or '.join(lane.builds)} in the {lane.name} lane, this "
                f"one is for {record.architecture} ({record.target}){todo}"
            )
        self.record, self.lane, self.folder = record, lane, folder
        self.area, self.pixels = budget(manifest.read(model), None).area, 0
        config = chat_config(str(model.resolve()), threads=1, precision="normal", memory="low")
        config["base_dir"] = f"{lane.placed(model.resolve())}/"
        files.write(self.folder / "config.json", to_json(config))

    def picture(self, image: ImageLike, question: str) -> str:
        """The line that asks about a picture, saved here under a name without comma or space."""
        if "\n" in question or "<" in question:
            raise QuestionError("expected a question of plain words on one line, without '<'")
        picture = Image.fromarray(prepare(image, **self.area))
        file = self.folder / "picture.png"
        picture.save(file)
        self.pixels = picture.width * picture.height
        return f"<img><hw>{picture.height},{picture.width}</hw>{file.name}</img>{question}"

    def run(
        self, prompts: Sequence[str], max_new_tokens: int, plugin: str | None = None
    ) -> DemoRun:
        """Ask these prompts, one after the other; the figures are all prompts' together."""
        lines = "".join(f"{prompt}\n" for prompt in prompts)
        (self.folder / "prompts.txt").write_text(lines, encoding="utf-8")
        words = ("config.json", "prompts.txt", str(max_new_tokens))
        ended = self.lane.run_program(
            self.record.program,
            *words,
            folder=self.folder,
            libraries=self.record.libraries,
            plugin=plugin,
        )
        return parse("\n".join(ended.lines), pixels=self.pixels, peak_bytes=ended.peak_bytes)
