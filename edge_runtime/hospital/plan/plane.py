"""Where do the slices of a NIfTI volume lie when it is cut along another axis than that of its file?"""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge_runtime.hospital.headers.header import Frame, Vector
from edge_runtime.hospital.series.geometry import PLANES, cross, dot, find_depth, has_geometry, name_plane, to_unit
from edge_runtime.hospital.series.group import Series

ACQUIRED = "acquired"
CHOICES = (ACQUIRED, *reversed(PLANES))


@dataclass(frozen=True)
class Cut:
    """One slice of a volume: which one across an axis of the voxels, and where it lies."""

    axis: int
    frame: Frame
    number: int  # along the axis, from 0


@dataclass(frozen=True)
class Voxels:
    """A volume's grid: for each axis the step from voxel to voxel in mm, and the number of voxels."""

    origin: Vector
    steps: tuple[Vector, Vector, Vector]
    shape: tuple[int, int, int]


def find_voxels(series: Series) -> Voxels:
    """Return the grid of a NIfTI series, whose slices lie across the last axis. They say where they lie."""
    by_number = sorted(series.slices, key=lambda item: item.number)
    first, header = by_number[0].frame, by_number[0].header
    assert first.position is not None and first.orientation is not None and first.spacing is not None
    row = tuple(value * first.spacing[1] for value in first.orientation[:3])
    column = tuple(value * first.spacing[0] for value in first.orientation[3:])
    if len(by_number) > 1:
        last = by_number[-1].frame.position
        assert last is not None
        span = by_number[-1].number - by_number[0].number
        step = tuple((end - start) / span for start, end in zip(first.position, last, strict=True))
    else:
        step = tuple(value * (first.thickness or 1.0) for value in to_unit(cross(row, column)))
    return Voxels(first.position, (row, column, step), (header.columns, header.rows, len(by_number)))


def cut(series: Series, plane: str) -> list[Cut]:
    """Return the slices of a NIfTI series in a plane, in order of position along their normal."""
    first = series.first.frame
    if plane == ACQUIRED or not has_geometry(first) or name_plane(first.orientation or ()).split()[0] == plane:
        return [Cut(2, item.frame, item.number) for item in series.slices]
    voxels = find_voxels(series)
    wanted = PLANES.index(plane)
    axis = max(range(3), key=lambda place: abs(to_unit(voxels.steps[place])[wanted]))
    across, down = (step for place, step in enumerate(voxels.steps) if place != axis)
    orientation = (*to_unit(across), *to_unit(down))
    thickness = abs(dot(voxels.steps[axis], to_unit(cross(across, down))))
    cuts = []
    for number in range(voxels.shape[axis]):
        place = tuple(a + number * b for a, b in zip(voxels.origin, voxels.steps[axis], strict=True))
        frame = Frame(place, orientation, (math.hypot(*down), math.hypot(*across)), thickness)
        cuts.append(Cut(axis, frame, number))
    return sorted(cuts, key=lambda item: find_depth(item.frame))
