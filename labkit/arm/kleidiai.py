"""KleidiAI: built, enabled and running are three facts; each is shown with its evidence.

The rules by which MNN 3.6.1 takes a KleidiAI kernel for a layer were read in its
``source/backend/cpu/kleidiai`` (``canAccelerate``, ``getQIntAccelType``) and
``source/backend/cpu/compute/ConvolutionFloatFactory.cpp``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from labkit.arm import counting
from labkit.engine.client import EngineProcess
from labkit.engine.lanes import Lane
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
RUNNING = re.compile(r"KleidiAI is running! AccelType is (\w+)")


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One micro-kernel: its name, the instruction set it is written for, and what it does."""

    name: str
    instruction_set: str
    does: str


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer with weights, as far as it decides which kernel runs.

    ``columns`` is the width of its input (K), ``block_size`` 0 means one scale for each output, and
    ``bits`` is None where weights are not quantised.
    """

    name: str
    rows: int
    columns: int
    kernel: tuple[int, int]
    group: int
    bits: int | None
    block_size: int
    asymmetric: bool


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why KleidiAI does not run, for everything or for some layers."""

    code: str
    text: str
    todo: str
    layers: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Use:
    """One part of the model: MNN's choice, and where its instructions went.

    ``share`` is the share of executed instructions inside ``kai_*`` functions and ``kernels`` which they were
    with theirs; both None where instructions are not counted, which is every lane but the emulated one.
    """

    part: str
    share: float | None
    kernels: tuple[tuple[str, float], ...] | None


@dataclass(frozen=True, kw_only=True)
class Report:
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
        """Whether MNN took KleidiAI's kernels and, where instructions are counted, some were executed in them."""
        counted = [use.share for use in self.uses if use.share is not None]
        return bool(self.accelerated_types) and (not counted or any(counted))

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "schema": 1,
            "built": self.built,
            "enabled": self.hint,
            "running": self.running,
            **asdict(self),
        }

    def rows(self) -> list[tuple[str, str, str]]:
        """The facts with their evidence: name, answer, evidence."""
        sets = Counter(k.instruction_set for k in self.kernels or ())
        told = ", ".join(f"{name} {sets[name]}" for name in INSTRUCTION_SETS if sets[name])
        unread = "the library's symbols could not be read (it is no ELF file, or stripped)"
        rows = [
            ("built", _word(self.built), f"{len(self.kernels or ())} micro-kernels: {told}" if self.kernels else
             unread if self.kernels is None else "no kai_ function in MNN's library"),
            ("enabled", _word(self.hint), f"hint CPU_ENABLE_KLEIDIAI = {int(self.hint)} on each module before it was loaded"),
            ("running", _word(self.running), "MNN says: " + (", ".join(self.accelerated_types) or "nothing of KleidiAI")),
        ]  # fmt: skip
        for use in self.uses:
            if use.share is None:
                rows.append(
                    (
                        f"  {use.part}",
                        "not counted",
                        "instructions are counted in the emulated lane only",
                    )
                )
            else:
                names = "; ".join(f"{name} {share:.0%}" for name, share in (use.kernels or ())[:2])
                rows.append(
                    (
                        f"  {use.part}",
                        f"{use.share:.0%}",
                        "of instructions inside kai_ functions" + (f": {names}" if names else ""),
                    )
                )
        if self.chat_types is not None:
            said = "MNN-LLM sets no hint, so a chat through this library "
            said += (
                f"uses {', '.join(self.chat_types)}: built with MNN_KLEIDIAI_DEFAULT_ON"
                if self.chat_types
                else "never uses KleidiAI"
            )
            rows.append(("in a chat", _word(bool(self.chat_types)), said))
        return rows

    def __str__(self) -> str:
        features = (
            "could not be read"
            if self.features is None
            else ", ".join(self.features) or "none that matter here"
        )
        lines = [
            f"KleidiAI, {self.lane}, MNN {self.machine['mnn']}; the CPU has, as MNN sees it: {features}",
            "",
        ]
        lines += [f"{name:10} {answer:11} {evidence}" for name, answer, evidence in self.rows()]
        for reason in self.reasons:
            which = (
                f"not in {len(reason.layers)} of {self.layers} layers"
                if reason.layers
                else "why not"
            )
            lines += [f"{which}: {reason.text}", f"  → {reason.todo}"]
        return "\n".join(lines)


