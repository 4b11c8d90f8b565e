"""``labkit build`` and ``labkit demo``: builds of MNN, planned, compared, carried out and asked."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

from labkit.base.show import Table
from labkit.building import plans, running
from labkit.building.record import read_record
from labkit.cli.shared import progress, say, show


def build(
    variant: Annotated[str, ("accelerated", "baseline", "compare")],
    *,
    target: Annotated[str, plans.TARGETS] = "native",
    source: Path | None = None,
    kleidiai_source: Path | None = None,
    out: Path | None = None,
    python: bool = False,
    dry_run: bool = False,
    json: bool = False,
) -> int:
    """Compare both plans, print one, or carry it out; 130 if it was interrupted.

    Parameters
    ----------
    variant
        which; compare shows what differs between both
    target
        for which machine (default: native)
    source : DIR
        your checkout of MNN (default: clone the pinned release)
    kleidiai_source : DIR
        your checkout of KleidiAI (default: clone the release MNN wants)
    out : DIR
        the build's folder (default: in labkit's cache)
    python
        also MNN's Python module, so that labkit can run on this build (native only)
    json
        print the plan, or the finished build's record, as JSON

    Notes
    -----
    Interrupted, it goes on where it stopped. To undo it, remove its folder (labkit clean cache).
    """
    planned = partial(
        plans.plan,
        target=target,
        source=source,
        kleidiai_source=kleidiai_source,
        out=out,
        python=python,
    )
    if variant == "compare":
        rows = plans.compare(planned("baseline"), planned("accelerated"))
        show(json, rows, Table(("option", "baseline", "accelerated"), rows))
        return 0
    plan = planned(variant)
    if dry_run:
        show(json, plan.to_dict(), plan)
        return 0
    print(plan, file=sys.stderr)
    try:
        with progress("files") as on_step:
            record = running.run_build(plan, on_stage=say, on_progress=on_step)
    except KeyboardInterrupt:
        say("interrupted; what was compiled is kept, and the same command goes on with it")
        return 130
    show(json, record, f"{record}\n{record.folder}")
    return 0


def demo(
    baseline: Path,
    candidate: Path,
    *,
    lane: str = "native",
    model: str = "mini",
    image: Path | None = None,
    question: str = "Describe the image.",
    pairs: int = 9,
    out: Path | None = None,
) -> None:
    """Both builds answer: timed in pairs, here or on a phone, or counted in the emulated lane.

    Parameters
    ----------
    baseline : BASELINE
        folder of a build, as labkit build names it
    candidate : CANDIDATE
        folder of the build that it is compared with
    image : FILE
        a picture (default: the cat and the pizza)
    question
        in plain words; an answer of a few tokens or more
    pairs
        pairs of runs, natively, at least 9 (default %(default)s)
    out : FILE
        the result's file (default: a new one in labkit's results folder)
    """
    from labkit.base import paths
    from labkit.bench import builds, results
    from labkit.bench.demos import demos
    from labkit.engine import known, lanes
    from labkit.proof.ready import folder_of

    first, second = map(read_record, (baseline, candidate))
    image = image or paths.data_dir() / "scenes" / "cat_and_pizza.png"
    asked = folder_of(model, on_stage=say), image, question
    if lane == "emulated":
        emulated = lanes.emulated()
        counted = [builds.demo_of(r, *asked, emulated, on_step=say) for r in (first, second)]
        print("Executed instructions on one thread, emulated. They are not time.")
        print(builds.demos_table(counted))
        for run in counted:
            said = ", ".join(run.kleidiai) or "nothing"
            print(f"{run.label}: {run.answer!r}; MNN says of KleidiAI: {said}")
        return
    if out:
        results.require_free(out)
    place = known.lane(lane, worker=False)
    with progress("pairs") as on_step:
        result = demos(first, second, *asked, lane=place, pairs=pairs, on_step=on_step)
    print(result, results.save(result, out), sep="\n")
