"""TIFF files of every kind, honest and hostile, written by the specification: TIFF 6.0."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

SHORT, LONG = 3, 4
NONE, LZW, DEFLATE, PACKBITS = 1, 5, 8, 32773
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE = 0, 1, 2, 3
ASSOCIATED, UNASSOCIATED = 1, 2

Pixels = npt.NDArray[np.generic]


def make_tiff(
    pixels: Pixels,
    order: str = "<",
    compression: int = NONE,
    photometric: int | None = None,
    extra: int | None = None,
    rows: int | None = None,
    tile: int | None = None,
    planar: bool = False,
    orientation: int | None = None,
    more: Sequence[tuple[int, int, Sequence[int]]] = (),
    pages: int = 1,
) -> bytes:
    """A TIFF of (H, W) or (H, W, C) pixels of any dtype, in strips of `rows` rows or square tiles."""
    image = pixels.reshape(*pixels.shape[:2], -1)
    height, width, channels = image.shape
    planes = [image[:, :, k : k + 1] for k in range(channels)] if planar else [image]
    blocks = [block for plane in planes for block in cut(plane, rows or height, tile)]
    coded = [compress(block.astype(block.dtype.newbyteorder(order)).tobytes(), compression) for block in blocks]
    if photometric is None:
        photometric = BLACK_IS_ZERO if channels < 3 else RGB
    entries: list[tuple[int, int, Sequence[int]]] = [
        (256, LONG, [width]),
        (257, LONG, [height]),
        (258, SHORT, [8 * image.dtype.itemsize] * channels),
        (259, SHORT, [compression]),
        (262, SHORT, [photometric]),
        (277, SHORT, [channels]),
        (284, SHORT, [2 if planar else 1]),
        (339, SHORT, [{"u": 1, "i": 2, "f": 3}[image.dtype.kind]] * channels),
        *more,
    ]
    if tile:
        entries += [(322, SHORT, [tile]), (323, SHORT, [tile])]
    else:
        entries += [(278, LONG, [rows or height])]
    if extra is not None:
        entries.append((338, SHORT, [extra]))
    if orientation is not None:
        entries.append((274, SHORT, [orientation]))
    return assemble(order, entries, coded, (324, 325) if tile else (273, 279), pages)


def cut(plane: Pixels, rows: int, tile: int | None) -> list[Pixels]:
    """Strips, or tiles padded with zeros."""
    height, width, channels = plane.shape
    if not tile:
        return [plane[top : top + rows] for top in range(0, height, rows)]
    padded = np.zeros((-(-height // tile) * tile, -(-width // tile) * tile, channels), plane.dtype)
    padded[:height, :width] = plane
    return [
        padded[top : top + tile, left : left + tile]
        for top in range(0, padded.shape[0], tile)
        for left in range(0, padded.shape[1], tile)
    ]


def assemble(
    order: str,
    entries: Sequence[tuple[int, int, Sequence[int]]],
    coded: Sequence[bytes],
    tags: tuple[int, int],
    pages: int,
) -> bytes:
    """Header, the blocks, then one directory for each page, all of the same blocks."""
    data = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 0)
    offsets = []
    for block in coded:
        offsets.append(len(data))
        data += block + bytes(len(block) % 2)
    known = [*entries, (tags[0], LONG, offsets), (tags[1], LONG, [len(block) for block in coded])]
    link = 4
    for _ in range(pages):
        fields = b""
        for tag, kind, values in sorted(known, key=lambda entry: entry[0]):
            packed = struct.pack(f"{order}{len(values)}{'H' if kind == SHORT else 'I'}", *values)
            if len(packed) > 4:
                where = struct.pack(order + "I", len(data))
                data += packed + bytes(len(packed) % 2)
                packed = where
            fields += struct.pack(order + "HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
        start = len(data)
        data = data[:link] + struct.pack(order + "I", start) + data[link + 4 :]
        data += struct.pack(order + "H", len(known)) + fields + bytes(4)
        link = len(data) - 4
    return data


def compress(raw: bytes, how: int) -> bytes:
    return {NONE: bytes, LZW: pack_lzw, DEFLATE: zlib.compress, PACKBITS: pack_bits}[how](raw)


def pack_bits(raw: bytes) -> bytes:
    """PackBits without runs: literal blocks only."""
    return b"".join(bytes([len(part) - 1]) + part for part in (raw[k : k + 128] for k in range(0, len(raw), 128)))


def pack_lzw(raw: bytes) -> bytes:
    """LZW without a dictionary: cleared before its codes outgrow 9 bits."""
    codes: list[int] = []
    for start in range(0, len(raw), 200):
        codes += [256, *raw[start : start + 200]]
    bits = "".join(f"{code:09b}" for code in [*(codes or [256]), 257])
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def make_big_tiff() -> bytes:
    """The header of a BigTIFF, whose offsets have 64 bits."""
    return struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16) + bytes(64)
