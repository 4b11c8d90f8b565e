"""Conversion of a Qwen2-VL checkpoint to MNN: a plan to read, then a run.

The exporter writes ONNX in float32, MNN's converter turns that into graphs, and the
weights are quantised block by block. All of it happens in a temporary folder beside
the result, which gets its name only when it is whole.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace as replace_field
from importlib import metadata
from pathlib import Path
from typing import Any

from labkit.base import command, paths
from labkit.base.command import Stage
from labkit.base.errors import ConversionError
from labkit.base.hardware import default_threads
from labkit.model import checkpoints, manifest
from labkit.model.checkpoints import Checkpoint
from labkit.model.exporter import PARENT
from labkit.model.manifest import Manifest

BITS = (4, 8, 16)
BLOCKS = (0, 32, 64, 128)
MEANING = {
    "weight_bits": "bits of each language-model weight: 4 is what KleidiAI's kernels take; 8 is nearer the original; 16 quantises nothing",
    "block_size": "weights that share one scale: small blocks follow the weights closely and cost bytes; 0 is one scale for a row",
    "symmetric": "only a scale for each block, no offset: fewer bytes, and a larger error where the weights lean to one side",
    "vision_bits": "the same for the vision tower",
    "vision_block": "the same for the vision tower",
    "vision_symmetric": "the same for the vision tower",
}
STAGES = (  # what a line of the exporter says at the end of each stage, in order, and the stage in words
    ("Done load pretrained model", "load the checkpoint"),
    ("Done export visual", "vision tower to ONNX"),
    ("Done convert onnx model", "vision tower to MNN, quantised"),
    ("Done export embedding", "token embeddings"),
    ("Done export onnx model", "language model to ONNX"),
    ("Done quant model weight", "language model to MNN, quantised"),
    ("Done export tokenizer", "tokenizer"),
    ("Done export config", "configuration"),
)
Check = Callable[[Path, Checkpoint], dict[str, Any]]
# Seen at 2.2 billion parameters: 17.0 GiB; at 3 million: 1.2 GiB, which is torch and transformers themselves.
BASE_MEMORY_BYTES, MEMORY_BYTES_PER_PARAMETER = int(1.2 * 2**30), 7.8
DISK_BYTES_PER_PARAMETER = 6


@dataclass(frozen=True, kw_only=True)
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
        for name, allowed in (
            ("weight_bits", BITS),
            ("vision_bits", BITS),
            ("block_size", BLOCKS),
            ("vision_block", BLOCKS),
        ):
            if getattr(self, name) not in allowed:
                raise ConversionError(
                    f"expected {name} to be one of {', '.join(map(str, allowed))}, received {getattr(self, name)!r}: {MEANING[name]}."
                )

    @property
    def options(self) -> dict[str, Any]:
        """The options by name."""
        return {name: getattr(self, name) for name in MEANING}

    @property
    def memory_bytes(self) -> int:
        """Memory it will take, estimated from what was measured."""
        return int(BASE_MEMORY_BYTES + MEMORY_BYTES_PER_PARAMETER * self.checkpoint.parameters)

    @property
    def disk_bytes(self) -> int:
        """Disk it will take while it runs, ONNX files included."""
        return int(50e6 + DISK_BYTES_PER_PARAMETER * self.checkpoint.parameters)

    def argv(self, folder: Path) -> list[str]:
        """The exporter's command line, for a result in ``folder``."""
        words = [
            sys.executable,
            "-m",
            "labkit.model.exporter",
            "--path",
            str(self.checkpoint.folder.resolve()),
            "--dst_path",
            str(folder),
            "--export",
            "mnn",
        ]
        words += ["--quant_bit", str(self.weight_bits), "--quant_block", str(self.block_size)]
        words += [
            "--visual_quant_bit",
            str(self.vision_bits),
            "--visual_quant_block",
            str(self.vision_block),
        ]
        words += ["--sym"] * self.symmetric + ["--visual_sym"] * self.vision_symmetric
        return [
            *words,
            "--mnnconvert",
            "",
        ]  # never a converter that happens to lie about: the one in the wheel

    def __str__(self) -> str:
        c = self.checkpoint
        lines = [
            f"convert  {c.name}: Qwen2-VL, {c.parameters:,} parameters, {c.dtype}, {c.weights_bytes / 1e6:,.1f} MB",
            f"to       {self.out}",
            *(f"  {name:17}{value!s:7}{MEANING[name]}" for name, value in self.options.items()),
            f"stages   {'; '.join(words for _, words in STAGES)}; parity",
            f"memory   about {self.memory_bytes / 2**30:.1f} GiB      disk while it runs   about {self.disk_bytes / 2**30:.1f} GiB",
        ]
        return "\n".join(lines)


