"""Is a JPEG file complete: are all its scans there, and does none end early?

Source of all: ITU-T T.81, annexes B and G. A decoder fills what is missing with grey, without an error.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from .exif import AS_STORED, PREFIX, read_orientation
from .refusals import BROKEN_HEADER, MAX_PARTS, TRUNCATED, UnsupportedKind, check_size

MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # not a stuffed byte, not a restart
RESTART = re.compile(rb"\xff([\xd0-\xd7])")  # a fast search, since most scans have none
FILLED_RESTART = re.compile(rb"(?<!\xff)\xff++[\xd0-\xd7]")  # with the FF bytes that may stand before it
DHT, DQT, DRI, SOS, EOI, APP1 = 0xC4, 0xDB, 0xDD, 0xDA, 0xD9, 0xE1
FRAMES = {*range(0xC0, 0xD0)} - {DHT, 0xC8, 0xCC}
BASELINE, EXTENDED, PROGRESSIVE = 0xC0, 0xC1, 0xC2
ARITHMETIC = (0xC9, 0xCA)
MAX_SCANS = 100  # programs write ten; a decoder goes through all pixels for each
FILLER = bytes(k * 89 % 253 + 1 for k in range(2, 66))  # begins with a 1 bit, no byte is 0 or 255


@dataclass
class Frame:
    """A frame header, and how many bits of each component's 64 coefficients are still to come: None for all."""

    progressive: bool
    height: int
    width: int
    components: dict[int, tuple[int, int, int]]  # id: horizontal and vertical sampling, quantizer
    left: dict[int, list[int | None]] = field(default_factory=dict)


