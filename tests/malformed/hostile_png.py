"""Hostile PNG files: after PngSuite's corrupt files, libpng's advisories, and what cameras, editors and disks do."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np

from tests.malformed.case import Array, Case, draw, lay_over_black, name_cases
from tests.malformed.jpeg import make_exif
from tests.malformed.png import GREY, GREY_ALPHA, PALETTE, RGB, RGB_ALPHA, make_bomb, make_chunk, make_png

SIGNATURE = b"\x89PNG\r\n\x1a\n"
ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)  # x, y, steps
DEPTHS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), RGB_ALPHA: (8, 16)}
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}
BROKEN = "damaged PNG"
Chunk = tuple[bytes, bytes]


def split(data: bytes) -> list[Chunk]:
    """The chunks of a whole PNG, (name, body)."""
    place, found = 8, []
    while place < len(data):
        (length,) = struct.unpack_from(">I", data, place)
        found.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    return found


def join(chunks: list[Chunk]) -> bytes:
    return SIGNATURE + b"".join(make_chunk(*chunk) for chunk in chunks)


def pack(pixels: Array, depth: int = 8) -> bytes:
    """Rows of (H, W[, C]) samples of `depth` bits, each begun by filter 0."""
    rows = pixels.reshape(len(pixels), -1)
    if depth >= 8:
        return b"".join(b"\0" + row.astype(f">u{depth // 8}").tobytes() for row in rows)
    bits = (rows[:, :, None] >> np.arange(depth - 1, -1, -1)) & 1  # (H, W, depth)
    return b"".join(b"\0" + np.packbits(row.astype(np.uint8)).tobytes() for row in bits.reshape(len(rows), -1))


def to_png(pixels: Array, colour: int, depth: int = 8, extra: tuple[bytes, ...] = ()) -> bytes:
    return make_png(pixels.shape[1], pixels.shape[0], depth, colour, pack(pixels, depth), extra)


def header(width: int, height: int, depth: int = 8, colour: int = RGB, *rest: int) -> bytes:
    return struct.pack(">IIBBBBB", width, height, depth, colour, *(rest or (0, 0, 0)))


def interlace(pixels: Array) -> bytes:
    """The rows of Adam7's seven passes."""
    return b"".join(pack(part) for x, y, dx, dy in ADAM7 if (part := pixels[y::dy, x::dx]).shape[0] and part.shape[1])


