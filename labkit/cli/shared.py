"""What commands share: options, and how they tell what they do."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

if TYPE_CHECKING:
    from labkit.model.checkpoints import Checkpoint

LEVELS = ("low", "normal", "high")
Level = Annotated[str, LEVELS]

WORDS = {
    "model": ("a converted model's folder, or a name of `labkit fetch` (default: mini)", "MODEL"),
    "action": ("what to do", ""),
    "threads": ("CPU threads (default: as tuned here, or up to four)", ""),
    "max_pixels": (
        (
            f"shrink larger pictures to this area (default {1280 * 784:,}, 1,280 visual tokens; "
            f"for a model of over {2**28:,} parameters {256 * 784:,}, 256 visual tokens)"
        ),
        "",
    ),
    "memory": ("MNN's memory mode (default: as tuned here, or low)", ""),
    "precision": ("MNN's precision (default: as tuned here, or normal)", ""),
    "lane": (
        "where to run: native, emulated, or another machine that was set up (default: native)",
        "NAME",
    ),
    "dry_run": ("print the plan and stop", ""),
}
"""Help and metavar of what means the same wherever it stands."""


def show(as_json: bool, content: Any, text: object) -> None:
    """Print what a command answers: the content as JSON if asked for, else the text."""
    from labkit.base.records import to_json

    print(to_json(content).rstrip() if as_json else text)


def say(words: object) -> None:
    """Tell on stderr what is being done; what a command answers is on stdout."""
    from tqdm import tqdm

    tqdm.write(f"  {words}", file=sys.stderr)


def say_tuned(chosen: dict[str, Any]) -> None:
    """Tell what `labkit tune` chose for a model here, if it did."""
    from labkit.model import tuned

    if chosen:
        say(f"as labkit tune chose here: {tuned.words(chosen)}")


def resolved(source: str) -> "Checkpoint":
    """The checkpoint of a name; a bar shows what has to be written or downloaded for it."""
    from labkit.model import checkpoints

    with progress("files", delay=0.5) as on_step:
        return checkpoints.resolve(source, on_step=on_step)


@contextmanager
def progress(unit: str, delay: float = 0) -> Iterator[Callable[..., None]]:
    """Show a bar on stderr, after some seconds; the block moves it with ``on_step(done, total,
    what)``.
    """
    from tqdm import tqdm

    with tqdm(unit=f" {unit}", delay=delay) as bar:

        def on_step(done: int, total: int, what: str = "") -> None:
            bar.total = total
            bar.set_description(what)
            bar.update(done - bar.n)

        yield on_step
