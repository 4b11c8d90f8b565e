"""One side of a comparison at work, in an engine process of its own."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from labkit.arm.kleidiai import accelerated_types
from labkit.bench.comparisons import PARTS, Side
from labkit.bench.plan import BenchPlan
from labkit.engine.client import EngineProcess
from labkit.model import checkpoints, manifest, parts

ANSWER_TOKENS = 16
QUESTION = "Describe the image."
VERSIONS = {"mnn", "numpy", "python", "torch", "transformers"}


class Runner:
    """A side that runs plain modules, MNN's or the original's.

    Attributes
    ----------
    about
        Of each part, the size in words, and the tokens that one pass works on.
    """

    about: dict[str, tuple[str, int | None]]

    def __init__(self, side: Side, plan: BenchPlan) -> None:
        self.side, self.plan = side, plan
        self.options: dict[str, Any] = {
            "threads": side.threads,
            "precision": side.precision,
            "memory": side.memory,
        }
        lane, original = plan.lane, None
        if side.runtime == "transformers":
            lane = replace(lane, module="labkit.inside.reference")
            original = checkpoints.resolve(plan.checkpoint).folder
        elif side.runtime == "build":
            lane = replace(lane, build=plan.build)
        self.about, self.parts = {"load": ("both modules, each run once", None)}, {}
        folder = plan.against if side.runtime == "against" and plan.against else plan.model
        every = parts.all_parts(folder, image=plan.image, prompt_tokens=plan.prompt_tokens)
        for part, tokens in zip(every, (None, plan.prompt_tokens, 1), strict=True):
            self.about[part.name] = part.size, tokens
            # One language module for both of its parts, as in a program.
            module = "vision" if part.name == "vision" else "llm"
            self.parts[part.name] = replace(part, name=module, file=original or part.file)
        self.engine = EngineProcess(lane)

    def load(self) -> float:
        """Load all and run each module once, the language module on one token; seconds.

        MNN reads and packs weights in the first pass, not when it loads.
        """
        seconds = 0.0
        for part in (self.parts["vision"], self.parts["decode"]):
            seconds += part.load(self.engine, kleidiai=self.side.kleidiai, **self.options)
            seconds += part.forward(self.engine)[0][0]
        return seconds

    def run(self, part: str, repeat: int) -> float:
        """Mean seconds of ``repeat`` passes.

        They are timed inside the side's process: no message between processes counts.
        """
        return float(np.mean(self.parts[part].forward(self.engine, repeat=repeat)[0]))

    def facts(self) -> dict[str, Any]:
        """``peak_bytes``, ``kleidiai_running`` and ``versions``, by the process's own word."""
        machine = self.engine.machine
        return {
            "peak_bytes": self.engine.request("memory")["peak_bytes"],
            "kleidiai_running": accelerated_types(self.engine.said),
            "versions": {name: machine[name] for name in VERSIONS & machine.keys()},
        }

    def close(self) -> None:
        """End the process."""
        self.engine.close()


class Chat(Runner):
    """A side that answers by MNN-LLM, with its KV cache."""

    def load(self) -> float:
        """Load the model and let it answer with one token; seconds."""
        plan, (height, width) = self.plan, self.plan.image
        noise = np.random.default_rng(plan.seed).integers(256, size=(height, width, 3))
        self.question: dict[str, Any] = {
            "image": noise.astype(np.uint8),
            "question": QUESTION,
            "image_pad": manifest.read(plan.model).image_pad,
            "stop": [],
            "positions": "mrope",
        }
        options = self.options | {n: value for n, value in plan.tuned.items() if n != "mmap"}
        loaded = self.engine.request("load_chat", directory=plan.model.resolve(), **options)
        answer = self._ask(1)
        work = {"prefill": len(answer["prompt"]), "decode": 1}
        size = f"{height}×{width} pixels, {work['prefill']} prompt tokens"
        self.about = {part: (size, work.get(part)) for part in PARTS}
        return float(loaded["load_s"] + sum(answer["times"].values()))

    def run(self, part: str, repeat: int) -> float:
        """Mean seconds of a pass in whole answers: of one token, or of many for decode."""
        tokens = ANSWER_TOKENS if part == "decode" else 1
        answers = (self._ask(tokens) for _ in range(math.ceil(repeat / tokens)))
        return float(np.mean([answer["times"][f"{part}_s"] for answer in answers]) / tokens)

    def _ask(self, tokens: int) -> dict[str, Any]:
        return self.engine.request("ask", max_new_tokens=tokens, **self.question)


def open_runner(side: Side, plan: BenchPlan) -> Runner:
    """Start a side's process."""
    return (Chat if side.runtime == "chat" else Runner)(side, plan)
