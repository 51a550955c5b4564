"""Which files of a folder are no images of a run, and what reads them?"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from edge_runtime.images.formats.signatures import HEAD_BYTES, find_format, find_other_format

MAX_OPENED = 1000  # files of which the first bytes are read: a folder may hold a whole archive
CONVERT, UNPACK = "an image editor saves it as PNG", "unpack it"
ADD_SUFFIX = "add its suffix, or name the file itself"
WHAT_READS = {  # a format's words in `signatures`, without the article: what to do
    "DICOM file": "dcmj2pnm of DCMTK makes a PNG of it",
    "NIfTI file": "nibabel reads it; save its slices as PNG",
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
    own, other = find_format(head), find_other_format(head)
    if own is not None:
        return f"{own} without its suffix"
    return other.split(" ", 1)[1] if other else OTHER


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
