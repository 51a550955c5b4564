"""PNG files of every kind, honest and hostile, written by the specification: W3C PNG, third edition."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6


def make_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def make_png(width: int, height: int, depth: int, colour: int, rows: bytes, extra: Iterable[bytes] = ()) -> bytes:
    """A PNG whose `rows`, each begun by its filter byte, are stored as they are; `extra` chunks stand before them."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [make_chunk(b"IHDR", header), *extra, make_chunk(b"IDAT", zlib.compress(rows)), make_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def make_bomb(side: int = 30_000) -> bytes:
    """A valid 8-bit grey PNG of side x side zeros: 900 MB of pixels in a few MB of file."""
    packer = zlib.compressobj(1)
    row = bytes(side + 1)
    packed = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, GREY, 0, 0, 0)
    chunks = [make_chunk(b"IHDR", header), make_chunk(b"IDAT", packed), make_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
