"""Where to look into a converted model: names of its inner tensors, found from its graph.

Exporters name tensors as they like, but both parts of Qwen2-VL are built alike: each layer
is a norm, attention, a norm, an MLP, and one norm stands at the end. So hidden states are what
every other norm reads, and Q and K, already rotated, are what each fused ``Attention`` reads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labkit.base.errors import ProbeError


@dataclass(frozen=True, kw_only=True)
class Taps:
    """Names of tensors in one .mnn file.

    ``hidden`` has one name more than there are layers: what each layer reads, then what the last
    one leaves.
    """

    hidden: tuple[str, ...]
    queries: tuple[str, ...]
    keys: tuple[str, ...]

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.queries)


def find(graph: Sequence[Mapping[str, Any]], file: str) -> Taps:
    """Find them.

    Parameters
    ----------
    graph
        Operators, as `labkit.model.chat.Model.graph` gives them.
    file
        What the graph is called in an error.

    Raises
    ------
    ProbeError
        If the graph is not built as above: attention that is not fused, another order of norms,
        another model.
    """
    attention = [op for op in graph if op["type"] == "Attention"]
    norms = [op for op in graph if op["type"] == "LayerNorm"]
    if (
        not attention
        or len(norms) != 2 * len(attention) + 1
        or any(len(op["inputs"]) < 2 for op in attention)
    ):
        raise ProbeError(
            f"expected {file} to hold fused Attention operators, each between two norms, and one "
            f"norm at the end; found {len(attention)} Attention and {len(norms)} LayerNorm "
            "operators. It was exported in another way, or is not of a Qwen2-VL. Convert it again "
            "with `labkit convert`."
        )
    return Taps(
        hidden=tuple(op["inputs"][0] for op in norms[::2]),
        queries=tuple(op["inputs"][0] for op in attention),
        keys=tuple(op["inputs"][1] for op in attention),
    )
