"""What commands share: how they say which options they have, and how they tell what they do."""

import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Run = Callable[[Namespace], "int | None"]
Option = tuple[str, dict[str, Any]]
"""Name and settings, as `argparse.ArgumentParser.add_argument` takes them."""


LOADED: dict[str, tuple[Run, tuple[Option, ...], str]] = {}
"""The commands of the modules that were imported: work, options, and the end of the help."""


def command(name: str, *options: Option, epilog: str = "") -> Callable[[Run], Run]:
    """Register the function below as what a command does."""

    def register(run: Run) -> Run:
        LOADED[name] = run, options, epilog
        return run

    return register


def option(name: str, words: str, **settings: Any) -> Option:
    """An option, or an argument, with its help."""
    return name, {"help": words, **settings}


def flag(name: str, words: str) -> Option:
    """An option that is given or not."""
    return option(name, words, action="store_true")


def path(name: str, metavar: str | None, words: str, **settings: Any) -> Option:
    """An option that takes a path."""
    return option(name, words, type=Path, metavar=metavar, **settings)


def number(name: str, default: int, what: str) -> Option:
    """An option that takes a number of at least 1."""
    words = f"{what} (default {default:,})"
    return option(name, words, type=at_least_one, default=default, metavar="N")


def at_least_one(text: str) -> int:
    """Read a number; argparse turns the error into wrong usage."""
    if int(text) < 1:
        raise ArgumentTypeError(f"expected at least 1, received {text}")
    return int(text)


def as_json(what: str) -> Option:
    """The option ``--json``."""
    return flag("--json", f"print {what} as JSON")


def listed(title: str, rows: Mapping[str, str]) -> str:
    """Names and what they mean, for an epilog that keeps its lines."""
    return "\n".join([f"{title}:", *(f"  {name:18}{words}" for name, words in rows.items())])


MODEL = option(
    "--model",
    "folder of a converted model (default: the embedded one)",
    default="mini",
    metavar="DIR",
)
THREADS = option("--threads", "CPU threads (default: up to four)", type=at_least_one, metavar="N")
MAX_PIXELS = number("--max-pixels", 1280 * 28 * 28, "shrink larger pictures to this area")
LEVELS = ("low", "normal", "high")
MEMORY = option("--memory", "MNN's memory mode (default low)", choices=LEVELS, default="low")
PRECISION = option(
    "--precision", "MNN's precision (default normal)", choices=LEVELS, default="normal"
)
LANE = option(
    "--lane",
    "where to run (default: this machine)",
    choices=("native", "emulated"),
    default="native",
)
DRY_RUN = flag("--dry-run", "print the plan and stop")
RESULT = path("--out", "FILE", "the result's file (default: a new one in labkit's results folder)")


def show(args: Namespace, content: Any, text: object) -> None:
    """Print what a command answers: the content as JSON if asked for, else the text."""
    from labkit.base.records import to_json

    print(to_json(content).rstrip() if args.json else text)


def say(words: object) -> None:
    """Tell on stderr what is being done; what a command answers is on stdout."""
    from tqdm import tqdm

    tqdm.write(f"  {words}", file=sys.stderr)


@contextmanager
def progress(unit: str) -> Iterator[Callable[..., None]]:
    """Show a bar on stderr; the block moves it with ``on_step(done, total, what)``."""
    from tqdm import tqdm

    with tqdm(unit=f" {unit}") as bar:

        def on_step(done: int, total: int, what: str = "") -> None:
            bar.total = total
            bar.set_description(what)
            bar.update(done - bar.n)

        yield on_step
