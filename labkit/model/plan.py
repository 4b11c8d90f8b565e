"""What a conversion will do: options and what they mean, estimates, and the exporter's command
line.
"""

import sys
from pathlib import Path
from typing import Any

from labkit.base.data import frozen
from labkit.base.errors import ConversionError
from labkit.model.checkpoints import Checkpoint

BITS = (4, 8, 16)
BLOCKS = (0, 32, 64, 128)
MEANING = {
    "weight_bits": (
        "bits of each language-model weight: 4 is what KleidiAI's kernels take; "
        "8 is nearer the original; 16 quantises nothing"
    ),
    "block_size": (
        "weights that share one scale: small blocks follow the weights closely and cost bytes; "
        "0 is one scale for a row"
    ),
    "symmetric": (
        "only a scale for each block, no offset: fewer bytes, and a larger error where the weights "
        "lean to one side"
    ),
    "vision_bits": "the same for the vision tower",
    "vision_block": "the same for the vision tower",
    "vision_symmetric": "the same for the vision tower",
}
CHOICES: dict[str, tuple[Any, ...]] = {
    name: (False, True) if "symmetric" in name else BITS if "bits" in name else BLOCKS
    for name in MEANING
}
"""What each option may be."""
OPTIONS = {
    "llm.mnn": ("weight_bits", "block_size", "symmetric"),
    "visual.mnn": ("vision_bits", "vision_block", "vision_symmetric"),
}
"""Of each graph, the options that say how its weights are stored."""
STAGES = (  # what the exporter says when a stage is over, in order, and the stage in words
    ("Done load pretrained model", "load the checkpoint"),
    ("Done export visual", "vision tower to ONNX"),
    ("Done quant visual weight", "vision tower to MNN, quantised"),
    ("Done export embedding", "token embeddings"),
    ("Done export onnx model", "language model to ONNX"),
    ("Done quant model weight", "language model to MNN, quantised"),
    ("Done export tokenizer", "tokenizer"),
    ("Done export config", "configuration"),
)
# Seen, parity included: 0.7 GiB at 3 million parameters, most of it torch and transformers.
BASE_MEMORY_BYTES, MEMORY_BYTES_PER_PARAMETER = int(0.9 * 2**30), 0.5
BASE_DISK_BYTES = 100_000_000


def dividing(block: int, columns: int) -> int:
    """The size of the blocks that a row is cut into: halved until it divides; 0 is the whole row.

    >>> dividing(128, 192), dividing(0, 192)
    (64, 192)
    """
    block = block or columns
    while columns % block:
        block //= 2
    return block


@frozen
class ConversionPlan:
    """What will be done. `print` it before it runs."""

    checkpoint: Checkpoint
    out: Path
    weight_bits: int = 4
    block_size: int = 64
    symmetric: bool = False
    vision_bits: int = 4
    vision_block: int = 128
    vision_symmetric: bool = False

    def __post_init__(self) -> None:
        for name, values in CHOICES.items():
            if self.options[name] not in values:
                raise ConversionError(
                    f"expected {name} to be one of {', '.join(map(str, values))}, "
                    f"received {self.options[name]!r}: {MEANING[name]}."
                )

    @property
    def options(self) -> dict[str, Any]:
        """The options by name."""
        return {name: getattr(self, name) for name in MEANING}

    @property
    def memory_bytes(self) -> int:
        """Memory it will take, parity included, estimated from what was measured."""
        return int(BASE_MEMORY_BYTES + MEMORY_BYTES_PER_PARAMETER * self.checkpoint.parameters)

    @property
    def disk_bytes(self) -> int:
        """Disk it will take while it runs: half as much again as the result."""
        bits = max(self.weight_bits, self.vision_bits) + 1  # with scales
        return BASE_DISK_BYTES + int(1.5 * self.checkpoint.parameters * bits / 8)

    def argv(self, folder: Path) -> list[str]:
        """The exporter's command line, for a result in ``folder``."""
        values = {
            "path": self.checkpoint.folder.resolve(),
            "dst_path": folder,
            "export": "mnn",
            "quant_bit": self.weight_bits,
            "quant_block": self.block_size,
            "visual_quant_bit": self.vision_bits,
            "visual_quant_block": self.vision_block,
            "mnnconvert": "",  # the converter in the wheel, never one that happens to lie about
        }
        switches = {"sym": self.symmetric, "visual_sym": self.vision_symmetric}
        words = [word for name, value in values.items() for word in (f"--{name}", str(value))]
        words += [f"--{name}" for name, on in switches.items() if on]
        return [sys.executable, "-m", "labkit.model.exporter", *words]

    def __str__(self) -> str:
        c = self.checkpoint
        about = f"{c.parameters:,} parameters, {c.dtype}, {c.weights_bytes / 1e6:,.1f} MB"
        memory, disk = (size / 2**30 for size in (self.memory_bytes, self.disk_bytes))
        lines = (
            f"convert  {c.name}: Qwen2-VL, {about}",
            f"to       {self.out}",
            *(f"  {name:17}{value!s:7}{MEANING[name]}" for name, value in self.options.items()),
            f"stages   {'; '.join(words for _, words in STAGES)}; parity",
            f"memory   about {memory:.1f} GiB      disk while it runs   about {disk:.1f} GiB",
        )
        return "\n".join(lines)
