"""Is a TIFF file complete: does each strip or tile hold all its pixels?

libtiff's RGBA reader, which OpenCV uses for 8-bit images, leaves black what it cannot decode, without an error; so the
length of every block is counted here first. Source: TIFF 6.0; Adobe Photoshop TIFF technical notes for deflate.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from .exif import AS_STORED, INTEGERS, ORIENTATION
from .refusals import BROKEN_HEADER, MAX_PARTS, TRUNCATED, UnsupportedKind, check_size

TAGS = {
    "width": 256, "height": 257, "bits": 258, "compression": 259, "colours": 262, "order": 266, "samples": 277,
    "rows": 278, "planar": 284, "palette": 320, "tile_width": 322, "tile_height": 323, "extra": 338, "strips": 273,
    "strip_lengths": 279, "tiles": 324, "tile_lengths": 325, "orientation": ORIENTATION,
}  # fmt: skip
DEFAULTS = {"bits": (1,), "compression": (1,), "order": (1,), "samples": (1,), "planar": (1,), "rows": (2**32 - 1,)}
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE = 0, 1, 2, 3
SAMPLES = {WHITE_IS_ZERO: (1,), BLACK_IS_ZERO: (1,), RGB: (3, 4), PALETTE: (1,)}
UNASSOCIATED_ALPHA = 2
CLEAR, END_OF_CODES, FIRST_STRING = 256, 257, 258
# The width of the k-th code after a clear: the table grows by one string a code, and the width by a bit one code early.
WIDTHS = np.repeat([9, 10, 11, 12], [254, 512, 1024, 2050])
BEGINNINGS = np.concatenate([[0], np.cumsum(WIDTHS)[:-1]])

MAX_EMPTY_RUNS = 64  # clears of a block's table without a code between them: encoders write one, at the start

Tags = dict[str, tuple[int, ...]]
Codes = npt.NDArray[np.int64]


def check_tiff(data: bytes, max_pixels: int) -> tuple[int, int]:
    """Return (height, width) of a TIFF with one page, its strips or tiles complete, that OpenCV reads correctly.

    Raises: ValueError, struct.error.
    """
    tags, following = read_tiff_tags(data)
    get = {name: tags.get(name, DEFAULTS.get(name, ())) for name in TAGS}
    if not all(get[name] for name in (*DEFAULTS, "width", "height", "colours")):
        raise ValueError(BROKEN_HEADER)
    if following:
        raise UnsupportedKind("with several pages")
    check_size(get["height"][0], get["width"][0], max_pixels)
    check_kind(get)
    check_blocks(data, get)
    return get["height"][0], get["width"][0]


def check_kind(get: Tags) -> None:
    """Refuse what OpenCV 4 and 5 decode to wrong pixels without an error, or not at all."""
    bits, samples, colours = get["bits"][0], get["samples"][0], get["colours"][0]
    if get["compression"][0] not in COUNTERS:
        raise UnsupportedKind("of a rare compression")
    if get["order"][0] != 1:
        raise UnsupportedKind("with its bits in reverse order")
    if samples == 2:
        raise UnsupportedKind("with grey and alpha")
    if colours not in SAMPLES:
        raise UnsupportedKind("of a rare colour space")
    if bits not in (8, 16, 32, 64) and not (bits == 1 and colours in (WHITE_IS_ZERO, BLACK_IS_ZERO)):
        raise UnsupportedKind(f"with {bits} bit per channel")
    if samples not in SAMPLES[colours] or set(get["bits"]) != {bits} or get["planar"][0] not in (1, 2):
        raise ValueError(BROKEN_HEADER)
    if colours == PALETTE and len(get["palette"]) != 3 << bits:
        raise ValueError(BROKEN_HEADER)
    if bits > 8 and colours not in (BLACK_IS_ZERO, RGB):
        raise UnsupportedKind("with more than 8 bit that is neither RGB nor grey with black as zero")
    if bits > 8 and samples > 1 and get["planar"][0] != 1:
        raise UnsupportedKind("with more than 8 bit in separate colour planes")


def check_blocks(data: bytes, get: Tags) -> None:
    """Refuse a TIFF whose strips or tiles are not as many as its size needs, or do not hold all their pixels."""
    (height, *_), (width, *_), (samples, *_) = get["height"], get["width"], get["samples"]
    planes, together = (samples, 1) if get["planar"][0] == 2 else (1, samples)
    sizes: list[tuple[int, int]]  # of each block: rows, columns
    if get["tiles"]:
        (tall, *_), (wide, *_) = get["tile_height"], get["tile_width"]
        if get["strips"] or tall % 16 or wide % 16 or not tall or not wide:
            raise ValueError(BROKEN_HEADER)
        offsets, lengths = get["tiles"], get["tile_lengths"]
        number = planes * -(-height // tall) * -(-width // wide)
        sizes = [(tall, wide)] * min(number, len(offsets))
    else:
        offsets, lengths, tall = get["strips"], get["strip_lengths"], max(1, min(get["rows"][0], height))
        number = planes * -(-height // tall)
        last = height - (-(-height // tall) - 1) * tall
        sizes = [((tall, last)[k % (number // planes) == number // planes - 1], width) for k in range(len(offsets))]
    if len(offsets) < number or len(offsets) != len(lengths) or min(offsets) < 8:
        raise ValueError(BROKEN_HEADER)
    if any(offset + length > len(data) for offset, length in zip(offsets, lengths, strict=True)):
        raise ValueError(TRUNCATED)
    count = COUNTERS[get["compression"][0]]
    for (rows, columns), offset, length in zip(sizes[:number], offsets, lengths, strict=False):
        needed = rows * ((columns * together * get["bits"][0] + 7) // 8)
        if length > 2 * needed + 4096:  # no encoder writes so much, and libtiff would copy it for each block
            raise ValueError("a block is longer than its pixels")
        if count(data[offset : offset + length], needed) < needed:
            raise ValueError(TRUNCATED)


def has_unassociated_alpha(data: bytes) -> bool:
    """Tell whether a TIFF's alpha is not laid over black yet, as libtiff does with 8 bit."""
    tags, _ = read_tiff_tags(data)
    return tags.get("bits", (8,))[0] > 8 and tags.get("extra") == (UNASSOCIATED_ALPHA,)


