"""Where do slices lie in the patient? Vectors in mm, along DICOM's axes: left, posterior, superior."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median_low

from edge_runtime.hospital.headers.header import Frame, Vector

SAME_RAD = 1e-3  # two orientations are one within this angle
SAME_SPACING = 1e-3  # as a share
SAME_MM = 0.01  # two slices lie in one place within this; a step is even within this, or within SAME_STEP
SAME_STEP = 0.01  # as a share of the median step
GAP = 1.5  # times the median step: from here on slices are missing
PLANES = ("sagittal", "coronal", "axial")  # by the axis that the normal is nearest to
OBLIQUE_RAD = math.radians(5)  # from there on a plane is called oblique


@dataclass(frozen=True)
class Steps:
    """The distances between slices in order of position."""

    step_mm: float | None  # the median, of an even number the lower one
    missing: int  # slices, between the first and the last
    uneven: int  # steps that are neither even nor gaps
    gaps: int


def has_geometry(frame: Frame) -> bool:
    """Tell whether a slice says where it lies, with directions that can be."""
    if frame.position is None or frame.orientation is None:
        return False
    row, column = frame.orientation[:3], frame.orientation[3:]
    lengths = math.hypot(*row), math.hypot(*column)
    if min(lengths) < 0.5 or max(lengths) > 2:  # of unit length but for rounding
        return False
    return math.hypot(*cross(row, column)) > 0.5 * lengths[0] * lengths[1]


def cross(a: Sequence[float], b: Sequence[float]) -> Vector:
    """Return the cross product."""
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


def dot(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the scalar product."""
    return sum(x * y for x, y in zip(a, b, strict=True))


def to_unit(vector: Sequence[float]) -> Vector:
    """Return a vector of length 1."""
    length = math.hypot(*vector)
    return tuple(value / length for value in vector)


def find_normal(orientation: Vector) -> Vector:
    """Return the unit vector across a slice."""
    return to_unit(cross(orientation[:3], orientation[3:]))


def measure_angle(a: Vector, b: Vector) -> float:
    """Return the angle between two unit vectors, exact for small ones too."""
    return math.atan2(math.hypot(*cross(a, b)), dot(a, b))


def is_same_orientation(a: Vector, b: Vector) -> bool:
    """Tell whether rows and columns run the same way."""
    parts = ((a[:3], b[:3]), (a[3:], b[3:]))
    return all(measure_angle(to_unit(one), to_unit(other)) <= SAME_RAD for one, other in parts)


def is_same_spacing(a: Vector | None, b: Vector | None) -> bool:
    """Tell whether pixels have the same size."""
    if a is None or b is None:
        return a is b
    return all(abs(x - y) <= SAME_SPACING * max(x, y) for x, y in zip(a, b, strict=True))


def find_depth(frame: Frame) -> float:
    """Return a slice's position along its normal."""
    assert frame.position is not None and frame.orientation is not None
    return dot(frame.position, find_normal(frame.orientation))


def name_plane(orientation: Vector) -> str:
    """Return the nearest plane's name, with "oblique" where it is tilted by OBLIQUE_RAD or more."""
    normal = [abs(value) for value in find_normal(orientation)]
    axis = normal.index(max(normal))
    tilted = math.acos(min(1.0, normal[axis])) >= OBLIQUE_RAD
    return f"{PLANES[axis]} oblique" if tilted else PLANES[axis]


def measure_steps(depths: Sequence[float]) -> Steps:
    """Return the steps of sorted positions without repeats."""
    steps = [after - before for before, after in pairwise(depths)]
    if not steps:
        return Steps(None, 0, 0, 0)
    middle = median_low(steps)  # of two steps the smaller one: the other is the gap
    missing = uneven = gaps = 0
    for step in steps:
        if step >= GAP * middle:
            gaps += 1
            missing += max(1, round(step / middle) - 1)
        elif abs(step - middle) > max(SAME_MM, SAME_STEP * middle):
            uneven += 1
    return Steps(middle, missing, uneven, gaps)
