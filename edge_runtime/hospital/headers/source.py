"""How are the first bytes of a file read, be it in a folder or in a zip, without more of it than a header may take?"""

from __future__ import annotations

import os
import stat
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

MAX_VALUE = 32_000_000  # bytes of one value: the functional groups of some 10,000 frames
MAX_HEADER = 64_000_000  # bytes of all that is read of one file
MAX_SECONDS = 10.0  # for one header
MAX_PIXEL_BYTES = 1_000_000_000  # of one file
MAX_INFLATED = 256_000_000  # bytes of a deflated data set
MAX_PIXEL_SECONDS = 120.0  # for one file's
MAX_ENTRIES = 200_000  # of a zip
MAX_DIRECTORY = 64_000_000  # bytes of a zip's list of entries
START_BYTES = 540  # of NIfTI-2's header; NIfTI-1's has 348 and four more
ZIP_TAIL = 65_557  # bytes in which a zip's end record lies


class RefusedError(Exception):
    """A file is damaged or beyond a limit; the text holds nothing of the file."""


@dataclass(frozen=True)
class Source:
    """One file, or one entry of a zip."""

    path: Path
    archive: zipfile.ZipFile | None = None
    entry: zipfile.ZipInfo | None = None

    @contextmanager
    def open(self) -> Iterator[BoundedFile]:
        """Yield the file's bytes. Raises: RefusedError, OSError; whatever a damaged zip raises."""
        if self.archive is not None and self.entry is not None:
            if self.entry.flag_bits & 1:
                raise RefusedError("encrypted")
            with self.archive.open(self.entry) as member:
                yield BoundedFile(member, self.entry.file_size)  # type: ignore[arg-type]
            return
        with open_regular(self.path) as file:
            yield BoundedFile(file, os.fstat(file.fileno()).st_size)


@contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """Yield a regular file; a pipe, on which reading would never end, is refused. Raises: OSError, RefusedError."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise RefusedError("no regular file")
        yield file


class BoundedFile:
    """A file whose reader cannot be made to take all memory or all day, whatever lengths the file claims."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size = file, size
        self.most_value, self.most, self.seconds = MAX_VALUE, MAX_HEADER, MAX_SECONDS
        self.spent, self.end = 0, time.monotonic() + self.seconds

    def allow_pixels(self) -> None:
        """Raise the limits to what all pixels of a file may take."""
        self.most_value, self.most, self.seconds = MAX_PIXEL_BYTES, 2 * MAX_PIXEL_BYTES, MAX_PIXEL_SECONDS
        self.end = time.monotonic() + self.seconds

    def read(self, count: int = -1) -> bytes:
        """Return `count` bytes or those that are left. Raises: RefusedError beyond a limit."""
        count = self.size if count < 0 else count
        if count > self.most_value and min(count, self.size - self.tell()) > self.most_value:
            raise RefusedError("a value is too long")
        data = self.file.read(min(count, self.most_value))
        self.spend(len(data))
        return data

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place; in a zip the bytes up to it are read. Raises: RefusedError beyond a limit."""
        place += self.tell() if whence == os.SEEK_CUR else 0
        place = self.size + place if whence == os.SEEK_END else place
        if isinstance(self.file, zipfile.ZipExtFile):
            place = min(place, self.size)
            self.spend(place - self.tell() if place >= self.tell() else place)
        return self.file.seek(place)

    def tell(self) -> int:
        """Return the place."""
        return self.file.tell()

    def spend(self, count: int) -> None:
        """Count what was read. Raises: RefusedError beyond a limit."""
        self.spent += count
        if self.spent > self.most:
            raise RefusedError("it is too long")
        if time.monotonic() > self.end:
            raise RefusedError(f"reading it takes longer than {self.seconds:g} s")

    def close(self) -> None:
        """Do nothing: whoever opened the file closes it."""


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Yield a zip. Raises: RefusedError for one that is damaged or lists more than MAX_ENTRIES; OSError."""
    with open_regular(path) as file:
        check_directory(file)
        try:
            archive = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, UnicodeError):
            raise RefusedError("a damaged zip") from None
        with archive:
            if len(archive.infolist()) > MAX_ENTRIES:
                raise RefusedError("a zip of too many entries")
            yield archive


def check_directory(file: BinaryIO) -> None:
    """Refuse a zip whose list of entries would take much memory, before it is read. Raises: RefusedError."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - ZIP_TAIL))
    tail = file.read()
    place = tail.rfind(b"PK\5\6")
    if place < 0 or len(tail) < place + 22:
        raise RefusedError("a damaged zip")
    length = int.from_bytes(tail[place + 12 : place + 16], "little")
    wide = tail.rfind(b"PK\6\6", 0, place)
    if wide >= 0 and len(tail) >= wide + 48:
        length = max(int.from_bytes(tail[wide + 40 : wide + 48], "little"), length if length != 0xFFFFFFFF else 0)
    if min(length, size) > MAX_DIRECTORY:
        raise RefusedError("a zip of too many entries")
    file.seek(0)


def read_start(file: BoundedFile) -> bytes:
    """Return a NIfTI file's first bytes, of which no more is inflated than these. Raises: RefusedError."""
    file.seek(0)
    data = file.read(START_BYTES)
    if data[:2] != b"\x1f\x8b":
        return data
    inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
    head = b""
    try:
        while data and len(head) < START_BYTES:
            head += inflater.decompress(data, START_BYTES - len(head))
            data = inflater.unconsumed_tail or file.read(START_BYTES)
    except zlib.error:
        raise RefusedError("damaged gzip") from None
    return head


def find_nifti(head: bytes) -> int | None:
    """Return 1 or 2 for the first bytes of a NIfTI file with its voxels behind the header; None for any other."""
    if head[344:348] == b"n+1\0" and head[:4] in (b"\x5c\1\0\0", b"\0\0\1\x5c"):
        return 1
    return 2 if head[4:8] == b"n+2\0" and head[:4] in (b"\x1c\2\0\0", b"\0\0\2\x1c") else None


def is_packed(file: BoundedFile) -> bool:
    """Tell whether a file is compressed."""
    file.seek(0)
    return file.read(2) == b"\x1f\x8b"
