"""Dataclasses as JSON and back, by msgspec: a file is checked when it is read, not when used."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def to_json(record: Any) -> str:
    """A dataclass (or what JSON knows) as indented JSON with a newline at its end."""
    return msgspec.json.format(msgspec.json.encode(record), indent=1).decode() + "\n"


def from_json(kind: type[T], text: str | bytes) -> T:
    """Read what `to_json` wrote.

    Raises
    ------
    ValueError
        If it is not JSON, or not of this kind; says where: "Expected `int`, got `str` - at
        `$.rows[0].repeat`".

    Examples
    --------
    >>> from_json(tuple[int, ...], "[1, 2]")
    (1, 2)
    """
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from error
