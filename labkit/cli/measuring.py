"""``labkit bench`` and ``labkit report``: two ways to run, in pairs; instructions; a page."""

import json
import re
import sys
from argparse import ArgumentTypeError, Namespace

from labkit.bench.comparisons import COMPARISONS, PARTS
from labkit.cli.shared import (
    LANE,
    MEMORY,
    MODEL,
    PRECISION,
    RESULT,
    THREADS,
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


def _size(text: str) -> tuple[int, int]:
    if size := re.fullmatch(r"(\d+)x(\d+)", text):
        return int(size[1]), int(size[2])
    raise ArgumentTypeError(f"expected HEIGHTxWIDTH in pixels, such as 112x112, received {text!r}")


@command(
    "bench",
    MODEL,
    option(
        "--compare",
        "which (default: what fits this machine)",
        nargs="+",
        choices=tuple(COMPARISONS),
        metavar="NAME",
    ),
    option("--parts", "what to measure (default: all)", nargs="+", choices=PARTS, default=PARTS),
    number("--pairs", 9, "pairs of each comparison, at least 9"),
    THREADS,
    PRECISION,
    MEMORY,
    option(
        "--image",
        "picture, multiples of 28 (default 112x112)",
        type=_size,
        default=(112, 112),
        metavar="HxW",
    ),
    number("--prompt-tokens", 48, "length of the prompt"),
    option(
        "--checkpoint",
        "what the model was converted from, for transformers (default mini)",
        default="mini",
    ),
    path("--build", "DIR", "your own build of MNN, for the comparison 'build'"),
    LANE,
    flag("--count", "count instructions, not time, on each CPU of the ladder; emulated lane only"),
    RESULT,
    as_json("the result"),
    epilog=listed("comparisons", COMPARISONS),
)
def bench(args: Namespace) -> None:
    """Time in pairs, or count; print the result and keep it."""
    from labkit.base import hardware
    from labkit.bench import results
    from labkit.bench.measure import run
    from labkit.bench.plan import BenchPlan, default_comparisons, require_timed
    from labkit.engine import lanes
    from labkit.proof.ready import folder_of

    if args.out:
        results.require_free(args.out)
    if args.count:
        _count(args)
        return
    lane = lanes.Lane(name=args.lane, cpu=None if args.lane == "native" else "max")
    require_timed(lane)
    threads = args.threads or hardware.default_threads()
    plan = BenchPlan(
        model=folder_of(args.model, on_stage=say),
        comparisons=tuple(args.compare or default_comparisons(threads)),
        parts=tuple(args.parts),
        pairs=args.pairs,
        image=args.image,
        prompt_tokens=args.prompt_tokens,
        threads=threads,
        precision=args.precision,
        memory=args.memory,
        checkpoint=args.checkpoint,
        lane=lane,
        build=lanes.native(args.build).build,
    )
    with progress("pairs") as on_step:
        result = run(plan, on_step=on_step)
    saved = results.save(result, args.out)
    print(result.to_json() if args.json else f"{result}\n", end="")
    print(f"{saved}\nAs a page: labkit report {saved} --out page.html", file=sys.stderr)


def _count(args: Namespace) -> None:
    """Executed instructions of each part, on each CPU of the ladder."""
    from labkit.arm import counting
    from labkit.arm.classes import CLASSES
    from labkit.arm.figures import top_functions
    from labkit.base.errors import CountingFailed
    from labkit.base.show import Table
    from labkit.bench import results
    from labkit.model import parts
    from labkit.proof.ready import folder_of

    if args.lane != "emulated":
        raise CountingFailed(
            "instructions are counted in the emulated lane. "
            "Type: labkit bench --lane emulated --count"
        )
    model = folder_of(args.model, on_stage=say)
    every = parts.all_parts(model, image=args.image, prompt_tokens=args.prompt_tokens)
    chosen = [part for part in every if part.name in args.parts]
    rungs = counting.ladder(chosen, on_step=say)
    content = [rung.to_dict() for rung in rungs]
    if args.out:
        results.write(args.out, json.dumps(content, indent=1) + "\n")
    text = ["Executed instructions of one forward pass on one thread. They are not time."]
    for place, part in enumerate(chosen):
        counts = {rung.label: rung.counts[place] for rung in rungs}
        mix = [
            (
                label,
                f"{c.total:,.0f}",
                f"{c.share('kai_'):.1%}",
                *(f"{n / c.total:.1%}" for n in c.by_class().values()),
            )
            for label, c in counts.items()
        ]
        table = Table(("CPU", "total", "kai_*", *CLASSES), mix)
        text.append(f"{part.name}, {part.size}\n{table}")
        for label, c in counts.items():
            text.append(f"{part.name}, {label}: top functions\n{top_functions(c)}")
    show(args, content, "\n\n".join(text))


@command(
    "report",
    path("results", "FILE", "what labkit bench wrote", nargs="+"),
    path("--out", "PAGE", "the page; must not exist yet", required=True),
    flag("--allow-mixed", "results of different machines, each in a section of its own"),
)
def report(args: Namespace) -> None:
    """Write the page."""
    from labkit.bench import results
    from labkit.bench.report import page

    results.require_free(args.out)
    read = [results.read(file) for file in args.results]
    results.write(args.out, page(read, allow_mixed=args.allow_mixed))
    print(args.out)
