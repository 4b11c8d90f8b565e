"""KleidiAI: built, enabled and running are three facts; each is found out with its evidence."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from labkit.arm import rules
from labkit.arm.counting import CountingEngine
from labkit.arm.rules import Layer, Reason
from labkit.arm.symbols import functions
from labkit.base.data import frozen
from labkit.engine.client import EngineProcess
from labkit.engine.lanes import Lane
from labkit.model.chat import Model
from labkit.model.parts import Part, all_parts

INSTRUCTION_SETS = ("i8mm", "dotprod", "NEON", "SME2", "SME", "any")
DOES = {
    "imatmul": "convolution as a matrix product",
    "dwconv": "depthwise convolution",
    "matmul": "matrix product",
    "lhs_quant_pack": "quantise and pack activations",
    "lhs_pack": "pack activations",
    "lhs_imatmul_pack": "pack activations",
    "rhs_pack": "pack weights",
    "rhs_imatmul_pack": "pack weights",
    "rhs_dwconv_pack": "pack weights",
}
"""What a micro-kernel does, by what its name says first."""
WORDS = {None: "unknown", True: "yes", False: "no"}


@frozen
class Kernel:
    """One micro-kernel: its name, the instruction set it is written for, and what it does."""

    name: str
    instruction_set: str
    does: str


@frozen
class Use:
    """One part of the model, and where its instructions went.

    ``share`` is the share of executed instructions inside ``kai_*`` functions and ``kernels`` which
    they were with theirs; both None where instructions are not counted, which is every lane but the
    emulated one.
    """

    part: str
    share: float | None = None
    kernels: tuple[tuple[str, float], ...] | None = None


@frozen
class Examination:
    """The three facts for one lane and one model."""

    lane: str
    machine: dict[str, Any]
    features: tuple[str, ...] | None
    kernels: tuple[Kernel, ...] | None
    hint: bool
    accelerated_types: tuple[str, ...]
    chat_types: tuple[str, ...] | None
    uses: tuple[Use, ...]
    layers: int
    reasons: tuple[Reason, ...]

    @property
    def built(self) -> bool | None:
        """Whether the library holds KleidiAI's kernels; None if it could not be read."""
        return None if self.kernels is None else bool(self.kernels)

    @property
    def running(self) -> bool:
        """Whether MNN took KleidiAI's kernels and, where it is counted, some were executed."""
        shares = [use.share for use in self.uses if use.share is not None]
        return bool(self.accelerated_types) and (not shares or any(shares))

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        facts = {"built": self.built, "enabled": self.hint, "running": self.running}
        return {"schema": 1, **facts, **asdict(self)}

    def rows(self) -> list[tuple[str, str, str]]:
        """The facts with their evidence: name, answer, evidence."""
        sets = Counter(kernel.instruction_set for kernel in self.kernels or ())
        counted = ", ".join(f"{name} {n}" for name, n in sets.items())
        symbols = {
            None: "the library's symbols could not be read (it is no ELF file, or stripped)",
            False: "no kai_ function in MNN's library",
            True: f"{len(self.kernels or ())} micro-kernels: {counted}",
        }
        hint = f"hint CPU_ENABLE_KLEIDIAI = {int(self.hint)} on each module before it was loaded"
        types = ", ".join(self.accelerated_types) or "nothing of KleidiAI"
        rows = [
            ("built", WORDS[self.built], symbols[self.built]),
            ("enabled", WORDS[self.hint], hint),
            ("running", WORDS[self.running], f"MNN says: {types}"),
            *map(_use_row, self.uses),
        ]
        if self.chat_types is not None:
            chat = (
                f"uses {', '.join(self.chat_types)}: built with MNN_KLEIDIAI_DEFAULT_ON"
                if self.chat_types
                else "never uses KleidiAI"
            )
            said = f"MNN-LLM sets no hint, so a chat through this library {chat}"
            rows.append(("in a chat", WORDS[bool(self.chat_types)], said))
        return rows

    def __str__(self) -> str:
        features = ", ".join(self.features or ()) or "none that matter here"
        lines = [
            f"KleidiAI, {self.lane}, MNN {self.machine['mnn']}; the CPU has, as MNN sees it: "
            + ("could not be read" if self.features is None else features),
            "",
            *(f"{name:10} {answer:11} {evidence}" for name, answer, evidence in self.rows()),
        ]
        for reason in self.reasons:
            some = f"not in {len(reason.layers)} of {self.layers} layers"
            which = some if reason.layers else "why not"
            lines += [f"{which}: {reason.text}", f"  → {reason.todo}"]
        return "\n".join(lines)


def _use_row(use: Use) -> tuple[str, str, str]:
    if use.share is None:
        evidence = "instructions are counted in the emulated lane only"
        return f"  {use.part}", "not counted", evidence
    most = "; ".join(f"{name} {share:.0%}" for name, share in (use.kernels or ())[:2])
    evidence = f"of instructions inside kai_ functions{most and f': {most}'}"
    return f"  {use.part}", f"{use.share:.0%}", evidence


