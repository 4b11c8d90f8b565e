"""Ask a converted model about a picture.

>>> import labkit                                               # doctest: +SKIP
>>> with labkit.open_model("mini") as model:                    # doctest: +SKIP
...     print(model.ask("scene.png", "What is left of the pizza?").text)
"""

import math
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from labkit.base.data import frozen
from labkit.base.errors import ModelError, QuestionError
from labkit.base.show import in_notebook
from labkit.engine.client import EngineProcess
from labkit.engine.lanes import Lane, native
from labkit.engine.mnn_llm import MORE
from labkit.model import manifest, tuned
from labkit.model.budget import Seen, budget, is_large
from labkit.model.images import ImageLike, load_rgb, prepare
from labkit.model.laid import laid
from labkit.model.pace import Pace
from labkit.model.parts import Part
from labkit.model.vision import grid
from labkit.model.waiting import STAGES, Waiting

MARKUP = re.compile(r"<\|[^|]*\|>|</?(?:img|audio|hw)>|[\0\ud800-\udfff]")
"""Control marks, and what has no place in a text: it would end or crash it."""
PRECISIONS = ("normal", "high", "low")
SAMPLE = 112
"""Side of the picture from which the pace of a large model's tower is measured, once."""
NOTEBOOK_S = 3
"""A notebook shows stages that take longer than this."""


@frozen
class Times:
    """Seconds of each part of an answer."""

    load_s: float
    vision_s: float
    prefill_s: float
    decode_s: float


@frozen
class Answer:
    """What the model said, and what it took.

    ``prompt`` and ``tokens`` are token ids, those of visual tokens all alike. ``finished`` is False
    when ``max_new_tokens`` cut the answer off. ``first_logits`` are the (vocabulary,) float32
    scores from which the first token was taken. ``seen`` is at which size the picture was looked
    at, and whether the default budget has shrunk it.
    """

    text: str
    tokens: tuple[int, ...]
    prompt: tuple[int, ...]
    visual_tokens: int
    finished: bool
    times: Times
    first_logits: np.ndarray
    seen: Seen | None = None

    @property
    def prompt_tokens(self) -> int:
        """How many tokens the model was given, visual ones among them."""
        return len(self.prompt)

    def __repr__(self) -> str:
        visual = f"{self.visual_tokens} visual of {self.prompt_tokens} prompt tokens"
        seen = f"; {self.seen}" if self.seen and self.seen.shrunk else ""
        return f"Answer({self.text!r}, {len(self.tokens)} tokens, {visual}{seen})"


