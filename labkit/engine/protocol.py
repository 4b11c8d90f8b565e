"""Frames between labkit and an engine worker: values by name, arrays among them.

::

    b"LK01"  4 bytes
    bytes of the header, 4 bytes, and of the arrays, 8 bytes, little endian
    header   UTF-8 JSON: [values that are no arrays, by name; names of the arrays]
    arrays   npy format 1.0, one after the other, never pickled
"""

import io
import json
import struct
from typing import IO, Any

import numpy as np

START = struct.Struct("<4sIQ")
MAGIC = b"LK01"
MAX_HEADER_BYTES = 64 * 2**20

Values = dict[str, Any]
"""What a frame holds, by name: what JSON knows, or arrays."""


class ProtocolError(Exception):
    """What came is not a frame."""


def pack(values: Values) -> bytes:
    """One frame."""
    plain = {name: value for name, value in values.items() if not isinstance(value, np.ndarray)}
    names = [name for name in values if name not in plain]
    header, arrays = json.dumps([plain, names]).encode(), io.BytesIO()
    for name in names:
        np.lib.format.write_array(arrays, values[name], version=(1, 0), allow_pickle=False)
    return START.pack(MAGIC, len(header), arrays.tell()) + header + arrays.getvalue()


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
    magic, header_bytes, arrays_bytes = START.unpack(_exactly(stream, START.size))
    if magic != MAGIC:
        raise ProtocolError(f"expected a frame that begins with {MAGIC!r}, received {magic!r}")
    if header_bytes > MAX_HEADER_BYTES:
        raise ProtocolError(
            f"expected a header of at most {MAX_HEADER_BYTES} bytes, received {header_bytes}"
        )
    header = _exactly(stream, header_bytes)
    arrays = io.BytesIO(_exactly(stream, arrays_bytes))
    try:
        plain, names = json.loads(header)
        read = np.lib.format.read_array
        return {**plain, **{name: read(arrays, allow_pickle=False) for name in names}}
    except Exception as error:  # NumPy's reader has no one class for what it cannot read
        raise ProtocolError(f"expected JSON, then arrays as npy, received: {error}") from error


def _exactly(stream: IO[bytes], size: int) -> bytes:
    parts = []
    while size > 0:
        part = stream.read(min(size, 2**20))  # a damaged size asks for more than there is
        if not part:
            raise EOFError("the other side closed the connection")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
