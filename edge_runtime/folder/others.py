"""Which files of a folder are no images of a run, and what reads them?"""

from __future__ import annotations

import os
import stat
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from edge_runtime.images.formats.signatures import HEAD_BYTES, find_format, find_other_format

MAX_OPENED = 1000  # files of which the first bytes are read: a folder may hold a whole archive
CONVERT, UNPACK = "an image editor saves it as PNG", "unpack it"
ADD_SUFFIX = "add its suffix, or name the file itself"
WHAT_READS = {  # a format's words in `signatures`, without the article: what to do
    "DICOM file": "the extra dicom reads it, docs/hospital.md",
    "NIfTI file": "the extra nifti reads it, docs/hospital.md",
    "JPEG 2000": CONVERT,
    "WebP": CONVERT,
    "GIF": CONVERT,
    "HEIC or AVIF": CONVERT,
    "OpenEXR": CONVERT,
    "BigTIFF": CONVERT,
    "PDF": CONVERT,
    "ZIP archive": UNPACK,
    "gzip archive": UNPACK,
}
OTHER = "of another kind"
DICOM, NIFTI, ZIP = "DICOM file", "NIfTI file", "ZIP archive"
BARE_DICOM = (b"\x08\0", b"\0\x08")  # how a data set without preamble begins: group 0008, in either byte order


def count_others(paths: Iterable[Path]) -> Counter[str]:
    """Return how many files are of which kind, by their first bytes."""
    counts: Counter[str] = Counter()
    for number, path in enumerate(paths):
        counts[find_kind(path) if number < MAX_OPENED else OTHER] += 1
    return counts


def find_kind(path: Path) -> str:
    """Return a file's format in a few words; OTHER for an unknown one, and for what is no regular file."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # reading a pipe would never end
        try:
            head = os.read(handle, HEAD_BYTES) if stat.S_ISREG(os.fstat(handle).st_mode) else b""
        finally:
            os.close(handle)
    except OSError:
        return OTHER
    own, other = find_format(head), find_other_format(unpack_head(head))
    if own is not None:
        return f"{own} without its suffix"
    if other is None and head[:2] in BARE_DICOM and b"1.2.840.10008." in head:
        return DICOM
    return other.split(" ", 1)[1] if other else OTHER


def unpack_head(head: bytes) -> bytes:
    """Return the first bytes of a file, of a compressed NIfTI file those of what it holds."""
    if not head.startswith(b"\x1f\x8b"):
        return head
    with suppress(zlib.error):
        inner = zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(head, HEAD_BYTES)
        return inner if find_other_format(inner) == f"a {NIFTI}" else head
    return head


def describe_others(counts: Mapping[str, int]) -> list[str]:
    """Return a line: how many files were left out, of which kinds, and what reads them; none if there are none."""
    total, other = sum(counts.values()), counts.get(OTHER, 0)
    known = sorted((kind for kind in counts if kind != OTHER), key=lambda kind: (-counts[kind], kind))
    kinds = [format_count(counts[kind], kind) + format_fix(kind) for kind in known]
    kinds += [f"{other} {OTHER}"] if other and known else []
    words = f"left out {format_count(total, 'file')} without an image's suffix"
    return [f"{words}: {', '.join(kinds)}" if kinds else words] if total else []


def format_count(number: int, kind: str) -> str:
    """Return a number of files of a kind in words."""
    plural = number > 1 and kind.endswith(("file", "archive", "page"))
    return f"{number} {kind}{'s' if plural else ''}"


def format_fix(kind: str) -> str:
    """Return what reads a format, in brackets; "" where nothing is known."""
    fix = WHAT_READS.get(kind, ADD_SUFFIX if kind.endswith("without its suffix") else "")
    return f" ({fix})" if fix else ""
