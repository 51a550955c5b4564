"""What does the child process do? It reads the headers of one file or zip after another, within limits.

Lines of JSON on both pipes. In: {key, memory}, then {path, hash, entry} for each file. Out, for each: any number of
{header, id}, {directory}, {other}, {unreadable} and {missing}, then {done}. Files are hostile: what takes too much
memory or crashes a library ends this process alone, and the parent goes on with a new one. Its parent is `scan`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from .child_loop import serve
from .header import Digests
from .source import RefusedError, Source, find_nifti, is_packed, open_zip, read_start

Answer = dict[str, Any]
UNREADABLE = {"unreadable": True}
OTHER = {"other": True}


def main() -> None:
    """Answer requests until the parent closes the pipe."""

    def prepare(first: Answer) -> Callable[[Answer], Iterator[Answer]]:
        return partial(answer_request, digest=Digests(bytes.fromhex(first["key"])))

    serve(prepare)


def answer_request(request: Answer, digest: Digests) -> Iterator[Answer]:
    """Yield the answers for a file, or for each entry of a zip."""
    path = Path(request["path"])
    try:
        if request.get("hash"):
            yield {"pixels": hash_one(path, request["entry"])}
        elif is_zip(path):
            yield from read_archive(path, digest)
        else:
            yield from read_one(Source(path), path.name, digest)
    except MemoryError:
        yield UNREADABLE
    except (RefusedError, OSError, zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, RuntimeError):
        yield UNREADABLE


def is_zip(path: Path) -> bool:
    """Tell whether a file begins as a zip does."""
    with Source(path).open() as file:
        return file.read(4) == b"PK\3\4"


def read_archive(path: Path, digest: Digests) -> Iterator[Answer]:
    """Yield the answers for each entry of a zip; a zip in it is not opened."""
    with open_zip(path) as archive:
        for entry in archive.infolist():
            if entry.is_dir():
                continue
            if entry.flag_bits & 1:
                yield {"encrypted": True}
                continue
            for answer in read_one(Source(path, archive, entry), entry.filename.rsplit("/", 1)[-1], digest):
                yield {**answer, "entry": entry.header_offset, "file": entry.filename}


def read_one(source: Source, name: str, digest: Digests) -> Iterator[Answer]:
    """Yield the answers for one file: its header, or what it is instead."""
    try:
        with source.open() as file:
            head = file.read(352)
            if head[:4] == b"PK\3\4":
                yield {"nested": True}
            elif head[128:132] == b"DICM" or is_bare(head):
                yield from read_dicom(file, head, digest)
            else:
                yield from read_nifti(file, head, name, digest)
    except ModuleNotFoundError as error:
        yield {"missing": error.name}
    except Exception:  # what libraries raise of a hostile file is without end
        yield UNREADABLE


def is_bare(head: bytes) -> bool:
    """Tell whether a file may be a DICOM data set without preamble: it begins with group 0008 or 0002."""
    return head[:2] in (b"\x08\0", b"\x02\0", b"\0\x08") and len(head) > 32


def read_dicom(file: Any, head: bytes, digest: Digests) -> Iterator[Answer]:
    """Yield the answer for a DICOM file."""
    try:
        from .dicom import list_directory, read_header
    except ModuleNotFoundError:
        if head[128:132] == b"DICM" or b"1.2.840.10008." in head:  # any file may begin as a bare one
            raise
        yield OTHER
        return
    named = head[128:132] == b"DICM"
    try:
        header = read_header(file, digest)
    except Exception:
        if not named and b"1.2.840.10008." not in head:
            yield OTHER
            return
        raise
    if header is None and named:
        entries = list(list_directory(file, digest))
        yield {"directory": entries} if entries else UNREADABLE
    elif header is None:
        yield OTHER
    else:
        yield {"header": asdict(header)}


def read_nifti(file: Any, head: bytes, name: str, digest: Digests) -> Iterator[Answer]:
    """Yield the answer for what may be a NIfTI file."""
    start = read_start(file) if is_packed(file) or len(head) >= 348 else b""
    if find_nifti(start) is None:
        yield OTHER
        return
    from .nifti import read_header

    header = read_header(file, name, digest)
    yield {"header": asdict(header)} if header else OTHER


def hash_one(path: Path, entry: int | None) -> str:
    """Return the digest of a file's encoded pixels; "" where it cannot be read."""
    from .dicom import hash_pixels

    with suppress(Exception):
        if entry is None:
            with Source(path).open() as file:
                return hash_pixels(file)
        with open_zip(path) as archive:
            found = next(item for item in archive.infolist() if item.header_offset == entry)
            with Source(path, archive, found).open() as file:
                return hash_pixels(file)
    return ""


if __name__ == "__main__":
    main()