def _word(fact: bool | None) -> str:
    return "unknown" if fact is None else "yes" if fact else "no"


def kernel(function: str) -> Kernel | None:
    """What a function is by its name; None if it is not the entry of a micro-kernel.

    Examples
    --------
    >>> kernel("kai_run_matmul_clamp_f32_qsi8d32p4x8_qai4c32p4x8_8x4_neon_i8mm").instruction_set
    'i8mm'
    >>> kernel("kai_get_m_step_lhs_pack_f32p2vlx1_f32_sme") is None
    True
    """
    if not function.startswith("kai_run_"):
        return None
    name = function.removeprefix("kai_run_")
    does = next((text for start, text in DOES.items() if name.startswith(start)), None)
    does = does or next((text for start, text in DOES.items() if f"_{start}_" in name), "other")
    ends = {"sme2": "SME2", "sme": "SME", "i8mm": "i8mm", "dotprod": "dotprod", "neon": "NEON"}
    words = name.split("_")
    return Kernel(
        name=name,
        does=does,
        instruction_set=next((ours for theirs, ours in ends.items() if theirs in words), "any"),
    )


def kernels(library: Path) -> tuple[Kernel, ...] | None:
    """The micro-kernels inside a library, by its ELF symbols; None if it has no symbols to read."""
    names = counting.function_names(library)
    if names is None:
        return None
    return tuple(
        sorted(
            {k for k in map(kernel, names) if k},
            key=lambda k: (INSTRUCTION_SETS.index(k.instruction_set), k.does, k.name),
        )
    )


def layers(engine: EngineProcess, files: Iterable[Path]) -> tuple[Layer, ...]:
    """The layers with weights of some .mnn files."""
    found = []
    for file in files:
        for op in engine.request("graph", file=str(file))["ops"]:
            if about := op["layer"]:
                blocks, columns = about.pop("blocks"), about["columns"]
                found.append(
                    Layer(
                        name=op["name"],
                        block_size=columns // blocks if blocks > 1 else 0,
                        **{**about, "kernel": tuple(about["kernel"])},
                    )
                )
    return tuple(found)


def obstacle(layer: Layer, *, precision: str = "normal") -> tuple[str, str, str] | None:
    """Why MNN takes no KleidiAI kernel for a layer even where all else fits: code, text, what to do; None if nothing is in the way."""
    if layer.kernel != (1, 1):
        return (
            "kernel",
            f"it is a {layer.kernel[0]}×{layer.kernel[1]} convolution; only 1×1 (linear layers) are taken",
            "nothing: MNN's own kernel runs it",
        )
    if layer.group != 1:
        return "group", "its channels are grouped", "nothing: MNN's own kernel runs it"
    if layer.bits != 4:
        have = "not quantised" if layer.bits is None else f"{layer.bits}-bit"
        return (
            "bits",
            f"its weights are {have}; KleidiAI's kernels in MNN are for 4 bits",
            "convert with --weight-bits 4 --vision-bits 4",
        )
    if not layer.asymmetric and layer.block_size:
        return (
            "block",
            "symmetric weights in blocks: MNN has no KleidiAI kernel for them",
            "convert without --symmetric, or with --block-size 0",
        )
    if not layer.asymmetric and precision == "low":
        return (
            "block",
            "symmetric weights in float16: MNN has no KleidiAI kernel for them",
            "convert without --symmetric",
        )
    if (layer.block_size or layer.columns) % 32:
        what = (
            f"blocks of {layer.block_size}" if layer.block_size else f"inputs {layer.columns} wide"
        )
        return (
            "width",
            f"{what}: the kernels need a multiple of 32",
            "make its input a multiple of 32 wide",
        )
    return None