def kernel(function: str) -> Kernel | None:
    """What a function is by its name; None if it is not the entry of a micro-kernel.

    Examples
    --------
    >>> name = "kai_run_matmul_clamp_f32_qsi8d32p4x8_qai4c32p4x8_8x4_neon_i8mm"
    >>> kernel(name).instruction_set
    'i8mm'
    >>> kernel("kai_get_m_step_lhs_pack_f32p2vlx1_f32_sme") is None
    True
    """
    name = function.removeprefix("kai_run_")
    if name == function:
        return None
    work, words = re.search("|".join(DOES), name), name.split("_")
    return Kernel(
        name=name,
        does=DOES[work[0]] if work else "other",
        instruction_set=next((s for s in INSTRUCTION_SETS if s.lower() in words), "any"),
    )


def kernels(library: Path) -> tuple[Kernel, ...] | None:
    """The micro-kernels in a library, by its ELF symbols; None if it has no symbols to read."""
    known = functions(library)
    if known is None:
        return None
    entries = {entry for entry in map(kernel, known.names) if entry}
    order = INSTRUCTION_SETS.index
    return tuple(sorted(entries, key=lambda k: (order(k.instruction_set), k.does, k.name)))


def accelerated_types(log: str) -> tuple[str, ...]:
    """For which kinds of layers MNN says that it took KleidiAI, in what it printed.

    >>> accelerated_types("KleidiAI is running! AccelType is QI4_ASYM_BLKQT_F32.")
    ('QI4_ASYM_BLKQT_F32',)
    """
    return tuple(dict.fromkeys(re.findall(r"KleidiAI is running! AccelType is (\w+)", log)))


def layers(engine: EngineProcess, files: Iterable[Path]) -> tuple[Layer, ...]:
    """The layers with weights of some .mnn files."""
    return tuple(
        msgspec.convert({"name": op["name"], **op["layer"]}, Layer)
        for file in files
        for op in engine.request("graph", file=file)["ops"]
        if op["layer"]
    )


def taken(engine: EngineProcess, file: Path) -> Counter[str]:
    """How many layers of a .mnn file KleidiAI's kernels can take (under ``""``), and how many not,
    by the code of what is in the way (`labkit.arm.rules.obstacle`).
    """
    obstacles = map(rules.obstacle, layers(engine, [file]))
    return Counter(obstacle.code if obstacle else "" for obstacle in obstacles)


def examine(
    model: Path,
    lane: Lane,
    *,
    hint: bool = True,
    memory: str = "low",
    precision: str = "normal",
    parts: Sequence[Part] | None = None,
    chat: bool = True,
    on_step: Callable[[str], None] = lambda _: None,
) -> Examination:
    """Find out whether KleidiAI is built, enabled and running.

    Parameters
    ----------
    model
        Folder of a converted model.
    lane
        Where to look. In the emulated lane the executed instructions are counted, too.
    hint
        Whether to set MNN's runtime hint.
    memory, precision
        As `labkit.model.chat.Model`.
    parts
        What to run; by default vision, prefill and decode.
    chat
        Also ask one question through MNN-LLM, which sets no hint.
    on_step
        Called with a few words before each step.

    Raises
    ------
    ModelError, LaneNotReady, EngineCrashed
        Nothing could be found out.
    """
    parts = parts or all_parts(model)
    on_step("symbols of MNN's library")
    inside = kernels(lane.library)
    uses = []
    counts = lane.name == "emulated"
    with CountingEngine(lane) if counts else EngineProcess(lane) as engine:
        for part in parts:
            on_step(f"{part.name}, {part.size}")
            uses.append(_use(engine, part, kleidiai=hint, memory=memory, precision=precision))
        said, features, machine = engine.said, engine.features, engine.machine
        model_layers = layers(engine, dict.fromkeys(part.file for part in parts))
    chat_types = None
    if chat:
        on_step("one token through MNN-LLM")
        with Model(model, threads=1, lane=lane) as opened:
            opened.ask(None, "?", max_new_tokens=1)
            chat_types = accelerated_types(opened.engine.said)
    return Examination(
        lane=lane.label,
        machine=machine,
        features=features,
        kernels=inside,
        hint=hint,
        accelerated_types=accelerated_types(said),
        chat_types=chat_types,
        uses=tuple(uses),
        layers=len(model_layers),
        reasons=rules.reasons(
            built=None if inside is None else bool(inside),
            hint=hint,
            features=features,
            memory=memory,
            precision=precision,
            model=model_layers,
        ),
    )


def _use(engine: EngineProcess, part: Part, **options: Any) -> Use:
    if not isinstance(engine, CountingEngine):
        part.load(engine, **options)
        part.forward(engine)
        return Use(part=part.name)
    counts = engine.count(part, **options)
    kernels = counts.inside("kai_").by_function()
    shares = tuple((name, n / counts.total) for (_, name), n in kernels)
    return Use(part=part.name, share=counts.share("kai_"), kernels=shares)
