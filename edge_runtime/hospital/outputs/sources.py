"""What do a series' sources say, as what is derived from them must repeat it? Read without their pixels."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydicom import config
from pydicom.dataset import Dataset, FileMetaDataset

from edge_runtime.hospital.headers.dicom import get_text, parse
from edge_runtime.hospital.headers.source import Source, open_zip

from .request import OutputSlice

config.settings.reading_validation_mode = config.IGNORE
config.settings.writing_validation_mode = config.IGNORE  # a source's values are passed on, not judged
NAMESPACE = uuid.UUID("6f5d2ef4-5e6f-5d0c-9b1e-5d0a0c1d7e55")  # of the names that UIDs are made of
BLANKS = (  # what an object of a study must have, and a de-identified source may lack
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator", "Laterality",
)  # fmt: skip
DATES = ("Content", "Acquisition", "Series", "Study")


def read_sources(slices: Sequence[OutputSlice]) -> list[Dataset]:
    """Return the data sets of slices, each file's once, in order of appearance; blanks filled in.

    Raises: RefusedError, OSError, and what pydicom raises.
    """
    files = list(dict.fromkeys((item.path, item.entry) for item in slices))
    found: dict[tuple[str, int | None], Dataset] = {}
    for path in dict.fromkeys(path for path, _ in files):
        entries = [entry for other, entry in files if other == path]
        if entries == [None]:
            found[path, None] = read_source(Source(Path(path)))
            continue
        with open_zip(Path(path)) as archive:
            by_offset = {item.header_offset: item for item in archive.infolist()}
            for entry in entries:
                found[path, entry] = read_source(Source(Path(path), archive, by_offset[entry or 0]))
    return [found[file] for file in files]


def read_source(source: Source) -> Dataset:
    """Return one file's data set without its pixels."""
    with source.open() as file:
        parsed = parse(file, None)
    fields = parsed.fields
    fields.file_meta = FileMetaDataset()
    for name in BLANKS:
        if name not in fields:
            setattr(fields, name, "")
    return fields


def find_newest(sources: Iterable[Dataset]) -> tuple[str, str]:
    """Return the latest date and time (YYYYMMDD, HHMMSS) that the sources say; results repeat it, not the clock."""
    moments = []
    for item in sources:
        for kind in DATES:
            date, clock = get_text(item, f"{kind}Date"), get_text(item, f"{kind}Time")
            if len(date) == 8 and date.isdigit():
                digits = clock[:6]
                moments.append((date, digits if len(digits) == 6 and digits.isdigit() else "000000"))
                break
    return max(moments, default=("19000101", "000000"))


def make_uid(*parts: str) -> str:
    """Return the UID of a name: the same parts give the same one. Source: DICOM PS3.5 B.2, RFC 9562 version 5."""
    return f"2.25.{uuid.uuid5(NAMESPACE, chr(0).join(parts)).int}"


def set_moment(item: Dataset, moment: tuple[str, str]) -> None:
    """Write a date and time wherever an object says when it was made."""
    for name in ("ContentDate", "InstanceCreationDate", "SeriesDate"):
        setattr(item, name, moment[0])
    for name in ("ContentTime", "InstanceCreationTime", "SeriesTime"):
        setattr(item, name, moment[1])
    replace_values(item, "ContributionDateTime", moment[0] + moment[1])


def replace_values(item: Dataset, name: str, value: str) -> None:
    """Write a value over each element of a name, which a library made at random or by the clock."""
    for element in item:
        if element.keyword == name:
            element.value = value
        elif element.VR == "SQ":
            for inner in element.value:
                replace_values(inner, name, value)