def reasons(
    *,
    built: bool | None,
    hint: bool,
    features: Sequence[str] | None,
    memory: str,
    precision: str,
    model: Sequence[Layer],
) -> tuple[Reason, ...]:
    """Why KleidiAI does not run, all that is in the way; empty if nothing is."""
    found = []
    if built is False:
        found.append(Reason(code="not built", text="this MNN has no KleidiAI in it: it is only compiled for AArch64",
                            todo="use an Arm machine, or the emulated lane: labkit kleidiai --lane emulated"))  # fmt: skip
    if not hint:
        found.append(
            Reason(
                code="hint",
                text="the runtime hint CPU_ENABLE_KLEIDIAI is not set",
                todo="set the hint before loading; leave out --off",
            )
        )
    if (
        built is not False
        and features is not None
        and not ({"dotprod", "i8mm"} <= set(features) or "sme2" in features)
    ):
        lacking = " and ".join(f for f in ("dotprod", "i8mm") if f not in features)
        found.append(Reason(code="cpu", text=f"this CPU has no {lacking}; MNN takes KleidiAI only with dotprod and i8mm, or with SME2",
                            todo="use a CPU that has both; in the emulated lane --cpu max"))  # fmt: skip
    if memory != "low":
        found.append(Reason(code="memory", text=f"memory mode {memory!r} unpacks the weights to float32 before they are used",
                            todo="load with memory mode low"))  # fmt: skip
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for layer in model:
        if why := obstacle(layer, precision=precision):
            grouped.setdefault(why, []).append(layer.name)
    found += [
        Reason(code=code, text=text, todo=todo, layers=tuple(names))
        for (code, text, todo), names in grouped.items()
    ]
    return tuple(found)


def examine(
    model: Path,
    lane: Lane,
    *,
    hint: bool = True,
    memory: str = "low",
    precision: str = "normal",
    parts: Sequence[Part] | None = None,
    chat: bool = True,
    on_step: Callable[[str], None] | None = None,
) -> Report:
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
    from labkit.model.manifest import read

    about, tell = read(model), on_step or (lambda _: None)
    chosen = tuple(parts or all_parts(model))
    tell("symbols of MNN's library")
    found = kernels(lane.library)
    uses = []
    with EngineProcess(lane) if lane.may_be_timed else counting.CountingEngine(lane) as engine:
        for part in chosen:
            tell(f"{part.name}, {part.size}")
            if isinstance(engine, counting.CountingEngine):
                counts = engine.count(part, kleidiai=hint, memory=memory, precision=precision)
                inside = [
                    (name, n / counts.total)
                    for (_, name), n in counts.by_function()
                    if name.startswith("kai_")
                ]
                uses.append(Use(part=part.name, share=counts.share("kai_"), kernels=tuple(inside)))
            else:
                part.load(engine, kleidiai=hint, memory=memory, precision=precision)
                part.forward(engine)
                uses.append(Use(part=part.name, share=None, kernels=None))
        log, features = engine.log.read_text(errors="replace"), engine.features
        all_layers = layers(engine, dict.fromkeys(part.file for part in chosen))
        machine = engine.machine
    return Report(
        lane=lane.label,
        machine=machine,
        features=features,
        kernels=found,
        hint=hint,
        accelerated_types=tuple(dict.fromkeys(RUNNING.findall(log))),
        chat_types=_chat_types(model, lane, about, tell) if chat else None,
        uses=tuple(uses),
        layers=len(all_layers),
        reasons=reasons(
            built=None if found is None else bool(found),
            hint=hint,
            features=features,
            memory=memory,
            precision=precision,
            model=all_layers,
        ),
    )


def _chat_types(
    model: Path, lane: Lane, about: Any, tell: Callable[[str], None]
) -> tuple[str, ...]:
    tell("one token through MNN-LLM")
    options = {
        "question": "?",
        "image_pad": about.image_pad,
        "stop": list(about.stop),
        "max_new_tokens": 1,
        "positions": "mrope",
    }
    with EngineProcess(lane) as engine:
        engine.request(
            "load_chat", directory=str(model.resolve()), threads=1, precision="normal", memory="low"
        )
        engine.request("ask", **options)
        return tuple(dict.fromkeys(RUNNING.findall(engine.log.read_text(errors="replace"))))
