"""Display orientation: a field of coordinates is drawn into every orientation, and read from the displayed slice."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import pytest

from edge_runtime.contract.fields import Acquisition
from edge_runtime.hospital.find_series import Listing, find_series
from edge_runtime.hospital.pixels.display import from_display, to_display
from edge_runtime.hospital.pixels.nifti_pixels import VolumeFile
from edge_runtime.hospital.pixels.read_slice import SliceReader
from edge_runtime.hospital.pixels.slice_source import find_turn
from edge_runtime.hospital.plan.plan_series import plan_series

# Which axis (0 left, 1 posterior, 2 superior) runs along a displayed row and column, and which way.
SHOWN = {"axial": ((0, 1), (1, 1)), "coronal": ((0, 1), (2, -1)), "sagittal": ((1, 1), (2, -1))}
PLANE_OF = {0: "sagittal", 1: "coronal", 2: "axial"}
TILT = np.array([[0.96, -0.2, 0.2], [0.24, 0.94, -0.24], [-0.14, 0.28, 0.95]])  # nearly a rotation, some 16 degrees
Array = npt.NDArray[Any]


def list_orientations() -> list[tuple[str, tuple[float, ...]]]:
    """All 24 right and left ways in which rows and columns can run along the axes, and names of their planes."""
    found = []
    for row, column in product(range(3), repeat=2):
        for a, b in product((1, -1), repeat=2):
            if row != column:
                along = np.zeros((2, 3))
                along[0, row], along[1, column] = a, b
                found.append((PLANE_OF[3 - row - column], tuple(along.ravel())))
    return found


@pytest.mark.parametrize("tilted", [False, True], ids=["straight", "oblique"])
@pytest.mark.parametrize(("plane", "along"), list_orientations())
def test_slices_are_shown_as_people_are_used_to(plane: str, along: tuple[float, ...], tilted: bool) -> None:
    """What grows along the displayed rows and columns is the axis that convention says; the way back is exact."""
    directions = np.array(along).reshape(2, 3) @ (TILT if tilted else np.eye(3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    rows, columns = np.mgrid[0:5, 0:7]
    field = columns[..., None] * directions[0] + rows[..., None] * directions[1]  # each pixel's (x, y, z)
    turn = find_turn(tuple(directions.ravel()))
    shown = to_display(field, turn)
    (across, right), (down, below) = SHOWN[plane]
    assert (np.diff(shown[:, :, across], axis=1) * right > 0.8).all()
    assert (np.diff(shown[:, :, down], axis=0) * below > 0.8).all()
    np.testing.assert_array_equal(from_display(shown, turn), field)


def write_coordinates(path: Path, order: tuple[int, ...], signs: tuple[int, ...], axis: int) -> Array:
    """A NIfTI file whose voxels hold a coordinate of their own, in mm along DICOM's axes; its affine."""
    shape = tuple(np.array((5, 6, 7))[list(order)])
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3)[:, list(order)] * np.array(signs)) * np.array((3.0, 2.0, 4.0))
    affine[:3, 3] = (11, -5, 7)
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    right = index @ affine[:3, :3].T + affine[:3, 3]
    values = (right * (-1, -1, 1))[..., axis]
    nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), affine), path)
    return affine


ORDERS = [(order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Listing:
    """Files of all 48 orders and directions of axes, three of each: one for each coordinate."""
    folder = tmp_path_factory.mktemp("volumes")
    for number, (order, signs) in enumerate(ORDERS):
        for axis in range(3):
            write_coordinates(folder / f"t1ce_{number:02}_{axis}.nii", order, signs, axis)
    return find_series([folder], Acquisition("MR", "T1", "yes", 3))


@pytest.mark.parametrize("plane", ["acquired", "axial", "coronal", "sagittal"])
def test_nifti_in_48_orders_is_shown_the_same(volumes: Listing, plane: str) -> None:
    """For each order and direction of axes: planned slices, displayed, show coordinates as convention says."""
    series = plan_series(volumes.series, plane)
    assert len(series) == 3 * len(ORDERS) == 144
    for number, (order, _) in enumerate(ORDERS):
        planned = series[3 * number : 3 * number + 3]
        (across, right), (down, below) = SHOWN[PLANE_OF[order[2]] if plane == "acquired" else plane]
        shown = [read_all(planned[axis]) for axis in range(3)]  # of each coordinate (slices, rows, columns)
        assert (np.diff(shown[across], axis=2) * right > 0).all() and (np.diff(shown[across], axis=1) == 0).all()
        assert (np.diff(shown[down], axis=1) * below > 0).all() and (np.diff(shown[down], axis=2) == 0).all()
        positions = [item.source.position_mm for item in planned[0].slices]
        step = np.abs(np.diff(shown[3 - across - down][:, 0, 0]))
        np.testing.assert_allclose(np.diff(positions), step, atol=1e-4)
        sides = shown[across][0, 0, 1] - shown[across][0, 0, 0], shown[down][0, 1, 0] - shown[down][0, 0, 0]
        assert planned[0].slices[0].source.pixel_mm2 == pytest.approx(abs(np.prod(sides)), rel=1e-4)


def read_all(planned: Any) -> Array:
    """Stored values of all slices, displayed."""
    reader, found = SliceReader(), []
    for item in planned.slices:
        opened = reader.open_file(item.path, None, "nifti")
        assert isinstance(opened, VolumeFile)
        stored = opened.read_slice(item.source.axis, item.source.frame, 10**6)
        found.append(to_display(stored.values, item.source.turn))
    return np.stack(found)


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
@pytest.mark.parametrize("kind", ["<i2", ">i2", "<f4", "u1", ">f8"])
def test_nifti_values_are_those_of_nibabel(tmp_path: Path, suffix: str, kind: str) -> None:
    """Slice by slice, in any order, in either byte order, with the file's own slope."""
    rng = np.random.default_rng(2)
    header = nibabel.Nifti1Header(endianness="<" if kind[0] in "<u" else ">")
    values = rng.integers(0, 200, (4, 5, 6))
    header.set_data_dtype(kind)
    image = nibabel.Nifti1Image(values.astype(kind), np.eye(4), header)
    image.header.set_slope_inter(2.5, -3)
    nibabel.save(image, tmp_path / f"t1ce.{suffix}")
    expected = nibabel.load(tmp_path / f"t1ce.{suffix}").get_fdata()
    reader = SliceReader()
    opened = reader.open_file(tmp_path / f"t1ce.{suffix}", None, "nifti")
    assert isinstance(opened, VolumeFile)
    for axis in (2, 0, 1):
        for number in (3, 0, 2):
            found = opened.read_slice(axis, number, 10**6)
            real = found.values.astype(float) * found.slope + found.intercept
            np.testing.assert_allclose(real, np.take(expected, number, axis).T, atol=1e-4)
