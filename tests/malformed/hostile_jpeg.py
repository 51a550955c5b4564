"""Hostile JPEG files: after libjpeg-turbo's and OpenCV's fuzzers' finds, and what cameras, editors and disks do."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import cv2
import numpy as np

from tests.malformed.case import Array, Case, name_cases
from tests.malformed.jpeg import ADOBE, make_exif, make_jpeg, segment

BROKEN = "damaged JPEG"
END = b"\xff\xd9"


def split(data: bytes) -> list[bytes]:
    """A whole JPEG as marker segments; the scan's coded bytes go with the segment before them."""
    place, found = 2, [data[:2]]
    while data[place : place + 2] != END:
        (length,) = struct.unpack_from(">H", data, place + 2)
        end = place + 2 + length
        if data[place + 1] == 0xDA:
            while data[end] != 0xFF or data[end + 1] in (0, *range(0xD0, 0xD8)):
                end += 1
        found.append(data[place:end])
        place = end
    return [*found, data[place : place + 2]]


def spread(blocks: Array) -> Array:
    return np.kron(blocks, np.ones((8, 8) if blocks.ndim == 2 else (8, 8, 1), np.uint8))


def encode(pixels: Array, *options: int) -> bytes:
    ok, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 100, *options])
    assert ok
    return bytes(data.tobytes())


def without(parts: list[bytes], marker: int) -> bytes:
    return b"".join(part for part in parts if part[1] != marker)


def swap(parts: list[bytes], marker: int, new: bytes) -> bytes:
    return b"".join(new if part[1] == marker else part for part in parts)


