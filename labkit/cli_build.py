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
    parser.add_argument("variant", choices=("accelerated", "baseline", "compare"), help="which; compare shows what differs between both")
    parser.add_argument("--target", choices=tuple(_targets()), default="native", help="for which machine (default: native)")
    parser.add_argument("--source", type=Path, metavar="DIR", help="your checkout of MNN (default: clone the pinned release)")
    parser.add_argument(
        "--kleidiai-source", type=Path, metavar="DIR", help="your checkout of KleidiAI (default: clone the release MNN wants)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="the build's folder (default: in labkit's cache)")
    parser.add_argument(
        "--python", action="store_true", help="also MNN's Python module, so that labkit can run on this build (native only)"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    parser.add_argument("--json", action="store_true", help="print the plan, or the finished build's record, as JSON")


def _targets() -> dict[str, str]:
    from labkit.build import TARGETS

    return TARGETS


def run(args: argparse.Namespace) -> None:
    """Carry out the command."""
    from tqdm import tqdm

    from labkit import build, building
    from labkit.plots import Table

    def planned(variant: str) -> build.BuildPlan:
        return build.plan(variant, args.target, source=args.source, kleidiai_source=args.kleidiai_source, out=args.out, python=args.python)

    if args.variant == "compare":
        rows = build.compare(planned("baseline"), planned("accelerated"))
        print(json.dumps(rows) if args.json else Table(("option", "baseline", "accelerated"), rows))
        return
    plan = planned(args.variant)
    if args.dry_run:
        print(json.dumps(plan.to_dict(), indent=1) if args.json else plan)
        return
    print(plan, file=sys.stderr)
    with tqdm(unit=" files", bar_format="  {desc} {n_fmt} of {total_fmt} |{bar:30}| {postfix}", delay=1) as bar:

        def on_progress(done: int, total: int, left_s: float) -> None:
            bar.total = total
            bar.set_postfix_str(f"{left_s / 60:.0f} min left" if left_s > 90 else f"{left_s:.0f} s left", refresh=False)
            bar.update(done - bar.n)

        def on_stage(stage: Any) -> None:
            bar.write(f"  {stage}", file=sys.stderr)

        record = building.run_build(plan, on_stage=on_stage, on_progress=on_progress)
    if args.json:
        print(json.dumps(asdict(record) | {"folder": str(record.folder)}))
        return
    print(f"{record}\n{record.folder}")