def find_tiff_orientation(data: bytes) -> int:
    """Return the orientation that a complete TIFF's tag says; 1, as stored, where it says none."""
    order, entry = find_orientation_entry(data)
    if entry is None:
        return AS_STORED
    _, kind, number = struct.unpack_from(order + "HHI", data, entry)
    value = struct.unpack_from(order + INTEGERS[kind], data, entry + 8)[0] if kind in INTEGERS and number == 1 else 0
    return value if value in range(1, 9) else AS_STORED


def set_as_stored(data: bytes) -> bytes:
    """Return a TIFF whose orientation tag says 1: OpenCV turns each tile of 8 bit by itself, with what fills it up."""
    order, entry = find_orientation_entry(data)
    if entry is None:
        return data
    return data[:entry] + struct.pack(order + "HHIHH", ORIENTATION, 3, 1, AS_STORED, 0) + data[entry + 12 :]


def find_orientation_entry(data: bytes) -> tuple[str, int | None]:
    """Return a TIFF's byte order, and where the entry of its orientation begins."""
    order, entries = list_entries(data)
    return order, next((at for at in entries if struct.unpack_from(order + "H", data, at)[0] == ORIENTATION), None)


def list_entries(data: bytes) -> tuple[str, range]:
    """Return a TIFF's byte order, and where the entries of its first page begin. Raises: struct.error."""
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack(order + "I", data[4:8])
    (count,) = struct.unpack(order + "H", data[start : start + 2])
    return order, range(start + 2, start + 2 + 12 * count, 12)


def read_tiff_tags(data: bytes) -> tuple[Tags, int]:
    """Return {name: values} of a TIFF's first page, as far as checks need them, and where the next page begins."""
    order, entries = list_entries(data)
    names = {tag: name for name, tag in TAGS.items()}
    tags: Tags = {}
    for offset in entries:
        tag, kind, number = struct.unpack(order + "HHI", data[offset : offset + 8])
        if tag in names:
            if names[tag] in tags:
                raise ValueError(BROKEN_HEADER)  # decoders differ in which one they use
            tags[names[tag]] = read_tiff_values(data, order, offset + 8, kind, number)
    (following,) = struct.unpack(order + "I", data[entries.stop : entries.stop + 4])
    return tags, following


