"""``labkit build``: plan, compare and carry out builds of MNN."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any


def add_command(add: Any) -> None:
    """Add the command to the parser of `labkit.cli`."""
    listed = "\n".join(f"  {name:15}{words}" for name, words in _targets().items())
    parser = add(
        "build", run, "build MNN from source, with KleidiAI or without, and look into what came out",
        epilog=f"targets:\n{listed}\n\nInterrupted, it goes on where it stopped. To undo it, remove its folder (labkit clean cache).",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "variant",
        choices=("accelerated", "baseline", "compare"),
        help="which; compare shows what differs between both",
    )
    parser.add_argument(
        "--target",
        choices=tuple(_targets()),
        default="native",
        help="for which machine (default: native)",
    )
    parser.add_argument(
        "--source",
        type=Path,
        metavar="DIR",
        help="your checkout of MNN (default: clone the pinned release)",
    )
    parser.add_argument(
        "--kleidiai-source",
        type=Path,
        metavar="DIR",
        help="your checkout of KleidiAI (default: clone the release MNN wants)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="the build's folder (default: in labkit's cache)"
    )
    parser.add_argument(
        "--python",
        action="store_true",
        help="also MNN's Python module, so that labkit can run on this build (native only)",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the plan, or the finished build's record, as JSON",
    )

    demo = add(
        "demo",
        run_demo,
        "ask two builds' llm_demo about a picture: timed in pairs here, counted in the emulated lane",
    )
    demo.add_argument(
        "baseline",
        type=Path,
        metavar="BASELINE",
        help="folder of a build, as labkit build names it",
    )
    demo.add_argument(
        "candidate",
        type=Path,
        metavar="CANDIDATE",
        help="folder of the build that it is compared with",
    )
    demo.add_argument(
        "--lane",
        choices=("native", "emulated"),
        default="native",
        help="where to run (default: this machine)",
    )
    demo.add_argument(
        "--model",
        default="mini",
        metavar="DIR",
        help="folder of a converted model (default: the embedded one)",
    )
    demo.add_argument(
        "--image", type=Path, metavar="FILE", help="a picture (default: the cat and the pizza)"
    )
    demo.add_argument(
        "--question",
        default="Describe the image.",
        help="in plain words; an answer of a few tokens or more",
    )
    demo.add_argument(
        "--pairs",
        type=int,
        default=9,
        metavar="N",
        help="pairs of runs, natively, at least 9 (default 9)",
    )
    demo.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the timed result's file (default: a new one in labkit's results folder)",
    )


def run_demo(args: argparse.Namespace) -> None:
    """Carry out ``labkit demo``."""
    from labkit.base import paths
    from labkit.base.show import Table
    from labkit.bench import builds, demos, results
    from labkit.building import running
    from labkit.engine import lanes
    from labkit.proof.ready import folder_of

    def say(*words: object) -> None:
        print("  " + " ".join(map(str, words)), file=sys.stderr, flush=True)

    records = [running.read_record(folder) for folder in (args.baseline, args.candidate)]
    model = folder_of(args.model)
    image = args.image or paths.data_dir() / "scenes" / "cat_and_pizza.png"
    if args.lane == "emulated":
        counted = [
            builds.demo_of(record, model, image, args.question, lanes.emulated("max"), on_step=say)
            for record in records
        ]
        print("Executed instructions on one thread, emulated. They are not time.")
        print(builds.demos_table(counted))
        for demo in counted:
            print(
                f"{demo.label}: {demo.answer!r}; MNN says of KleidiAI: {', '.join(demo.kleidiai) or 'nothing'}"
            )
        return
    if args.out:
        results.require_free(args.out)
    result = demos.timed(
        records[0],
        records[1],
        model,
        image,
        args.question,
        pairs=args.pairs,
        on_step=lambda done, of, _: say(f"pair {done} of {of}"),
    )
    path, told = results.save(result, args.out), results.section(result.groups()[0])
    print(Table(told.header, told.cells))
    print(
        "\n".join(
            [
                *(f"  {note}" for note in told.notes),
                *(f"  doubtful: {text}" for text in told.warnings),
                result.where,
                str(path),
            ]
        )
    )


def _targets() -> dict[str, str]:
    from labkit.building.plans import TARGETS

    return TARGETS


def run(args: argparse.Namespace) -> int:
    """Carry out the command; 130 if it was interrupted."""
    from tqdm import tqdm

    from labkit.base.show import Table
    from labkit.building import plans, running

    def planned(variant: str) -> plans.BuildPlan:
        return plans.plan(
            variant,
            args.target,
            source=args.source,
            kleidiai_source=args.kleidiai_source,
            out=args.out,
            python=args.python,
        )

    if args.variant == "compare":
        rows = plans.compare(planned("baseline"), planned("accelerated"))
        print(json.dumps(rows) if args.json else Table(("option", "baseline", "accelerated"), rows))
        return 0
    plan = planned(args.variant)
    if args.dry_run:
        print(json.dumps(plan.to_dict(), indent=1) if args.json else plan)
        return 0
    print(plan, file=sys.stderr)
    with tqdm(
        unit=" files", bar_format="  {desc} {n_fmt} of {total_fmt} |{bar:30}| {postfix}", delay=1
    ) as bar:

        def on_progress(done: int, total: int, left_s: float) -> None:
            bar.total = total
            bar.set_postfix_str(
                f"{left_s / 60:.0f} min left" if left_s > 90 else f"{left_s:.0f} s left",
                refresh=False,
            )
            bar.update(done - bar.n)

        def on_stage(stage: Any) -> None:
            bar.write(f"  {stage}", file=sys.stderr)

        try:
            record = running.run_build(plan, on_stage=on_stage, on_progress=on_progress)
        except KeyboardInterrupt:
            bar.write(
                "  interrupted; what was compiled is kept, and the same command goes on with it",
                file=sys.stderr,
            )
            return 130
    if args.json:
        print(json.dumps(asdict(record) | {"folder": str(record.folder)}))
        return 0
    print(f"{record}\n{record.folder}")
    return 0
