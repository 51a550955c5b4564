"""Draws an MR study as DICOM files: a head of ellipsoids with one tumour whose volume is known by formula.

Nothing here comes from a patient. Positions are in mm along DICOM's axes (left, posterior, superior), the head's
centre is (0, 0, 0). A pixel has the value of the tissue at its centre, so that a mask's volume is a count of points.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from edge_runtime.errors import OutputError

Vector = tuple[float, float, float]
MR_IMAGE, SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.7"
BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
FIELD_MM = 230.0  # side of a slice
HEIGHT_MM = 150.0  # of a stack of slices
TILT = math.radians(12)  # of the axial stacks, about the axis from right to left
NOISE = 8.0  # deviation, of about 1000
HEAD: dict[str, tuple[Vector, Vector]] = {  # tissue: centre and radii, each painted over those before it
    "scalp": ((0, 0, 0), (77, 96, 88)),
    "skull": ((0, 0, 0), (72, 91, 83)),
    "brain": ((0, 0, 0), (66, 85, 77)),
    "ventricles": ((0, -4, 8), (14, 30, 12)),
}


@dataclass(frozen=True)
class Tumour:
    """An ellipsoid along the patient's axes."""

    centre: Vector = (31.0, -18.0, 12.0)
    radii: Vector = (15.0, 19.0, 17.0)

    @property
    def volume_ml(self) -> float:
        """4/3 π abc."""
        return 4 / 3 * math.pi * math.prod(self.radii) / 1000


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a stack of slices lie."""

    row: Vector  # direction in which the column index grows
    column: Vector
    size: int
    slices: int
    step: float
    offset: float = 0.0  # of the stack's middle along the normal

    @property
    def pixel(self) -> float:
        """Side of a pixel in mm."""
        return FIELD_MM / self.size

    @property
    def normal(self) -> NDArray[np.float64]:
        """Direction from slice to slice."""
        return np.cross(self.row, self.column)

    def find_origin(self, number: int) -> NDArray[np.float64]:
        """Return the centre of a slice's first pixel."""
        half = (self.size - 1) / 2 * self.pixel
        depth = self.offset + (number - (self.slices - 1) / 2) * self.step
        return depth * self.normal - half * np.array(self.row) - half * np.array(self.column)

    def list_points(self, number: int) -> NDArray[np.float64]:
        """Return the centres of a slice's pixels (size, size, 3)."""
        index = np.arange(self.size) * self.pixel
        across = index[None, :, None] * np.array(self.row)
        points: NDArray[np.float64] = self.find_origin(number) + across + index[:, None, None] * np.array(self.column)
        return points


@dataclass(frozen=True)
class Plan:
    """One series: how bright each tissue is, and what its headers say."""

    name: str
    values: dict[str, int]
    grid: Grid
    tags: dict[str, Any] = field(default_factory=dict)
    minute: int = 0  # of the examination


@dataclass(frozen=True)
class Study:
    """What was drawn: files by series, and the truth."""

    files: dict[str, list[Path]]
    tumour: Tumour


CONTRASTS: dict[str, dict[str, int]] = {
    "t1": {"scalp": 820, "skull": 120, "brain": 480, "ventricles": 180, "tumour": 400},
    "t1ce": {"scalp": 830, "skull": 130, "brain": 490, "ventricles": 180, "tumour": 930},
    "t2": {"scalp": 600, "skull": 90, "brain": 430, "ventricles": 950, "tumour": 760},
    "flair": {"scalp": 550, "skull": 90, "brain": 480, "ventricles": 120, "tumour": 800},
}
SPIN_ECHO = {"ScanningSequence": "SE", "SequenceVariant": "SK"}
T1 = {**SPIN_ECHO, "RepetitionTime": 550, "EchoTime": 9, "FlipAngle": 90}
TAGS: dict[str, dict[str, Any]] = {
    "t1": {**T1, "SeriesDescription": "AX T1 SE PRE"},
    "t1ce": {**T1, "SeriesDescription": "AX T1 SE +C", "ContrastBolusAgent": "GADOLINIUM"},
    "t2": {**SPIN_ECHO, "RepetitionTime": 4500, "EchoTime": 102, "FlipAngle": 90, "SeriesDescription": "AX T2 TSE"},
    "flair": {
        **SPIN_ECHO, "ScanningSequence": ["SE", "IR"], "RepetitionTime": 9000, "EchoTime": 120,
        "InversionTime": 2500, "FlipAngle": 90, "SeriesDescription": "AX FLAIR",
    },
}  # fmt: skip


