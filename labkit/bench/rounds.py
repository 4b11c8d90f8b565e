"""MNN and its peers in one interleaved run: in each round every engine answers once, in random
order.

Each answer is of a fresh process, alone on the machine: it loads, warms up on a small picture, and
then looks at the picture, reads the prompt and answers with a fixed number of tokens, greedily and
with its KV cache. So every row is a comparison of pairs, as those of `labkit.bench.measure`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from labkit.arm.kleidiai import accelerated_types
from labkit.base.data import frozen
from labkit.base.errors import EngineCrashed, EngineError, PeerError
from labkit.bench import peers, results
from labkit.bench.comparisons import PARTS, Side
from labkit.bench.measure import Job
from labkit.bench.peers import PEERS, Made
from labkit.bench.plan import BenchPlan, require_possible
from labkit.bench.results import BenchResult
from labkit.bench.runner import ANSWER_TOKENS, QUESTION
from labkit.bench.unfinished import Unfinished
from labkit.engine.client import EngineProcess
from labkit.engine.lanes import Lane, native
from labkit.model import checkpoints, manifest
from labkit.model.laid import laid

OWN = {"python", "machine"}  # of what a process says of itself, no versions of engines
WARM_UP = (112, 112)
WORD = " the"  # one token, with which the prompt is filled up


@frozen
class Entrant:
    """An engine in the run: how it runs, where, on which folder, and what made that."""

    side: Side
    lane: Lane
    directory: Path
    made: Made
    bits: tuple[float, ...] | None = None


def entrants(plan: BenchPlan) -> list[Entrant]:
    """The peers of a plan, and MNN as the last; what is not converted yet is converted now.

    Raises
    ------
    PeerError
        If a peer was not set up, or cannot convert.
    """
    checkpoint, entered = checkpoints.resolve(plan.checkpoint), []
    for name in plan.comparisons:
        lane, precision = peers.lane(name), peers.precision()
        directory, made = peers.converted(name, checkpoint)
        wide = precision == "float32" and not PEERS[name].converts
        entered.append(
            Entrant(
                side=Side(
                    label=peers.label(name),
                    runtime="peer",
                    threads=plan.threads,
                    precision=precision,
                    memory=plan.memory,
                ),
                lane=lane,
                directory=directory,
                made=made,
                bits=(32, 32) if wide else PEERS[name].bits,
            )
        )
    return [*entered, own(plan)]


def own(plan: BenchPlan) -> Entrant:
    """MNN, as the plan has it."""
    about = manifest.read(plan.model)
    how = ", own build" if plan.build else ", tuned" * bool(plan.tuned)
    side = Side(
        label=f"MNN int{about.options['weight_bits']}{how}",
        runtime="chat",
        threads=plan.threads,
        precision=plan.precision,
        memory=plan.memory,
    )
    made = Made(
        elapsed_s=about.elapsed_s, peak_bytes=about.peak_bytes or 0, bytes=about.total_bytes
    )
    return Entrant(side=side, lane=native(plan.build), directory=plan.model, made=made)


def run(
    plan: BenchPlan,
    *,
    on_step: Callable[[int, int, str], object] = lambda *_: None,
) -> BenchResult:
    """Measure the peers of a plan beside MNN. Interrupted, the same plan goes on where it stopped.

    Raises
    ------
    PeerError
        If a peer was not set up, cannot convert, crashes or gives another prompt than asked for.
    """
    about = manifest.read(plan.model)
    require_possible(plan, about)
    entered = entrants(plan)
    mnn, others = entered[-1], dict(zip(plan.comparisons, entered, strict=False))
    kept = Unfinished(plan, tuple(one.side for one in entered), about)
    state = kept.read()
    jobs = {
        name: Job(name, (one.side, mnn.side), PARTS, state.get(name, {}))
        for name, one in others.items()
    }
    rng = np.random.default_rng(plan.seed)
    for done in range(plan.pairs):
        order = rng.permutation(len(entered)).tolist()
        if done < len(next(iter(jobs.values())).order):
            continue
        answers: dict[int, dict[str, Any]] = {}
        for number, place in enumerate(order):
            label = entered[place].side.label
            on_step(done * len(order) + number, plan.pairs * len(order), label)
            answers[place] = answer(entered[place], plan, about.image_pad)
        for place, job in enumerate(jobs.values()):
            job.processes["A"].append(answers[place])
            job.processes["B"].append(answers[len(jobs)])
            job.order.append("AB" if order.index(place) < order.index(len(jobs)) else "BA")
            job.about = answers[place]["about"]
            job.watch.look()
        kept.keep({name: job.state() for name, job in jobs.items()})
    on_step(plan.pairs * len(entered), plan.pairs * len(entered), "done")
    kept.forget()
    versions: dict[str, str] = {}
    for job in jobs.values():
        versions |= job.processes["A"][-1]["versions"] | job.processes["B"][-1]["versions"]
    engines = {one.side.label: vars(one.made) | {"bits": one.bits} for one in entered}
    return results.result(
        about,
        plan.to_dict() | {"engines": engines},
        lane=plan.lane,
        rows=[row for job in jobs.values() for row in job.rows()],
        versions=versions,
    )


def answer(one: Entrant, plan: BenchPlan, image_pad: int) -> dict[str, Any]:
    """One answer of a fresh process: what each part took, and the process's own facts."""
    try:
        with EngineProcess(one.lane) as engine:
            return _answer(engine, one, plan, image_pad)
    except (EngineCrashed, EngineError) as error:
        raise PeerError(f"{one.side.label} did not answer: {error}") from error


