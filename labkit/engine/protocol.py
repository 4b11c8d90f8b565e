"""Frames between labkit and an engine worker: values by name, arrays among them.

::

    b"LK01"  4 bytes
    length of the header, little endian, 4 bytes
    header   UTF-8 JSON: [values, sizes]; sizes maps the name of each array to its bytes
    arrays   npy format 1.0, in the order of sizes, never pickled
"""

from __future__ import annotations

import io
import json
import struct
from typing import IO, Any

import numpy as np

MAGIC = b"LK01"
MAX_HEADER_BYTES = 64 * 2**20

Values = dict[str, Any]
"""What a frame holds, by name: what JSON knows, or arrays."""


class ProtocolError(Exception):
    """What came is not a frame."""


def pack(values: Values) -> bytes:
    """One frame."""
    plain, arrays = {}, {}
    for name, value in values.items():
        if isinstance(value, np.ndarray):
            npy = io.BytesIO()
            np.lib.format.write_array(npy, value, version=(1, 0), allow_pickle=False)
            arrays[name] = npy.getvalue()
        else:
            plain[name] = value
    header = json.dumps([plain, {name: len(npy) for name, npy in arrays.items()}]).encode()
    return b"".join([MAGIC, struct.pack("<I", len(header)), header, *arrays.values()])


def write_frame(stream: IO[bytes], values: Values) -> None:
    """Write one frame and flush."""
    stream.write(pack(values))
    stream.flush()


def read_frame(stream: IO[bytes]) -> Values:
    """Read one frame.

    Raises
    ------
    EOFError
        If the other side is gone.
    ProtocolError
        If the bytes are not a frame.
    """
    start = _exactly(stream, 8)
    magic, length = struct.unpack("<4sI", start)
    if magic != MAGIC:
        raise ProtocolError(f"expected a frame that begins with {MAGIC!r}, received {start!r}")
    if length > MAX_HEADER_BYTES:
        raise ProtocolError(
            f"expected a header of at most {MAX_HEADER_BYTES} bytes, received one of {length}"
        )
    try:
        plain, sizes = json.loads(_exactly(stream, length))
        values = {**plain}
        sizes = {str(name): int(size) for name, size in sizes.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ProtocolError(f"expected a header of values and sizes, received: {error}") from error
    for name, size in sizes.items():
        npy = io.BytesIO(_exactly(stream, size))
        try:
            values[name] = np.lib.format.read_array(npy, allow_pickle=False)
        except Exception as error:  # NumPy's reader has no one class for what it cannot read
            raise ProtocolError(
                f"expected {name!r} as npy, received something else: {error}"
            ) from error
    return values


def _exactly(stream: IO[bytes], size: int) -> bytes:
    parts = []
    while size > 0:
        part = stream.read(size)
        if not part:
            raise EOFError("the other side closed the connection")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
