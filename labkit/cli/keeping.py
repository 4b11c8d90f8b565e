"""``labkit clean``: what labkit keeps outside the repository."""

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
