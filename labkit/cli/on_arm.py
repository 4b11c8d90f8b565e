"""``labkit lane``, ``kleidiai`` and ``kernels``: where Arm code can run, and what of it does."""

from pathlib import Path
from typing import Annotated

from labkit.base.errors import LabkitError
from labkit.base.show import Table
from labkit.cli.shared import Level, say, show
from labkit.engine import known, lane_setup, lanes, phone, remote_setup


def lane(
    action: Annotated[str, ("status", "setup", "remove")],
    name: str | None = None,
    *,
    ssh: str | None = None,
    adb: tuple[str, ...] | None = None,
    python: str | None = None,
    forget: bool = False,
    json: bool = False,
) -> None:
    """Set up or remove a lane if asked, and show all, or the one that is named.

    Parameters
    ----------
    name
        which lane: emulated; or what another machine is to be called, or was
    ssh : USER@HOST[:PORT]
        the machine to set up, as you come there by ssh
    adb : SERIAL
        the Android phone to set up; by its serial number, or HOST:PORT, if there are several
    python : PATH
        the Python to use there (default: python3)
    forget
        remove only what is noted here: the machine is not asked
    json
        print the status as JSON

    Notes
    -----
    Your ssh's configuration, keys and known hosts hold; LABKIT_SSH="ssh -F FILE" names another ssh.
    """
    if action != "status" and name is None:
        raise LabkitError(f"expected the name of a lane. Type: labkit lane {action} emulated")
    if action == "setup" and ssh and name:
        remote_setup.setup(name, ssh, python=python, on_stage=say)
    elif action == "setup" and adb is not None and name:
        phone.setup(name, " ".join(adb), on_stage=say)
    elif action == "setup" and name == "emulated":
        lane_setup.setup_emulated(on_stage=say)
    elif action == "setup":
        raise LabkitError(
            f"expected the machine or phone that is to be {name}. Type: "
            f"labkit lane setup {name} --ssh USER@HOST, or: labkit lane setup {name} --adb"
        )
    elif action == "remove" and name:
        if name == "emulated":
            freed = lane_setup.remove_emulated()
        elif name in phone.names() and not forget:
            freed = phone.remove(name)
        else:
            freed = remote_setup.remove(name, forget=forget)
        say(f"freed {freed:,} bytes")
    rows = known.status(None if action == "remove" else name)
    cells = [
        (
            row.name,
            "works" if row.works else "no",
            f"{row.bytes / 1e6:.0f} MB" if row.bytes else "",
            f"{row.found} → {row.todo}" if row.todo else row.found,
        )
        for row in rows
    ]
    show(json, rows, Table(("lane", "", "size", "what was found"), cells))


def kleidiai(
    *,
    lane: str = "native",
    cpu: Annotated[str | None, lanes.CPUS] = None,
    build: Path | None = None,
    model: str = "mini",
    off: bool = False,
    memory: Level = "low",
    precision: Level = "normal",
    json: bool = False,
) -> int:
    """Print the report; 1 if KleidiAI does not run.

    Parameters
    ----------
    cpu
        the emulated CPU (default max)
    build : DIR
        your own build of MNN (labkit build --python), in place of the wheel
    off
        leave MNN's runtime hint unset, as MNN-LLM does
    json
        print the report as JSON

    Notes
    -----
    Exits with 1 when KleidiAI does not run.
    """
    from labkit.arm.kleidiai import examine
    from labkit.proof.ready import folder_of

    report = examine(
        folder_of(model, on_stage=say),
        known.lane(lane, cpu, build),
        hint=not off,
        memory=memory,
        precision=precision,
        on_step=say,
    )
    show(json, report.to_dict(), report)
    return int(not report.running)


def kernels(
    action: Annotated[str, ("bench",)],  # noqa: ARG001 - there is one so far
    *,
    rows: int = 64,
    outputs: int = 256,
    width: int = 1024,
    json: bool = False,
) -> None:
    """Measure, and print both tables with what they do not mean.

    Parameters
    ----------
    rows
        of the product (default %(default)s)
    outputs
        of the product (default %(default)s)
    width
        of the product (default %(default)s)
    json
        print counts and models as JSON
    """
    from labkit.kernels import report

    measured = report.measure((rows, outputs, width), on_step=say)
    modelled = "Multiply-adds to a cycle, by llvm-mca: a static model, not a measurement."
    sections = [
        measured.label,
        f"Executed instructions. They are not time.\n{measured.counts_table()}",
        f"{modelled}\n{measured.models_table()}",
        *(f"Not here: {what}" for what in measured.missing),
    ]
    show(json, measured.to_dict(), "\n\n".join(sections))
