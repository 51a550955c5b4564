"""Hostile TIFF files: after libtiff's advisories and test pictures, and what scanners, editors and disks do."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence

import numpy as np

from tests.malformed.case import Array, Case, draw, lay_over_black, name_cases
from tests.malformed.tiff import (
    ASSOCIATED,
    BLACK_IS_ZERO,
    DEFLATE,
    LONG,
    LZW,
    NONE,
    PACKBITS,
    PALETTE,
    RGB,
    SHORT,
    UNASSOCIATED,
    WHITE_IS_ZERO,
    assemble,
    compress,
    make_big_tiff,
    make_tiff,
)

BROKEN = "damaged TIFF"
COMPRESSIONS = {"none": NONE, "lzw": LZW, "deflate": DEFLATE, "packbits": PACKBITS}
TAGS = {
    "width": 256, "height": 257, "bits": 258, "compression": 259, "photometric": 262, "offsets": 273, "samples": 277,
    "rows": 278, "lengths": 279, "planar": 284, "format": 339,
}  # fmt: skip


def find(data: bytes, tag: int) -> int:
    """Where a little-endian TIFF's first directory has this tag's twelve bytes."""
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    return next(p for p in range(start + 2, start + 2 + 12 * count, 12) if struct.unpack_from("<H", data, p)[0] == tag)


def change(data: bytes, tag: int, value: int | None = None, kind: int | None = None, count: int | None = None) -> bytes:
    """The file with another value, type or count in one tag."""
    place = find(data, tag)
    known, old, number = struct.unpack_from("<HHI", data, place)
    text = data[place + 8 : place + 12] if value is None else struct.pack("<I", value)
    entry = struct.pack("<HHI", known, old if kind is None else kind, number if count is None else count) + text
    return data[:place] + entry + data[place + 12 :]


def drop(data: bytes, tag: int) -> bytes:
    """The file with a tag's number changed to one that nobody knows."""
    place = find(data, tag)
    return data[:place] + struct.pack("<H", 65_000) + data[place + 2 :]


def directory(data: bytes) -> int:
    (start,) = struct.unpack_from("<I", data, 4)
    return int(start)


def pack(samples: Array, bits: int) -> bytes:
    """Rows of (H, W) samples of so many bits, the highest first, each row filled to a byte."""
    spread = (samples.astype(int)[:, :, None] >> np.arange(bits - 1, -1, -1)) & 1  # (H, W, bits)
    return b"".join(np.packbits(row.astype(np.uint8)).tobytes() for row in spread.reshape(len(samples), -1))


