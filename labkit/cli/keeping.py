"""``labkit clean``, ``labkit prepare``: what labkit keeps outside the repository."""

from collections.abc import Sequence
from pathlib import Path

from labkit.base import paths


def clean(what: tuple[str, ...] = ()) -> None:
    """Free what was named, and show what is left.

    Parameters
    ----------
    what
        what to free, by the names shown; nothing frees nothing
    """
    if what:
        print(f"freed {paths.free(*what):,} bytes of {', '.join(what)}")
    for kind, why in paths.KINDS.items():
        folder = paths.place(kind)
        print(f"{kind:12}{paths.size_bytes(folder) / 1e6:10.1f} MB  {folder}  {why}")
    if not what:
        print("To free some: labkit clean NAME …")


def prepare(
    *, shared: Path, lessons: Sequence[str] | None = None, checkpoints: Sequence[str] = ()
) -> None:
    """Run the lessons once, and keep what they make where a class reads it.

    Parameters
    ----------
    shared : DIR
        the folder; learners who have it in LABKIT_SHARED read it and can change nothing
    lessons : NAME
        only these, such as 00_start_here (default: all, some ten minutes)
    checkpoints : NAME
        converted as well, such as qwen2-vl-2b

    Notes
    -----
    What is done is kept when this is interrupted. After an update type it again.
    """
    from labkit.cli.shared import say
    from labkit.lessons.path_map import NOTEBOOKS
    from labkit.lessons.prepare import prepare as made

    names = lessons or tuple(NOTEBOOKS)
    done = made(shared, lessons=names, checkpoints=checkpoints, on_stage=say)
    print(
        f"{done.bytes / 1e6:,.0f} MB in {shared.absolute()}, for all who have this in their "
        f"environment:\nexport LABKIT_SHARED={shared.absolute()}"
    )
