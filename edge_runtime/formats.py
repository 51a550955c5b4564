"""What PNG and BMP files say of themselves, read before a decoder may believe it.

Each format has a check, which returns (height, width) of a file that is whole, and a probe: the same file with another
filling where a decoder fills in by itself, such as the colours that a palette does not have. Pixels that differ
between the two were never in the file. JPEG and TIFF, which have more to say, are in files of their own.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np

HEADER, MIDDLE = "its header is broken", "it ends in the middle"
GREY, PALETTE = 0, 3  # PNG's colour types
PLAIN, RLE8, RLE4, BITFIELDS = 0, 1, 2, 3  # BMP's packings
SHORT_HEADER = 12  # OS/2's
MOST_PARTS = 100_000  # chunks, segments, strips: far above any program's, and gone through in a second
BMP_HEADERS = (SHORT_HEADER, 40, 52, 56, 64, 108, 124)
BMP_MASKS = {16: ((0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F)), 32: ((0xFF0000, 0xFF00, 0xFF),)}


class UnreadKind(ValueError):
    """An honest file of a kind that is not read: "with ..."."""


class TooManyPixels(ValueError):
    """An image that would take too much memory."""


def check_size(height: int, width: int, max_pixels: int) -> None:
    """Refuse a size that no image has or that is too much, before anything is done about its pixels."""
    if height == 0 or width == 0:
        raise ValueError(HEADER)  # a JPEG's height may follow its first scan: hardly any decoder waits for it
    if height * width > max_pixels:
        raise TooManyPixels(f"{width} x {height} pixels, more than {max_pixels}")


def read_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield a PNG's chunks to IEND, (name, where its body begins, ends), each under its CRC.

    Raises: ValueError, struct.error. Source: W3C PNG specification, section 5.3.
    """
    place = 8
    for _ in range(MOST_PARTS):
        (length,) = struct.unpack(">I", data[place : place + 4])
        body = memoryview(data)[place + 4 : place + 8 + length]
        (crc,) = struct.unpack(">I", data[place + 8 + length : place + 12 + length])
        if zlib.crc32(body) != crc:
            raise ValueError("a checksum does not match")
        name = bytes(body[:4])
        yield name, place + 8, place + 8 + length
        if name == b"IEND":
            return
        place += 12 + length
    raise UnreadKind(f"in more than {MOST_PARTS} chunks")


def check_png(data: bytes, max_pixels: int) -> tuple[int, int]:
    """Return (height, width) of a complete PNG: every chunk present with its CRC, IEND last.

    Raises: ValueError, struct.error.
    """
    if data[4:8] != b"\r\n\x1a\n" or data[12:16] != b"IHDR":
        raise ValueError(HEADER)
    width, height = struct.unpack(">II", data[16:24])
    check_size(height, width, max_pixels)
    names = [name for name, _, _ in read_chunks(data)]
    if b"acTL" in names:
        raise UnreadKind("with several frames")
    if b"tRNS" in names and data[25] == GREY:
        raise UnreadKind("with a grey that stands for transparent")  # OpenCV overlooks it
    if b"tRNS" in names and b"PLTE" in names and names.index(b"tRNS") < names.index(b"PLTE"):
        raise ValueError("its chunks are out of order")
    return height, width


def probe_png(data: bytes) -> bytes | None:
    """Return the PNG with a palette filled up with white; libpng fills it up with black."""
    if data[25] != PALETTE:
        return None
    start, end = next(place for name, *place in read_chunks(data) if name == b"PLTE")
    full = data[start:end].ljust(3 << data[24], b"\xff")
    chunk = struct.pack(">I", len(full)) + b"PLTE" + full + struct.pack(">I", zlib.crc32(b"PLTE" + full))
    return data[: start - 8] + chunk + data[end + 4 :] if len(full) > end - start else None


def check_bmp(data: bytes, max_pixels: int) -> tuple[int, int]:
    """Return (height, width) of a BMP whose pixels are all there, each with a colour that OpenCV gets right.

    Raises: ValueError, struct.error. Source: Microsoft, BITMAPINFOHEADER, BITMAPV5HEADER.
    """
    start, header = struct.unpack("<II", data[10:18])
    if header == SHORT_HEADER:
        width, height, planes, bits = struct.unpack("<HHHH", data[18:26])
        packing = PLAIN
    else:
        width, height, planes, bits, packing = struct.unpack("<iiHHI", data[18:34])
    if header not in BMP_HEADERS or planes != 1 or width < 0 or start < 14 + header:
        raise ValueError(HEADER)
    check_size(abs(height), width, max_pixels)
    if packing in (RLE8, RLE4):
        if height < 0 or bits != (8 if packing == RLE8 else 4):
            raise ValueError(HEADER)
        check_runs(data[start:], height, width, bits)
    elif packing not in (PLAIN, BITFIELDS):
        raise UnreadKind("of a rare packing")
    elif len(data) < start + (width * bits + 31) // 32 * 4 * abs(height):
        raise ValueError(MIDDLE)
    if packing == BITFIELDS:
        check_masks(data, header, bits, start)
    return abs(height), width


def check_masks(data: bytes, header: int, bits: int, start: int) -> None:
    """Refuse colours at places where OpenCV does not look for them, and alpha, which it would drop."""
    if struct.unpack("<III", data[54:66]) not in BMP_MASKS.get(bits, ()):
        raise UnreadKind("with rare colour masks")
    has_alpha = header >= 56 and any(data[66:70])
    if has_alpha and (np.frombuffer(data[start : len(data) - (len(data) - start) % 4], np.uint8)[3::4] != 255).any():
        raise UnreadKind("with alpha")


def check_runs(coded: bytes, height: int, width: int, bits: int) -> None:
    """Refuse run-length coded rows that are not all there or run past their ends: OpenCV leaves such pixels black."""
    place = row = column = 0
    while row < height:
        count, value = coded[place : place + 2] if len(coded) >= place + 2 else (0, 1)
        place += 2
        if count:
            column += count
        elif value == 0:
            if column != width:
                raise ValueError("a row is too short")
            row, column = row + 1, 0
        elif value == 1:
            break
        elif value == 2:
            raise ValueError("it leaves pixels out")
        else:
            place += (value * bits + 15) // 16 * 2  # literal pixels, filled to two bytes
            if place > len(coded):
                raise ValueError(MIDDLE)
            column += value
        if column > width:
            raise ValueError("a row is too long")
    if row < height - 1 or (row == height - 1 and column != width):
        raise ValueError(MIDDLE)
    if row == height and coded[place : place + 2] not in (b"\0\1", b""):
        raise ValueError("it has too many rows")


def probe_bmp(data: bytes) -> bytes | None:
    """Return the BMP with a palette filled up with white; OpenCV fills it up with black."""
    start, header = struct.unpack("<II", data[10:18])
    if header == SHORT_HEADER:
        return None
    (bits,) = struct.unpack("<H", data[28:30])
    (used,) = struct.unpack("<I", data[46:50])
    if bits > 8 or not 0 < used < 2**bits:
        return None
    first = 14 + header
    colours = data[first : first + 4 * used].ljust(4 << bits, b"\xff")
    head = data[:10] + struct.pack("<I", first + len(colours)) + data[14:46] + bytes(4) + data[50:first]
    return head + colours + data[start:]
