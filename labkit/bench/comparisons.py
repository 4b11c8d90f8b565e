"""What is compared with what: the comparisons by name, and the two sides of each.

``comparisons.json`` says of each side what sets it apart from how all is run. The command line
reads this for its help, so it imports nothing heavy.
"""

import json
from pathlib import Path
from typing import Any

from labkit.base.data import frozen

PARTS = ("load", "vision", "prefill", "decode")
_COMPARED: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_suffix(".json").read_text(encoding="utf-8")
)
COMPARISONS: dict[str, str] = {name: compared["words"] for name, compared in _COMPARED.items()}
PEERS: dict[str, str] = {
    name: peer["words"]
    for name, peer in json.loads(
        Path(__file__).with_name("peers.json").read_text(encoding="utf-8")
    ).items()
}
WORDS = {**COMPARISONS, **PEERS, "llm_demo": "two builds' llm_demo, end to end with its KV cache"}


@frozen
class Side:
    """One way to run the work.

    ``runtime`` is "modules", "against", "build", "chat", "llm_demo", "transformers" or
    "peer".
    """

    label: str
    runtime: str = "modules"
    threads: int
    precision: str
    memory: str
    kleidiai: bool = False


def sides(
    name: str, *, threads: int, precision: str, memory: str, **words: str
) -> tuple[Side, Side]:
    """Baseline and candidate of one of `COMPARISONS`.

    Parameters
    ----------
    threads, precision, memory
        What holds for both, unless the comparison changes it.
    **words
        What labels say: `bits` of the model's weights, such as "int4", `build`, the variant of the
        own one, or how the weights of `model` and of `against` are stored.
    """
    usual = {"threads": threads, "precision": precision, "memory": memory}
    baseline, candidate = (
        Side(**{**usual, **side, "label": side["label"].format(threads=threads, **words)})
        for side in _COMPARED[name]["sides"]
    )
    return baseline, candidate
