"""Conversion of a Qwen2-VL checkpoint to MNN, as planned.

The exporter writes ONNX graphs without weights, MNN's converter turns them into its own,
and the weights are quantised block by block from file to file (`labkit.model.lean`). All of
it happens in a temporary folder beside the result, which gets its name only when it is whole.
"""

import errno
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace as replace_field
from importlib import metadata
from pathlib import Path
from typing import Any

from labkit.base import command, files, hardware, paths
from labkit.base.command import OnStage, Stages
from labkit.base.errors import CommandFailed, ConversionError, EngineCrashed, EngineError
from labkit.base.records import to_json
from labkit.model import manifest
from labkit.model.checkpoints import Checkpoint
from labkit.model.digest import fingerprint
from labkit.model.exporter import PARENT
from labkit.model.manifest import Manifest
from labkit.model.plan import STAGES, ConversionPlan

Check = Callable[[Path, Checkpoint], dict[str, Any]]
PACKAGES = ("mnn", "llmexport", "torch", "transformers", "onnx")
FULL_BYTES = 2**20
"""A disk with no more than this is full: a file system keeps the last blocks for itself."""
LEFTOVERS = ("llm.mnn.json", "export_args.json", ".export.log")
"""A dump of the graph, paths of this machine, the exporter's own log."""


def convert(
    plan: ConversionPlan,
    *,
    on_stage: OnStage = None,
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
        Whether a converted model that is already at ``plan.out`` may be replaced, once the new one
        is whole.
    check
        Called with the model's folder and the checkpoint before the result gets its name; what it
        returns stands in the manifest as ``parity``. `labkit.proof.ready.convert_checked` gives
        parity.

    Returns
    -------
    Manifest
        As written beside the model.

    Raises
    ------
    ConversionError, CommandFailed
        No room, something in the way; the exporter failed; the check refused the result.
        Nothing is left at ``plan.out`` then that was not there before.
    """
    _require_room(plan, replace)
    names = [name for _, name in STAGES] + ["parity"] * (check is not None)
    with (
        files.new_folder(plan.out, replace=replace) as model,
        _full_disk_named(plan, model),
        command.memory(os.getpid()) as readings,
    ):
        stages, begun = Stages(names, on_stage, readings), time.perf_counter()
        _export(plan, model, stages)
        _settle(plan, model)
        result = _described(plan, model, time.perf_counter() - begun)
        manifest.write(model, result)
        if check:
            try:
                parity = check(model, plan.checkpoint)
            finally:
                stages.end("parity")
            result = replace_field(result, parity=parity)
        result = replace_field(result, peak_bytes=max(readings, default=None))
        manifest.write(model, result)
    return result


@contextmanager
def _full_disk_named(plan: ConversionPlan, model: Path) -> Iterator[None]:
    """What fails because nothing more can be written says so, however it failed.

    MNN writes on without a word, and what it wrote then crashes whoever reads it.
    """
    begun = hardware.free_disk_bytes(model) or 0
    try:
        yield
    except (CommandFailed, EngineCrashed, EngineError, OSError) as error:
        free = hardware.free_disk_bytes(model)
        full = os.strerror(errno.ENOSPC) in str(error)
        if not full and (free is None or free > FULL_BYTES):
            raise
        needed, before, now = (
            f"{size / 1e6:,.0f} MB" for size in (plan.disk_bytes, begun, free or 0)
        )
        raise ConversionError(
            f"the disk is full: converting {plan.checkpoint.name} takes about {needed} at "
            f"{plan.out.parent}; {before} were free there when it began, {now} when it failed. "
            "Nothing is left behind. `labkit clean` frees some, or choose another disk with --out."
        ) from error


def _export(plan: ConversionPlan, model: Path, stages: Stages) -> None:
    """Run the exporter, telling its stages by what it says."""

    def on_line(line: str) -> None:
        for words, name in STAGES:
            if words in line:
                stages.end(name)

    logs = paths.cache_dir() / "logs"  # outlives a conversion that fails
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"convert-{os.getpid()}-{int(time.time())}.log"
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), PARENT: str(os.getpid())}
    command.run(plan.argv(model), log=log, on_line=on_line, cwd=model, env=environment)
    missing = [name for name in manifest.REQUIRED if not (model / name).is_file()]
    if missing:
        raise ConversionError(
            f"the exporter ended without an error, but {', '.join(missing)} is missing. "
            f"Its last words:\n{command.tail(log)}"
        )
    stages.end(STAGES[-1][1])


def _settle(plan: ConversionPlan, model: Path) -> None:
    """Leave what a model needs: no leftovers, the size of pictures, and a configuration that
    answers the same question the same way, on this machine's cores.
    """
    shutil.rmtree(model / "onnx", ignore_errors=True)
    for name in LEFTOVERS:
        (model / name).unlink(missing_ok=True)
    shutil.copy(plan.checkpoint.folder / "preprocessor_config.json", model)
    threads = {"thread_num": hardware.default_threads()}
    content = json.loads((model / "config.json").read_text(encoding="utf-8"))
    content |= threads | {"sampler_type": "greedy", "mllm": content.get("mllm", {}) | threads}
    files.write(model / "config.json", to_json(content))


def _described(plan: ConversionPlan, model: Path, elapsed_s: float) -> Manifest:
    checkpoint = plan.checkpoint
    return Manifest(
        source={
            "name": checkpoint.name,
            "sha256": fingerprint(checkpoint.folder),
            "parameters": checkpoint.parameters,
            "dtype": checkpoint.dtype,
            "bytes": checkpoint.weights_bytes,
        },
        tools={name: metadata.version(name) for name in PACKAGES}
        | {"python": platform.python_version()},
        options=plan.options,
        image=checkpoint.image,
        image_pad=checkpoint.image_pad,
        stop=checkpoint.stop,
        files=manifest.describe_files(model),
        elapsed_s=elapsed_s,
    )


def _require_room(plan: ConversionPlan, replace: bool) -> None:
    """Memory, disk, and a name that is free or may be taken."""
    out, parent = plan.out, next(p for p in plan.out.absolute().parents if p.exists())
    if out.exists() and not (out / manifest.NAME).is_file():
        raise ConversionError(
            f"expected {out} to be free; something else than a converted model is there. "
            "Choose another folder."
        )
    if out.exists() and not replace:
        raise ConversionError(
            f"there is a converted model in {out}. Use it, choose another folder, "
            "or replace it with --replace."
        )
    if not (parent.is_dir() and os.access(parent, os.W_OK)):
        raise ConversionError(
            f"expected to be allowed to write to {parent}, but am not. "
            "Choose another folder with --out."
        )
    memory, disk = hardware.describe().memory_available_bytes, hardware.free_disk_bytes(parent)
    if memory is not None and memory < plan.memory_bytes:
        raise ConversionError(
            f"expected {plan.memory_bytes / 2**30:.1f} GiB of free memory for "
            f"{plan.checkpoint.name}, found {memory / 2**30:.1f} GiB. Close other programs, or "
            "convert on a larger machine and copy the folder."
        )
    if disk is not None and disk < plan.disk_bytes:
        raise ConversionError(
            f"expected {plan.disk_bytes / 2**30:.1f} GiB of free disk at {parent}, "
            f"found {disk / 2**30:.1f} GiB. `labkit clean` frees some."
        )
