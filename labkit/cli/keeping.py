"""``labkit clean``: what labkit keeps outside the repository."""

from argparse import Namespace

from labkit.base import paths
from labkit.cli.shared import command, option


@command(
    "clean", option("what", "what to free, by the names shown; nothing frees nothing", nargs="*")
)
def clean(args: Namespace) -> None:
    """Free what was named, and show what is left."""
    if args.what:
        print(f"freed {paths.free(args.what):,} bytes of {', '.join(args.what)}")
    for row in paths.usage():
        print(f"{row.what:12}{row.bytes / 1e6:10.1f} MB  {row.path}  {row.why}")
    if not args.what:
        print("To free some: labkit clean NAME …")
