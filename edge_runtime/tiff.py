"""What a TIFF says of itself: its tags, and whether each strip or tile holds all its pixels.

libtiff's RGBA reader, which OpenCV takes for 8-bit images, leaves black what it cannot decode and calls it an image;
so every block's length is counted here first. Source: TIFF 6.0; Adobe Photoshop TIFF technical notes for deflate.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from .formats import HEADER, MIDDLE, MOST_PARTS, UnreadKind, check_size

TAGS = {
    "width": 256, "height": 257, "bits": 258, "compression": 259, "colours": 262, "order": 266, "samples": 277,
    "rows": 278, "planar": 284, "palette": 320, "tile_width": 322, "tile_height": 323, "extra": 338, "strips": 273,
    "strip_lengths": 279, "tiles": 324, "tile_lengths": 325,
}  # fmt: skip
DEFAULTS = {"bits": (1,), "compression": (1,), "order": (1,), "samples": (1,), "planar": (1,), "rows": (2**32 - 1,)}
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE = 0, 1, 2, 3
SAMPLES = {WHITE_IS_ZERO: (1,), BLACK_IS_ZERO: (1,), RGB: (3, 4), PALETTE: (1,)}
UNASSOCIATED_ALPHA = 2
CLEAR, END_OF_CODES, FIRST_STRING = 256, 257, 258
# The width of the k-th code after a clear: the table grows by one string a code and wants a bit more one code early.
WIDTHS = np.repeat([9, 10, 11, 12], [254, 512, 1024, 2050])
BEGINNINGS = np.concatenate([[0], np.cumsum(WIDTHS)[:-1]])

Tags = dict[str, tuple[int, ...]]
Codes = npt.NDArray[np.int64]


def check_tiff(data: bytes, max_pixels: int) -> tuple[int, int]:
    """Return (height, width) of a TIFF with one page, all its strips or tiles complete, that OpenCV gets right.

    Raises: ValueError, struct.error.
    """
    tags, following = read_tiff_tags(data)
    get = {name: tags.get(name, DEFAULTS.get(name, ())) for name in TAGS}
    if not all(get[name] for name in (*DEFAULTS, "width", "height", "colours")):
        raise ValueError(HEADER)
    if following:
        raise UnreadKind("with several pages")
    check_size(get["height"][0], get["width"][0], max_pixels)
    check_kind(get)
    check_blocks(data, get)
    return get["height"][0], get["width"][0]


def check_kind(get: Tags) -> None:
    """Refuse what OpenCV 4 and 5 decode without a word to wrong pixels, or not at all."""
    bits, samples, colours = get["bits"][0], get["samples"][0], get["colours"][0]
    if get["compression"][0] not in COUNTERS:
        raise UnreadKind("of a rare compression")
    if get["order"][0] != 1:
        raise UnreadKind("with its bits in reverse order")
    if samples == 2:
        raise UnreadKind("with grey and alpha")
    if colours not in SAMPLES:
        raise UnreadKind("of a rare colour space")
    if bits not in (8, 16, 32, 64) and not (bits == 1 and colours in (WHITE_IS_ZERO, BLACK_IS_ZERO)):
        raise UnreadKind(f"with {bits} bit per channel")
    if samples not in SAMPLES[colours] or set(get["bits"]) != {bits} or get["planar"][0] not in (1, 2):
        raise ValueError(HEADER)
    if colours == PALETTE and len(get["palette"]) != 3 << bits:
        raise ValueError(HEADER)
    if bits > 8 and colours not in (BLACK_IS_ZERO, RGB):
        raise UnreadKind("with more than 8 bit that is neither RGB nor grey with black as zero")
    if bits > 8 and samples > 1 and get["planar"][0] != 1:
        raise UnreadKind("with more than 8 bit in separate colour planes")


def check_blocks(data: bytes, get: Tags) -> None:
    """Refuse a TIFF whose strips or tiles are not as many as its size needs, or do not hold all their pixels."""
    (height, *_), (width, *_), (samples, *_) = get["height"], get["width"], get["samples"]
    planes, together = (samples, 1) if get["planar"][0] == 2 else (1, samples)
    sizes: list[tuple[int, int]]  # of each block: rows, columns
    if get["tiles"]:
        (tall, *_), (wide, *_) = get["tile_height"], get["tile_width"]
        if get["strips"] or tall % 16 or wide % 16 or not tall or not wide:
            raise ValueError(HEADER)
        offsets, lengths = get["tiles"], get["tile_lengths"]
        number = planes * -(-height // tall) * -(-width // wide)
        sizes = [(tall, wide)] * min(number, len(offsets))
    else:
        offsets, lengths, tall = get["strips"], get["strip_lengths"], max(1, min(get["rows"][0], height))
        number = planes * -(-height // tall)
        last = height - (-(-height // tall) - 1) * tall
        sizes = [((tall, last)[k % (number // planes) == number // planes - 1], width) for k in range(len(offsets))]
    if len(offsets) < number or len(offsets) != len(lengths) or min(offsets) < 8:
        raise ValueError(HEADER)
    if any(offset + length > len(data) for offset, length in zip(offsets, lengths, strict=True)):
        raise ValueError(MIDDLE)
    count = COUNTERS[get["compression"][0]]
    for (rows, columns), offset, length in zip(sizes[:number], offsets, lengths, strict=False):
        needed = rows * ((columns * together * get["bits"][0] + 7) // 8)
        if length > 2 * needed + 4096:  # no encoder makes so much of it, and libtiff would copy it for each block
            raise ValueError("a block is longer than its pixels")
        if count(data[offset : offset + length], needed) < needed:
            raise ValueError(MIDDLE)


def has_loose_alpha(data: bytes) -> bool:
    """Tell whether a TIFF's alpha is still to be laid over black; libtiff does so with 8 bit itself."""
    tags, _ = read_tiff_tags(data)
    return tags.get("bits", (8,))[0] > 8 and tags.get("extra") == (UNASSOCIATED_ALPHA,)