def make_axial(size: int, slices: int) -> Grid:
    """Return a tilted axial stack over the head."""
    return Grid((1, 0, 0), (0, math.cos(TILT), math.sin(TILT)), size, slices, HEIGHT_MM / slices)


def plan_study(slices: int, size: int) -> Iterator[Plan]:
    """Yield the series of a study: localizer, T2, FLAIR, T1, T1 with contrast agent and its projection."""
    planes: tuple[tuple[Vector, Vector], ...] = (
        ((1, 0, 0), (0, 1, 0)),
        ((1, 0, 0), (0, 0, -1)),
        ((0, 1, 0), (0, 0, -1)),
    )
    scout = {"SeriesDescription": "3-plane scout", "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], **T1}
    for row, column in planes:
        yield Plan("localizer", CONTRASTS["t1"], Grid(row, column, size, 1, 10.0), scout)
    axial = make_axial(size, slices)
    for minute, name in enumerate(("t2", "flair", "t1", "t1ce"), start=1):
        yield Plan(name, CONTRASTS[name], axial, TAGS[name], minute * 5)
    projected = {
        **TAGS["t1ce"],
        "SeriesDescription": "MIP",
        "ImageType": ["DERIVED", "SECONDARY", "PROJECTION IMAGE", "MIP"],
    }
    yield Plan("mip", CONTRASTS["t1ce"], replace(axial, slices=3, step=20.0), projected, 30)


def draw_study(dest: Path, slices: int = 24, size: int = 128, seed: int = 0) -> Study:
    """Write a study into DEST/cd, files without suffix in an order that says nothing, and DEST/truth.json.

    InstanceNumber runs against the position. The study is a function of the arguments alone.
    Raises: OutputError if DEST is not empty.
    """
    folder = dest / "cd"
    if dest.exists() and any(dest.iterdir()):
        raise OutputError(str(dest), "it is not empty", "name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    tumour = Tumour()
    objects = list(make_objects(list(plan_study(slices, size)), tumour, rng, seed))
    names = rng.permutation(len(objects))
    files: dict[str, list[Path]] = {}
    for (series, item), number in zip(objects, names, strict=True):
        path = folder / f"IM{number:06d}"
        item.save_as(path, enforce_file_format=True)
        files.setdefault(series, []).append(path)
    facts = {"volume_ml": tumour.volume_ml, **asdict(tumour)}
    listed = {name: sorted(path.name for path in paths) for name, paths in files.items()}
    (dest / "truth.json").write_text(json.dumps({"tumour": facts, "files": listed}, indent=1) + "\n", "utf-8")
    return Study(files, tumour)


def make_objects(
    plans: list[Plan], tumour: Tumour, rng: np.random.Generator, seed: int
) -> Iterator[tuple[str, Dataset]]:
    """Yield (series' name, data set) for each slice of each plan, a screenshot and a report."""
    for plan in plans:
        for number in range(plan.grid.slices):
            pixels = draw_slice(plan, number, tumour, rng)
            yield plan.name, make_image(plan, number, pixels, seed)
    yield "sc", make_capture(seed, plans[0].grid.size)
    yield "sr", make_report(seed)


def draw_slice(plan: Plan, number: int, tumour: Tumour, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Return a slice's pixels (size, size), of 12 bits."""
    points = plan.grid.list_points(number)
    image = np.zeros(points.shape[:2])
    for tissue, (centre, radii) in {**HEAD, "tumour": (tumour.centre, tumour.radii)}.items():
        image[is_inside(points, centre, radii)] = plan.values[tissue]
    return np.clip(np.abs(image + rng.normal(0, NOISE, image.shape)), 0, 4095).astype(np.uint16)


def is_inside(points: NDArray[np.float64], centre: Vector, radii: Vector) -> NDArray[np.bool_]:
    """Tell which points lie in an ellipsoid."""
    inside: NDArray[np.bool_] = ((((points - np.array(centre)) / np.array(radii)) ** 2).sum(-1)) <= 1
    return inside


# ---------------------------------------------------------------- data sets


def make_image(plan: Plan, number: int, pixels: NDArray[np.uint16], seed: int = 0) -> Dataset:
    """Return an MR image; InstanceNumber counts from the last position."""
    item = make_object(MR_IMAGE, plan.name, f"{number} {plan.grid.row} {plan.grid.column}", seed, plan.minute)
    grid = plan.grid
    item.Modality = "MR"
    item.ImageType = ["ORIGINAL", "PRIMARY", "M"]
    item.FrameOfReferenceUID = name_object(seed, "frame of reference")
    item.InstanceNumber, item.AcquisitionNumber = grid.slices - number, 1
    item.ImagePositionPatient = [round(float(value), 6) for value in grid.find_origin(number)]
    item.ImageOrientationPatient = [round(float(value), 9) for value in (*grid.row, *grid.column)]
    item.PixelSpacing = [grid.pixel, grid.pixel]
    item.SliceThickness = round(0.8 * grid.step, 3)  # a gap between slices, as scanners leave one
    item.MRAcquisitionType = "2D"
    for name, value in plan.tags.items():
        setattr(item, name, value)
    return set_pixels(item, pixels)


def set_pixels(item: Dataset, pixels: NDArray[Any]) -> Dataset:
    """Return a data set with pixels: (H, W) grey or (H, W, 3) colour."""
    item.Rows, item.Columns = pixels.shape[:2]
    item.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    item.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        item.PlanarConfiguration = 0
    item.BitsAllocated = pixels.dtype.itemsize * 8
    item.BitsStored = 12 if pixels.dtype == np.uint16 else 8
    item.HighBit, item.PixelRepresentation = item.BitsStored - 1, 0
    item.PixelData = pixels.tobytes()
    return item


def make_capture(seed: int, size: int) -> Dataset:
    """Return a screenshot of the examination."""
    item = make_object(SECONDARY_CAPTURE, "sc", "0", seed, 40)
    item.Modality, item.ConversionType, item.InstanceNumber = "MR", "WSD", 1
    item.SeriesDescription = "Screen save"
    return set_pixels(item, np.full((size, size, 3), 90, np.uint8))


def make_report(seed: int) -> Dataset:
    """Return a structured report, which has no pixels."""
    item = make_object(BASIC_TEXT_SR, "sr", "0", seed, 45)
    item.Modality, item.InstanceNumber = "SR", 1
    item.ValueType, item.CompletionFlag, item.VerificationFlag = "CONTAINER", "COMPLETE", "UNVERIFIED"
    return item


def make_object(kind: str, series: str, number: str, seed: int, minute: int) -> Dataset:
    """Return a data set of the drawn patient, with UIDs that are a function of the arguments."""
    item = Dataset()
    item.file_meta = FileMetaDataset()
    item.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    item.SOPClassUID = item.file_meta.MediaStorageSOPClassUID = UID(kind)
    item.SOPInstanceUID = name_object(seed, series, number)
    item.file_meta.MediaStorageSOPInstanceUID = item.SOPInstanceUID
    item.StudyInstanceUID, item.SeriesInstanceUID = name_object(seed, "study"), name_object(seed, series)
    item.PatientName, item.PatientID = "DRAWN^PHANTOM", "PHANTOM"
    item.PatientBirthDate, item.PatientSex, item.ReferringPhysicianName = "", "O", ""
    item.StudyID, item.AccessionNumber, item.Manufacturer = "1", "", "phantom"
    item.StudyDate = item.SeriesDate = item.AcquisitionDate = item.ContentDate = "20200101"
    item.StudyTime = "100000"
    item.SeriesTime = item.AcquisitionTime = item.ContentTime = f"10{minute:02d}00"
    item.SeriesNumber = minute + 1
    return item


def name_object(seed: int, *parts: str) -> str:
    """Return the UID of a name."""
    return str(generate_uid(entropy_srcs=["edge-seg phantom", str(seed), *parts]))
