"""``labkit peer``: other engines, set up to be measured beside MNN."""

from typing import Annotated

from labkit.base import paths
from labkit.base.errors import PeerError
from labkit.base.show import Table
from labkit.bench import peers
from labkit.bench.peers import PEERS
from labkit.cli.shared import say


def peer(
    action: Annotated[str, ("status", "setup", "remove")],
    name: Annotated[str | None, PEERS] = None,
) -> None:
    """Set up or remove another engine if asked, and show all.

    Parameters
    ----------
    name
        which to set up or remove
    """
    if action != "status" and name is None:
        raise PeerError(f"expected the name of a peer. Type: labkit peer {action} {min(PEERS)}")
    if action == "setup":
        peers.setup(str(name), on_stage=say)
    elif action == "remove":
        say(f"freed {peers.remove(str(name)):,} bytes")
    rows = []
    for known, one in PEERS.items():
        try:
            peers.lane(known)
            state = f"works: {' '.join(one.packages[:2])}"
        except PeerError as error:
            state = str(error)
        size = paths.size_bytes(peers.folder(known))
        rows.append((known, f"{size / 1e6:.0f} MB", state))
    print(Table(("peer", "size", "what was found"), rows))
