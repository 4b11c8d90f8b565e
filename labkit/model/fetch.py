"""What there is to convert or to ask, by name: embedded, written here, or taken from a hub."""

from labkit.base import paths
from labkit.base.show import Table
from labkit.model import checkpoints, hub, twin

HEADER = ("name", "what it is", "size", "where it is now", "licence")
REAL = hub.size(4_420_000_000)
"""Of the checkpoint of two billion weights, and of its twin."""


def catalogue() -> Table:
    """What `labkit fetch` knows by name, and what it has brought here."""
    mini, offers = paths.data_dir() / "mini-qwen2-vl", {o.hub_id: o for o in hub.all_kept()}
    weights, whole = hub.size((mini / "model.safetensors").stat().st_size), twin.place()
    rows: list[tuple[object, ...]] = [("mini", "trained for this lab", weights, mini, "apache-2.0")]
    for name, hub_id in checkpoints.ALIASES.items():
        offer = offers.pop(hub_id, None)
        where = hub.place(hub_id) if offer else f"not here: labkit fetch {name}"
        rows.append((name, f"the real one: {hub_id}", REAL, where, "apache-2.0"))
    where = whole if whole.is_dir() else "not here: labkit fetch twin:2b"
    rows.append(("twin:2b", "of its size, random weights: its words are noise", REAL, where, "-"))
    fewer = "the same with one layer in N, or twin:2b/block: with one, and few words"
    rows.append(("twin:2b/N", fewer, "0.2 GB and more", "", "-"))
    for folder in sorted(whole.parent.glob("2b-*")):
        if folder != whole:
            bytes_ = hub.size(paths.size_bytes(folder))
            rows.append((f"twin:2b/{folder.name[3:]}", "one of these", bytes_, folder, "-"))
    for hub_id, offer in offers.items():
        kind = "converted by others, no parity" if offer.converted else "a checkpoint"
        rows.append((hub_id, kind, hub.size(offer.total_bytes), hub.place(hub_id), offer.licence))
    rows.append(
        ("OWNER/NAME", "any Qwen2-VL of a model hub, or its conversion to MNN", "", "", "its own")
    )
    return Table(HEADER, rows)
