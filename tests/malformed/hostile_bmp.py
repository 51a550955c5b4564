"""Hostile BMP files: after the BMP Suite's questionable and bad pictures, and OpenCV's and ImageMagick's advisories."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from tests.malformed.bmp import make_rle_bmp, make_short_bmp
from tests.malformed.case import Array, Case, draw, name_cases

BROKEN = "damaged BMP"
PLAIN, RLE8, RLE4, BITFIELDS, IN_JPEG, IN_PNG, ALPHA_BITFIELDS = 0, 1, 2, 3, 4, 5, 6
GREYS = b"".join(bytes([k, k, k, 0]) for k in range(256))


def make_bmp(
    width: int,
    height: int,
    bits: int,
    pixels: bytes,
    colours: bytes = b"",
    packing: int = PLAIN,
    header: int = 40,
    start: int | None = None,
    used: int = 0,
) -> bytes:
    """A BMP of stored bytes; `colours` follows a header of `header` bytes, filled with zeros."""
    info = struct.pack("<IiiHHIIiiII", header, width, height, 1, bits, packing, len(pixels), 0, 0, used, 0)
    body = info.ljust(header, b"\0") + colours
    where = 14 + len(body) if start is None else start
    return struct.pack("<2sIHHI", b"BM", 14 + len(body) + len(pixels), 0, 0, where) + body + pixels


def pack(rows: Array, bits: int = 8) -> bytes:
    """Rows of (H, W[, C]) values from the last up, each filled to four bytes."""
    data = b""
    for row in rows[::-1]:
        if bits < 8:
            spread = (row[:, None] >> np.arange(bits - 1, -1, -1)) & 1
            line = np.packbits(spread.astype(np.uint8).ravel()).tobytes()
        else:
            line = row.tobytes()
        data += line + bytes(-len(line) % 4)
    return data


def depths() -> Iterator[tuple[object, ...]]:
    """1, 4, 8, 16, 24 and 32 bit, with the headers of Windows 3, 4 and 5 and of OS/2; other depths are refused."""
    grey, colour = draw(1), draw(2, channels=3)
    bgr = colour[:, :, ::-1]
    shape = {"width": 17, "height": 13}
    yield "grey-8", make_bmp(17, 13, 8, pack(grey), GREYS), grey
    yield "colour-24", make_bmp(17, 13, 24, pack(bgr)), colour
    wide = np.dstack([bgr, np.zeros((13, 17), np.uint8)])
    yield "colour-32", make_bmp(17, 13, 32, pack(wide)), colour
    for bits in (1, 4):
        index = np.random.default_rng(bits).integers(0, 2**bits, (13, 17))
        table = draw(bits, channels=3, height=1, width=2**bits)[0]
        coded = b"".join(bytes([*row[::-1], 0]) for row in table.tolist())
        yield f"palette-{bits}", make_bmp(**shape, bits=bits, pixels=pack(index, bits), colours=coded), table[index]
        short = make_bmp(**shape, bits=bits, pixels=pack(index, bits)[:-5], colours=coded)
        yield f"palette-{bits}-short", short, BROKEN
    five = np.random.default_rng(5).integers(0, 2**15, (13, 17)).astype("<u2")
    parts = np.stack([five >> 10, (five >> 5) & 31, five & 31], axis=2)
    yield "colour-16", make_bmp(17, 13, 16, pack(five)), (parts * 255 // 31).astype(np.uint8), 8
    for bits in (0, 2, 3, 5, 7, 12, 15, 64, 65_535):
        yield f"depth-{bits}", make_bmp(17, 13, bits, bytes(6000), GREYS), BROKEN
    for header in (52, 56, 64, 108, 124):
        data = make_bmp(17, 13, 24, pack(bgr), header=header)
        yield f"header-{header}", data, colour, 0, BROKEN
    for header in (0, 11, 13, 16, 39, 41, 255, 2**31, 2**32 - 1):
        whole = make_bmp(17, 13, 24, pack(bgr))
        yield f"header-{header}", whole[:14] + struct.pack("<I", header) + whole[18:], colour, 0, BROKEN
    yield "os2", make_short_bmp(grey), grey
    whole = make_short_bmp(grey)
    for bits in (0, 2, 16, 24, 99):
        yield f"os2-depth-{bits}", whole[:24] + struct.pack("<H", bits) + whole[26:], BROKEN
    yield "os2-huge", whole[:18] + b"\xff\xff\xff\xff" + whole[22:], "65535 x 65535 pixels"
    yield "os2-width-0", whole[:18] + bytes(2) + whole[20:], BROKEN
    yield "os2-short", whole[:-20], BROKEN


def masks() -> Iterator[tuple[object, ...]]:
    """Bit fields: the usual ones read, odd, overlapping and empty ones refused or read as they say."""
    colour = draw(2, channels=3)
    wide = np.dstack([colour[:, :, ::-1], np.zeros((13, 17), np.uint8)])
    rng = np.random.default_rng(6)
    five = rng.integers(0, 2**16, (13, 17)).astype("<u2")
    usual = np.stack([five >> 11, (five >> 5) & 63, five & 31], axis=2) * (255 / 31, 255 / 63, 255 / 31)
    fields = {
        "565": (16, (0xF800, 0x7E0, 0x1F), pack(five), usual, 8),
        "888": (32, (0xFF0000, 0xFF00, 0xFF), pack(wide), colour, 0),
        "swapped": (32, (0xFF, 0xFF00, 0xFF0000), pack(wide), colour[:, :, ::-1], 0),
        "high": (32, (0xFF000000, 0xFF0000, 0xFF00), pack(np.roll(wide, 1, axis=2)), colour, 0),
    }
    for name, (bits, field, pixels, wanted, slack) in fields.items():
        data = make_bmp(17, 13, bits, pixels, struct.pack("<III", *field), BITFIELDS)
        rounded = np.asarray(wanted).astype(np.uint8)
        yield f"fields-{name}", data, rounded, slack, *(() if name in ("565", "888") else ("BMP",))
    odd = {"zero": (0, 0, 0), "overlapping": (0xFF, 0xFF, 0xFF), "with-gaps": (0xAA00AA, 0x5500, 0x55),
           "ones": (2**32 - 1,) * 3, "444": (0xF00, 0xF0, 0xF), "10-bit": (0x3FF00000, 0xFFC00, 0x3FF)}  # fmt: skip
    for name, field in odd.items():
        for bits, pixels in ((16, pack(five)), (32, pack(wide))):
            data = make_bmp(17, 13, bits, pixels, struct.pack("<III", *field), BITFIELDS)
            yield f"fields-{name}-{bits}", data, "BMP"
    yield "fields-of-24-bit", make_bmp(17, 13, 24, pack(colour), bytes(12), BITFIELDS), "BMP"
    yield "fields-of-8-bit", make_bmp(17, 13, 8, pack(colour[:, :, 0]), GREYS, BITFIELDS), "BMP"
    yield "fields-missing", make_bmp(17, 13, 32, b"", b"", BITFIELDS), BROKEN
    alpha = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    clear = np.dstack([colour[:, :, ::-1], np.full((13, 17), 255, np.uint8)])
    for header in (108, 124):
        info = make_bmp(17, 13, 32, pack(clear), packing=BITFIELDS, header=header)
        yield f"fields-v{header}-opaque", info[:54] + alpha + info[70:], colour, 0, "BMP"
        info = make_bmp(17, 13, 32, pack(wide), packing=BITFIELDS, header=header)
        yield f"fields-v{header}-clear", info[:54] + alpha + info[70:], np.zeros_like(colour), 0, "BMP"
    yield "fields-alpha", make_bmp(17, 13, 32, pack(clear), alpha, ALPHA_BITFIELDS), colour, 0, "BMP"


def runs() -> Iterator[tuple[object, ...]]:
    """Run-length coded: whole, cut, running outside by every code there is."""
    grey = draw(3)
    whole = make_rle_bmp(grey)
    start = 14 + 40 + 1024

    def eight(coded: bytes, width: int = 4, height: int = 2) -> bytes:
        return make_bmp(width, height, 8, coded, GREYS, RLE8)

    flat = np.full((2, 4), 7, np.uint8)
    yield "rle8", whole, grey
    for share in range(0, 8):
        yield f"rle8-cut-{share}-of-8", whole[: start + (len(whole) - start) * share // 8], BROKEN
    yield "rle8-no-end", whole[:-2], grey, 0, BROKEN
    yield "rle8-runs", eight(b"\4\7\0\0\4\7\0\1"), flat
    yield "rle8-literal", eight(b"\0\4\7\7\7\7\0\0\0\3\7\7\7\0\1\7\0\1"), flat
    yield "rle8-run-past-the-row", eight(b"\x09\7\0\0\4\7\0\1"), BROKEN
    yield "rle8-run-255-past-the-last-row", eight(b"\4\7\0\0\xff\7\0\1"), BROKEN
    yield "rle8-literal-past-the-row", eight(b"\0\x08" + b"\7" * 8 + b"\0\0\4\7\0\1"), BROKEN
    yield "rle8-literal-past-the-file", eight(b"\0\xff\7\7"), BROKEN
    yield "rle8-rows-too-many", eight(b"\4\7\0\0" * 9 + b"\0\1"), BROKEN
    yield "rle8-rows-too-few", eight(b"\4\7\0\1"), BROKEN
    yield "rle8-row-too-short", eight(b"\3\7\0\0\4\7\0\1"), BROKEN
    yield "rle8-jump", eight(b"\0\2\1\1\4\7\0\1"), BROKEN
    yield "rle8-jump-outside", eight(b"\0\2\xff\xff\4\7\0\1"), BROKEN
    yield "rle8-jump-cut", eight(b"\0\2\xff"), BROKEN
    yield "rle8-jump-over-all", eight(b"\0\2\0\2\0\1"), BROKEN
    yield "rle8-end-first", eight(b"\0\1"), BROKEN
    yield "rle8-empty", eight(b""), BROKEN
    yield "rle8-half-a-code", eight(b"\4"), BROKEN
    yield "rle8-of-zeros", eight(bytes(100)), BROKEN
    yield "rle8-of-ones", eight(b"\xff" * 100), BROKEN
    yield "rle8-garbage-after", eight(b"\4\7\0\0\4\7\0\1" + bytes(range(40))), flat
    yield "rle8-top-down", make_bmp(4, -2, 8, b"\4\7\0\0\4\7\0\1", GREYS, RLE8), "BMP"
    yield "rle8-of-4-bit", make_bmp(4, 2, 4, b"\4\7\0\0\4\7\0\1", GREYS[:64], RLE8), "BMP"
    yield "rle8-of-24-bit", make_bmp(4, 2, 24, b"\4\7\0\0\4\7\0\1", b"", RLE8), "BMP"
    yield "rle8-huge", make_bmp(30_000, 30_000, 8, b"\0\1", GREYS, RLE8), "30000 x 30000 pixels"

    def four(coded: bytes) -> bytes:
        return make_bmp(4, 2, 4, coded, GREYS[:64], RLE4)

    mixed = np.array([[1, 2, 1, 2], [3, 4, 5, 6]], np.uint8)
    yield "rle4", four(b"\0\4\x34\x56\0\0\4\x12\0\1"), mixed, 0, "BMP"
    yield "rle4-run-past-the-row", four(b"\x09\x12\0\0\4\x12\0\1"), BROKEN
    yield "rle4-literal-past-the-file", four(b"\0\xff\x12"), BROKEN
    yield "rle4-rows-too-few", four(b"\4\x12\0\1"), BROKEN
    yield "rle4-jump-outside", four(b"\0\2\xff\xff\4\x12\0\1"), BROKEN
    yield "rle4-of-8-bit", make_bmp(4, 2, 8, b"\4\x12\0\0\4\x12\0\1", GREYS, RLE4), "BMP"
    for packing in (IN_JPEG, IN_PNG, 7, 11, 99, 2**32 - 1):
        yield f"packing-{packing}", make_bmp(17, 13, 24, bytes(17 * 13 * 4), packing=packing), "BMP"


def sizes() -> Iterator[tuple[object, ...]]:
    """Widths, heights, offsets and counts that lie; files cut or filled."""
    colour = draw(2, channels=3)
    pixels = pack(colour[:, :, ::-1])
    whole = make_bmp(17, 13, 24, pixels)
    yield "top-down", make_bmp(17, -13, 24, pack(colour[::-1, :, ::-1])), colour
    for name, size in {"width-0": (0, 13), "height-0": (17, 0), "both-0": (0, 0), "width-minus-17": (-17, 13),
                       "width-minus-2-31": (-(2**31), 13)}.items():  # fmt: skip
        yield f"size-{name}", make_bmp(*size, 24, pixels), "BMP"
    yield "size-width-one-more", make_bmp(18, 13, 24, pixels), BROKEN
    yield "size-height-one-more", make_bmp(17, 14, 24, pixels), BROKEN
    yield "size-height-million", make_bmp(17, 1_000_000, 24, pixels), BROKEN
    yield "size-2-31", make_bmp(2**31 - 1, 2**31 - 1, 24, pixels), "pixels, more than"
    yield "size-height-minus-2-31", make_bmp(17, -(2**31), 24, pixels), "17 x 2147483648 pixels"
    yield "size-30000", make_bmp(30_000, 30_000, 1, pixels, GREYS[:8]), "30000 x 30000 pixels"
    yield "size-wraps", make_bmp(0x4000_0001, 1, 32, pixels), "pixels, more than"
    for name, start in {
        "0": 0,
        "2": 2,
        "in-header": 30,
        "end": len(whole),
        "huge": 2**31 - 1,
        "all-ones": 2**32 - 1,
    }.items():
        yield f"start-{name}", make_bmp(17, 13, 24, pixels, start=start), BROKEN
    yield "start-after-a-gap", make_bmp(17, 13, 24, bytes(100) + pixels, start=154), colour
    yield "planes-0", whole[:26] + bytes(2) + whole[28:], colour, 0, BROKEN
    yield "planes-9", whole[:26] + b"\x09\0" + whole[28:], colour, 0, BROKEN
    yield "file-size-0", whole[:2] + bytes(4) + whole[6:], colour
    yield "file-size-huge", whole[:2] + b"\xff" * 4 + whole[6:], colour
    yield "image-size-0", whole[:34] + bytes(4) + whole[38:], colour
    yield "resolution-huge", whole[:38] + b"\xff" * 8 + whole[46:], colour
    grey = draw(1)
    few = make_bmp(17, 13, 8, pack(grey % 4), GREYS[:16], used=4)
    yield "palette-of-4", few, grey % 4
    yield "palette-of-4-index-outside", make_bmp(17, 13, 8, pack(grey), GREYS[:16], used=4), BROKEN
    yield "palette-said-1000", make_bmp(17, 13, 8, pack(grey), GREYS, used=1000), grey, 0, BROKEN
    yield "palette-said-2-32", make_bmp(17, 13, 8, pack(grey), GREYS, used=2**32 - 1), grey, 0, BROKEN
    yield "palette-missing", make_bmp(17, 13, 8, pack(grey)), BROKEN
    yield "palette-half", make_bmp(17, 13, 8, pack(grey), GREYS[:512]), BROKEN
    for name, place in {
        "signature": 2,
        "file-header": 14,
        "size": 16,
        "info": 30,
        "header": 54,
        "last-byte": -1,
        "row": -52,
    }.items():
        yield f"cut-after-{name}" if place > 0 else f"cut-before-{name}", whole[:place], BROKEN
    yield "garbage-after", whole + bytes(range(256)), colour
    yield "two-bytes", b"BM", BROKEN
    yield "text", b"BMW drivers wanted. " * 40, "BMP"
    yield "sector-of-zeros", whole[:14] + bytes(len(whole) - 14), BROKEN
    yield "array-os2", b"BA" + whole[2:], "not a PNG"
    yield "icon", b"\0\0\1\0\1\0" + whole, "not a PNG"


def list_cases() -> Iterator[Case]:
    """All hostile BMP files."""
    for cases in (depths(), masks(), runs(), sizes()):
        yield from name_cases(".bmp", cases)
