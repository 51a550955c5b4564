"""`evaluate --series`: what is marked in whole series, against pydicom, a naive flood fill and sums by hand."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.models import DEFAULT
from reference.__main__ import main
from reference.data.phantom import draw_folder
from reference.evaluation.predict import SeriesAlarms, find_alarms

CUT = 230  # of 255: marks the tumour, and elsewhere what happens to be brightest


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("pydicom", "nibabel"):
        pytest.importorskip(package, reason="it reads DICOM and NIfTI files")
    dest = tmp_path_factory.mktemp("study") / "phantom"
    assert main(["draw", "--dicom", "12", str(dest), "--size", "64"]) == 0
    return dest


def mark(image: np.ndarray) -> np.ndarray:
    return (image >= CUT).astype(np.float32)


def count_naively(points: set[tuple[int, int, int]]) -> int:
    """Objects of voxels that touch, also over edges and corners."""
    left, count = set(points), 0
    while left:
        count, edge = count + 1, [left.pop()]
        while edge:
            z, y, x = edge.pop()
            near = {(z + a, y + b, x + c) for a, b, c in product((-1, 0, 1), repeat=3)} & left
            left -= near
            edge += near
    return count


def measure_naively(
    study: Path, name: str, left_out: int | None = None, bridged: bool = False
) -> tuple[int, int, float]:
    """Marked slices, objects and mL of a series; one of its slices may be missing, and the gap be closed."""
    import pydicom

    files = json.loads((study / "truth.json").read_text())["files"][name]
    items = [pydicom.dcmread(study / "cd" / file) for file in files]
    across = np.cross(items[0].ImageOrientationPatient[:3], items[0].ImageOrientationPatient[3:])
    items.sort(key=lambda item: float(np.dot(item.ImagePositionPatient, across)))
    depths = [float(np.dot(item.ImagePositionPatient, across)) for item in items]
    step = depths[1] - depths[0]
    points, marked, ml = set(), 0, 0.0
    for number, item in enumerate(items):
        if number == left_out:
            continue
        values = item.pixel_array.astype(float)
        found = np.rint((values - values.min()) * 255 / (values.max() - values.min())) >= CUT
        beside = [way for way in (number - 1, number + 1) if way == left_out]
        extent = step * (1 + 0.25 * len(beside))  # no way counts more than 1.5 steps
        marked += bool(found.any())
        ml += int(found.sum()) * float(item.PixelSpacing[0]) * float(item.PixelSpacing[1]) * extent / 1000
        place = number - (bridged and left_out is not None and number > left_out)
        points |= {(place, int(y), int(x)) for y, x in np.argwhere(found)}
    return marked, count_naively(points), ml


def find_of(found: list[SeriesAlarms], wanted: tuple[int, int, float]) -> list[SeriesAlarms]:
    marked, objects, ml = wanted
    return [
        item
        for item in found
        if (item.marked, item.objects) == (marked, objects) and item.volume_ml == pytest.approx(ml, rel=1e-3)
    ]


def test_each_series_has_its_figures(study: Path) -> None:
    """Slices, objects and mL of all four sequences are those of a loop over the files."""
    found = find_alarms(mark, [study / "cd"], 0.5)
    assert [(item.slices, item.failed, item.plane.split()[0]) for item in found] == [(12, 0, "axial")] * 4
    for name in ("t1", "t1ce", "t2", "flair"):
        wanted = measure_naively(study, name)
        assert wanted[0] > 0 and len(find_of(found, wanted)) == 1, (name, wanted, found)


def test_a_missing_slice_joins_nothing(study: Path, tmp_path: Path) -> None:
    """Over a gap nothing is connected, and no volume is filled in: of a slice whose loss parts an object."""
    lost = next(
        number
        for number in range(1, 11)
        if measure_naively(study, "t1ce", number)[1] != measure_naively(study, "t1ce", number, bridged=True)[1]
    )
    files = json.loads((study / "truth.json").read_text())["files"]["t1ce"]
    for file in files:
        (tmp_path / file).write_bytes((study / "cd" / file).read_bytes())
    import pydicom

    by_height = sorted(files, key=lambda file: pydicom.dcmread(study / "cd" / file).ImagePositionPatient[2])
    (tmp_path / by_height[lost]).unlink()
    assert find_of(find_alarms(mark, [tmp_path], 0.5), measure_naively(study, "t1ce", lost))


def test_the_page_and_the_json_have_the_series(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A row for each series beside the scores of the slices."""
    draw_folder(2, tmp_path / "data", seed=1, size=64)
    command = ["evaluate", str(DEFAULT), "--images", str(tmp_path / "data" / "images"), "--masks"]
    command += [str(tmp_path / "data" / "masks"), "--series", str(study / "cd")]
    assert main([*command, "--json"]) == 0
    series = json.loads(capsys.readouterr().out)["series"]
    assert [item["slices"] for item in series] == [12] * 4
    assert main(command) == 0
    page = capsys.readouterr().out
    assert "False alarms in whole series" in page and f"{series[0]['marked']} of 12" in page


def test_a_folder_without_series_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What holds no series ends with one line."""
    draw_folder(1, tmp_path / "data", seed=1, size=64)
    images = str(tmp_path / "data" / "images")
    assert main(["evaluate", str(DEFAULT), "--images", images, "--series", str(tmp_path / "data")]) == 1
    assert "no DICOM or NIfTI file" in capsys.readouterr().err