def _answer(engine: EngineProcess, one: Entrant, plan: BenchPlan, image_pad: int) -> dict[str, Any]:
    side, rng = one.side, np.random.default_rng(plan.seed)

    def ask(size: tuple[int, int], question: str, tokens: int) -> dict[str, Any]:
        noise = rng.integers(256, size=(*size, 3)).astype(np.uint8)
        return engine.request(
            "ask",
            image=noise,
            question=question,
            max_new_tokens=tokens,
            image_pad=image_pad,
            stop=[],
            positions="mrope",
        )

    options: dict[str, Any] = {
        "threads": side.threads,
        "precision": side.precision,
        "memory": side.memory,
    }
    if side.runtime == "chat":
        options = laid(one.directory, options | dict(plan.tuned))
    loaded = engine.request("load_chat", directory=one.directory.resolve(), **options)
    first = ask(WARM_UP, QUESTION, 1)
    visual, small = (rows * cols // 784 for rows, cols in (plan.image, WARM_UP))
    lacking = plan.prompt_tokens - visual - (len(first["prompt"]) - small)
    measured = ask(plan.image, QUESTION + WORD * lacking, ANSWER_TOKENS)
    prompt, times = len(measured["prompt"]), measured["times"]
    if prompt != plan.prompt_tokens:
        raise PeerError(
            f"expected a prompt of {plan.prompt_tokens} tokens, {visual} of them visual, "
            f"{side.label} made {prompt}. Choose a longer one: --prompt-tokens {visual + 64}"
        )
    size = f"{plan.image[0]}×{plan.image[1]} pixels, {prompt} prompt tokens"
    work = {"prefill": prompt, "decode": 1}
    return {
        "taken": {
            "load": (loaded["load_s"] + sum(first["times"].values()),),
            "vision": (times["vision_s"],),
            "prefill": (times["prefill_s"],),
            "decode": (times["decode_s"] / ANSWER_TOKENS,),
        },
        "about": {part: (size, work.get(part)) for part in PARTS},
        "peak_bytes": engine.request("memory")["peak_bytes"],
        "kleidiai_running": accelerated_types(engine.said),
        "versions": {name: v for name, v in engine.machine.items() if name not in OWN},
    }
