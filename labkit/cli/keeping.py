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
        print(f"freed {paths.free(what):,} bytes of {', '.join(what)}")
    for row in paths.usage():
        print(f"{row.what:12}{row.bytes / 1e6:10.1f} MB  {row.path}  {row.why}")
    if not what:
        print("To free some: labkit clean NAME …")
