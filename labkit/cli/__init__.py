"""The command ``labkit``: everything the notebooks do, from a shell.

The options and the work of a command are loaded when it is asked for: the help comes at once.
"""

import errno
import signal
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module

from labkit.base.errors import LabkitError

# In the order of the help: the modules of labkit.cli, their functions, and a line about each.
COMMANDS = {
    "asking": {
        "ask": "ask a converted model about a picture",
        "probe": "write what stands inside the converted model for one picture: "
        "pictures and arrays",
    },
    "converting": {
        "fetch": "show the checkpoints and models that there are, or bring one here",
        "convert": "convert a Qwen2-VL checkpoint to MNN",
        "verify": "check every file of a converted model against its SHA-256",
        "parity": "compare a converted model with its original, stage by stage",
        "eval": "score the embedded checkpoint on held-out scenes, in transformers and in MNN",
    },
    "on_arm": {
        "lane": "show, set up or remove the lanes: where the engine can run",
        "kleidiai": "find out whether KleidiAI is built, enabled and running, with evidence",
        "kernels": "compile our int4 kernels for Arm, check them, count instructions, "
        "model cycles, beside KleidiAI's",
    },
    "measuring": {
        "bench": "time two ways to run a model in pairs, with intervals and verdicts",
        "roofline": "measure what this machine can do at most, and what results reach of it",
        "tune": "find the options with which a model answers fastest on this machine",
        "report": "make one HTML page of benchmark results",
    },
    "sweeping": {
        "sweep": "measure a table of conversions and machines, on the workers of a Dask cluster",
    },
    "peers": {"peer": "set up, show or remove other engines to measure MNN against"},
    "building": {
        "build": "build MNN from source, with KleidiAI or without, and look into what came out",
        "demo": "ask two builds' llm_demo about a picture: timed in pairs here, "
        "counted in the emulated lane",
    },
    "doctor": {"doctor": "look at this machine: what works, what does not, and what to do"},
    "keeping": {
        "clean": "show what labkit keeps outside the repository, and free it",
        "prepare": "make once what a class needs, in a folder that its learners read",
    },
}

MAY_WRITE = ". Choose a place that you may write to; LABKIT_HOME=DIR moves what labkit keeps"
REMEDIES = {
    errno.ENOSPC: ". The disk is full: free some (`labkit clean` shows what labkit keeps)",
    errno.EIO: ". The disk does not work as it should: save what is on it, and choose another",
    errno.EFBIG: ". Files may not grow that large here; `ulimit -f` shows and sets the limit",
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), MAY_WRITE),
}
"""What to do about what the system refuses."""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, run, and turn named failures into one message on stderr.

    Returns
    -------
    int
        0 done; 1 a named failure or a check that does not hold; 2 wrong usage; 130 interrupted,
        by TERM as by INT.
    """
    argv = sys.argv[1:] if argv is None else argv
    with suppress(ValueError):  # beside the main thread
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    given = vars(parser(argv).parse_args(argv))
    try:
        return int(given.pop("run")(**given) or 0)
    except (LabkitError, OSError) as error:
        remedy = REMEDIES.get(getattr(error, "errno", None) or 0, "")
        print(f"labkit: {error}{remedy}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("labkit: interrupted; nothing half-written is left", file=sys.stderr)
        return 130


def parser(argv: Sequence[str]) -> ArgumentParser:
    """All commands by name, and the options of the one that ``argv`` begins with."""
    whole = ArgumentParser(
        prog="labkit", description="Qwen2-VL on MNN: convert, ask, check, measure."
    )
    commands = whole.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for module, summaries in COMMANDS.items():
        for name, words in summaries.items():
            form = RawDescriptionHelpFormatter
            added = commands.add_parser(name, help=words, description=words, formatter_class=form)
            if name in argv[:1]:
                from labkit.cli.signature import fill

                fill(added, getattr(import_module(f"labkit.cli.{module}"), name))
    return whole
