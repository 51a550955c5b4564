"""Which series do files, folders and zips hold, and which of them was a model made for?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.contract.fields import Acquisition
from edge_runtime.errors import EdgeSegError
from edge_runtime.hospital.headers.scan import HeaderReader, Scan, scan
from edge_runtime.hospital.series.group import group
from edge_runtime.hospital.series.verdict import Judged, judge


@dataclass(frozen=True)
class Listing:
    """All series of the inputs with their verdicts, and what else the inputs hold."""

    series: tuple[Judged, ...]
    counts: Counter[str]  # of files: unreadable, encrypted, nested, other
    absent: int  # files that a DICOMDIR names and are not there
    unnamed: int  # images beside a DICOMDIR that does not name them

    @property
    def taken(self) -> int:
        """How many series a run would take."""
        return sum(item.verdict.verdict != "no" for item in self.series)


def find_series(
    inputs: Sequence[Path], wanted: Acquisition, recursive: bool = False, key: bytes | None = None
) -> Listing:
    """Return the series of files, folders and zips, judged by what a model wants.

    The order is that of the files' names, so that a series has the same number each time. key: of the digests that
    stand for identifiers; None: a random one.
    Raises: EdgeSegError, whose text holds no path; if a package is missing, it names the extra.
    """
    with closing(HeaderReader(key)) as reader:
        found = scan(inputs, recursive, reader)
        series = group(found.found, reader.hash_pixels)
    if not series and not found.counts["unreadable"] and not found.counts["encrypted"]:
        hint = "" if recursive else "; add --recursive for the folders in it"
        raise EdgeSegError("the inputs", f"no DICOM or NIfTI file in them{describe_other(found)}", f"check them{hint}")
    return Listing(tuple(judge(series, wanted)), found.counts, found.absent, found.unnamed)


def describe_other(found: Scan) -> str:
    """Return how many other files there are, in brackets; "" for none."""
    parts = [f"{found.counts[kind]} {words}" for kind, words in KINDS.items() if found.counts[kind]]
    return f" ({', '.join(parts)})" if parts else ""


KINDS = {
    "unreadable": "that cannot be read",
    "encrypted": "encrypted in a zip",
    "nested": "zips in a zip, which are not opened",
    "other": "of another kind",
}
