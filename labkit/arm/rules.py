"""The rules by which MNN 3.6.1 takes a KleidiAI kernel for a layer, and remedies where it does not.

Source
------
MNN 3.6.1, ``source/backend/cpu/kleidiai`` (``canAccelerate``, ``getQIntAccelType``) and
``source/backend/cpu/compute/ConvolutionFloatFactory.cpp``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from labkit.base.data import frozen

CPUS = "MNN takes KleidiAI only with dotprod and i8mm, or with SME2"


@frozen
class Layer:
    """A layer with weights, as far as it decides which kernel runs.

    ``columns`` is the width of its input (K), ``block_size`` 0 means one scale for each output, and
    ``bits`` is None or 0 where weights are not quantised.
    """

    name: str
    rows: int
    columns: int
    kernel: tuple[int, int]
    group: int
    bits: int | None
    block_size: int
    asymmetric: bool


@dataclass(frozen=True)
class Reason:
    """Why KleidiAI does not run, for everything or for some layers."""

    code: str
    text: str
    todo: str
    layers: tuple[str, ...] = ()


def obstacle(layer: Layer, *, precision: str = "normal") -> Reason | None:
    """Why MNN takes no KleidiAI kernel for a layer even where all else fits; None if it does."""
    height, width = layer.kernel
    if layer.kernel != (1, 1):
        return Reason(
            "kernel",
            f"it is a {height}×{width} convolution; only 1×1 (linear layers) are taken",
            "nothing: MNN's own kernel runs it",
        )
    if layer.group != 1:
        return Reason("group", "its channels are grouped", "nothing: MNN's own kernel runs it")
    if layer.bits != 4:
        bits = "not quantised" if not layer.bits else f"{layer.bits}-bit"
        return Reason(
            "bits",
            f"its weights are {bits}; KleidiAI's kernels in MNN are for 4 bits",
            "convert with --weight-bits 4 --vision-bits 4",
        )
    if not layer.asymmetric and layer.block_size:
        return Reason(
            "block",
            "symmetric weights in blocks: MNN has no KleidiAI kernel for them",
            "convert without --symmetric, or with --block-size 0",
        )
    if not layer.asymmetric and precision == "low":
        return Reason(
            "block",
            "symmetric weights in float16: MNN has no KleidiAI kernel for them",
            "convert without --symmetric",
        )
    if (layer.block_size or layer.columns) % 32:
        blocks = f"blocks of {layer.block_size}" if layer.block_size else ""
        return Reason(
            "width",
            f"{blocks or f'inputs {layer.columns} wide'}: the kernels need a multiple of 32",
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
    lacking = {"dotprod", "i8mm"}.difference(features or ())
    cpu_fits = features is None or not lacking or "sme2" in features
    rules = (
        (
            built is False,
            "not built",
            "this MNN has no KleidiAI in it: it is only compiled for AArch64",
            "use an Arm machine, or the emulated lane: labkit kleidiai --lane emulated",
        ),
        (
            not hint,
            "hint",
            "the runtime hint CPU_ENABLE_KLEIDIAI is not set",
            "set the hint before loading; leave out --off",
        ),
        (
            built is not False and not cpu_fits,
            "cpu",
            f"this CPU has no {' and '.join(sorted(lacking))}; {CPUS}",
            "use a CPU that has both; in the emulated lane --cpu max",
        ),
        (
            memory != "low",
            "memory",
            f"memory mode {memory!r} unpacks the weights to float32 before they are used",
            "load with memory mode low",
        ),
    )
    by_obstacle: dict[Reason, list[str]] = {}
    for layer in model:
        if reason := obstacle(layer, precision=precision):
            by_obstacle.setdefault(reason, []).append(layer.name)
    return (
        *(Reason(code, text, todo) for in_the_way, code, text, todo in rules if in_the_way),
        *(replace(reason, layers=tuple(names)) for reason, names in by_obstacle.items()),
    )