def read_tiff_tags(data: bytes) -> tuple[Tags, int]:
    """Return {name: values} of a TIFF's first page, as far as checks need them, and where the next page begins."""
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack(order + "I", data[4:8])
    (count,) = struct.unpack(order + "H", data[start : start + 2])
    names = {tag: name for name, tag in TAGS.items()}
    tags: Tags = {}
    for place in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack(order + "HHI", data[place : place + 8])
        if tag in names:
            if names[tag] in tags:
                raise ValueError(HEADER)  # decoders differ in which one they believe
            tags[names[tag]] = read_tiff_values(data, order, place + 8, kind, number)
    (following,) = struct.unpack(order + "I", data[start + 2 + 12 * count : start + 6 + 12 * count])
    return tags, following


def read_tiff_values(data: bytes, order: str, place: int, kind: int, number: int) -> tuple[int, ...]:
    """Return a TIFF field's SHORT or LONG values; of other types none, since no check needs them."""
    letter = {3: "H", 4: "I"}.get(kind)
    if letter is None:
        return ()
    if number * struct.calcsize(letter) > 4:
        (place,) = struct.unpack(order + "I", data[place : place + 4])
    if number > MOST_PARTS:
        raise ValueError(HEADER)
    return struct.unpack_from(f"{order}{number}{letter}", data, place)


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


def count_packed(block: bytes, needed: int) -> int:
    """Return how many bytes a PackBits block holds, as far as `needed`; a run or a literal that is cut holds none."""
    place = found = 0
    while found < needed and place + 1 < len(block):
        head = block[place]
        if head < 128:
            place += 2 + head
            found += 1 + head if place <= len(block) else 0
        else:
            place += 1 if head == 128 else 2  # 128 says nothing
            found += 0 if head == 128 else 257 - head
    return found


MOST_EMPTY = 64  # clears of the table in a block without a code between them: no encoder writes any but the first


def count_coded(block: bytes, needed: int) -> int:
    """Return how many bytes an LZW block holds, as far as `needed`. Raises: ValueError if it is damaged."""
    found = place = empty = 0
    for _ in range(64 + needed // 64):
        codes, ends = read_codes(block, place, 32)  # few, should they be cleared at once again and again
        if not len(ends):
            codes, ends = read_codes(block, place, len(WIDTHS))
        count = int(ends[0]) if len(ends) else len(codes)
        if place == 0 and (count or not len(ends) or codes[0] != CLEAR):
            raise ValueError("a block does not decode")  # it does not begin with a clear
        empty += not count
        if empty > MOST_EMPTY:
            raise ValueError("a block does not decode")
        found += int(measure_strings(codes[:count]).sum())
        if found >= needed or not len(ends) or codes[count] == END_OF_CODES:
            break
        place += int(BEGINNINGS[count] + WIDTHS[count])
    return found


def read_codes(block: bytes, place: int, most: int) -> tuple[Codes, Codes]:
    """Return the codes from bit `place` on, of the widths that they have after a clear, and where a run of them ends.

    most: how many at most; the table bears no more than there are WIDTHS.
    """
    part = np.frombuffer(block[place // 8 : place // 8 + 2 + 3 * most // 2], np.uint8).astype(np.int64)
    bits = BEGINNINGS[:most] + place % 8
    bits = bits[bits + WIDTHS[:most] <= 8 * len(part)]
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
    origin = codes - FIRST_STRING  # the place of the code that the string was made from
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
    1: count_plain, 5: count_coded, 8: count_deflated, 32_946: count_deflated, 32_773: count_packed,
}  # fmt: skip