def to_tiff(
    size: Sequence[int],
    coded: Sequence[bytes],
    bits: Sequence[int],
    photometric: int,
    compression: int = NONE,
    more: Sequence[tuple[int, int, Sequence[int]]] = (),
) -> bytes:
    """A TIFF of one strip for each `coded`, whatever they hold."""
    entries = [
        (256, LONG, [size[1]]), (257, LONG, [size[0]]), (258, SHORT, bits), (259, SHORT, [compression]),
        (262, SHORT, [photometric]), (277, SHORT, [len(bits)]), (278, LONG, [-(-size[0] // len(coded))]), *more,
    ]  # fmt: skip
    return assemble("<", entries, coded, (273, 279), 1)


def depths() -> Iterator[tuple[object, ...]]:
    """1, 2, 4, 8, 12, 16, 32 and 64 bit; signed and float; palettes; both meanings of zero."""
    for bits in (1, 2, 4):
        samples = np.random.default_rng(bits).integers(0, 2**bits, (7, 19))
        grey = (samples * (255 // (2**bits - 1))).astype(np.uint8)
        raw = [pack(samples, bits)]
        yield f"bits-{bits}", to_tiff(samples.shape, raw, [bits], BLACK_IS_ZERO), grey, 0, "TIFF"
        yield f"bits-{bits}-min-is-white", to_tiff(samples.shape, raw, [bits], WHITE_IS_ZERO), 255 - grey, 0, "TIFF"
        table = draw(bits, channels=3, height=1, width=2**bits)[0]
        colours = [(320, SHORT, (table.T.astype(int) * 257).ravel().tolist())]
        data = to_tiff(samples.shape, raw, [bits], PALETTE, more=colours)
        yield f"bits-{bits}-palette", data, table[samples], 0, "TIFF"
        yield f"bits-{bits}-short", to_tiff(samples.shape, [raw[0][:-1]], [bits], BLACK_IS_ZERO), "TIFF"
    for bits in (3, 5, 6, 7, 10, 12, 14, 15, 17, 24):
        samples = np.random.default_rng(bits).integers(0, 2**bits, (7, 19))
        data = to_tiff(samples.shape, [pack(samples, bits)], [bits], BLACK_IS_ZERO)
        yield f"bits-{bits}", data, "TIFF"
    for bits in (0, 33, 128, 65_535):
        yield f"bits-{bits}", to_tiff((7, 19), [bytes(7 * 19)], [bits], BLACK_IS_ZERO), "TIFF"
    yield "bits-5-6-5", to_tiff((7, 19), [bytes(7 * 19 * 2)], [5, 6, 5], RGB), "TIFF"
    yield "bits-8-8-16", to_tiff((7, 19), [bytes(7 * 19 * 4)], [8, 8, 16], RGB), "TIFF"
    for kind in ("int8", "int16", "uint32", "int32", "float16", "float32", "float64"):
        pixels = (draw(2) % 100).astype(kind)
        yield f"type-{kind}", make_tiff(pixels), ""
        yield f"type-{kind}-rgb", make_tiff(np.dstack([pixels] * 3)), ""
    wide, colour = draw(3, "uint16"), draw(4, "uint16", 3)
    yield "type-complex", change(make_tiff(draw(2, "uint16")), 339, 6), ""
    yield "type-void", change(make_tiff(wide), 339, 4), wide, 0, ""
    yield "type-99", change(make_tiff(wide), 339, 99), ""
    yield "predictor-horizontal", with_predictor(draw(5), 2), draw(5)
    yield "predictor-horizontal-16", with_predictor(wide, 2), wide
    yield "predictor-float-of-integers", with_predictor(wide, 3), ""
    yield "predictor-99", with_predictor(wide, 99), ""
    yield "min-is-white-16", make_tiff(wide, photometric=WHITE_IS_ZERO), "black as zero"
    yield "planar-16", make_tiff(colour, planar=True), "separate colour planes"
    yield "planar-8", make_tiff(draw(6, channels=3), planar=True), draw(6, channels=3)
    yield "planar-9", change(make_tiff(draw(6, channels=3)), 284, 9), ""
    yield "fill-order-2", make_tiff(draw(7), more=[(266, SHORT, [2])]), reverse_bits(draw(7)), 0, "TIFF"
    yield "fill-order-2-16", make_tiff(wide, more=[(266, SHORT, [2])]), "TIFF"
    for name, what in {"cmyk": 5, "ycbcr": 6, "cielab": 8, "icclab": 9, "itulab": 10, "cfa": 32803, "logl": 32844,
                       "logluv": 32845, "mask": 4, "linear-raw": 34892, "unknown": 999}.items():  # fmt: skip
        channels = {"cmyk": 4, "mask": 1, "cfa": 1, "logl": 1}.get(name, 3)
        yield f"photometric-{name}", make_tiff(draw(8, channels=channels), photometric=what), "TIFF"
    for extra in (0, ASSOCIATED, UNASSOCIATED, 9):
        four = draw(9, channels=4)
        wanted = lay_over_black(four) if extra == UNASSOCIATED else four[:, :, :3]
        yield f"alpha-{extra}", make_tiff(four, extra=extra), wanted, 1, *(("",) if extra in (0, 9) else ())


def with_predictor(pixels: Array, predictor: int) -> bytes:
    """Deflated differences from column to column."""
    steps = np.diff(pixels, axis=1, prepend=pixels.dtype.type(0)).astype(pixels.dtype)
    return make_tiff(steps, compression=DEFLATE, more=[(317, SHORT, [predictor])])


def reverse_bits(pixels: Array) -> Array:
    return np.packbits(np.unpackbits(pixels[..., None], axis=-1, bitorder="little"), axis=-1)[..., 0]


def damages() -> Iterator[tuple[object, ...]]:
    """Every compression whole, cut, filled with noise, zeros or ones, too long, too short, in strips and tiles."""
    for name, how in COMPRESSIONS.items():
        for pixels in (draw(1), draw(2, "uint16"), draw(3, channels=3)):
            raw = pixels.tobytes()
            coded = compress(raw, how)
            kind = f"{name}-{pixels.dtype}{'-rgb' if pixels.ndim == 3 else ''}"
            bits = [8 * pixels.itemsize] * (3 if pixels.ndim == 3 else 1)
            what = RGB if pixels.ndim == 3 else BLACK_IS_ZERO

            def build(*strips: bytes, bits=bits, what=what, how=how) -> bytes:
                return to_tiff((13, 17), strips, bits, what, how)

            yield kind, build(coded), pixels
            yield f"{kind}-strip-half", build(coded[: len(coded) // 2]), BROKEN
            yield f"{kind}-strip-less-two", build(coded[:-2] if how != LZW else coded[:-6]), pixels, 0, BROKEN
            yield f"{kind}-strip-empty", build(b""), BROKEN
            yield f"{kind}-strip-of-fewer-rows", build(compress(raw[: len(raw) // 2], how)), BROKEN
            yield f"{kind}-strip-longer", build(coded + bytes(50)), pixels
            half = len(coded) // 2
            if how != NONE:
                yield f"{kind}-strip-zeros", build(bytes(len(coded))), BROKEN
                ones = np.full_like(pixels, np.iinfo(pixels.dtype).max)
                yield f"{kind}-strip-ones", build(b"\xff" * len(coded)), ones, 0, BROKEN  # PackBits' pairs
                wrong = coded[:half] + bytes(byte ^ 0x5A for byte in coded[half : half + 9]) + coded[half + 9 :]
                if how == DEFLATE:
                    yield f"{kind}-strip-damaged", build(wrong), BROKEN
    grey = draw(1)
    deflated = zlib.compress(grey.tobytes())
    wrong = deflated[:-1] + bytes([deflated[-1] ^ 1])
    yield "deflate-adler-wrong", to_tiff((13, 17), [wrong], [8], BLACK_IS_ZERO, DEFLATE), BROKEN
    bomb = zlib.compress(bytes(100_000_000))
    yield "deflate-bomb-in-a-strip", to_tiff((13, 17), [bomb], [8], BLACK_IS_ZERO, DEFLATE), BROKEN
    yield "old-deflate", change(make_tiff(grey, compression=DEFLATE), 259, 32_946), grey
    halves = [compress(grey[:7].tobytes(), LZW), compress(grey[7:].tobytes(), LZW)]
    yield "lzw-second-strip-cut", to_tiff((13, 17), [halves[0], halves[1][:40]], [8], BLACK_IS_ZERO, LZW), BROKEN
    yield "lzw-first-strip-cut", to_tiff((13, 17), [halves[0][:40], halves[1]], [8], BLACK_IS_ZERO, LZW), BROKEN
    yield (
        "lzw-code-not-yet-known",
        to_tiff((13, 17), [pack_codes([256, 65, 400, 66] + [65] * 250)], [8], 1, LZW),
        BROKEN,
    )
    yield "lzw-no-clear-first", to_tiff((13, 17), [pack_codes([*range(221), 257])], [8], 1, LZW), "TIFF"
    runs = [256, 65, *range(258, 258 + 20), 257]
    flat = np.full((13, 17), 65, np.uint8)
    yield "lzw-codes-that-name-themselves", to_tiff((13, 17), [pack_codes(runs)], [8], 1, LZW), flat
    yield "lzw-clear-twice", to_tiff((13, 17), [pack_codes([256, 256, 256, *runs])], [8], 1, LZW), flat
    yield "lzw-end-first", to_tiff((13, 17), [pack_codes([256, 257])], [8], 1, LZW), BROKEN
    yield "lzw-long-table", long_lzw(), np.arange(64 * 64, dtype=np.uint16).reshape(64, 64).view(np.uint8)
    yield (
        "packbits-runs",
        to_tiff((13, 17), [bytes([256 - 16, 7]) * 13], [8], 1, PACKBITS),
        np.full((13, 17), 7, np.uint8),
    )
    yield (
        "packbits-no-ops",
        to_tiff((13, 17), [b"\x80" * 50 + compress(grey.tobytes(), PACKBITS)], [8], 1, PACKBITS),
        grey,
    )
    yield "packbits-run-cut", to_tiff((13, 17), [bytes([256 - 16, 7]) * 12 + b"\xf0"], [8], 1, PACKBITS), BROKEN
    yield "packbits-literal-outside", to_tiff((13, 17), [b"\x7f" + bytes(20)], [8], 1, PACKBITS), BROKEN
    for name, how in {"ccitt-rle": 2, "ccitt-g3": 3, "ccitt-g4": 4, "jpeg": 7, "old-jpeg": 6, "next": 32766,
                      "ccittw": 32771, "thunderscan": 32809, "sgilog": 34676, "jpeg2000": 34712, "lerc": 34887,
                      "lzma": 34925,
                      "zstd": 50000, "webp": 50001, "unknown": 999, "zero": 0}.items():  # fmt: skip
        bits = 1 if name.startswith("ccitt") else 4 if name in ("next", "thunderscan") else 8
        yield f"compression-{name}", to_tiff((13, 17), [bytes(range(200))], [bits], 1, how), "TIFF"
    tiled = make_tiff(draw(1, height=40, width=40), compression=DEFLATE, tile=16)
    yield "tiles", tiled, draw(1, height=40, width=40)
    yield "tiles-width-0", change(tiled, 322, 0), "TIFF"
    yield "tiles-width-17", change(tiled, 322, 17), "TIFF"
    yield "tiles-width-huge", change(tiled, 322, 0x7FFF_FFF0), "TIFF"
    yield "tiles-fewer-than-needed", change(change(tiled, 324, count=4), 325, count=4), "TIFF"
    yield (
        "tiles-and-strips",
        make_tiff(
            draw(1, height=40, width=40), tile=16, more=[(273, LONG, [8]), (279, LONG, [1600]), (278, LONG, [40])]
        ),
        "TIFF",
    )
    yield "tiles-without-size", drop(drop(tiled, 322), 323), "TIFF"


def pack_codes(codes: list[int], start: int = 9) -> bytes:
    """LZW codes of a width that grows as a TIFF decoder's table does."""
    bits, known, width = "", 258, start
    for k, code in enumerate(codes):
        bits += f"{code:0{width}b}"
        if code == 256:
            known, width = 258, 9
        elif k and codes[k - 1] != 256:
            known += 1
        width = 9 + (known >= 511) + (known >= 1023) + (known >= 2047)
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def encode_lzw(raw: bytes) -> list[int]:
    """The codes of a real encoder: a table that grows to 12 bits and is cleared."""
    codes, table, seen = [256], {bytes([k]): k for k in range(256)}, b""
    for k in range(len(raw)):
        longer = seen + raw[k : k + 1]
        if longer in table:
            seen = longer
            continue
        codes.append(table[seen])
        table[longer] = 258 + len(table) - 256
        if len(table) == 4093 - 2:
            codes.append(256)
            table = {bytes([k]): k for k in range(256)}
        seen = raw[k : k + 1]
    return [*codes, table[seen], 257]


def long_lzw() -> bytes:
    pixels = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64).view(np.uint8)
    return to_tiff(pixels.shape, [pack_codes(encode_lzw(pixels.tobytes()))], [8], BLACK_IS_ZERO, LZW)


def structure() -> Iterator[tuple[object, ...]]:
    """Directories that loop, lie, end early; offsets outside, overlapping; tags of wrong type and count."""
    grey = draw(1)
    good = make_tiff(grey)
    start = directory(good)
    (count,) = struct.unpack_from("<H", good, start)
    link = start + 2 + 12 * count
    pages = make_tiff(grey, pages=2)
    yield "two-pages", pages, "several pages"
    yield "ten-pages", make_tiff(grey, pages=10), "several pages"
    yield "directory-loop", good[:link] + struct.pack("<I", start) + good[link + 4 :], "several pages"
    yield "directory-link-outside", good[:link] + b"\xff\xff\xff\x7f" + good[link + 4 :], "several pages"
    yield "directory-link-cut", good[:link] + good[link:][:2], BROKEN
    for name, where in {"0": 0, "4": 4, "end": len(good), "last-byte": len(good) - 1, "huge": 2**32 - 1}.items():
        yield f"directory-at-{name}", good[:4] + struct.pack("<I", where) + good[8:], BROKEN
    for number in (0, 1, 65_535):
        yield f"directory-of-{number}", good[:start] + struct.pack("<H", number) + good[start + 2 :], BROKEN
    entries = [good[start + 2 + 12 * k : start + 14 + 12 * k] for k in range(count)]
    backwards = good[: start + 2] + b"".join(entries[::-1]) + good[link:]
    yield "directory-unsorted", backwards, grey, 0, ""
    doubled = good[:start] + struct.pack("<H", 2 * count) + b"".join(entry * 2 for entry in entries) + good[link:]
    yield "directory-all-twice", doubled, grey, 0, ""
    lie = struct.pack("<HHII", 256, LONG, 1, 3)
    yield (
        "width-twice",
        good[:start] + struct.pack("<H", count + 1) + entries[0] + lie + good[start + 14 :],
        grey,
        0,
        "",
    )
    for name, tag in TAGS.items():
        missing = drop(good, tag)
        if name == "bits":
            ones = np.unpackbits(grey.ravel()[: 13 * 3].reshape(13, 3), axis=1)[:, :17] * 255
            yield f"tag-{name}-missing", missing, ones, 0, "TIFF"  # one bit, by the standard
        elif name in ("compression", "samples", "planar", "format", "rows"):
            yield f"tag-{name}-missing", missing, grey, 0, ""  # each has a default
        else:
            yield f"tag-{name}-missing", missing, "TIFF"
        yield f"tag-{name}-count-0", change(good, tag, count=0), grey, 0, ""
        yield f"tag-{name}-count-huge", change(good, tag, count=2**32 - 1), "TIFF"
        yield f"tag-{name}-kind-99", change(good, tag, kind=99), grey, 0, ""
        yield f"tag-{name}-kind-text", change(good, tag, kind=2), grey, 0, ""
        yield f"tag-{name}-kind-double", change(good, tag, kind=12), grey, 0, ""
        yield f"tag-{name}-huge", change(good, tag, 2**32 - 1), "" if name != "rows" else grey
        yield f"tag-{name}-0", change(good, tag, 0), 255 - grey if name == "photometric" else grey, 0, ""
    yield "offset-in-directory", change(good, 273, start), "TIFF"
    yield "offset-outside", change(good, 273, len(good) + 5), "ends in the middle"
    yield "length-one-more-than-file", change(good, 279, len(good)), "ends in the middle"
    yield "length-one-less", change(good, 279, grey.size - 1), BROKEN
    yield "width-one-more", change(good, 256, 18), BROKEN
    yield "height-one-more", change(good, 257, 14), BROKEN
    yield "width-one-less", change(good, 256, 16), grey.ravel()[: 16 * 13].reshape(13, 16), 0, BROKEN
    yield "samples-3-of-grey", change(good, 277, 3), "TIFF"
    yield "samples-65535", change(good, 277, 65_535), "TIFF"
    yield "rows-1-of-one-strip", change(good, 278, 1), "TIFF"
    yield "rows-5-of-one-strip", change(good, 278, 5), "TIFF"
    strips = make_tiff(grey, rows=1)
    yield "strips", strips, grey
    (where,) = struct.unpack_from("<I", strips, find(strips, 273) + 8)
    same = strips[:where] + struct.pack("<I", 8) * 13 + strips[where + 52 :]
    yield "strips-overlapping", same, np.repeat(grey[:1], 13, axis=0), 0, ""
    yield "strips-fewer-offsets", change(strips, 273, count=12), BROKEN
    yield "strips-fewer", change(change(strips, 273, count=12), 279, count=12), "TIFF"
    thin = make_tiff(np.zeros((150_000, 1), np.uint8), rows=1)
    yield "strips-150000", thin, BROKEN
    yield "strips-one", change(change(strips, 273, 8, count=1), 279, 221, count=1), "TIFF"
    yield "strips-table-outside", change(strips, 273, len(strips)), BROKEN
    sub = make_tiff(grey, more=[(330, LONG, [8])])
    yield "sub-directory-into-pixels", sub, grey, 0, ""
    yield "sub-directory-loop", change(sub, 330, directory(sub)), grey, 0, ""
    yield "exif-directory-outside", make_tiff(grey, more=[(34665, LONG, [2**32 - 1])]), grey, 0, ""
    yield "reduced-image", make_tiff(grey, more=[(254, LONG, [1])]), grey
    yield "negative-resolution", make_tiff(grey, more=[(282, 10, [8, 2**32 - 1])]), grey, 0, ""
    yield "resolution-by-zero", make_tiff(grey, more=[(282, 5, [1, 0])]), grey, 0, ""
    yield "icc-outside", make_tiff(grey, more=[(34675, LONG, [2**31, 2**31])]), grey, 0, ""
    yield "description-endless", change(make_tiff(grey, more=[(270, 2, [65, 65])]), 270, 8, count=2**31), grey, 0, ""
    for turn in (0, 9, 65_535):
        yield f"orientation-{turn}", make_tiff(grey, orientation=turn), grey, 0, ""
    palette = make_tiff(grey, photometric=PALETTE, more=[(320, SHORT, [0] * 768)])
    yield "palette-missing", make_tiff(grey, photometric=PALETTE), "TIFF"
    yield "palette-short", change(palette, 320, count=9), "TIFF"
    yield "palette-outside", change(palette, 320, len(palette)), "TIFF"
    yield "big-tiff", make_big_tiff(), "a BigTIFF"
    yield "big-tiff-big-endian", b"MM\0+\0\x08\0\0" + bytes(60), "a BigTIFF"
    yield "order-ii-of-mm", b"II*\0" + make_tiff(grey, ">")[4:], BROKEN
    yield "order-mm-of-ii", b"MM\0*" + good[4:], BROKEN
    yield "order-im", b"IM*\0" + good[4:], "not a PNG"
    yield "magic-43", good[:2] + b"\x2b\0" + good[4:], "a BigTIFF"
    yield "magic-0", good[:2] + b"\0\0" + good[4:], "not a PNG"
    yield "signature-alone", good[:4], BROKEN
    yield "header-alone", good[:8], BROKEN
    yield "big-endian", make_tiff(draw(3, "uint16"), ">"), draw(3, "uint16")
    yield "garbage-after", good + bytes(range(256)), grey
    yield "size-bomb", change(change(make_tiff(grey, compression=DEFLATE), 256, 30_000), 257, 30_000), "30000 x 30000"
    yield "sector-of-zeros", good[:start] + bytes(len(good) - start), BROKEN


def list_cases() -> Iterator[Case]:
    """All hostile TIFF files."""
    for cases in (depths(), damages(), structure()):
        yield from name_cases(".tif", cases)
