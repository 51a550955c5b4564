"""Is a PNG file complete, by its chunks and checksums?

Each format has a check, which returns (height, width) of a complete file, and perhaps a probe: the same file with other
values where a decoder fills in values by itself, such as the colours that a palette lacks. Pixels that differ between
the two were never in the file.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from .exif import AS_STORED, read_orientation
from .refusals import BROKEN_HEADER, MAX_PARTS, UnsupportedKind, check_size

GREY, PALETTE = 0, 3  # PNG's colour types


def read_chunks(data: bytes, checked: bool = False) -> Iterator[tuple[bytes, int, int]]:
    """Yield a PNG's chunks to IEND, (name, where its body begins, ends), each under its CRC unless that was checked.

    Raises: ValueError, struct.error. Source: W3C PNG specification, section 5.3.
    """
    offset = 8
    for _ in range(MAX_PARTS):
        (length,) = struct.unpack(">I", data[offset : offset + 4])
        body = memoryview(data)[offset + 4 : offset + 8 + length]
        (crc,) = struct.unpack(">I", data[offset + 8 + length : offset + 12 + length])
        if not checked and zlib.crc32(body) != crc:
            raise ValueError("a checksum does not match")
        name = bytes(body[:4])
        yield name, offset + 8, offset + 8 + length
        if name == b"IEND":
            return
        offset += 12 + length
    raise UnsupportedKind(f"in more than {MAX_PARTS} chunks")


def check_png(data: bytes, max_pixels: int) -> tuple[int, int]:
    """Return (height, width) of a complete PNG: every chunk present with its CRC, IEND last.

    Raises: ValueError, struct.error.
    """
    if data[4:8] != b"\r\n\x1a\n" or data[12:16] != b"IHDR":
        raise ValueError(BROKEN_HEADER)
    width, height = struct.unpack(">II", data[16:24])
    check_size(height, width, max_pixels)
    names = [name for name, _, _ in read_chunks(data)]
    if b"acTL" in names:
        raise UnsupportedKind("with several frames")
    if b"tRNS" in names and data[25] == GREY:
        raise UnsupportedKind("with a grey that stands for transparent")  # OpenCV ignores it
    if b"tRNS" in names and b"PLTE" in names and names.index(b"tRNS") < names.index(b"PLTE"):
        raise ValueError("its chunks are out of order")
    return height, width


def probe_png(data: bytes) -> bytes | None:
    """Return the PNG with a palette filled up with white; libpng fills it up with black."""
    if data[25] != PALETTE:
        return None
    start, end = next(span for name, *span in read_chunks(data, checked=True) if name == b"PLTE")
    full = data[start:end].ljust(3 << data[24], b"\xff")
    chunk = struct.pack(">I", len(full)) + b"PLTE" + full + struct.pack(">I", zlib.crc32(b"PLTE" + full))
    return data[: start - 8] + chunk + data[end + 4 :] if len(full) > end - start else None


def find_png_orientation(data: bytes) -> int:
    """Return the orientation in a complete PNG's eXIf chunk, the first if there are more; 1 where it has none."""
    found = (data[start:end] for name, start, end in read_chunks(data, checked=True) if name == b"eXIf")
    return next(map(read_orientation, found), AS_STORED)