class Model(AbstractContextManager["Model"]):
    """A converted model, open in an engine process of its own.

    Parameters
    ----------
    folder
        As made by `labkit.model.convert`.
    threads
        CPU threads of both parts; None takes what `labkit tune` chose here, or up to four.
    precision
        ``"normal"`` (float32), ``"high"``, or ``"low"`` (float16 where the CPU has it); None takes
        what `labkit tune` chose here, or ``"normal"``.
    memory
        ``"low"`` keeps weights quantised and uses the int4 or int8 kernels; ``"normal"`` unpacks
        them; None takes what `labkit tune` chose here, or ``"low"``.
    positions
        ``"mrope"`` puts new tokens where Qwen2-VL does; ``"mnn"`` where MNN-LLM 3.6.1 does, some
        positions too far on (`labkit.engine.mnn_llm.passes`).
    max_pixels
        Larger pictures are shrunk to this area; at most what the checkpoint allows. None takes
        1,280 visual tokens, and 256 for a large model (`labkit.model.budget`).
    lane
        Where the engine runs; None is this interpreter.

    Attributes
    ----------
    tuned
        What `labkit tune` chose for this model on this machine; empty if it was not tuned.

    Raises
    ------
    ModelError
        If the folder is not a whole converted model.
    """

    def __init__(
        self,
        folder: Path,
        *,
        threads: int | None = None,
        precision: str | None = None,
        memory: str | None = None,
        positions: str = "mrope",
        max_pixels: int | None = None,
        lane: Lane | None = None,
    ) -> None:
        if not {precision, memory} <= {None, *PRECISIONS} or positions not in ("mrope", "mnn"):
            raise ModelError(
                f"expected precision and memory among {', '.join(PRECISIONS)} and positions "
                f"'mrope' or 'mnn', received {precision!r}, {memory!r}, {positions!r}"
            )
        self.folder, self.manifest = Path(folder).resolve(), manifest.read(Path(folder))
        self.tuned = tuned.read(self.manifest) if lane in (None, native()) else {}
        given = {"threads": threads, "precision": precision, "memory": memory}
        usual = tuned.usual(lane) | self.tuned
        self.options: dict[str, Any] = {name: value or usual[name] for name, value in given.items()}
        self.more = {name: value for name, value in self.tuned.items() if name in MORE}
        if not self.options.items() <= self.tuned.items():
            self.more.pop("mmap", None)  # each set of options would be laid out for itself
        self.positions, self.lane = positions, lane
        self.budget = budget(self.manifest, max_pixels)
        self._pace = Pace(self.manifest.contents, self.options | self.more, lane)
        self._engine: EngineProcess | None = None
        self._load_s = 0.0
        self._graphs: dict[str, list[dict[str, Any]]] = {}
        self._loaded: dict[str, tuple[str, ...]] = {}  # outputs by part

    @property
    def engine(self) -> EngineProcess:
        """The engine, started at first use, and again after a crash."""
        if self._engine is None or not self._engine.alive:
            self.close()
            self._engine = EngineProcess(self.lane)
        return self._engine

    def ask(
        self,
        image: ImageLike | None,
        question: str,
        *,
        max_new_tokens: int = 64,
        on_text: Callable[[str], None] | None = None,
        on_event: Callable[[dict[str, Any]], None] | None = None,
    ) -> Answer:
        """Answer one question about one picture, greedily: the same question gets the same answer.

        Parameters
        ----------
        image
            Anything that `labkit.model.images.load_rgb` takes; None asks without a picture.
        question
            In plain words.
        max_new_tokens
            Where to stop at the latest.
        on_text
            Called with each piece of the answer as it comes.
        on_event
            Called with each event: ``load``, ``vision`` and ``prefill``, each as it begins, with
            its ``size``, the seconds ``expected_s`` from what this model took before (None if
            nothing is known) and whether these may well be more (``or_more``); then the prompt and
            each token as `labkit.engine.worker.Worker.ask` sends them. A notebook without
            ``on_text`` and ``on_event`` shows the stages that take seconds.

        Raises
        ------
        ImageError, QuestionError, EngineCrashed, EngineTimeout, EngineError
            The picture or question cannot be used; the engine failed.
        """
        question = _checked(question, max_new_tokens)
        rgb = None if image is None else load_rgb(image)
        seen = None if rgb is None else self.budget.seen(rgb)
        arrays = {} if rgb is None else {"image": self.prepare(rgb)}
        with ExitStack() as stack:
            if on_event is None and on_text is None and in_notebook():
                on_event = stack.enter_context(Waiting(after_s=NOTEBOOK_S))

            def pass_on(event: dict[str, Any]) -> None:
                if event["event"] in STAGES:
                    event |= self._pace.expected(event["event"], event["size"])
                if on_text and event["event"] == "piece" and event["text"]:
                    on_text(event["text"])
                if on_event:
                    on_event(event)

            said = self._loaded_engine(pass_on, seen).request(
                "ask",
                arrays,
                on_event=pass_on,
                question=question,
                image_pad=self.manifest.image_pad,
                stop=self.manifest.stop,
                max_new_tokens=max_new_tokens,
                positions=self.positions,
            )
        times = Times(load_s=self._load_s, **said.pop("times"))
        tokens, prompt = (tuple(said.pop(ids)) for ids in ("tokens", "prompt"))
        if seen:
            self._pace.keep("vision", 4 * seen.visual_tokens, times.vision_s)
        self._pace.keep("prefill", len(prompt), times.prefill_s)
        return Answer(tokens=tokens, prompt=prompt, times=times, seen=seen, **said)

    def _loaded_engine(
        self, tell: Callable[[dict[str, Any]], None], seen: Seen | None
    ) -> EngineProcess:
        """The engine with the model; the pace of a large one's tower is known, too, then."""
        engine = self.engine
        if self._load_s:
            return engine
        tell({"event": "load", "size": 1, "tuned": tuned.words(self.tuned)})
        options = laid(self.folder, self.options | self.more)
        loaded = engine.request("load_chat", directory=self.folder, **options)
        self._load_s = loaded["load_s"]
        self._pace.keep("load", 1, self._load_s)
        if (
            seen
            and is_large(self.manifest)
            and engine.lane.may_be_timed
            and not self._pace.knows("vision")
            and seen.height * seen.width > 4 * SAMPLE**2
        ):
            sample = self.prepare(np.zeros((SAMPLE, SAMPLE, 3), np.uint8))
            taken = engine.request("look", {"image": sample})
            self._pace.keep("vision", math.prod(grid(sample)), taken["vision_s"], least_s=0)
        return engine

    def prepare(self, image: ImageLike) -> np.ndarray:
        """A picture at the size at which this model looks at it: (height, width, 3) uint8."""
        return prepare(image, **self.budget.area)

    def graph(self, name: str) -> list[dict[str, Any]]:
        """The operators of one of the model's .mnn files: ``type``, ``name``, ``inputs``,
        ``outputs``.
        """
        if name not in self._graphs:
            reply = self.engine.request("graph", file=self.folder / name)
            self._graphs[name] = reply["ops"]
        return self._graphs[name]

    def forward(self, part: Part) -> dict[str, np.ndarray]:
        """Run one of the model's graphs as a plain module, loaded at its first use.

        It is loaded again when other outputs are asked for: loading fixes what a module gives.
        """
        engine = self.engine
        if self._loaded.get(part.name) != part.outputs:
            part.load(engine, kleidiai=False, **self.options)
            self._loaded[part.name] = part.outputs
        return part.forward(engine)[1]

    def close(self) -> None:
        """End the engine; the next question starts it again."""
        if self._engine is not None:
            self._engine.close()
        self._engine, self._load_s = None, 0.0
        self._loaded.clear()

    def __exit__(self, *_: object) -> None:
        self.close()


def _checked(question: str, max_new_tokens: int) -> str:
    question = question.strip()
    if not question:
        raise QuestionError("expected a question, received nothing. Try: Describe the image.")
    if mark := MARKUP.search(question):
        raise QuestionError(
            f"expected plain words, received the control mark {mark.group()!r}, which would "
            "change the prompt. Leave it out."
        )
    if max_new_tokens < 1:
        raise QuestionError(f"expected max_new_tokens of at least 1, received {max_new_tokens}")
    return question