def read_tiff_values(data: bytes, order: str, offset: int, kind: int, number: int) -> tuple[int, ...]:
    """Return a TIFF field's SHORT or LONG values; of other types none, since no check needs them."""
    letter = {3: "H", 4: "I"}.get(kind)
    if letter is None:
        return ()
    if number * struct.calcsize(letter) > 4:
        (offset,) = struct.unpack(order + "I", data[offset : offset + 4])
    if number > MAX_PARTS:
        raise ValueError(BROKEN_HEADER)
    return struct.unpack_from(f"{order}{number}{letter}", data, offset)


def count_plain(block: bytes, needed: int) -> int:
    """Return how many bytes an uncompressed block holds."""
    return len(block)


def count_deflated(block: bytes, needed: int) -> int:
    """Return how many bytes a deflated block holds, as far as `needed`. Raises: ValueError if it is damaged."""
    unpacker = zlib.decompressobj()
    try:
        found = len(unpacker.decompress(block, max(1, needed)))
        unpacker.decompress(unpacker.unconsumed_tail, 64)  # to the checksum, where the stream ends here
    except zlib.error:
        raise ValueError("a block does not decode") from None
    return found


def count_packbits(block: bytes, needed: int) -> int:
    """Return how many bytes a PackBits block holds, as far as `needed`; a run or a literal that is cut holds none."""
    offset = found = 0
    while found < needed and offset + 1 < len(block):
        head = block[offset]
        if head < 128:
            offset += 2 + head
            found += 1 + head if offset <= len(block) else 0
        else:
            offset += 1 if head == 128 else 2  # 128: no operation
            found += 0 if head == 128 else 257 - head
    return found


def count_lzw(block: bytes, needed: int) -> int:
    """Return how many bytes an LZW block holds, as far as `needed`. Raises: ValueError if it is damaged."""
    found = bit = empty = 0
    for _ in range(64 + needed // 64):
        codes, ends = read_codes(block, bit, 32)  # few, in case clears follow each other at once
        if not len(ends):
            codes, ends = read_codes(block, bit, len(WIDTHS))
        count = int(ends[0]) if len(ends) else len(codes)
        if bit == 0 and (count or not len(ends) or codes[0] != CLEAR):
            raise ValueError("a block does not decode")  # it does not begin with a clear
        empty += not count
        if empty > MAX_EMPTY_RUNS:
            raise ValueError("a block does not decode")
        found += int(measure_strings(codes[:count]).sum())
        if found >= needed or not len(ends) or codes[count] == END_OF_CODES:
            break
        bit += int(BEGINNINGS[count] + WIDTHS[count])
    return found


def read_codes(block: bytes, bit: int, limit: int) -> tuple[Codes, Codes]:
    """Return the codes from a bit on, of the widths that they have after a clear, and the indices where runs end.

    limit: how many codes at most; the table has no more than there are WIDTHS.
    """
    part = np.frombuffer(block[bit // 8 : bit // 8 + 2 + 3 * limit // 2], np.uint8).astype(np.int64)
    bits = BEGINNINGS[:limit] + bit % 8
    bits = bits[bits + WIDTHS[:limit] <= 8 * len(part)]
    part = np.concatenate([part, [0, 0]])
    windows = (part[bits // 8] << 16) | (part[bits // 8 + 1] << 8) | part[bits // 8 + 2]
    widths = WIDTHS[: len(bits)]
    codes = np.asarray((windows >> (24 - bits % 8 - widths)) & ((1 << widths) - 1), np.int64)
    return codes, np.flatnonzero((codes == CLEAR) | (codes == END_OF_CODES))


def measure_strings(codes: Codes) -> Codes:
    """Return how many bytes each code of a run between two clears stands for. Raises: ValueError for unknown ones.

    The k-th code makes a new string, that of the code before it and one byte more; so a string's length is one more
    than that of the code it was made from.
    """
    origin = codes - FIRST_STRING  # the index of the code that the string was made from
    if (origin >= np.arange(len(codes))).any():
        raise ValueError("a block does not decode")
    none = len(codes)
    origin = np.append(np.where(origin < 0, none, origin), none)
    lengths = np.append(np.ones(none, np.int64), 0)
    while (origin != none).any():  # twelve times at most: each goes twice as far back as the one before
        lengths = lengths + lengths[origin]
        origin = origin[origin]
    return np.asarray(lengths[:none], np.int64)


COUNTERS: dict[int, Callable[[bytes, int], int]] = {
    1: count_plain, 5: count_lzw, 8: count_deflated, 32_946: count_deflated, 32_773: count_packbits,
}  # fmt: skip
