"""`reference import dicom`: series become a data folder, each slice as pydicom and a naive loop make it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from reference.__main__ import main
from reference.data.folders import read_folder


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("pydicom", "nibabel"):
        pytest.importorskip(package, reason="it reads DICOM and NIfTI files")
    dest = tmp_path_factory.mktemp("study") / "phantom"
    assert main(["draw", "--dicom", "12", str(dest), "--size", "64"]) == 0
    return dest


def read_naively(study: Path, name: str) -> list[np.ndarray]:
    """A series' slices by height, from their least to their greatest value: axial, as they are displayed."""
    import pydicom

    files = json.loads((study / "truth.json").read_text())["files"][name]
    items = sorted((pydicom.dcmread(study / "cd" / file) for file in files), key=lambda f: f.ImagePositionPatient[2])
    images = []
    for item in items:
        values = item.pixel_array.astype(float)
        images.append(np.rint((values - values.min()) * 255 / (values.max() - values.min())).astype(np.uint8))
    return images


def test_heads_become_a_tumour_free_folder(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All four sequences, in order of position, with empty masks; localizer, MIP, SC and SR are left out with why."""
    dest = tmp_path / "healthy"
    assert main(["import", "dicom", str(study / "cd"), str(dest), "--tumour-free"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(" slices, S" in line for line in lines) == 4
    for reason in ("localizer", "projection", "not-image"):
        assert [line for line in lines if f"left out, {reason}: " in line], lines
    slices = read_folder(dest)
    assert len(slices) == 48 and len({item.patient for item in slices}) == 1  # of one study
    assert {item.kind for item in slices} == {"none"}
    found: dict[str, list[np.ndarray]] = {}
    for item in slices:
        image, mask = (cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in (item.image, item.mask))
        assert image is not None and mask is not None
        assert not mask.any() and mask.shape == image.shape
        found.setdefault(item.image.name.rpartition("-")[0], []).append(image)
    wanted = [read_naively(study, name) for name in ("t1", "t1ce", "t2", "flair")]
    for images in found.values():
        assert any(all(np.array_equal(a, b) for a, b in zip(images, other, strict=True)) for other in wanted)


def test_a_chosen_series_waits_for_its_masks(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--series takes that one alone; without --tumour-free there are no masks, and a line says where they belong."""
    assert main(["import", "dicom", str(study / "cd"), str(tmp_path / "all"), "--tumour-free"]) == 0
    number = next(line for line in capsys.readouterr().out.splitlines() if " slices, " in line).split()[1].rstrip(":")
    dest = tmp_path / "one"
    assert main(["import", "dicom", str(study / "cd"), str(dest), "--series", number]) == 0
    assert str(dest / "masks") in capsys.readouterr().out and not (dest / "masks").exists()
    with (dest / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(path.stem for path in (dest / "images").iterdir()) == sorted(row["id"] for row in rows)
    assert len(rows) == 12 and {row["class"] for row in rows} == {"unknown"}


def test_nothing_of_the_source_names_the_patient(study: Path, tmp_path: Path) -> None:
    """Identifiers, names and paths of the source are in no file of the folder, nor in a file's name."""
    import pydicom

    dest = tmp_path / "healthy"
    assert main(["import", "dicom", str(study / "cd"), str(dest), "--tumour-free"]) == 0
    item = pydicom.dcmread(next((study / "cd").iterdir()))
    words = [str(item.PatientName), str(item.PatientID), item.StudyInstanceUID, str(study)]
    text = b"\n".join([path.name.encode() + path.read_bytes() for path in dest.rglob("*") if path.is_file()])
    assert all(words) and not [word for word in words if word.encode() in text]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--series", "99"], "--series 99: there are"),
        (["--against", "x"], "of published sets"),
        ([], "it is not empty"),
    ],
)
def test_what_cannot_be_is_one_line(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], why: str
) -> None:
    """An unknown series, options of other sets, a folder that is in use: nothing is written."""
    dest = tmp_path / "dest"
    if not options:
        dest.mkdir()
        (dest / "mine.txt").write_text("")
    assert main(["import", "dicom", str(study / "cd"), str(dest), *options]) != 0
    error = capsys.readouterr().err
    assert why in error and len(error.splitlines()) == 1
    assert not (dest / "images").exists()


def test_options_of_series_are_refused_for_published_sets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--tumour-free or several sources for Figshare's set are one line."""
    for more in (["--tumour-free"], ["--series", "1"]):
        assert main(["import", "figshare", str(tmp_path), str(tmp_path / "d"), *more]) == 2
        assert "dicom alone" in capsys.readouterr().err
    assert main(["import", "figshare", str(tmp_path), str(tmp_path), str(tmp_path / "d")]) == 2
