"""PNG, as little of it as a screen needs: 8-bit grey, grey+alpha, RGB, RGBA, no filter. The same bytes everywhere."""

from __future__ import annotations

import struct
import zlib

COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
SIDE_MAX = 2**31 - 1


def encode_png(data: bytes, height: int, width: int, channels: int) -> bytes:
    """The PNG file of `height` x `width` pixels of `channels` (1 to 4) bytes, rows from the top.

    ValueError when the shape is none of an image or does not match the data.
    """
    if channels not in COLOUR_TYPES or not 1 <= height <= SIDE_MAX or not 1 <= width <= SIDE_MAX:
        raise ValueError(f"{height} x {width} x {channels} is not the shape of an image")
    row_bytes = width * channels
    if len(data) != height * row_bytes:
        raise ValueError(f"{len(data)} bytes do not make {height} x {width} x {channels}")
    rows = b"".join(b"\0" + data[start : start + row_bytes] for start in range(0, len(data), row_bytes))

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, COLOUR_TYPES[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 6)) + chunk(b"IEND", b"")
