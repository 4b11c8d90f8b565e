"""``labkit build`` and ``labkit demo``: builds of MNN, planned, compared, carried out and asked."""

import sys
from argparse import Namespace
from functools import partial

from labkit.base.show import Table
from labkit.building import plans, running
from labkit.building.plans import TARGETS
from labkit.building.record import read_record
from labkit.cli.shared import (
    DRY_RUN,
    LANE,
    MODEL,
    RESULT,
    as_json,
    command,
    flag,
    listed,
    number,
    option,
    path,
    progress,
    say,
    show,
)


@command(
    "build",
    option(
        "variant",
        "which; compare shows what differs between both",
        choices=("accelerated", "baseline", "compare"),
    ),
    option(
        "--target", "for which machine (default: native)", choices=tuple(TARGETS), default="native"
    ),
    path("--source", "DIR", "your checkout of MNN (default: clone the pinned release)"),
    path(
        "--kleidiai-source",
        "DIR",
        "your checkout of KleidiAI (default: clone the release MNN wants)",
    ),
    path("--out", "DIR", "the build's folder (default: in labkit's cache)"),
    flag(
        "--python", "also MNN's Python module, so that labkit can run on this build (native only)"
    ),
    DRY_RUN,
    as_json("the plan, or the finished build's record,"),
    epilog=f"{listed('targets', TARGETS)}\n\nInterrupted, it goes on where it stopped. "
    "To undo it, remove its folder (labkit clean cache).",
)
def build(args: Namespace) -> int:
    """Compare both plans, print one, or carry it out; 130 if it was interrupted."""
    planned = partial(
        plans.plan,
        target=args.target,
        source=args.source,
        kleidiai_source=args.kleidiai_source,
        out=args.out,
        python=args.python,
    )
    if args.variant == "compare":
        rows = plans.compare(planned("baseline"), planned("accelerated"))
        show(args, rows, Table(("option", "baseline", "accelerated"), rows))
        return 0
    plan = planned(args.variant)
    if args.dry_run:
        show(args, plan.to_dict(), plan)
        return 0
    print(plan, file=sys.stderr)
    try:
        with progress("files") as on_step:
            record = running.run_build(plan, on_stage=say, on_progress=on_step)
    except KeyboardInterrupt:
        say("interrupted; what was compiled is kept, and the same command goes on with it")
        return 130
    show(args, record, f"{record}\n{record.folder}")
    return 0


@command(
    "demo",
    path("baseline", "BASELINE", "folder of a build, as labkit build names it"),
    path("candidate", "CANDIDATE", "folder of the build that it is compared with"),
    LANE,
    MODEL,
    path("--image", "FILE", "a picture (default: the cat and the pizza)"),
    option(
        "--question",
        "in plain words; an answer of a few tokens or more",
        default="Describe the image.",
    ),
    number("--pairs", 9, "pairs of runs, natively, at least 9"),
    RESULT,
)
def demo(args: Namespace) -> None:
    """Both builds answer: timed in pairs, or counted in the emulated lane."""
    from labkit.base import paths
    from labkit.bench import builds, demos, results
    from labkit.engine import lanes
    from labkit.proof.ready import folder_of

    baseline, candidate = map(read_record, (args.baseline, args.candidate))
    image = args.image or paths.data_dir() / "scenes" / "cat_and_pizza.png"
    asked = folder_of(args.model, on_stage=say), image, args.question
    if args.lane == "emulated":
        lane = lanes.emulated("max")
        counted = [builds.demo_of(r, *asked, lane, on_step=say) for r in (baseline, candidate)]
        print("Executed instructions on one thread, emulated. They are not time.")
        print(builds.demos_table(counted))
        for run in counted:
            said = ", ".join(run.kleidiai) or "nothing"
            print(f"{run.label}: {run.answer!r}; MNN says of KleidiAI: {said}")
        return
    if args.out:
        results.require_free(args.out)
    with progress("pairs") as on_step:
        result = demos.timed(baseline, candidate, *asked, pairs=args.pairs, on_step=on_step)
    print(result, results.save(result, args.out), sep="\n")
