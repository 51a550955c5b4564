"""NIfTI files in `--list`: a series each, by the header and the words of the file's name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from edge_runtime.cli import main

TILT = np.array([[-2.0, 0.0, 0.0, 10.0], [0.0, 1.5, -1.0, 20.0], [0.0, 0.5, 3.0, 30.0], [0.0, 0.0, 0.0, 1.0]])


def ask(path: Path, capfd: pytest.CaptureFixture[str], status: int) -> dict[str, Any]:
    assert main(["--list", "--json", str(path)]) == status
    (row,) = json.loads(capfd.readouterr().out)["series"]
    return dict(row)


@pytest.mark.parametrize(
    ("name", "shape", "kind", "verdict", "reason"),
    [
        ("sub-01_T1ce.nii.gz", (6, 5, 4), np.int16, "yes", "wanted"),
        ("case-t1gd.nii", (6, 5, 4), np.float32, "yes", "wanted"),
        ("BraTS_t1.nii.gz", (6, 5, 4), np.int16, "unsure", "contrast"),
        ("BraTS_flair.nii.gz", (6, 5, 4), np.int16, "no", "sequence"),
        ("scan.nii", (6, 5, 4), np.int16, "unsure", "sequence"),
        ("t1ce_seg.nii.gz", (6, 5, 4), np.uint8, "unsure", "map"),
        ("t1ce.nii", (6, 5, 2), np.int16, "no", "few-slices"),
        ("t1ce.nii", (6, 5, 4, 7), np.int16, "no", "4-d"),
        ("t1ce.nii", (6, 5, 4, 1), np.int16, "yes", "wanted"),
        ("t1ce.nii", (6, 5, 4), np.complex64, "no", "colour"),
    ],
)
@pytest.mark.parametrize("version", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_verdicts(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], version: Any, name: str, shape: tuple[int, ...], kind: Any,
    verdict: str, reason: str,
) -> None:  # fmt: skip
    """By hand; a file without its suffix is found too."""
    nibabel.save(version(np.ones(shape, kind), np.diag([-1.0, -1.0, 2.0, 1.0])), tmp_path / name)
    row = ask(tmp_path / name, capfd, 3 if verdict == "no" else 0)
    assert (row["verdict"], row["reason"], row["kind"]) == (verdict, reason, "nifti")


def test_geometry_is_that_of_the_affine(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Sizes, plane and step of a tilted volume, by hand; nothing says where: "no-position"."""
    image = nibabel.Nifti1Image(np.ones((6, 5, 4), np.int16), TILT)
    nibabel.save(image, tmp_path / "t1ce.nii")
    row = ask(tmp_path / "t1ce.nii", capfd, 0)
    assert (row["rows"], row["columns"], row["slices"], row["plane"]) == (5, 6, 4, "axial oblique")
    assert row["pixel_mm"] == [round(np.hypot(1.5, 0.5), 4), 2.0]
    normal = np.cross(TILT[:3, 0], TILT[:3, 1]) / np.linalg.norm(np.cross(TILT[:3, 0], TILT[:3, 1]))
    assert row["step_mm"] == pytest.approx(abs(normal @ TILT[:3, 2]), abs=1e-4)
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nibabel.save(image, tmp_path / "t1ce.nii")
    row = ask(tmp_path / "t1ce.nii", capfd, 0)
    assert (row["verdict"], row["reason"], row["flags"]) == ("unsure", "position", ["no-position"])


def test_two_forms_that_differ_are_flagged(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """qform and sform 5 mm apart."""
    image = nibabel.Nifti1Image(np.ones((6, 5, 4), np.int16), np.eye(4))
    moved = np.eye(4)
    moved[0, 3] = 5
    image.set_qform(moved, 1)
    nibabel.save(image, tmp_path / "t1ce.nii")
    assert ask(tmp_path / "t1ce.nii", capfd, 0)["flags"] == ["qform"]