def convert(
    plan: ConversionPlan,
    *,
    on_stage: Callable[[Stage], None] | None = None,
    replace: bool = False,
    check: Check | None = None,
) -> Manifest:
    """Carry out a plan.

    Parameters
    ----------
    plan
        What to do.
    on_stage
        Called at the end of each stage.
    replace
        Whether a converted model that is already at ``plan.out`` may be replaced, once the new one is whole.
    check
        Called with the model's folder and the checkpoint before the result gets its name; what it returns stands in
        the manifest as ``parity``. `labkit.proof.ready.convert_checked` gives parity.

    Returns
    -------
    Manifest
        As written beside the model.

    Raises
    ------
    ConversionError, CommandFailed
        No room, something in the way; the exporter failed; the result departs from the original.
        Nothing is left at ``plan.out`` then that was not there before.
    """
    _check(plan, replace)
    plan.out.parent.mkdir(parents=True, exist_ok=True)
    _sweep(plan.out)
    folder = (
        plan.out.absolute().parent / f".{plan.out.name}.converting-{os.getpid()}"
    )  # the exporter works in it: no relative path
    folder.mkdir()
    try:
        result = _convert_into(folder, plan, on_stage, check)
        _install(folder, plan.out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return result


def _convert_into(
    folder: Path,
    plan: ConversionPlan,
    on_stage: Callable[[Stage], None] | None,
    check: Check | None,
) -> Manifest:
    parity = check is not None
    total = len(STAGES) + parity
    begun = last = time.perf_counter()
    ahead = list(STAGES)

    def note(name: str) -> None:
        nonlocal last
        now = time.perf_counter()
        if on_stage:
            on_stage(
                Stage(
                    number=total - len(ahead) - (parity and name != "parity"),
                    total=total,
                    name=name,
                    elapsed_s=now - last,
                )
            )
        last = now

    def on_line(line: str) -> None:
        if ahead and ahead[0][0] in line:
            note(ahead.pop(0)[1])

    logs = paths.cache_dir() / "logs"  # outlives a conversion that fails
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"convert-{os.getpid()}-{int(time.time())}.log"
    finished = command.run(
        plan.argv(folder / "model"),
        log=log,
        on_line=on_line,
        cwd=folder,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), PARENT: str(os.getpid())},
    )
    model = folder / "model"
    missing = [name for name in manifest.REQUIRED if not (model / name).is_file()]
    if missing:
        raise ConversionError(
            f"the exporter ended without an error, but {', '.join(missing)} is missing. Its last words:\n{command.tail(log)}"
        )
    shutil.rmtree(model / "onnx", ignore_errors=True)
    for name in (
        "llm.mnn.json",
        "export_args.json",
    ):  # a dump of the graph, and paths of this machine
        (model / name).unlink(missing_ok=True)
    shutil.copy(plan.checkpoint.folder / "preprocessor_config.json", model)
    _settle(model / "config.json")
    result = Manifest(
        source={
            "name": plan.checkpoint.name,
            "sha256": checkpoints.fingerprint(plan.checkpoint.folder),
            "parameters": plan.checkpoint.parameters,
            "dtype": plan.checkpoint.dtype,
            "bytes": plan.checkpoint.weights_bytes,
        },
        tools={
            name: metadata.version(name)
            for name in ("mnn", "llmexport", "torch", "transformers", "onnx")
        }
        | {"python": platform.python_version()},
        options=plan.options,
        image={"min_pixels": plan.checkpoint.min_pixels, "max_pixels": plan.checkpoint.max_pixels},
        image_pad=plan.checkpoint.image_pad,
        stop=plan.checkpoint.stop,
        files=manifest.describe_files(model),
        elapsed_s=time.perf_counter() - begun,
        peak_bytes=finished.peak_bytes,
    )
    manifest.write(model, result)
    if check:
        report = check(model, plan.checkpoint)
        note("parity")
        result = replace_field(result, parity=report)
        manifest.write(model, result)
    return result


def _settle(config: Path) -> None:
    """Make the exported configuration answer the same question the same way, on this machine's cores."""
    content = json.loads(config.read_text(encoding="utf-8"))
    threads = default_threads()
    content |= {"sampler_type": "greedy", "thread_num": threads}
    content["mllm"] = {**content.get("mllm", {}), "thread_num": threads}
    config.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _check(plan: ConversionPlan, replace: bool) -> None:
    import psutil

    if plan.out.exists():
        if not (plan.out / manifest.NAME).is_file():
            raise ConversionError(
                f"expected {plan.out} to be free; something else than a converted model is there. Choose another folder."
            )
        if not replace:
            raise ConversionError(
                f"there is a converted model in {plan.out}. Use it, choose another folder, or replace it with --replace."
            )
    room = psutil.virtual_memory().available
    if room < plan.memory_bytes:
        raise ConversionError(
            f"expected {plan.memory_bytes / 2**30:.1f} GiB of free memory for {plan.checkpoint.name}, found {room / 2**30:.1f} GiB. "
            "Close other programs, or convert on a larger machine and copy the folder."
        )
    parent = next(p for p in (plan.out.parent, *plan.out.parent.parents) if p.exists())
    free = shutil.disk_usage(parent).free
    if free < plan.disk_bytes:
        raise ConversionError(
            f"expected {plan.disk_bytes / 2**30:.1f} GiB of free disk at {parent}, found {free / 2**30:.1f} GiB. `labkit clean` frees some."
        )
    if not (parent.is_dir() and os.access(parent, os.W_OK)):
        raise ConversionError(
            f"expected to be allowed to write to {parent}, but am not. Choose another folder with --out."
        )


def _install(folder: Path, out: Path) -> None:
    """Give the finished model its name; an old one steps aside until the new one stands."""
    old = folder / "replaced"
    if out.exists():
        os.replace(out, old)
    try:
        os.replace(folder / "model", out)
    except BaseException:  # an interrupt too
        if old.exists():
            os.replace(old, out)
        raise


def _sweep(out: Path) -> None:
    """Remove what conversions that were killed have left beside ``out``."""
    import psutil

    for left in out.parent.glob(f".{out.name}.converting-*"):
        pid = left.name.rsplit("-", 1)[1]
        if not (pid.isdigit() and int(pid) != os.getpid() and psutil.pid_exists(int(pid))):
            if (
                left / "replaced"
            ).exists() and not out.exists():  # killed between two renames: the old model goes back
                os.replace(left / "replaced", out)
            shutil.rmtree(left, ignore_errors=True)
