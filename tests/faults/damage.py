"""Damage as hypothesis draws it: to bytes, and to what JSON says."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

EXTREMES = (0, 1, -1, 2**31 - 1, 2**31, 2**32 - 1, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**400)
ODD: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(EXTREMES),
    st.sampled_from(
        [
            None,
            True,
            "",
            "x",
            "../../x",
            "\0",
            "\ud800",
            "\x1f",
            r"$\x$",
            "é" * 999,
            [],
            {},
            [[]],
            [{}],
        ]
    ),
    st.sampled_from([float("nan"), float("inf"), -0.0, 1e308]),
    st.integers(),
    st.text(max_size=8),
)


def places(content: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a document: what holds it, and its key there."""
    pairs = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in list(pairs):
        yield content, key
        if isinstance(value, (dict, list)):
            yield from places(value)


@st.composite
def changed(draw: st.DrawFn, text: bytes) -> bytes:
    """A document with a few of its values replaced, taken out or doubled."""
    content = copy.deepcopy(json.loads(text))
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        holder, key = draw(st.sampled_from(list(places(content)) or [([0], 0)]))
        what = draw(st.sampled_from(["odd", "odd", "gone", "doubled"]))
        if what == "gone":
            del holder[key]
        else:
            holder[key] = (
                copy.deepcopy(draw(ODD))
                if what == "odd"
                else [holder[key], copy.deepcopy(holder[key])]
            )
    return json.dumps(content).encode()


@st.composite
def damaged(draw: st.DrawFn, content: bytes, head: int = 0) -> bytes:
    """Bytes flipped, cut out, doubled, or turned into an extreme number; mostly in the head."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        end = head if head and draw(st.booleans()) else len(data)
        at = draw(st.integers(0, max(0, min(end, len(data)) - 1)))
        size = draw(st.sampled_from([1, 2, 4, 8, 8, len(data)]))
        what = draw(st.sampled_from(["flipped", "cut out", "doubled", "number"]))
        if what == "flipped" and data:
            data[at] ^= draw(st.integers(1, 255))
        elif what == "cut out":
            del data[at : at + size]
        elif what == "doubled":
            data[at:at] = data[at : at + size]
        else:
            number = draw(st.sampled_from(EXTREMES)) % 2**64
            data[at : at + 8] = number.to_bytes(8, "little")
    return bytes(data)
