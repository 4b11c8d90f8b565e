"""``labkit lane``, ``kleidiai`` and ``kernels``: where Arm code can run, and what of it does."""

from argparse import Namespace

from labkit.base.errors import LabkitError
from labkit.base.show import Table
from labkit.cli.shared import (
    LANE,
    MEMORY,
    MODEL,
    PRECISION,
    as_json,
    command,
    flag,
    number,
    option,
    path,
    say,
    show,
)
from labkit.engine import lane_setup, lanes


@command(
    "lane",
    option("action", "what to do", choices=("status", "setup", "remove")),
    option("name", "which lane to set up or remove", nargs="?", choices=("emulated",)),
    as_json("the status"),
)
def lane(args: Namespace) -> None:
    """Set up or remove the emulated lane if asked, and show both."""
    if args.action != "status" and args.name is None:
        raise LabkitError(f"expected the name of a lane. Type: labkit lane {args.action} emulated")
    if args.action == "setup":
        lane_setup.setup_emulated(on_stage=say)
    elif args.action == "remove":
        say(f"freed {lane_setup.remove_emulated():,} bytes")
    rows = lanes.status()
    cells = [
        (
            row.name,
            "works" if row.works else "no",
            f"{row.bytes / 1e6:.0f} MB" if row.bytes else "",
            f"{row.found} → {row.todo}" if row.todo else row.found,
        )
        for row in rows
    ]
    show(args, rows, Table(("lane", "", "size", "what was found"), cells))


@command(
    "kleidiai",
    LANE,
    option("--cpu", "the emulated CPU (default max)", choices=tuple(lanes.CPUS)),
    path("--build", "DIR", "your own build of MNN (labkit build --python), in place of the wheel"),
    MODEL,
    flag("--off", "leave MNN's runtime hint unset, as MNN-LLM does"),
    MEMORY,
    PRECISION,
    as_json("the report"),
    epilog="Exits with 1 when KleidiAI does not run.",
)
def examine(args: Namespace) -> int:
    """Print the report; 1 if KleidiAI does not run."""
    from labkit.arm import kleidiai
    from labkit.proof.ready import folder_of

    report = kleidiai.examine(
        folder_of(args.model, on_stage=say),
        lanes.lane(args.lane, args.cpu, args.build),
        hint=not args.off,
        memory=args.memory,
        precision=args.precision,
        on_step=say,
    )
    show(args, report.to_dict(), report)
    return int(not report.running)


@command(
    "kernels",
    option("action", "what to do", choices=("bench",)),
    number("--rows", 64, "of the product"),
    number("--outputs", 256, "of the product"),
    number("--width", 1024, "of the product"),
    as_json("counts and models"),
)
def kernels(args: Namespace) -> None:
    """Measure, and print both tables with what they do not mean."""
    from labkit.kernels import report

    measured = report.measure(args.rows, args.outputs, args.width, on_step=say)
    modelled = "Multiply-adds to a cycle, by llvm-mca: a static model, not a measurement."
    sections = [
        measured.label,
        f"Executed instructions. They are not time.\n{measured.counts_table()}",
        f"{modelled}\n{measured.models_table()}",
        *(f"Not here: {what}" for what in measured.missing),
    ]
    show(args, measured.to_dict(), "\n\n".join(sections))
