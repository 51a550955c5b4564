"""Reads the files of a downloaded data set from folders, a zip, or zips in a zip. Nothing is unpacked.

A zip is not trusted: names in it are never paths to write to, sizes in it limit what is read, and only the set's own
files are read.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from edge_runtime.errors import ImageError, UsageError
from edge_runtime.images.read import read_bytes

MAX_BYTES = 64 << 20  # of one file: a slice of 512 x 512 takes at most 1.3 MB in any of the sets
MAX_ENTRIES = 100_000  # of one archive
MAX_RATIO = 200  # unpacked to packed size, of an archive in an archive; deflate reaches 1032 at most
JUNK = re.compile(r"(^|/)(\.(?!\.?/)|__MACOSX/|Thumbs\.db$|desktop\.ini$)")  # files that file managers add
FIX = "download it again"


@dataclass(frozen=True)
class Member:
    """One file of the source; `name` is its path with "/", including the archives that hold it."""

    name: str
    load: Callable[[], bytes] = field(repr=False, compare=False)

    @property
    def folder(self) -> str:
        """The name of the folder or archive that holds it, "" at the top."""
        return self.name.rpartition("/")[0].rpartition("/")[2]

    @property
    def base(self) -> str:
        """The file's name without folders."""
        return self.name.rpartition("/")[2]


@dataclass(frozen=True)
class Problem:
    """A damaged or missing file: which, why, and how many slices it concerns."""

    file: str
    why: str
    count: int = 1


@dataclass
class SetSource:
    """An opened source: its files in order of their names, and the problems with its archives."""

    members: list[Member]
    problems: list[Problem]
    digests: dict[str, str] = field(default_factory=dict)  # of the files read so far: {name: sha256}

    def read(self, member: Member) -> bytes:
        """Return a file's bytes. Raises: ImageError."""
        data = member.load()
        self.digests[member.name] = hashlib.sha256(data).hexdigest()
        return data

    def digest(self) -> str:
        """Return one SHA-256 over the names and contents of all files read."""
        lines = (f"{digest}  {name}\n" for name, digest in sorted(self.digests.items()))
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


@contextmanager
def open_source(path: Path, work: Path) -> Iterator[SetSource]:
    """Open a folder or zip, and the zips in it, until the block ends.

    work: a folder for copies of the zips in a zip, which would be slow to read in place.
    Raises: UsageError if `path` is neither.
    """
    if not path.exists():
        raise UsageError(str(path), "it does not exist", "give the folder or the zip that was downloaded")
    with ExitStack() as stack:
        source = SetSource([], [])
        if path.is_dir():
            for file in sorted(path.rglob("*")):
                name = file.relative_to(path).as_posix()
                if JUNK.search(name) or file.is_dir():
                    continue
                if file.suffix.lower() == ".zip":
                    add_archive(source, stack, file, name, work)
                else:
                    source.members.append(Member(name, lambda file=file, name=name: read_bytes(file, name)))  # type: ignore[misc]
        elif zipfile.is_zipfile(path):
            add_archive(source, stack, path, path.name, work)
        else:
            raise UsageError(str(path), "it is neither a folder nor a whole zip", FIX)
        source.members.sort(key=lambda member: member.name)
        yield source


def add_archive(source: SetSource, stack: ExitStack, file: Path | IO[bytes], name: str, work: Path | None) -> None:
    """Add a zip's files to the source as NAME/…, and those of the zips in it if there is a `work` folder."""
    try:
        archive = stack.enter_context(zipfile.ZipFile(file))
        entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        source.problems.append(Problem(name, f"the archive is damaged ({error})"))
        return
    if len(entries) > MAX_ENTRIES:
        source.problems.append(Problem(name, f"the archive has more than {MAX_ENTRIES} entries"))
        return
    for entry in entries:
        inner = f"{name}/{entry.filename}"
        if entry.is_dir() or JUNK.search(entry.filename):
            continue
        why = find_refusal(entry)
        if not entry.filename.lower().endswith(".zip"):
            source.members.append(Member(inner, make_loader(archive, entry, inner, why)))
        elif why or work is None:
            source.problems.append(Problem(inner, why or "an archive in an archive in an archive"))
        else:
            try:
                copy = copy_archive(archive, entry, stack, work)
            except UNREADABLE as error:
                source.problems.append(Problem(inner, f"the archive is damaged ({error})"))
                continue
            add_archive(source, stack, copy, inner, None)


UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


def find_refusal(entry: zipfile.ZipInfo) -> str:
    """Return why an entry of a zip must not be read; "" if it may."""
    parts = entry.filename.replace("\\", "/").split("/")
    if ".." in parts or entry.filename.startswith(("/", "\\")):
        return "its name leads out of the archive"
    if entry.flag_bits & 1:
        return "it is encrypted"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "it is compressed in a way that is not read"
    if not entry.filename.lower().endswith(".zip"):
        return f"it would unpack to {entry.file_size} bytes" if entry.file_size > MAX_BYTES else ""
    if entry.file_size > MAX_RATIO * max(entry.compress_size, 1 << 16):
        return f"it would unpack to {entry.file_size} bytes"
    return ""


def make_loader(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str, why: str) -> Callable[[], bytes]:
    """Return a function that reads an entry, or raises ImageError with the reason `why` not."""

    def load() -> bytes:
        if why:
            raise ImageError(name, why, FIX)
        try:
            with archive.open(entry) as file:
                return file.read(MAX_BYTES)  # zipfile stops at the size that was checked
        except (*UNREADABLE, OSError) as error:
            raise ImageError(name, f"damaged in its archive ({error})", FIX) from None

    return load


def copy_archive(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, stack: ExitStack, work: Path) -> IO[bytes]:
    """Return an unnamed copy of a zip in a zip: seeking backwards in a deflated entry starts again from its beginning.

    Raises: those in UNREADABLE, or OSError if the copy cannot be written.
    """
    copy = stack.enter_context(tempfile.TemporaryFile(dir=work))  # noqa: SIM115
    with archive.open(entry) as file:
        shutil.copyfileobj(file, copy, 1 << 20)
    copy.seek(0)
    return copy
