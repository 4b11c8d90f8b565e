"""Frames between labkit and an engine worker: a JSON header, then arrays as npy.

::

    b"LK01"  4 bytes
    length of the header, little endian, 4 bytes
    header   UTF-8 JSON; its "arrays" maps each array's name to its length in bytes
    arrays   npy format 1.0, in the header's order, never pickled
"""

from __future__ import annotations

import io
import json
import struct
from typing import IO, Any

import numpy as np

MAGIC = b"LK01"
MAX_HEADER_BYTES = 64 * 2**20

Arrays = dict[str, np.ndarray]


class ProtocolError(Exception):
    """What came is not a frame."""


def write_frame(stream: IO[bytes], header: dict[str, Any], arrays: Arrays | None = None) -> None:
    """Write one frame and flush."""
    blobs: dict[str, bytes] = {}
    for name, array in (arrays or {}).items():
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, np.asarray(array), version=(1, 0), allow_pickle=False)
        blobs[name] = buffer.getvalue()
    text = json.dumps(
        {**header, "arrays": {name: len(blob) for name, blob in blobs.items()}}
    ).encode()
    stream.write(MAGIC + struct.pack("<I", len(text)) + text + b"".join(blobs.values()))
    stream.flush()


def read_frame(stream: IO[bytes]) -> tuple[dict[str, Any], Arrays]:
    """Read one frame.

    Raises
    ------
    EOFError
        If the other side is gone.
    ProtocolError
        If the bytes are not a frame.
    """
    start = _exactly(stream, 8)
    magic, length = start[:4], struct.unpack("<I", start[4:])[0]
    if magic != MAGIC:
        raise ProtocolError(f"expected a frame that begins with {MAGIC!r}, received {start!r}")
    if length > MAX_HEADER_BYTES:
        raise ProtocolError(
            f"expected a header of at most {MAX_HEADER_BYTES} bytes, received one of {length}"
        )
    try:
        header = json.loads(_exactly(stream, length))
        sizes = {str(name): int(size) for name, size in header.pop("arrays").items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProtocolError(
            f"expected a JSON header with 'arrays', received something else: {error}"
        ) from error
    arrays = {}
    for name, size in sizes.items():
        blob = io.BytesIO(_exactly(stream, size))
        try:
            arrays[name] = np.lib.format.read_array(blob, allow_pickle=False)
        except Exception as error:  # NumPy's reader has no one class for what it cannot read
            raise ProtocolError(
                f"expected {name!r} as npy, received something else: {error}"
            ) from error
    return header, arrays


def _exactly(stream: IO[bytes], size: int) -> bytes:
    parts, left = [], size
    while left > 0:
        part = stream.read(left)
        if not part:
            raise EOFError("the other side closed the connection")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
