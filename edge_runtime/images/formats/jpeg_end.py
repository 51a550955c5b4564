"""Has a JPEG that lost its end marker lost pixels too?

A decoder fills in what is missing. So the codes of the last scan are walked through here, without decoding pixels: the
last block's last code must end in the last byte, and what is left of that byte must be the 1 bits that an encoder fills
it up with. Only such files are walked: it takes a second or two for a megabyte. Source: ITU-T T.81, annexes C, F and G.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .jpeg import DHT, DRI, FRAMES, MARKER, SOS, Frame, count_units, read_frame, read_segments
from .refusals import BROKEN_HEADER, TRUNCATED, UnsupportedKind

END = b"\xff\xd9"
RESTART = re.compile(rb"\xff+[\xd0-\xd7]")
PEEK = 16  # the longest Huffman code
ZEROS = 15  # a run of sixteen
MAX_CODED_BYTES = 8_000_000  # of scans to walk
BAD_CODE, BAD_RUN = "a code is not in its table", "a run is too long"

Codes = Sequence[int]  # for each 16 bits: length of the code that they begin with << 8 | its symbol; 0 for none


@dataclass(frozen=True)
class Scan:
    """One scan, with its tables as they were when it began."""

    coded: bytes  # to the next marker that is no restart
    interval: int  # units between restarts; 0 for none
    units: int
    blocks: tuple[tuple[int, Codes, Codes], ...]  # of a unit, in order: component, DC codes, AC codes
    first: int  # coefficient
    last: int
    high: int  # bits before this scan; 0 in a coefficient's first scan
    progressive: bool

    @property
    def is_band(self) -> bool:
        """Whether it holds AC coefficients alone, which are of one component."""
        return self.progressive and self.first > 0

    def cut_intervals(self) -> Iterator[tuple[bytes, range]]:
        """Yield the codes between restarts, and which units they are of."""
        length = self.interval or self.units
        for number, part in enumerate(RESTART.split(self.coded)):
            yield part, range(number * length, min((number + 1) * length, self.units))


def add_lost_end(data: bytes) -> bytes | None:
    """Return a JPEG with the end marker that it lost, and nothing else; None where it has one, or lost more."""
    if data.endswith(END):
        return None
    closed = data.rstrip(b"\xff") + END  # FF: the marker's first half, or filling before it
    try:
        *_, (_, _, _, after) = read_segments(closed)
    except ValueError:
        return None
    end = MARKER.search(closed, after)
    return closed if end is not None and end.start() == len(closed) - len(END) else None


def check_last_scan(data: bytes) -> None:
    """Refuse a JPEG whose last scan does not hold the codes of all its blocks, to its last byte and no further.

    data: with an end marker, and otherwise found complete. Raises: ValueError if not all codes are there;
    UnsupportedKind if it would take long to know.
    """
    scans = list(read_scans(data))
    final = scans[-1]
    component = final.blocks[0][0]
    # What the codes of a band mean that was begun before depends on the scans before.
    earlier = [scan for scan in scans[:-1] if final.high and scan.is_band and scan.blocks[0][0] == component]
    *passed, (last, units) = final.cut_intervals()
    needed = [*(scan.coded for scan in earlier), *(part for part, _ in passed if final.is_band and final.high), last]
    if sum(map(len, needed)) > MAX_CODED_BYTES:
        raise UnsupportedKind("without its end marker, too large to be checked without it")
    known = bytearray(64 * final.units if final.is_band else 0)
    for scan in earlier:
        for part, those in scan.cut_intervals():
            Walk(scan, part, known).go(those)
    walk = Walk(final, last, known)
    walk.go(units)
    walk.check_end()


def read_scans(data: bytes) -> Iterator[Scan]:
    """Yield the scans of a JPEG."""
    frame: Frame | None = None
    interval = 0
    tables: dict[tuple[int, int], Codes] = {}  # (0 DC or 1 AC, number): codes
    for marker, start, end, scan_end in read_segments(data):
        body = data[start:end]
        if marker == DRI:
            interval = int.from_bytes(body, "big")
        elif marker == DHT:
            tables.update(read_tables(body))
        elif marker in FRAMES:
            frame = read_frame(marker, body)
        elif marker == SOS and frame is not None:
            yield to_scan(frame, body, tables, interval, data[end:scan_end])


def to_scan(frame: Frame, body: bytes, tables: dict[tuple[int, int], Codes], interval: int, coded: bytes) -> Scan:
    """Return a scan from its header."""
    count = body[0]
    parts = {body[1 + 2 * k]: body[2 + 2 * k] for k in range(count)}
    first, last, bits = body[1 + 2 * count : 4 + 2 * count]
    blocks = []
    for part, numbers in parts.items():
        wide, high, _ = frame.components[part]
        codes = tables.get((0, numbers >> 4), ()), tables.get((1, numbers & 15), ())
        blocks += [(part, *codes)] * (wide * high if count > 1 else 1)
    units = count_units(frame, list(parts))
    return Scan(coded, interval, units, tuple(blocks), first, last, bits >> 4, frame.progressive)


def read_tables(body: bytes) -> Iterator[tuple[tuple[int, int], Codes]]:
    """Yield the Huffman tables of a segment."""
    offset = 0
    while offset < len(body):
        counts = body[offset + 1 : offset + 17]
        symbols = body[offset + 17 : offset + 17 + sum(counts)]
        yield (body[offset] >> 4, body[offset] & 15), build_codes(counts, symbols)
        offset += 17 + len(symbols)


def build_codes(counts: bytes, symbols: bytes) -> Codes:
    """Return a table of codes from how many there are of each length, 1 to 16, and their symbols.

    Raises: ValueError if there are more than their lengths allow.
    """
    lengths = np.repeat(np.arange(1, len(counts) + 1), list(counts))
    spans = 1 << (PEEK - lengths)
    if len(counts) != PEEK or len(lengths) != len(symbols) or spans.sum() > 1 << PEEK:
        raise ValueError(BROKEN_HEADER)
    table = np.zeros(1 << PEEK, np.uint16)
    table[: spans.sum()] = np.repeat((lengths << 8) | np.frombuffer(symbols, np.uint8), spans)
    return array("H", table.tobytes())


class Walk:
    """A walk through the codes between two restarts; `at` is the next bit."""

    def __init__(self, scan: Scan, coded: bytes, known: bytearray) -> None:
        self.scan, self.known = scan, known
        self.at = 0
        self.covered = 0  # blocks of a band that have no more coefficients
        plain = coded.rstrip(b"\xff").replace(b"\xff\x00", b"\xff")
        self.count, self.final = 8 * len(plain), plain[-1:]
        part = np.frombuffer(plain + bytes(4), np.uint8).astype(np.uint32)
        # Three bytes from each on, so that any 16 bits lie within one value.
        self.windows = array("I", ((part[:-2] << 16) | (part[1:-1] << 8) | part[2:]).tobytes())

    def go(self, units: range) -> None:
        """Go through these units. Raises: ValueError where codes are missing, or are none."""
        scan = self.scan
        if scan.progressive and scan.first == 0 < scan.last:
            raise ValueError("a scan is broken")
        if scan.is_band:
            step = self.refine_band if scan.high else self.walk_band
            for unit in units:
                step(scan.blocks[0][2], 64 * unit)
        elif scan.high:
            self.at += len(units) * len(scan.blocks)  # a bit each
        else:
            for _ in units:
                for _, direct, alternating in scan.blocks:
                    self.walk_block(direct, alternating)

    def check_end(self) -> None:
        """Refuse codes that do not end in the last byte, filled up with 1 bits."""
        left = self.count - self.at
        if not 0 <= left < 8 or (self.final and (self.final[0] + 1) % (1 << left)):
            raise ValueError(TRUNCATED)

    def peek(self) -> int:
        """Return the next 16 bits, zeros beyond the end."""
        if self.at > self.count:
            raise ValueError(TRUNCATED)
        return (self.windows[self.at >> 3] >> (8 - (self.at & 7))) & 0xFFFF

    def take(self, codes: Codes) -> tuple[int, int]:
        """Return the next code's halves: of AC, how many zeros, and how many bits follow."""
        code = codes[self.peek()] if codes else 0
        if not code:
            raise ValueError(BAD_CODE)
        self.at += code >> 8
        return (code >> 4) & 15, code & 15

    def take_bits(self, count: int) -> int:
        """Return the next bits as a number."""
        value = self.peek() >> (PEEK - count)
        self.at += count
        return value

    def walk_block(self, direct: Codes, alternating: Codes) -> None:
        """Go through a block of one value, and of the others where the scan has them."""
        more, size = self.take(direct)
        if more:
            raise ValueError(BAD_CODE)
        self.at += size
        k = 1
        while k <= self.scan.last:
            run, size = self.take(alternating)
            if not size and run < ZEROS:
                return
            self.at += size
            k += run + 1
            if k > 64 and size:
                raise ValueError(BAD_RUN)

    def walk_band(self, codes: Codes, start: int) -> None:
        """Go through a block of a band's first scan; note in known[start:] which coefficients are not zero."""
        if self.covered:
            self.covered -= 1
            return
        k = self.scan.first
        while k <= self.scan.last:
            run, size = self.take(codes)
            if not size and run < ZEROS:
                self.covered = (1 << run) - 1 + self.take_bits(run)
                return
            self.at += size
            k += run + 1
            if size:
                self.note(start, k - 1)

    def refine_band(self, codes: Codes, start: int) -> None:
        """Go through a block of a scan with one more bit of each coefficient that is not zero, and with new ones."""
        k, last, known = self.scan.first, self.scan.last, self.known
        while k <= last and not self.covered:
            run, size = self.take(codes)
            if size > 1:
                raise ValueError(BAD_CODE)
            if not size and run < ZEROS:
                self.covered = (1 << run) + self.take_bits(run)
                break
            self.at += size  # its sign
            while k <= last and (known[start + k] or run):
                if known[start + k]:
                    self.at += 1
                else:
                    run -= 1
                k += 1
            if size:
                self.note(start, k)
            k += 1
        if self.covered:
            self.at += known.count(1, start + k, start + last + 1)
            self.covered -= 1

    def note(self, start: int, k: int) -> None:
        """Note that a coefficient is not zero."""
        if k > self.scan.last:
            raise ValueError(BAD_RUN)
        self.known[start + k] = 1
