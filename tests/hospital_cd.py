"""A drawn CD of many kinds of series, each with a matrix size of its own, by which a row of `--list` is told."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from reference.data.phantom_study import (
    CONTRASTS,
    TAGS,
    Grid,
    Plan,
    Tumour,
    draw_slice,
    make_axial,
    make_image,
    make_object,
    name_object,
)

SEG, SR, ENHANCED = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.11", "1.2.840.10008.5.1.4.1.1.4.1"
SLICES = 5
T1CE, T1, T2, FLAIR = (TAGS[name] for name in ("t1ce", "t1", "t2", "flair"))
EXPECTED = {  # rows of the matrix: verdict and reason, by hand
    20: ("yes", "wanted"),  # T1 with contrast agent
    21: ("no", "contrast"),  # T1 "nativ"
    22: ("no", "sequence"),  # T2
    23: ("no", "sequence"),  # FLAIR
    24: ("no", "localizer"),  # three planes of one slice, without a word
    25: ("no", "projection"),
    26: ("no", "map"),  # ADC
    27: ("no", "screenshot"),
    28: ("no", "mosaic"),
    29: ("no", "4-d"),  # six times
    30: ("yes", "wanted"),  # the same as 20, made by a converter: DERIVED and SECONDARY
    31: ("unsure", "contrast"),  # T1 of which nothing says more, before all others
}
NOT_IMAGES = [("no", "not-image"), ("no", "own-result")]


def plan(size: int, tags: dict[str, Any], minute: int, values: str = "t1", slices: int = SLICES) -> Plan:
    return Plan(f"series {size}", CONTRASTS[values], make_axial(size, slices), tags, minute)


def make_slices(series: Plan) -> Iterator[Dataset]:
    rng = np.random.default_rng(series.grid.size)
    for number in range(series.grid.slices):
        yield make_image(series, number, draw_slice(series, number, Tumour(), rng))


def list_objects() -> list[Dataset]:
    """All objects of the CD."""
    derived = ["DERIVED", "SECONDARY"]
    items = [
        *make_slices(plan(20, T1CE, 30, "t1ce")),
        *make_slices(plan(21, {**T1, "SeriesDescription": "t1_se_tra nativ"}, 10)),
        *make_slices(plan(22, T2, 11, "t2")),
        *make_slices(plan(23, FLAIR, 12, "flair")),
        *make_slices(plan(25, {**T1CE, "ImageType": [*derived, "PROJECTION IMAGE", "MIP"]}, 31)),
        *make_slices(plan(26, {**T1, "ImageType": [*derived, "DIFFUSION", "ADC"]}, 13)),
        *make_slices(plan(28, {**T1, "ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}, 14)),
        *make_slices(plan(30, {**T1CE, "ImageType": derived}, 32, "t1ce")),
        *make_slices(plan(31, {**T1, "SeriesDescription": "AX T1 SE"}, 1)),
    ]
    silent = {**T1, "SeriesDescription": "", "ContrastBolusAgent": ""}
    for row, column in (((1, 0, 0), (0, 1, 0)), ((1, 0, 0), (0, 0, -1)), ((0, 1, 0), (0, 0, -1))):
        items += make_slices(Plan("series 24", CONTRASTS["t1"], Grid(row, column, 24, 1, 10.0), silent, 0))
    for time in range(6):
        for item in make_slices(plan(29, {**T1, "TemporalPositionIdentifier": time + 1}, 15)):
            item.SOPInstanceUID = name_object(time, item.SOPInstanceUID)
            item.PixelData = bytes(byte ^ (time == 1) for byte in item.PixelData)
            items.append(item)
    capture = next(make_slices(plan(27, T1CE, 33, slices=1)))
    capture.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    report, own = make_object(SR, "report", "1", 0, 40), make_object(SEG, "own", "1", 0, 41)
    report.Modality, own.Modality, own.SeriesDescription = "SR", "SEG", "edge-seg lesion (research)"
    return [*items, capture, report, own]


def write_cd(folder: Path, items: list[Dataset], seed: int = 0) -> Path:
    """Write objects under names that say nothing, in an order that says nothing."""
    folder.mkdir(parents=True)
    for number, item in zip(np.random.default_rng(seed).permutation(len(items)), items, strict=True):
        item.file_meta.MediaStorageSOPInstanceUID = item.SOPInstanceUID
        item.save_as(folder / f"{number:08X}", enforce_file_format=True)
    return folder


def drop_preamble(path: Path) -> None:
    """Leave a data set of older software: it begins with the file's meta information."""
    path.write_bytes(path.read_bytes()[132:])


def drop_meta(path: Path) -> None:
    """Leave a bare data set."""
    data = path.read_bytes()
    (length,) = struct.unpack("<I", data[140:144])
    path.write_bytes(data[144 + length :])


def write_zip(folder: Path, archive: Path, name: Callable[[Path], str] = lambda path: path.name) -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.iterdir()):
            file.write(path, name(path))
    return archive


def make_directory(files: list[str], series: str) -> Dataset:
    """A DICOMDIR that names files of one series."""
    item = Dataset()
    item.file_meta = FileMetaDataset()
    item.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    item.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    item.file_meta.MediaStorageSOPInstanceUID = name_object(0, "directory")
    item.FileSetID = "CD"
    records = [Dataset()]
    records[0].DirectoryRecordType, records[0].SeriesInstanceUID = "SERIES", series
    for file in files:
        record = Dataset()
        record.DirectoryRecordType, record.ReferencedFileID = "IMAGE", file.split("/")
        records.append(record)
    item.DirectoryRecordSequence = Sequence(records)
    return item


def to_enhanced(slices: list[Dataset], seed: int = 3) -> Dataset:
    """One multi-frame object of a series' slices, in an order that says nothing."""
    first = slices[0]
    item = make_object(ENHANCED, "enhanced", "1", 0, 35)
    item.Modality, item.ImageType = "MR", ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    item.FrameOfReferenceUID, item.SeriesDescription = first.FrameOfReferenceUID, first.SeriesDescription
    item.Rows, item.Columns, item.NumberOfFrames = first.Rows, first.Columns, len(slices)
    item.SamplesPerPixel, item.PhotometricInterpretation, item.PixelRepresentation = 1, "MONOCHROME2", 0
    item.BitsAllocated, item.BitsStored, item.HighBit = 16, 12, 11
    shared = Dataset()
    shared.PlaneOrientationSequence = [nest("ImageOrientationPatient", first.ImageOrientationPatient)]
    measures = nest("PixelSpacing", first.PixelSpacing)
    measures.SliceThickness = first.SliceThickness
    shared.PixelMeasuresSequence = [measures]
    shared.MREchoSequence = [nest("EffectiveEchoTime", float(first.EchoTime))]
    shared.MRTimingAndRelatedParametersSequence = [nest("RepetitionTime", first.RepetitionTime)]
    item.SharedFunctionalGroupsSequence = [shared]
    frames = [slices[place] for place in np.random.default_rng(seed).permutation(len(slices))]
    groups = []
    for frame in frames:
        group = Dataset()
        group.PlanePositionSequence = [nest("ImagePositionPatient", frame.ImagePositionPatient)]
        groups.append(group)
    item.PerFrameFunctionalGroupsSequence = groups
    item.PixelData = b"".join(frame.PixelData for frame in frames)
    return item


def nest(name: str, value: Any) -> Dataset:
    item = Dataset()
    setattr(item, name, value)
    return item


def to_implicit(item: Dataset) -> Dataset:
    item.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return item


def with_grid(series: Plan, **changes: Any) -> Plan:
    return replace(series, grid=replace(series.grid, **changes))
