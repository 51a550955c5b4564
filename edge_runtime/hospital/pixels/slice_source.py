"""Where is a slice's image, and how does it lie? Without NumPy, for the parent process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge_runtime.hospital.series.geometry import PLANES, dot, find_normal

# Where the columns and the rows of a displayed slice run to, by plane: DICOM's axes are left, posterior, superior.
DISPLAYED = {
    "sagittal": ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0)),
    "coronal": ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0)),
    "axial": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
}


Turn = tuple[bool, bool, bool]  # how stored pixels become displayed ones: transposed, then rows, columns flipped


@dataclass(frozen=True)
class SliceSource:
    """One slice of a chosen series: its place in a file, and what its row says of it."""

    form: str  # "classic", "multi-frame" or "nifti"
    series: str  # alias
    number: int  # from 1, in order of position
    entry: int | None = None  # offset of the file in a zip
    frame: int = 0  # from 0; of NIfTI, along `axis`
    axis: int = 2  # of a NIfTI file's voxels, across the slices
    turn: Turn = (False, False, False)
    position_mm: float | None = None  # along the normal
    pixel_mm2: float | None = None  # a pixel's area
    bright: float | None = None  # how bright the series' slices are, see `levels.measure_brightness`


def find_turn(orientation: Sequence[float]) -> Turn:
    """Return what brings a slice into its plane's usual display, of an oblique one into the nearest plane's.

    orientation: the direction of a row, then of a column. Axial: rows run to the patient's left, columns to posterior.
    Coronal: left, feet. Sagittal: posterior, feet.
    """
    normal = [abs(value) for value in find_normal(tuple(orientation))]
    across, down = DISPLAYED[PLANES[normal.index(max(normal))]]
    row, column = orientation[:3], orientation[3:]
    straight = abs(dot(row, across)) + abs(dot(column, down))
    transpose = abs(dot(column, across)) + abs(dot(row, down)) > straight
    if transpose:
        row, column = column, row
    return transpose, dot(column, down) < 0, dot(row, across) < 0


def to_slice_source(fields: Mapping[str, Any]) -> SliceSource:
    """Return the source of `asdict`'s fields that went through JSON."""
    transpose, flip_rows, flip_columns = fields["turn"]
    return SliceSource(**{**fields, "turn": (transpose, flip_rows, flip_columns)})
