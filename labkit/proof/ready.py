"""A converted model that was compared with its original, ready to be asked.

>>> import labkit                                               # doctest: +SKIP
>>> with labkit.open_model("mini") as model:                    # doctest: +SKIP
...     print(model.ask("scene.png", "What is left of the pizza?").text)
"""

import shutil
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from labkit.base import files, paths
from labkit.base.command import OnStage
from labkit.base.errors import FolderError, ModelError
from labkit.model import checkpoints, hub, manifest
from labkit.model.chat import Answer, Model
from labkit.model.checkpoints import Checkpoint
from labkit.model.convert import convert
from labkit.model.digest import fingerprint
from labkit.model.manifest import Manifest
from labkit.model.plan import ConversionPlan

__all__ = ["Answer", "Model", "cached", "convert_checked", "folder_of", "open_model"]


def _parity(folder: Path, checkpoint: Checkpoint) -> dict[str, Any]:
    from labkit.proof.parity import compare

    report = compare(folder, checkpoint)
    report.require()
    return asdict(report)


def convert_checked(
    plan: ConversionPlan, *, on_stage: OnStage = None, replace: bool = False
) -> Manifest:
    """Carry out a plan, and compare the result with the original before it gets its name.

    Raises
    ------
    ConversionError, CommandFailed
        As `labkit.model.convert.convert`; or the result departs from the original.
    """
    return convert(plan, on_stage=on_stage, replace=replace, check=_parity)


def cached(
    source: str = checkpoints.MINI,
    *,
    on_stage: OnStage = None,
    checked: bool = True,
    **options: Any,
) -> Path:
    """A converted model of a checkpoint in the cache folder; converted once, and again when the
    checkpoint changes.

    Unchecked will do where it is only timed, or parity is what is measured: then one that was not
    compared has a place of its own.

    Raises
    ------
    CheckpointError, ConversionError, CommandFailed
        As `convert_checked`.
    """
    checkpoint = checkpoints.resolve(source)
    plan = ConversionPlan(checkpoint=checkpoint, out=Path(), **options)
    name = (
        checkpoint.name.replace("/", "--"),
        fingerprint(checkpoint.folder)[:8],
        metadata.version("mnn"),
        *(str(int(value)) for value in plan.options.values()),
    )
    if checked or not _is_whole(paths.kept("models", "-".join(name))):
        name += () if checked else ("unchecked",)
    place = "models", "-".join(name)
    plan = replace(plan, out=paths.kept(*place))
    if not _is_whole(plan.out):  # what a class shares is never written to
        plan = replace(plan, out=paths.place("cache").joinpath(*place))
        make = partial(convert_checked if checked else convert, plan, on_stage=on_stage)
        with suppress(FolderError, FileExistsError), files.alone(paths.cache_dir(), shared=True):
            if not plan.out.exists():  # others may be made beside this one
                make()
                return plan.out
        with files.alone(paths.cache_dir(), partial(_say_waiting, on_stage)):
            if not _is_whole(plan.out):  # nor has another process made it meanwhile
                shutil.rmtree(plan.out, ignore_errors=True)
                make()
    return plan.out


def _is_whole(folder: Path) -> bool:
    try:
        manifest.read(folder)
    except ModelError:
        return False
    return True


def _say_waiting(on_stage: OnStage) -> None:
    if on_stage:
        on_stage("another process works in the cache; waiting for it")


def folder_of(source: str | Path = checkpoints.MINI, on_stage: OnStage = None) -> Path:
    """The folder of a converted model.

    Parameters
    ----------
    source
        A folder; or ``"mini"``, ``"twin:2b"`` or a checkpoint that was fetched, which is converted
        once and kept in the cache; or a model that was fetched, converted by others.
    on_stage
        Called after each stage, if a conversion is needed.

    Raises
    ------
    ModelError
        If it is to be fetched first.
    """
    name = str(source)
    if name == checkpoints.MINI or name.startswith(checkpoints.TWIN):
        return cached(name, on_stage=on_stage)
    offer = (hub_id := checkpoints.named_on_hub(source)) and hub.kept(hub_id)
    if offer:
        return offer.folder if offer.converted else cached(name, on_stage=on_stage)
    if name in checkpoints.ALIASES and not Path(source).exists():
        raise ModelError(f"{name} is not here yet. Bring it here: labkit fetch {name}")
    return Path(source)


def open_model(
    source: str | Path = checkpoints.MINI,
    *,
    on_stage: OnStage = None,
    **options: Any,
) -> Model:
    """Open a model for questions.

    Parameters
    ----------
    source
        As `folder_of`.
    on_stage
        Called after each stage, if a conversion is needed.
    **options
        As `labkit.model.chat.Model`.

    Raises
    ------
    ModelError
        If the folder is not a whole converted model.
    ConversionError
        If the embedded checkpoint had to be converted and could not be.
    """
    return Model(folder_of(source, on_stage), **options)