def kinds() -> Iterator[tuple[object, ...]]:
    """Every colour type and depth that the standard allows is read; every other pair is refused."""
    for colour in range(8):
        for depth in (0, 1, 2, 3, 4, 8, 16, 32):
            if depth not in DEPTHS.get(colour, ()):
                if depth in (3, 8, 16) or colour in (GREY, PALETTE):
                    rows = bytes(400)
                    yield f"colour{colour}-depth{depth}", make_png(9, 5, depth, colour, rows), BROKEN
                continue
            shape = (5, 9, CHANNELS[colour])
            samples = np.random.default_rng(depth).integers(0, min(2**depth, 16 if colour == PALETTE else 2**16), shape)
            samples = samples.astype(np.uint16 if depth == 16 else np.uint8)
            extra: tuple[bytes, ...] = ()
            if colour == PALETTE:
                table = draw(3, channels=3, height=1, width=min(2**depth, 16))[0]
                extra, wanted = (make_chunk(b"PLTE", table.tobytes()),), table[samples[:, :, 0]]
            elif colour in (GREY_ALPHA, RGB_ALPHA):
                wanted = lay_over_black(samples)
                wanted = np.repeat(wanted, 3, axis=2) if wanted.shape[2] == 1 else wanted
            else:
                wanted = samples
            if depth < 8 and colour == GREY:
                wanted = (samples * (255 // (2**depth - 1))).astype(np.uint8)
            name = f"colour{colour}-depth{depth}"
            yield name, to_png(samples, colour, depth, extra), wanted.squeeze(), int(colour in (GREY_ALPHA, RGB_ALPHA))


def transparency(good: Array) -> Iterator[tuple[object, ...]]:
    """tRNS in every form: what is transparent is black, what is none of the standard's is refused or without effect."""
    table = make_chunk(b"PLTE", bytes(range(10, 19)))
    colours = np.arange(10, 19, dtype=np.uint8).reshape(3, 3)
    index = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
    clear = np.array([[0, 0, 0], [13, 14, 15], [16, 17, 18]], np.uint8)
    yield "trns-short", to_png(index, PALETTE, extra=(table, make_chunk(b"tRNS", b"\0"))), clear[index]
    yield "trns-long", to_png(index, PALETTE, extra=(table, make_chunk(b"tRNS", b"\xff" * 9))), colours[index], 0, ""
    yield "trns-empty", to_png(index, PALETTE, extra=(table, make_chunk(b"tRNS", b""))), colours[index], 0, ""
    yield "trns-before-plte", to_png(index, PALETTE, extra=(make_chunk(b"tRNS", b"\0"), table)), clear[index], 0, ""
    grey = np.array([[7, 8, 9]], np.uint8)
    yield "trns-grey", to_png(grey, GREY, extra=(make_chunk(b"tRNS", b"\0\x08"),)), "stands for transparent"
    wide = np.array([[7, 800, 9]], np.uint16)
    mark = make_chunk(b"tRNS", struct.pack(">H", 800))
    yield "trns-grey16", to_png(wide, GREY, 16, (mark,)), "stands for transparent"
    yield "trns-grey-wrong-length", to_png(grey, GREY, extra=(make_chunk(b"tRNS", b"\x08"),)), grey, 0, ""
    mark = make_chunk(b"tRNS", struct.pack(">HHH", *map(int, good[0, 0])))
    wanted = np.where((good == good[0, 0]).all(axis=2, keepdims=True), 0, good).astype(np.uint8)
    yield "trns-rgb", to_png(good, RGB, extra=(mark,)), wanted
    alpha = draw(5, channels=4)
    yield "trns-with-alpha", to_png(alpha, RGB_ALPHA, extra=(mark,)), lay_over_black(alpha), 1, ""
    yield "palette-index-outside", to_png(np.array([[0, 1, 200]], np.uint8), PALETTE, extra=(table,)), BROKEN
    yield "palette-index-outside-4bit", to_png(np.array([[0, 1, 9]], np.uint8), PALETTE, 4, (table,)), BROKEN
    yield "palette-missing", to_png(index, PALETTE), BROKEN
    yield "palette-empty", to_png(index, PALETTE, extra=(make_chunk(b"PLTE", b""),)), BROKEN
    yield "palette-not-thirds", to_png(index, PALETTE, extra=(make_chunk(b"PLTE", bytes(8)),)), BROKEN
    yield "palette-of-257", to_png(index, PALETTE, extra=(make_chunk(b"PLTE", bytes(771)),)), BROKEN
    yield "palette-longer-than-depth", to_png(index % 2, PALETTE, 1, (table,)), colours[index % 2], 0, ""
    yield "palette-twice", to_png(index, PALETTE, extra=(table, make_chunk(b"PLTE", bytes(9)))), BROKEN
    yield "palette-in-grey", to_png(grey, GREY, extra=(table,)), grey, 0, ""
    yield "palette-in-rgb", to_png(good, RGB, extra=(table,)), good


def structure(good: Array) -> Iterator[tuple[object, ...]]:
    """Every chunk damaged, cut, missing, twice, out of order; sizes that lie; signatures that a transfer broke."""
    whole = to_png(good, RGB)
    head, idat, iend = split(whole)
    packed = idat[1]
    half = len(packed) // 2
    height, width = good.shape[:2]
    place = 8
    for name, body in split(whole):
        text = name.decode().lower()
        flipped = bytearray(whole)
        flipped[place + 8 + len(body)] ^= 1
        yield f"{text}-crc", bytes(flipped), "checksum"
        yield f"{text}-cut", whole[: place + 8 + len(body) // 2], BROKEN
        longer = whole[:place] + struct.pack(">I", len(body) + 1) + whole[place + 4 :]
        yield f"{text}-length-one-more", longer, BROKEN
        endless = whole[:place] + b"\xff\xff\xff\xff" + whole[place + 4 :]
        yield f"{text}-length-huge", endless, BROKEN
        yield f"{text}-name-lower", whole[: place + 4] + name.lower() + whole[place + 8 :], BROKEN
        place += 12 + len(body)
    yield "no-ihdr", join([idat, iend]), "header"
    yield "no-idat", join([head, iend]), BROKEN
    yield "no-iend", join([head, idat]), BROKEN
    yield "iend-only", join([iend]), "header"
    yield "signature-only", SIGNATURE, BROKEN
    yield "ihdr-twice", join([head, head, idat, iend]), BROKEN
    yield "ihdr-twice-of-another-size", join([head, (b"IHDR", header(1, 1)), idat, iend]), BROKEN
    yield "ihdr-after-idat", join([head, idat, (b"IHDR", header(1, 1)), iend]), BROKEN
    yield "ihdr-short", join([(b"IHDR", head[1][:12]), idat, iend]), BROKEN
    yield "ihdr-long", join([(b"IHDR", head[1] + b"\0"), idat, iend]), BROKEN
    yield "ihdr-last", join([idat, head, iend]), "header"
    yield "idat-after-iend", join([head, iend, idat]), BROKEN
    yield "idat-in-two", join([head, (b"IDAT", packed[:half]), (b"IDAT", packed[half:]), iend]), good
    bytewise = [(b"IDAT", packed[k : k + 1]) for k in range(len(packed))]
    yield "idat-bytewise", join([head, *bytewise, iend]), good
    yield "idat-empty-first", join([head, (b"IDAT", b""), idat, (b"IDAT", b""), iend]), good
    parted = [(b"IDAT", packed[:half]), (b"tEXt", b"a\0b"), (b"IDAT", packed[half:])]
    yield "idat-parted-by-text", join([head, *parted, iend]), good, 0, BROKEN
    parted[1] = (b"tIME", b"\x07\xe0\1\1\1\1\1")
    yield "idat-second-lost", join([head, (b"IDAT", packed[:half]), iend]), BROKEN
    yield "idat-extra-zlib-bytes", join([head, (b"IDAT", packed + b"extra"), iend]), good
    yield "idat-extra-rows", join([head, (b"IDAT", zlib.compress(pack(good) + bytes(500))), iend]), good, 0, BROKEN
    yield "idat-one-row-short", join([head, (b"IDAT", zlib.compress(pack(good[:-1]))), iend]), BROKEN
    yield "idat-one-byte-short", join([head, (b"IDAT", zlib.compress(pack(good)[:-1])), iend]), BROKEN
    yield "idat-stream-cut", join([head, (b"IDAT", packed[:half]), iend]), BROKEN
    yield "idat-stream-without-checksum", join([head, (b"IDAT", packed[:-4]), iend]), good, 0, BROKEN
    wrong = packed[:-1] + bytes([packed[-1] ^ 1])
    yield "idat-adler-wrong", join([head, (b"IDAT", wrong), iend]), BROKEN
    yield "idat-zlib-header-wrong", join([head, (b"IDAT", b"\xff\xff" + packed[2:]), iend]), BROKEN
    yield "idat-zlib-dictionary", join([head, (b"IDAT", b"\x78\xbb" + packed[2:]), iend]), BROKEN
    raw = zlib.compressobj(wbits=-15)
    yield "idat-raw-deflate", join([head, (b"IDAT", raw.compress(pack(good)) + raw.flush()), iend]), BROKEN
    yield "idat-stored", join([head, (b"IDAT", zlib.compress(pack(good), 0)), iend]), good
    damaged = bytearray(packed)
    damaged[half] ^= 0x55
    yield "idat-stream-damaged", join([head, (b"IDAT", bytes(damaged)), iend]), BROKEN
    yield "idat-zeros", join([head, (b"IDAT", bytes(len(packed))), iend]), BROKEN
    for filtering in (5, 9, 255):
        rows = bytearray(pack(good))
        rows[3 * width + 1] = filtering
        yield f"filter-{filtering}", join([head, (b"IDAT", zlib.compress(bytes(rows))), iend]), BROKEN
    sizes = {
        "width-0": (0, height), "height-0": (width, 0), "both-0": (0, 0), "width-one-more": (width + 1, height),
        "height-one-more": (width, height + 1), "height-a-million": (width, 1_000_000),
    }  # fmt: skip
    for name, (wide, high) in sizes.items():
        yield f"size-{name}", join([(b"IHDR", header(wide, high)), idat, iend]), BROKEN
    for wide, high in ((100_000, 100_000), (2**31 - 1, 1), (2**31, height), (2**32 - 1, 1), (width, 2**31)):
        yield f"size-{wide}x{high}", join([(b"IHDR", header(wide, high)), idat, iend]), f"{wide} x {high} pixels, more"
    yield "size-one-less", join([(b"IHDR", header(width, height - 1)), idat, iend]), good[:-1], 0, BROKEN
    for name, rest in {"compression-1": (1, 0, 0), "filter-method-1": (0, 1, 0), "interlace-2": (0, 0, 2)}.items():
        yield name, join([(b"IHDR", header(width, height, 8, RGB, *rest)), idat, iend]), BROKEN
    yield "filter-method-64-mng", join([(b"IHDR", header(width, height, 8, RGB, 0, 64, 0)), idat, iend]), BROKEN
    laced = (b"IHDR", header(width, height, 8, RGB, 0, 0, 1))
    passes = interlace(good)
    yield "interlaced", join([laced, (b"IDAT", zlib.compress(passes)), iend]), good
    for share in (1, 8, 16, 40, 63):
        cut = (b"IDAT", zlib.compress(passes[: len(passes) * share // 64]))
        yield f"interlaced-cut-{share}", join([laced, cut, iend]), BROKEN
    yield "interlaced-by-header-only", join([laced, idat, iend]), BROKEN
    yield "signature-lf", whole.replace(b"\r\n", b"\n", 1), "header"
    yield "signature-crlf", whole.replace(b"\x1a\n", b"\x1a\r\n", 1), "header"
    yield "signature-cr", whole.replace(b"\r\n\x1a\n", b"\r\r\x1a\r", 1), "header"
    yield "signature-7-bit", b"\x09" + whole[1:], "not a PNG"
    yield "signature-twice", SIGNATURE + whole, "header"
    yield "signature-mng", b"\x8aMNG" + whole[4:], "not a PNG"
    yield "text-mode-transfer", whole.replace(b"\n", b"\r\n"), "header"
    yield "high-bit-stripped", bytes(byte & 127 for byte in whole), "not a PNG"
    yield "base64", b"iVBORw0KGgoAAAANSUhEUg" + bytes(30), "not a PNG"
    yield "chunks-200000", join([head, *[(b"teXt", b"")] * 200_000, idat, iend]), "more than 100000 chunks"
    yield "garbage-after", whole + bytes(range(256)) * 40, good
    yield "second-png-after", whole + whole, good
    yield "zip-after", whole + b"PK\x03\x04" + bytes(100), good
    yield "byte-lost", whole[:60] + whole[61:], BROKEN
    yield "byte-added", whole[:60] + b"x" + whole[60:], BROKEN
    yield "sector-of-zeros", whole[:64] + bytes(len(whole) - 64), BROKEN


def extras(good: Array) -> Iterator[tuple[object, ...]]:
    """Chunks beside the pixels, damaged or monstrous, change no pixel; critical ones that are unknown are refused."""
    grey = make_chunk(b"gAMA", struct.pack(">I", 45455))
    bomb = zlib.compress(bytes(60_000_000), 1)
    words = {
        "gamma-0": make_chunk(b"gAMA", bytes(4)),
        "gamma-1": make_chunk(b"gAMA", struct.pack(">I", 100_000)),
        "gamma-huge": make_chunk(b"gAMA", b"\xff" * 4),
        "gamma-short": make_chunk(b"gAMA", b"\1"),
        "gamma-twice": grey + grey,
        "srgb-9": make_chunk(b"sRGB", b"\x09"),
        "chrm-zeros": make_chunk(b"cHRM", bytes(32)),
        "sbit-zeros": make_chunk(b"sBIT", bytes(3)),
        "sbit-short": make_chunk(b"sBIT", b"\5"),
        "sbit-99": make_chunk(b"sBIT", b"ccc"),
        "bkgd-white": make_chunk(b"bKGD", b"\0\xff" * 3),
        "bkgd-short": make_chunk(b"bKGD", b"\0"),
        "phys-huge": make_chunk(b"pHYs", b"\xff" * 9),
        "time-month-99": make_chunk(b"tIME", b"\x07\xe0\x63\x63\x63\x63\x63"),
        "iccp-garbage": make_chunk(b"iCCP", b"name\0\0garbage"),
        "iccp-no-name": make_chunk(b"iCCP", b"\0\0" + zlib.compress(bytes(128))),
        "iccp-no-end": make_chunk(b"iCCP", b"n" * 200),
        "iccp-empty": make_chunk(b"iCCP", b""),
        "iccp-zeros": make_chunk(b"iCCP", b"n\0\0" + zlib.compress(bytes(3000))),
        "iccp-bomb": make_chunk(b"iCCP", b"n\0\0" + bomb),
        "ztxt-bomb": make_chunk(b"zTXt", b"n\0\0" + bomb),
        "ztxt-cut": make_chunk(b"zTXt", b"n\0\0" + zlib.compress(bytes(600))[:9]),
        "itxt-bomb": make_chunk(b"iTXt", b"n\0\1\0\0\0" + bomb),
        "text-no-key": make_chunk(b"tEXt", b"\0text"),
        "text-long-key": make_chunk(b"tEXt", b"k" * 5000 + b"\0x"),
        "text-many": make_chunk(b"tEXt", b"k\0v") * 3000,
        "cicp-short": make_chunk(b"cICP", b"\1"),
        "cicp-99": make_chunk(b"cICP", b"cccc"),
        "hist-without-palette": make_chunk(b"hIST", bytes(8)),
        "splt-garbage": make_chunk(b"sPLT", b"name\0\x07garbage"),
        "exif-garbage": make_chunk(b"eXIf", b"garbage"),
        "exif-empty": make_chunk(b"eXIf", b""),
        "exif-cut": make_chunk(b"eXIf", make_exif(6)[10:24]),
        "exif-offset-outside": make_chunk(b"eXIf", b"MM\0*\xff\xff\xff\xf0" + bytes(20)),
        "exif-65535-tags": make_chunk(b"eXIf", b"MM\0*\0\0\0\x08\xff\xff" + bytes(40)),
        "exif-orientation-0": make_chunk(b"eXIf", make_exif(0)[10:]),
        "exif-orientation-9": make_chunk(b"eXIf", make_exif(9)[10:]),
        "exif-orientation-65535": make_chunk(b"eXIf", make_exif(65_535)[10:]),
        "exif-orientation-as-text": make_chunk(
            b"eXIf", b"MM\0*\0\0\0\x08\0\1\1\x12\0\2\0\0\0\2" + b"6\0\0\0" + bytes(4)
        ),
        "exif-first-says-1": make_chunk(b"eXIf", make_exif(1)[10:]) + make_chunk(b"eXIf", make_exif(6)[10:]),
        "exif-wrong-order": make_chunk(b"eXIf", b"XX" + make_exif(6)[12:]),
        "exif-loop": make_chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\0\0\0\0\x08"),
        "unknown-ancillary": make_chunk(b"abCd", bytes(1000)),
        "name-not-letters": make_chunk(b"a1\0z", b""),
        "name-reserved-lower": make_chunk(b"abcd", b"x"),
    }
    for name, chunk in words.items():
        yield f"extra-{name}", to_png(good, RGB, extra=(chunk,)), good, 0, ""
    for name, body in {"unknown-critical": b"ABCD", "jdat-jng": b"JDAT", "cgbi-iphone": b"CgBI"}.items():
        yield f"extra-{name}", to_png(good, RGB, extra=(make_chunk(body, b"\x50\0\x20\x06"),)), BROKEN
    frames = struct.pack(">II", 2, 0)
    yield "apng", to_png(good, RGB, extra=(make_chunk(b"acTL", frames),)), "several frames"
    yield "apng-no-frames", to_png(good, RGB, extra=(make_chunk(b"acTL", bytes(8)),)), "several frames"
    yield "apng-short", to_png(good, RGB, extra=(make_chunk(b"acTL", b""),)), "several frames"
    head, idat, iend = split(to_png(good, RGB))
    yield "apng-late", join([head, idat, (b"acTL", frames), iend]), "several frames"
    control = struct.pack(">IIIIIHHBB", 0, *good.shape[1::-1], 0, 0, 1, 1, 0, 0)
    yield "apng-fctl-alone", join([head, (b"fcTL", control), idat, iend]), good, 0, BROKEN
    orphan = (b"fdAT", struct.pack(">I", 1) + idat[1])
    yield "apng-fdat-alone", join([head, idat, orphan, iend]), good, 0, BROKEN


def list_cases() -> Iterator[Case]:
    """All hostile PNG files."""
    good = draw(1, channels=3)
    for cases in (kinds(), transparency(good), structure(good), extras(good)):
        yield from name_cases(".png", cases)
    yield from name_cases(".png", [("bomb-30000", make_bomb, "30000 x 30000 pixels")])
