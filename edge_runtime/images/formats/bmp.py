"""Is a BMP file complete, and of a kind whose colours OpenCV reads correctly?"""

from __future__ import annotations

import struct

import numpy as np

from .refusals import BROKEN_HEADER, TRUNCATED, UnsupportedKind, check_size

PLAIN, RLE8, RLE4, BITFIELDS = 0, 1, 2, 3  # BMP's packings
SHORT_HEADER = 12  # OS/2's
BMP_HEADERS = (SHORT_HEADER, 40, 52, 56, 64, 108, 124)
BMP_MASKS = {16: ((0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F)), 32: ((0xFF0000, 0xFF00, 0xFF),)}


def check_bmp(data: bytes, max_pixels: int) -> tuple[int, int]:
    """Return (height, width) of a BMP whose pixels are complete, with colours that OpenCV reads correctly.

    Raises: ValueError, struct.error. Source: Microsoft, BITMAPINFOHEADER, BITMAPV5HEADER.
    """
    start, header = struct.unpack("<II", data[10:18])
    if header == SHORT_HEADER:
        width, height, planes, bits = struct.unpack("<HHHH", data[18:26])
        packing = PLAIN
    else:
        width, height, planes, bits, packing = struct.unpack("<iiHHI", data[18:34])
    if header not in BMP_HEADERS or planes != 1 or width < 0 or start < 14 + header:
        raise ValueError(BROKEN_HEADER)
    check_size(abs(height), width, max_pixels)
    if packing in (RLE8, RLE4):
        if height < 0 or bits != (8 if packing == RLE8 else 4):
            raise ValueError(BROKEN_HEADER)
        check_runs(data[start:], height, width, bits)
    elif packing not in (PLAIN, BITFIELDS):
        raise UnsupportedKind("of a rare packing")
    elif len(data) < start + (width * bits + 31) // 32 * 4 * abs(height):
        raise ValueError(TRUNCATED)
    if packing == BITFIELDS:
        check_masks(data, header, bits, start)
    return abs(height), width


def check_masks(data: bytes, header: int, bits: int, start: int) -> None:
    """Refuse colour masks that OpenCV does not read, and alpha, which it would drop."""
    if struct.unpack("<III", data[54:66]) not in BMP_MASKS.get(bits, ()):
        raise UnsupportedKind("with rare colour masks")
    has_alpha = header >= 56 and any(data[66:70])
    if has_alpha and (np.frombuffer(data[start : len(data) - (len(data) - start) % 4], np.uint8)[3::4] != 255).any():
        raise UnsupportedKind("with alpha")


def check_runs(coded: bytes, height: int, width: int, bits: int) -> None:
    """Refuse run-length coded rows that are missing or run past their ends: OpenCV leaves such pixels black."""
    offset = row = column = 0
    while row < height:
        count, value = coded[offset : offset + 2] if len(coded) >= offset + 2 else (0, 1)
        offset += 2
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
            offset += (value * bits + 15) // 16 * 2  # literal pixels, padded to two bytes
            if offset > len(coded):
                raise ValueError(TRUNCATED)
            column += value
        if column > width:
            raise ValueError("a row is too long")
    if row < height - 1 or (row == height - 1 and column != width):
        raise ValueError(TRUNCATED)
    if row == height and coded[offset : offset + 2] not in (b"\0\1", b""):
        raise ValueError("it has too many rows")


def probe_bmp(data: bytes) -> bytes | None:
    """Return the BMP with its palette filled up with white; None where it has all colours that pixels may name."""
    return fill_palette(data, b"\xff")


def complete_palette(data: bytes) -> bytes:
    """Return the BMP with its palette filled up with black; OpenCV takes pixels for colours where they begin before."""
    return fill_palette(data, b"\0") or data


def fill_palette(data: bytes, value: bytes) -> bytes | None:
    """Return the BMP with so many colours that pixels can name no other; None where it has them."""
    start, header = struct.unpack("<II", data[10:18])
    short, first = header == SHORT_HEADER, 14 + header
    size = 3 if short else 4  # bytes of a colour
    (bits,) = struct.unpack_from("<H", data, 24 if short else 28)
    used = 0 if short else struct.unpack_from("<I", data, 46)[0]
    if bits > 8:
        return None
    kept = min(used or 2**bits, (start - first) // size)
    if kept >= 2**bits:
        return None
    colours = data[first : first + size * kept].ljust(size << bits, value)
    rest = data[14:first] if short else data[14:46] + bytes(4) + data[50:first]
    return data[:10] + struct.pack("<I", first + len(colours)) + rest + colours + data[start:]


def read_short_palette(data: bytes) -> bytes | None:
    """Return the palette (blue, green, red) of a BMP with OS/2's header, which OpenCV reads as if it were grey."""
    start, header = struct.unpack("<II", data[10:18])
    (bits,) = struct.unpack_from("<H", data, 24)
    if header != SHORT_HEADER or bits > 8:
        return None
    first = 14 + SHORT_HEADER
    return data[first : first + 3 * min(1 << bits, (start - first) // 3)]
