"""The files of a published data set, wherever they lie: in folders, in a zip, in zips in a zip. Nothing is unpacked.

A zip is trusted with nothing: its names only name, its sizes are limits that reading is held to, and of what it holds
only what the set consists of is read.
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
from edge_runtime.images import read_bytes

MOST_BYTES = 64 << 20  # of one file: a slice of 512 x 512 takes at most 1.3 MB in any of the sets
MOST_ENTRIES = 100_000  # of one archive
MOST_RATIO = 200  # unpacked to packed, of an archive in an archive; deflate cannot pass 1032
JUNK = re.compile(r"(^|/)(\.(?!\.?/)|__MACOSX/|Thumbs\.db$|desktop\.ini$)")  # what file managers leave behind
WHOLE = "download it again"


@dataclass(frozen=True)
class Member:
    """One file of the source; `name` is its path, through archives too, with "/"."""

    name: str
    load: Callable[[], bytes] = field(repr=False, compare=False)

    @property
    def folder(self) -> str:
        """The name of the folder or archive that it lies in, "" at the top."""
        return self.name.rpartition("/")[0].rpartition("/")[2]

    @property
    def base(self) -> str:
        """Its own name."""
        return self.name.rpartition("/")[2]


@dataclass(frozen=True)
class Problem:
    """A file that is damaged or missing: which, why, and how many slices that concerns."""

    file: str
    why: str
    count: int = 1


@dataclass
class Source:
    """An opened source: its files in order of their names, and the archives that cannot be opened."""

    members: list[Member]
    problems: list[Problem]
    digests: dict[str, str] = field(default_factory=dict)  # of the files read so far: {name: sha256}

    def read(self, member: Member) -> bytes:
        """Return a file's bytes. Raises: ImageError."""
        data = member.load()
        self.digests[member.name] = hashlib.sha256(data).hexdigest()
        return data

    def digest(self) -> str:
        """Return one SHA-256 over the names and contents of all that was read."""
        lines = (f"{digest}  {name}\n" for name, digest in sorted(self.digests.items()))
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


@contextmanager
def open_source(path: Path, work: Path) -> Iterator[Source]:
    """List the files of a folder or zip, and of the zips in it; open until the block ends.

    work: a folder for copies of the zips in a zip, which cannot be read in place at any speed.
    Raises: UsageError if `path` is neither.
    """
    if not path.exists():
        raise UsageError(str(path), "it does not exist", "give the folder or the zip that was downloaded")
    with ExitStack() as stack:
        source = Source([], [])
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
            raise UsageError(str(path), "it is neither a folder nor a whole zip", WHOLE)
        source.members.sort(key=lambda member: member.name)
        yield source


def add_archive(source: Source, stack: ExitStack, file: Path | IO[bytes], name: str, work: Path | None) -> None:
    """Add a zip's files to the source as NAME/…, and those of the zips in it if there is a folder to `work` in."""
    try:
        archive = stack.enter_context(zipfile.ZipFile(file))
        entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        source.problems.append(Problem(name, f"the archive is damaged ({error})"))
        return
    if len(entries) > MOST_ENTRIES:
        source.problems.append(Problem(name, f"the archive has more than {MOST_ENTRIES} entries"))
        return
    for entry in entries:
        inner = f"{name}/{entry.filename}"
        if entry.is_dir() or JUNK.search(entry.filename):
            continue
        why = refuse_entry(entry)
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


def refuse_entry(entry: zipfile.ZipInfo) -> str:
    """Return why an entry of a zip is not read; "" if it is."""
    parts = entry.filename.replace("\\", "/").split("/")
    if ".." in parts or entry.filename.startswith(("/", "\\")):
        return "its name leads out of the archive"
    if entry.flag_bits & 1:
        return "it is encrypted"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "it is compressed in a way that is not read"
    if not entry.filename.lower().endswith(".zip"):
        return f"it would unpack to {entry.file_size} bytes" if entry.file_size > MOST_BYTES else ""
    if entry.file_size > MOST_RATIO * max(entry.compress_size, 1 << 16):
        return f"it would unpack to {entry.file_size} bytes"
    return ""


def make_loader(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str, why: str) -> Callable[[], bytes]:
    """Return a function that reads an entry, or raises ImageError with the reason `why` not."""

    def load() -> bytes:
        if why:
            raise ImageError(name, why, WHOLE)
        try:
            with archive.open(entry) as file:
                return file.read(MOST_BYTES)  # the module itself stops at the size that was looked at
        except (*UNREADABLE, OSError) as error:
            raise ImageError(name, f"damaged in its archive ({error})", WHOLE) from None

    return load


def copy_archive(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, stack: ExitStack, work: Path) -> IO[bytes]:
    """Return a nameless copy of a zip in a zip: to go back in a deflated entry is to start again.

    Raises: those in UNREADABLE, or OSError if the copy cannot be written.
    """
    copy = stack.enter_context(tempfile.TemporaryFile(dir=work))  # noqa: SIM115
    with archive.open(entry) as file:
        shutil.copyfileobj(file, copy, 1 << 20)
    copy.seek(0)
    return copy