def check_jpeg(data: bytes, max_pixels: int) -> tuple[int, int]:
    """Return (height, width) of a JPEG that has its frame header, its tables, all its scans and the end marker.

    Raises: ValueError, struct.error, IndexError.
    """
    frame, interval, scans = None, 0, 0
    tables: set[tuple[str, int]] = set()
    for marker, start, end, scan_end in read_segments(data):
        body = data[start:end]
        if marker == DQT:
            tables |= read_quantizers(body)
        elif marker == DHT:
            tables |= read_codes(body)
        elif marker == DRI:
            (interval,) = struct.unpack(">H", body)
        elif marker in FRAMES:
            if frame is not None:
                raise ValueError("it has two frame headers")
            frame = read_frame(marker, body)
            check_size(frame.height, frame.width, max_pixels)
        elif marker == SOS:
            if frame is None:
                raise ValueError(BROKEN_HEADER)
            scans += 1
            if scans > MAX_SCANS:
                raise UnsupportedKind(f"in more than {MAX_SCANS} scans")
            units = read_scan(frame, body, tables)
            check_restarts(data, end, scan_end, (units - 1) // interval if interval else 0)
    if frame is None or any(bits != 0 for left in frame.left.values() for bits in left):
        raise ValueError(TRUNCATED)
    return frame.height, frame.width


def read_segments(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield a JPEG's segments to its end marker: (marker, where its body begins, ends, where its scan ends)."""
    offset = 2
    for _ in range(MAX_PARTS):
        found = MARKER.search(data, offset)
        if not found:
            raise ValueError(TRUNCATED)
        if data[offset : found.start()].strip(b"\xff"):
            raise ValueError("a marker is missing")
        marker, start = data[found.start() + 1], found.end()
        if marker == EOI:
            return
        end = offset = start + struct.unpack(">H", data[start : start + 2])[0]
        if end < start + 2 or end > len(data):
            raise ValueError(TRUNCATED)
        if marker == SOS:
            following = MARKER.search(data, end)
            if not following:
                raise ValueError(TRUNCATED)
            offset = following.start()
        yield marker, start + 2, end, offset
    raise UnsupportedKind(f"in more than {MAX_PARTS} segments")


def read_quantizers(body: bytes) -> set[tuple[str, int]]:
    """Return the quantizers that a segment defines; one that is zero would erase a frequency."""
    found, offset = set(), 0
    while offset < len(body):
        size = 64 << (body[offset] >> 4)
        values = body[offset + 1 : offset + 1 + size]
        steps = struct.unpack(">64H", values) if size == 128 else struct.unpack("64B", values)
        if not all(steps):
            raise ValueError("a table is broken")
        found.add(("quantizer", body[offset] & 15))
        offset += 1 + size
    return found


def read_codes(body: bytes) -> set[tuple[str, int]]:
    """Return the Huffman codes that a segment defines."""
    found, offset = set(), 0
    while offset < len(body):
        found.add(("AC" if body[offset] >> 4 else "DC", body[offset] & 15))
        offset += 17 + sum(body[offset + 1 : offset + 17])
    return found


def read_frame(marker: int, body: bytes) -> Frame:
    """Return the frame header. Raises: UnreadKind for the kinds that hardly any program writes."""
    depth, height, width, count = struct.unpack(">BHHB", body[:6])
    if marker in ARITHMETIC:
        raise UnsupportedKind("with arithmetic coding")
    if marker not in (BASELINE, EXTENDED, PROGRESSIVE):
        raise UnsupportedKind("of a rare kind, lossless or hierarchical")
    if depth != 8:
        raise UnsupportedKind(f"with {depth} bit per channel")
    if count not in (1, 3, 4):
        raise UnsupportedKind(f"with {count} components")
    parts = {body[k]: (body[k + 1] >> 4, body[k + 1] & 15, body[k + 2]) for k in range(6, 6 + 3 * count, 3)}
    sampled = all(1 <= wide <= 4 and 1 <= high <= 4 for wide, high, _ in parts.values())
    if len(parts) != count or len(body) != 6 + 3 * count or not sampled:
        raise ValueError(BROKEN_HEADER)
    return Frame(marker == PROGRESSIVE, height, width, parts, {part: [None] * 64 for part in parts})


def read_scan(frame: Frame, body: bytes, tables: set[tuple[str, int]]) -> int:
    """Record the bits that a scan codes; return its number of units, blocks or interleaved groups of them."""
    count = body[0]
    parts = {body[1 + 2 * k]: body[2 + 2 * k] for k in range(count)}
    first, last, bits = body[1 + 2 * count : 4 + 2 * count]
    high, low = bits >> 4, bits & 15
    fits = first <= last < 64 and (frame.progressive or (first, last, bits) == (0, 63, 0))
    if not parts or len(parts) != count or not parts.keys() <= frame.components.keys() or not fits:
        raise ValueError("a scan is broken")
    for part, codes in parts.items():
        needed = {("quantizer", frame.components[part][2])}
        if first == 0 and high == 0:
            needed.add(("DC", codes >> 4))
        if last > 0:
            needed.add(("AC", codes & 15))
        if not needed <= tables:
            raise ValueError("a table is missing")
        left = frame.left[part]
        if any(left[k] != (high if high else None) for k in range(first, last + 1)):
            raise ValueError("a scan is missing")
        left[first : last + 1] = [low] * (last + 1 - first)
    return count_units(frame, list(parts))


def count_units(frame: Frame, parts: list[int]) -> int:
    """Return how many units a scan of these components has."""
    largest = [max(part[k] for part in frame.components.values()) for k in (0, 1)]
    wide, high = frame.components[parts[0]][:2] if len(parts) == 1 else (1, 1)
    # One component: its own blocks, without those that fill up an interleaved unit.
    across, down = (8 * largest[0], 8 * largest[1]) if len(parts) > 1 else (8, 8)
    width = frame.width if len(parts) > 1 else -(-frame.width * wide // largest[0])
    height = frame.height if len(parts) > 1 else -(-frame.height * high // largest[1])
    return -(-width // across) * -(-height // down)


def check_restarts(data: bytes, start: int, end: int, wanted: int) -> None:
    """Refuse a scan whose restart markers are not complete and in order."""
    found = 0
    for mark in RESTART.finditer(data, start, end):
        if found == wanted or mark[1][0] != 0xD0 + found % 8:
            raise ValueError("a restart marker is wrong")
        found += 1
    if found != wanted:
        raise ValueError("a restart marker is missing")


def probe_jpeg(data: bytes) -> bytes:
    """Return the JPEG with bytes added where each scan and restart interval ends.

    A decoder that has read all pixels of an interval skips them; where pixels are missing it decodes them, instead of
    the zeros that it would fill in.
    """
    pieces, offset = [], 0
    for marker, _, end, scan_end in read_segments(data):
        if marker == SOS:
            scan = data[end:scan_end]
            if RESTART.search(scan):
                scan = FILLED_RESTART.sub(lambda mark: FILLER + mark[0], scan)
            pieces += [data[offset:end], scan.rstrip(b"\xff"), FILLER]
            offset = scan_end
    return b"".join([*pieces, data[offset:]])


def find_jpeg_orientation(data: bytes) -> int:
    """Return the orientation in a complete JPEG's EXIF, the first if there are more; 1 where it has none."""
    for marker, start, end, _ in read_segments(data):
        if marker == APP1 and data[start : start + len(PREFIX)] == PREFIX:
            return read_orientation(data[start:end])
        if marker == SOS:  # EXIF stands before the pixels, and a search through them takes time
            break
    return AS_STORED
