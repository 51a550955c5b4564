"""`reference draw --dicom`: a study whose files alone give the tumour's volume and place back."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.cli import main as edge_seg
from reference.__main__ import main


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("pydicom", reason="it writes DICOM files")
    dest = tmp_path_factory.mktemp("study") / "phantom"
    assert main(["draw", "--dicom", "40", str(dest), "--size", "96"]) == 0
    return dest


def test_the_tumour_has_its_volume_and_place(study: Path) -> None:
    """By a naive count of bright pixels, each file read by pydicom alone, against 4/3 π abc; within 2 % and 0.5 mm."""
    import pydicom

    truth = json.loads((study / "truth.json").read_text())
    tumour = truth["tumour"]
    assert tumour["volume_ml"] == pytest.approx(4 / 3 * math.pi * math.prod(tumour["radii"]) / 1000)
    items = [pydicom.dcmread(study / "cd" / name) for name in truth["files"]["t1ce"]]
    across = np.cross(items[0].ImageOrientationPatient[:3], items[0].ImageOrientationPatient[3:])
    items.sort(key=lambda item: float(np.dot(item.ImagePositionPatient, across)))
    step = np.linalg.norm(np.subtract(items[1].ImagePositionPatient, items[0].ImagePositionPatient))
    count, places = 0, []
    for item in items:
        row, column = np.array(item.ImageOrientationPatient[:3]), np.array(item.ImageOrientationPatient[3:])
        for r, c in np.argwhere(item.pixel_array > 880):
            count += 1
            places.append(
                item.ImagePositionPatient + c * item.PixelSpacing[1] * row + r * item.PixelSpacing[0] * column
            )
    volume = count * float(items[0].PixelSpacing[0]) ** 2 * step / 1000
    assert volume == pytest.approx(tumour["volume_ml"], rel=0.02)
    assert np.abs(np.mean(places, axis=0) - tumour["centre"]).max() < 0.5


def test_headers_are_those_of_a_scanner(study: Path) -> None:
    """Oblique, InstanceNumber against the position, thickness below the step, names that say nothing."""
    import pydicom

    truth = json.loads((study / "truth.json").read_text())
    assert {name: len(files) for name, files in truth["files"].items()} == {
        "localizer": 3, "t2": 40, "flair": 40, "t1": 40, "t1ce": 40, "mip": 3, "sc": 1, "sr": 1,
    }  # fmt: skip
    assert not [path for path in (study / "cd").iterdir() if path.suffix]
    items = [pydicom.dcmread(study / "cd" / name) for name in truth["files"]["t1"]]
    items.sort(key=lambda item: item.InstanceNumber)
    heights = [item.ImagePositionPatient[2] for item in items]
    assert heights == sorted(heights, reverse=True) and items[0].ImageOrientationPatient[5] > 0.2
    assert items[0].SliceThickness < abs(heights[1] - heights[0])
    assert "PixelData" not in pydicom.dcmread(study / "cd" / truth["files"]["sr"][0])


def test_the_same_study_each_time(study: Path, tmp_path: Path) -> None:
    """The same bytes for the same seed, other UIDs for another; a folder that is not empty is refused."""
    assert main(["draw", "--dicom", "40", str(tmp_path / "again"), "--size", "96"]) == 0
    for path in (study / "cd").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / "cd" / path.name).read_bytes()
    assert main(["draw", "--dicom", "40", str(study)]) == 1
    assert main(["draw", "--dicom", "2", str(tmp_path / "two")]) == 2


def test_the_list_takes_the_one_with_contrast(study: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Verdicts by hand: T1 with contrast agent alone."""
    assert edge_seg(["--list", "--json", str(study / "cd")]) == 0
    rows = json.loads(capfd.readouterr().out)["series"]
    assert sorted((row["verdict"], row["reason"], row["slices"]) for row in rows) == [
        ("no", "contrast", 40), ("no", "localizer", 1), ("no", "localizer", 1), ("no", "localizer", 1),
        ("no", "not-image", 0), ("no", "projection", 3), ("no", "screenshot", 1), ("no", "sequence", 40),
        ("no", "sequence", 40), ("yes", "wanted", 40),
    ]  # fmt: skip
