"""The kit's data class: made by keywords, never changed, read back from JSON."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, field, replace

import pytest

from labkit.base.data import frozen
from labkit.base.records import from_json, to_json


@frozen
class Point:
    x: int
    name: str = field(default="here", repr=False)


def test_it_is_made_by_keywords_and_never_changed() -> None:
    point = Point(x=1)
    with pytest.raises(TypeError):
        Point(1)  # type: ignore[call-arg, misc]
    with pytest.raises(FrozenInstanceError):
        point.x = 2  # type: ignore[misc]
    assert replace(point, x=2) == Point(x=2)
    assert repr(point) == "Point(x=1)"


def test_it_comes_back_from_json() -> None:
    assert from_json(Point, to_json(Point(x=3, name="there"))) == Point(x=3, name="there")
