"""``labkit fetch``, ``convert``, ``verify``, ``parity``, ``eval``: to MNN, and is it the same."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from labkit.base.errors import CheckpointError
from labkit.cli.shared import progress, resolved, say, show
from labkit.model.plan import CHOICES, MEANING, ConversionPlan


def _settings(name: str) -> dict[str, Any]:
    default = getattr(ConversionPlan, name)
    if default is False:
        return {"action": "store_true", "help": MEANING[name]}
    help_ = f"{MEANING[name]} (default {default})"
    return {"type": int, "choices": CHOICES[name], "default": default, "help": help_}


Choices = Annotated[Any, {f"--{name.replace('_', '-')}": _settings(name) for name in MEANING}]
"""An option for each choice that a plan has, with the plan's own default."""


def fetch(name: str | None = None, *, yes: bool = False) -> int:
    """Show what there is, or bring one of it here and check every byte.

    Parameters
    ----------
    name
        of the catalogue, which is shown without a name; or the hub id of a Qwen2-VL
    yes
        do not ask before a download

    Notes
    -----
    A download says its size and licence first, goes on where it was interrupted, needs no account,
    and is compared with the hub's hashes. HF_ENDPOINT names a mirror, HTTPS_PROXY a proxy.
    """
    from labkit.model import checkpoints
    from labkit.model.fetch import catalogue

    if name is None:
        print(catalogue())
        return 0
    if hub_id := checkpoints.named_on_hub(name):
        from labkit.model import hub

        offer = hub.kept(hub_id) or hub.look(hub_id)
        print(offer)
        if offer.missing_bytes and not yes and not _agreed():
            return 1
        try:
            with progress("files") as on_step:
                folder = hub.take(offer, on_step=on_step)
        except KeyboardInterrupt:
            say("what has come is kept apart; the same command goes on from there")
            raise
        if offer.converted:
            print(f"{folder}: whole. Ask it: labkit ask PICTURE QUESTION --model {name}")
            return 0
    checkpoint = resolved(name)
    print(
        f"{checkpoint.folder}: whole, {checkpoint.parameters:,} parameters, {checkpoint.dtype}. "
        f"Convert it: labkit convert {name} --out DIR"
    )
    return 0


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise CheckpointError(
            "expected a yes before the download, found no terminal to ask at. Add --yes"
        )
    if input("Download it? [y/N] ").strip().lower() in {"y", "yes"}:
        return True
    print("nothing was downloaded")
    return False


def convert(
    checkpoint: str,
    *,
    out: Path,
    replace: bool = False,
    no_parity: bool = False,
    dry_run: bool = False,
    **choices: Choices,
) -> None:
    """Print the plan, carry it out, and say what to do next.

    Parameters
    ----------
    checkpoint
        a folder, or a name as `labkit fetch` shows them, such as mini or qwen2-vl-2b
    out : DIR
        folder of the converted model; must not exist yet
    replace
        replace a converted model at DIR once the new one is whole
    no_parity
        do not compare with the original afterwards

    Notes
    -----
    Without a network: 'mini', or the folder of a checkpoint.
    """
    from labkit.model.convert import convert as convert_only
    from labkit.proof.parity import Parity
    from labkit.proof.ready import convert_checked

    plan = ConversionPlan(checkpoint=resolved(checkpoint), out=out, **choices)
    print(plan)
    if dry_run:
        return
    begun = time.perf_counter()
    carry_out = convert_only if no_parity else convert_checked
    result = carry_out(plan, on_stage=say, replace=replace)
    if result.parity:
        print(Parity.from_dict(result.parity))
    peak = f", at most {result.peak_bytes / 2**30:.1f} GiB of memory" if result.peak_bytes else ""
    print(
        f"{out}: {result.total_bytes / 1e6:.1f} MB in {time.perf_counter() - begun:.0f} s{peak}. "
        f"Ask it: labkit ask PICTURE QUESTION --model {out}"
    )


def verify(model: Path) -> int:
    """Say of each file whether it is the same; 1 if one is not.

    Parameters
    ----------
    model : DIR
        folder of a converted model
    """
    from labkit.model import manifest

    files = manifest.verify(model)
    for name, same in files.items():
        print(f"{'same   ' if same else 'CHANGED'}  {name}")
    if all(files.values()):
        print("every file is as it was written")
        return 0
    print(
        "labkit: the model was changed after its conversion; "
        "convert the checkpoint again with --replace",
        file=sys.stderr,
    )
    return 1


def parity(model: Sequence[Path], *, layers: bool = False, checkpoint: str = "mini") -> int:
    """Compare stage by stage or layer by layer; 1 if a stage departs.

    Parameters
    ----------
    model : DIR
        one folder, or several conversions with --layers
    layers
        compare attention layer by layer and say how far each head moved
    checkpoint
        what it was converted from (default: mini)
    """
    from labkit.proof.heads import compare_layers, layers_table
    from labkit.proof.parity import compare

    original = resolved(checkpoint)
    if layers:
        print(layers_table(compare_layers(model, original)))
        return 0
    departures = []
    for folder in model:
        report = compare(folder, original)
        print(report)
        departures.append(report.first_departure)
    return int(any(departures))


def eval(  # noqa: A001 - named as the command
    *,
    checkpoint: str = "mini",
    scenes: int = 2000,
    engine: Annotated[str, ("both", "transformers", "mnn")] = "both",
    json: bool = False,
    **choices: Choices,
) -> None:
    """Score one engine or both on the same scenes.

    Parameters
    ----------
    checkpoint
        a checkpoint of the emoji world (default: the embedded one)
    scenes
        how many (default 2,000)
    engine
        which to score (default both)
    json
        print the scores and every wrong answer as JSON
    """
    from tqdm import tqdm

    from labkit.proof import evaluate
    from labkit.proof.ready import cached, open_model

    cases, scores = evaluate.held_out_cases(scenes), []
    if engine != "mnn":
        from labkit.inside.reference import Reference

        reference = Reference(resolved(checkpoint))
        bar = tqdm(cases, "transformers", unit=" scenes")
        scores.append(evaluate.score_reference(reference, bar))
    if engine != "transformers":
        with open_model(cached(checkpoint, on_stage=say, **choices)) as model:
            scores.append(evaluate.score_model(model, tqdm(cases, "MNN", unit=" scenes")))
    show(json, [score.to_dict() for score in scores], evaluate.table(scores))