def structure(blocks: Array) -> Iterator[tuple[object, ...]]:
    """Every segment damaged, cut, missing, twice; sizes and components that lie."""
    whole, wanted = make_jpeg(blocks), spread(blocks)
    parts = split(whole)
    names = {0xDB: "dqt", 0xC0: "sof", 0xC4: "dht", 0xDA: "sos"}
    for marker, name in names.items():
        part = next(part for part in parts if part[1] == marker)
        place = whole.index(part)
        yield f"no-{name}", without(parts, marker), BROKEN
        yield f"{name}-cut", whole[: place + len(part) // 2], BROKEN
        yield f"{name}-cut-then-end", whole[: place + len(part) // 2] + END, BROKEN
        yield f"{name}-length-0", whole[: place + 2] + b"\0\0" + whole[place + 4 :], BROKEN
        yield f"{name}-length-1", whole[: place + 2] + b"\0\1" + whole[place + 4 :], BROKEN
        yield f"{name}-length-2", whole[: place + 2] + b"\0\2" + whole[place + 4 :], BROKEN
        yield f"{name}-length-huge", whole[: place + 2] + b"\xff\xff" + whole[place + 4 :], BROKEN
    sof = next(part for part in parts if part[1] == 0xC0)
    sos = next(part for part in parts if part[1] == 0xDA)
    dht = next(part for part in parts if part[1] == 0xC4)
    yield "no-eoi", whole[:-2], wanted
    yield "half-an-eoi", whole[:-1], wanted
    yield "no-eoi-last-byte-lost", whole[:-3], "ends in the middle"
    yield "no-eoi-zeros-after", whole[:-2] + bytes(40), "ends in the middle"
    yield "no-eoi-last-byte-zero-filled", whole[:-3] + bytes(1), "ends in the middle"
    yield "no-eoi-text-after", whole[:-2] + b"</html>", BROKEN
    yield "no-eoi-comment-cut", whole[:-2] + segment(b"\xfe", b"hello")[:-2], BROKEN
    yield "no-eoi-comment-after", whole[:-2] + segment(b"\xfe", b"hello"), wanted
    yield "soi-only", whole[:2] + END, BROKEN
    yield "soi-ff", b"\xff\xd8\xff", BROKEN
    yield "soi-twice", whole[:2] + whole, BROKEN
    yield "sof-twice", b"".join([parts[0], sof, *parts[1:]]), BROKEN
    small = sof[:5] + struct.pack(">HH", 8, 8) + sof[9:]
    yield "sof-twice-of-another-size", b"".join([parts[0], small, *parts[1:]]), BROKEN
    yield "sof-after-scan", b"".join([*parts[:-1], small, END]), BROKEN
    yield "two-images", whole + whole, wanted
    yield "mpo", make_jpeg(blocks, segment(b"\xe2", b"MPF\0" + bytes(40))) + make_jpeg(blocks[:1]), wanted
    for name, (high, wide) in {"height-0-dnl": (0, 24), "width-0": (16, 0), "both-0": (0, 0)}.items():
        yield f"size-{name}", swap(parts, 0xC0, sof[:5] + struct.pack(">HH", high, wide) + sof[9:]), BROKEN
    dnl = segment(b"\xdc", struct.pack(">H", 16))
    lines = swap(parts, 0xC0, sof[:5] + struct.pack(">HH", 0, 24) + sof[9:])
    yield "dnl", lines[:-2] + dnl + END, BROKEN
    huge = swap(parts, 0xC0, sof[:5] + struct.pack(">HH", 65_500, 65_500) + sof[9:])
    yield "size-65500", huge, "65500 x 65500 pixels"
    yield "size-65535", swap(parts, 0xC0, sof[:5] + b"\xff" * 4 + sof[9:]), "65535 x 65535 pixels"
    for name, (high, wide) in {"taller": (400, 24), "one-block-wider": (16, 32), "one-row-taller": (17, 24)}.items():
        yield f"size-{name}", swap(parts, 0xC0, sof[:5] + struct.pack(">HH", high, wide) + sof[9:]), BROKEN
    for depth in (0, 7, 12, 16, 255):
        yield f"depth-{depth}", swap(parts, 0xC0, sof[:4] + bytes([depth]) + sof[5:]), "JPEG"
    for count in (0, 2, 3, 5, 255):
        yield f"components-{count}-claimed", swap(parts, 0xC0, sof[:9] + bytes([count]) + sof[10:]), "JPEG"
    yield "sampling-0", swap(parts, 0xC0, sof[:11] + b"\0" + sof[12:]), BROKEN
    yield "sampling-5", swap(parts, 0xC0, sof[:11] + b"\x55" + sof[12:]), BROKEN
    yield "quantizer-7", swap(parts, 0xC0, sof[:12] + b"\7" + sof[13:]), BROKEN
    yield "scan-component-unknown", swap(parts, 0xDA, sos[:5] + b"\x09" + sos[6:]), BROKEN
    yield "scan-component-twice", swap(parts, 0xDA, b"\xff\xda\0\x0a\2\1\0\1\0" + sos[7:]), BROKEN
    yield "scan-table-3", swap(parts, 0xDA, sos[:6] + b"\x33" + sos[7:]), BROKEN
    yield "scan-no-components", swap(parts, 0xDA, b"\xff\xda\0\6\0" + sos[7:]), BROKEN
    yield "huffman-counts-255", swap(parts, 0xC4, dht[:5] + b"\xff" * 16 + dht[21:]), BROKEN
    yield "huffman-table-9", swap(parts, 0xC4, dht[:4] + b"\x09" + dht[5:]), BROKEN
    table = next(part for part in parts if part[1] == 0xDB)
    yield "quantizer-precision-5", swap(parts, 0xDB, table[:4] + b"\x50" + table[5:]), BROKEN
    yield "quantizer-zeros", swap(parts, 0xDB, table[:5] + bytes(64)), "JPEG"
    kinds = {1: "extended", 3: "lossless", 5: "differential", 7: "differential-lossless", 9: "arithmetic"}
    kinds |= {10: "arithmetic-progressive", 11: "arithmetic-lossless", 13: "arithmetic-differential", 15: "sof15"}
    for k, name in kinds.items():
        yield (
            f"kind-{name}",
            swap(parts, 0xC0, bytes([0xFF, 0xC0 + k]) + sof[2:]),
            *((wanted,) if k == 1 else ("JPEG",)),
        )
    yield "kind-jpeg-ls", swap(parts, 0xC0, b"\xff\xf7" + sof[2:]), BROKEN


def scans(blocks: Array) -> Iterator[tuple[object, ...]]:
    """The coded pixels cut, emptied, filled; restart markers lost, doubled, out of order; scans missing."""
    whole, wanted = make_jpeg(blocks), spread(blocks)
    start = whole.index(split(whole)[-2]) + 10
    size = len(whole) - 2 - start
    for share in (0, 1, 2, 3):
        yield f"scan-cut-{share}-of-4-then-end", whole[: start + size * share // 4] + END, BROKEN
    yield "scans-127", make_many_scans, "more than 100 scans"
    yield "segments-200000", make_jpeg(blocks, segment(b"\xe5", b"") * 200_000), "more than 100000 segments"
    yield "scan-extra-bytes", whole[:-2] + bytes(range(40)) + END, wanted
    yield "scan-fill-bytes", whole[:-2] + b"\xff" * 9 + END, wanted
    yield (
        "scan-foreign-marker",
        whole[: start + size // 2] + segment(b"\xfe", b"hi") + whole[start + size // 2 :],
        BROKEN,
    )
    yield "end-in-the-middle", whole[: start + size // 2] + END + whole[start + size // 2 :], BROKEN
    big = np.random.default_rng(4).integers(60, 200, (48, 64)).astype(np.uint8)
    colour = np.random.default_rng(5).integers(60, 200, (48, 64, 3)).astype(np.uint8)
    full = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    for name, pixels, options in (
        ("progressive", big, (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
        ("restarts", big, (cv2.IMWRITE_JPEG_RST_INTERVAL, 1)),
        ("colour", colour, full),
        ("colour-progressive", colour, (cv2.IMWRITE_JPEG_PROGRESSIVE, 1, *full)),
    ):
        data = encode(pixels, *options)
        parts = split(data)
        drawn = pixels[..., ::-1] if pixels.ndim == 3 else pixels
        yield name, data, drawn, 5
        first = next(k for k, part in enumerate(parts) if part[1] == 0xDA)
        count = sum(part[1] == 0xDA for part in parts)
        if count > 1:
            ends = [k for k, part in enumerate(parts) if part[1] == 0xDA]
            for k in range(1, count):
                yield f"{name}-first-{k}-scans-then-end", b"".join(parts[: ends[k]]) + END, BROKEN
            for k in range(count):
                yield (
                    f"{name}-without-scan-{k}",
                    b"".join(part for at, part in enumerate(parts) if at != ends[k]),
                    BROKEN,
                )
            for k in range(count):
                shorter = list(parts)
                head = 2 + struct.unpack(">H", parts[ends[k]][2:4])[0]
                shorter[ends[k]] = parts[ends[k]][: head + (len(parts[ends[k]]) - head) // 2]
                yield f"{name}-scan-{k}-cut", b"".join(shorter), drawn, 5, BROKEN  # the last bits hardly count
        else:
            scan = parts[first]
            yield f"{name}-cut-then-end", b"".join(parts[:first]) + scan[: len(scan) // 2] + END, BROKEN
            yield f"{name}-last-bytes-lost", b"".join(parts[:first]) + scan[:-4] + END, BROKEN
        if name == "restarts":
            marks = [k for k in range(len(data) - 1) if data[k] == 0xFF and 0xD0 <= data[k + 1] <= 0xD7]
            a, b = marks[10], marks[11]
            yield "restart-lost", data[:a] + data[a + 2 :], BROKEN
            yield "restart-interval-lost", data[:a] + data[b:], BROKEN
            yield "restart-interval-twice", data[:b] + data[a:b] + data[b:], BROKEN
            yield "restart-number-wrong", data[: a + 1] + bytes([0xD0 + (data[a + 1] + 3) % 8]) + data[a + 2 :], BROKEN
            dri = next(part for part in parts if part[1] == 0xDD)
            yield "restart-interval-not-said", without(parts, 0xDD), BROKEN
            yield "restart-interval-other", swap(parts, 0xDD, dri[:4] + b"\0\7"), BROKEN
            yield (
                "restart-all-lost",
                b"".join(part if part[1] != 0xDA else part[:2] + strip_restarts(part[2:]) for part in parts),
                BROKEN,
            )


def make_many_scans() -> bytes:
    """A progressive JPEG of 4,096 x 4,096 pixels in two scans for each coefficient: each costs a walk over all."""
    parts = split(encode(np.zeros((8, 8), np.uint8), cv2.IMWRITE_JPEG_PROGRESSIVE, 1))
    head = [part for part in parts if part[1] not in (0xDA, 0xD9)]
    frame = next(part for part in parts if part[1] == 0xC2)
    head[head.index(frame)] = frame[:5] + struct.pack(">HH", 4096, 4096) + frame[9:]
    scans = [segment(b"\xda", b"\1\1\0\0\0\0") + b"\0"]
    for bits in (b"\1", b"\x10"):
        scans += [segment(b"\xda", b"\1\1\0" + bytes([k, k]) + bits) + b"\0" for k in range(1, 64)]
    return b"".join([*head, *scans, END])


def strip_restarts(data: bytes) -> bytes:
    for k in range(8):
        data = data.replace(bytes([0xFF, 0xD0 + k]), b"")
    return data


def meta(blocks: Array) -> Iterator[tuple[object, ...]]:
    """EXIF that turns, lies, loops or is cut; profiles and thumbnails; inks."""
    wanted = spread(blocks)
    whole = make_jpeg(blocks)
    turns = {1: wanted, 2: wanted[:, ::-1], 3: wanted[::-1, ::-1], 4: wanted[::-1], 5: wanted.T}
    turns |= {6: np.rot90(wanted, -1), 7: np.rot90(wanted.T, 2), 8: np.rot90(wanted)}
    for k, turned in turns.items():
        yield f"exif-orientation-{k}", make_jpeg(blocks, make_exif(k, "<>"[k % 2])), turned
    for k in (0, 9, 65_535):
        yield f"exif-orientation-{k}", make_jpeg(blocks, make_exif(k)), wanted
    exif = make_exif(6)
    head = b"Exif\0\0MM\0*"
    bodies = {
        "exif-empty": b"", "exif-name-only": b"Exif\0\0", "exif-no-order": b"Exif\0\0XX\0*\0\0\0\x08" + bytes(20),
        "exif-cut": exif[4:24], "exif-offset-outside": head + b"\xff\xff\xff\xf0" + bytes(20),
        "exif-offset-into-itself": head + bytes(4) + bytes(20),
        "exif-65535-tags": head + b"\0\0\0\x08\xff\xff" + bytes(40),
        "exif-loop": head + b"\0\0\0\x08\0\0\0\0\0\x08", "exif-garbage": b"Exif\0\0" + bytes(range(200)),
        "exif-count-huge": head + b"\0\0\0\x08\0\1\1\x12\0\3\xff\xff\xff\xff\0\6\0\0" + bytes(4),
        "exif-orientation-as-text": head + b"\0\0\0\x08\0\1\1\x12\0\2\0\0\0\2" + b"6\0\0\0" + bytes(4),
        "exif-negative-rational": head + b"\0\0\0\x08\0\1\1\x1a\0\x0a\0\0\0\1\0\0\0\x1a" + bytes(4) + b"\xff" * 8,
        "exif-thumbnail": head + b"\0\0\0\x08\0\0\0\0\0\x0e" + bytes(6) + make_jpeg(blocks[:1, :1]),
        "xmp": b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>", "jfxx-thumbnail": b"JFXX\0\x10" + whole,
    }  # fmt: skip
    for name, body in bodies.items():
        marker = b"\xe0" if name.startswith("jfxx") else b"\xe1"
        turned = np.rot90(wanted, -1) if name == "exif-count-huge" else wanted  # both decoders believe its value
        yield name, make_jpeg(blocks, segment(marker, body)), turned, 0, ""
    yield "exif-twice", make_jpeg(blocks, make_exif(1) + make_exif(6)), wanted, 0, ""
    yield "exif-64-kB", make_jpeg(blocks, segment(b"\xe1", b"Exif\0\0" + bytes(65_500))), wanted
    yield "icc-garbage", make_jpeg(blocks, segment(b"\xe2", b"ICC_PROFILE\0\1\1garbage")), wanted
    yield "icc-part-99-of-1", make_jpeg(blocks, segment(b"\xe2", b"ICC_PROFILE\0\x63\1" + bytes(50))), wanted
    yield "icc-part-0", make_jpeg(blocks, segment(b"\xe2", b"ICC_PROFILE\0\0\0" + bytes(50))), wanted
    yield "jfif-length-2", make_jpeg(blocks, b"\xff\xe0\0\2"), wanted
    yield "jfif-version-255", make_jpeg(blocks, segment(b"\xe0", b"JFIF\0\xff\xff\1\0\0\0\0\0\0")), wanted
    yield "comment-bomb", make_jpeg(blocks, segment(b"\xfe", bytes(65_533)) * 20), wanted
    yield "thousand-segments", make_jpeg(blocks, segment(b"\xe5", b"") * 1000), wanted
    yield "garbage-between-segments", make_jpeg(blocks, make_exif(1) + b"garbage"), "marker is missing"
    yield "zero-between-segments", make_jpeg(blocks, make_exif(1) + b"\0"), "marker is missing"
    yield "fill-between-segments", make_jpeg(blocks, b"\xff" * 40), wanted
    yield "garbage-after", whole + b"garbage" * 99, wanted
    yield "adobe-short", make_jpeg(blocks, segment(b"\xee", b"Adobe")), wanted
    yield "adobe-transform-9", make_jpeg(blocks, ADOBE[:-1] + b"\x09"), wanted, 0, ""
    inks = np.array([[[255, 255, 255, 255], [255, 255, 255, 0], [0, 255, 255, 255]]], np.uint8)
    seen = spread(np.array([[[255, 255, 255], [0, 0, 0], [0, 255, 255]]], np.uint8))
    yield "cmyk", make_jpeg(inks, ADOBE), seen, 2
    grey = np.array([[[255, 128, 128, 255], [0, 128, 128, 255], [255, 128, 128, 0]]], np.uint8)
    yield (
        "ycck",
        make_jpeg(grey, ADOBE[:-1] + b"\2"),
        spread(np.array([[[0] * 3, [255] * 3, [0] * 3]], np.uint8)),
        3,
        "",
    )
    pair = np.stack([blocks, blocks], axis=2)
    yield "two-components", make_jpeg(pair), "JPEG"
    yield "five-components", make_jpeg(np.repeat(blocks[:, :, None], 5, axis=2)), "JPEG"
    yield "rgb-by-adobe", make_jpeg(np.dstack([blocks, 255 - blocks, blocks // 2]), ADOBE), spread(
        np.dstack([blocks, 255 - blocks, blocks // 2])), 1  # fmt: skip


def foreign(blocks: Array) -> Iterator[tuple[object, ...]]:
    """Signatures that a transfer broke."""
    whole = make_jpeg(blocks)
    yield "byte-before", b"\n" + whole, "not a PNG"
    yield "signature-swapped", b"\xd8\xff" + whole[2:], "not a PNG"
    yield "second-half-alone", whole[len(whole) // 2 :], "not a PNG"
    yield "sector-of-zeros", whole[:100] + bytes(len(whole) - 100), BROKEN
    yield "all-ff", b"\xff\xd8" + b"\xff" * 5000, BROKEN
    yield "all-ff-then-end", b"\xff\xd8" + b"\xff" * 5000 + END, BROKEN


def list_cases() -> Iterator[Case]:
    """All hostile JPEG files."""
    blocks = np.array([[0, 50, 100], [150, 200, 255]], np.uint8)
    for cases in (structure(blocks), scans(np.random.default_rng(3).integers(0, 256, (4, 5)).astype(np.uint8)),
                  meta(blocks), foreign(blocks)):  # fmt: skip
        yield from name_cases(".jpg", cases)
