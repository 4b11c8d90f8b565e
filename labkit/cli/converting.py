"""``labkit convert``, ``verify``, ``parity``, ``eval``: to MNN, and whether it is the same."""

import sys
import time
from argparse import Namespace
from typing import Any

from labkit.cli.shared import (
    DRY_RUN,
    Option,
    as_json,
    command,
    flag,
    number,
    option,
    path,
    say,
    show,
)
from labkit.model import checkpoints
from labkit.model.plan import BITS, BLOCKS, MEANING, ConversionPlan


def _conversion(name: str, words: str) -> Option:
    dashed, default = "--" + name.replace("_", "-"), getattr(ConversionPlan, name)
    if default is False:
        return flag(dashed, words)
    choices = BITS if name.endswith("bits") else BLOCKS
    return option(dashed, words, type=int, choices=choices, default=default)


CONVERSION = tuple(_conversion(name, words) for name, words in MEANING.items())
"""An option for each choice that a plan has, with the plan's own default."""


def _chosen(args: Namespace) -> dict[str, Any]:
    return {name: getattr(args, name) for name in MEANING}


@command(
    "convert",
    option(
        "checkpoint",
        "'mini', a folder, or a hub id such as Qwen/Qwen2-VL-2B-Instruct (is downloaded)",
    ),
    path("--out", "DIR", "folder of the converted model; must not exist yet", required=True),
    *CONVERSION,
    flag("--replace", "replace a converted model at DIR once the new one is whole"),
    option(
        "--no-parity",
        "do not compare with the original afterwards",
        dest="parity",
        action="store_false",
    ),
    DRY_RUN,
    epilog="Without a network: 'mini', or the folder of a checkpoint.",
)
def convert(args: Namespace) -> None:
    """Print the plan, carry it out, and say what to do next."""
    from labkit.model.convert import convert as convert_only
    from labkit.proof.parity import Parity
    from labkit.proof.ready import convert_checked

    checkpoint = checkpoints.resolve(args.checkpoint)
    plan = ConversionPlan(checkpoint=checkpoint, out=args.out, **_chosen(args))
    print(plan)
    if args.dry_run:
        return
    begun = time.perf_counter()
    carry_out = convert_checked if args.parity else convert_only
    result = carry_out(plan, on_stage=say, replace=args.replace)
    if result.parity:
        print(Parity.from_dict(result.parity))
    peak = f", at most {result.peak_bytes / 2**30:.1f} GiB of memory" if result.peak_bytes else ""
    print(
        f"{args.out}: {result.total_bytes / 1e6:.1f} MB "
        f"in {time.perf_counter() - begun:.0f} s{peak}. "
        f"Ask it: labkit ask PICTURE QUESTION --model {args.out}"
    )


@command("verify", path("model", "DIR", "folder of a converted model"))
def verify(args: Namespace) -> int:
    """Say of each file whether it is the same; 1 if one is not."""
    from labkit.model import manifest

    files = manifest.verify(args.model)
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


@command(
    "parity",
    path("model", "DIR", "one folder, or several conversions with --layers", nargs="+"),
    flag("--layers", "compare attention layer by layer and say how far each head moved"),
    option("--checkpoint", "what it was converted from (default: mini)", default="mini"),
)
def parity(args: Namespace) -> int:
    """Compare stage by stage or layer by layer; 1 if a stage departs."""
    from labkit.proof.layers import compare_layers, layers_table
    from labkit.proof.parity import compare

    checkpoint = checkpoints.resolve(args.checkpoint)
    if args.layers:
        print(layers_table(compare_layers(args.model, checkpoint)))
        return 0
    departures = []
    for folder in args.model:
        report = compare(folder, checkpoint)
        print(report)
        departures.append(report.first_departure)
    return int(any(departures))


@command(
    "eval",
    option(
        "--checkpoint",
        "a checkpoint of the emoji world (default: the embedded one)",
        default="mini",
    ),
    number("--scenes", 2000, "how many"),
    option(
        "--engine",
        "which to score (default both)",
        choices=("both", "transformers", "mnn"),
        default="both",
    ),
    *CONVERSION,
    as_json("the scores and every wrong answer"),
)
def score(args: Namespace) -> None:
    """Score one engine or both on the same scenes."""
    from tqdm import tqdm

    from labkit.proof import evaluate
    from labkit.proof.ready import cached, open_model

    cases, scores = evaluate.held_out_cases(args.scenes), []
    if args.engine != "mnn":
        from labkit.inside.reference import Reference

        reference = Reference(checkpoints.resolve(args.checkpoint))
        bar = tqdm(cases, "transformers", unit=" scenes")
        scores.append(evaluate.score_reference(reference, bar))
    if args.engine != "transformers":
        folder = cached(args.checkpoint, on_stage=say, **_chosen(args))
        with open_model(folder) as model:
            scores.append(evaluate.score_model(model, tqdm(cases, "MNN", unit=" scenes")))
    show(args, [score.to_dict() for score in scores], evaluate.table(scores))
