"""Dataclasses as JSON and back, by msgspec: a file is checked when it is read, not when used."""

import os
from pathlib import Path
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def to_json(record: Any) -> str:
    """A dataclass (or what JSON knows, or a path) as indented JSON with a newline at its end."""
    return (
        msgspec.json.format(msgspec.json.encode(record, enc_hook=os.fspath), indent=1).decode()
        + "\n"
    )


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
    >>> from_json(Path, to_json(Path("a"))).name
    'a'
    """
    try:
        return msgspec.json.decode(text, type=kind, dec_hook=_path)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from error


def _path(kind: type, text: Any) -> Path:
    if kind is not Path:
        raise NotImplementedError(f"no way from JSON to {kind}")
    return Path(text)
