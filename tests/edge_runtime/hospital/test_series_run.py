"""Runs on drawn series: volume, geometry and files against the drawing, read from what was written alone."""

from __future__ import annotations

import json
import math
import stat
import subprocess
from dataclasses import replace
from pathlib import Path
from shutil import which
from typing import Any

import fakes
import hospital_cd as cd
import hospital_runs as runs
import nibabel
import numpy as np
import numpy.typing as npt
import pytest
from pydicom import dcmread

from edge_runtime.errors import ModelError
from edge_runtime.hospital.plan.choose_series import check_one_sequence
from reference.data.phantom_study import CONTRASTS, Grid, Plan, Tumour, draw_slice, draw_study, make_image

TILT = np.array([[0.96, -0.2, 0.2], [0.24, 0.94, -0.24], [-0.14, 0.28, 0.95]])
POINTS = npt.NDArray[np.float64]


def lie_in_tumour(points: POINTS) -> npt.NDArray[np.bool_]:
    """The ellipsoid's formula; half a micrometre for the rounding of what the file says."""
    tumour = Tumour()
    return (((points - tumour.centre) / np.array(tumour.radii)) ** 2).sum(-1) <= 1 + 1e-4


def count_drawn(files: list[Path]) -> int:
    """How many pixels have the tumour's brightness, by the stored values."""
    pixels = [np.frombuffer(dcmread(path).PixelData, "<u2") for path in files]
    return int(sum((values > runs.TUMOUR).sum() for values in pixels))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path], Path]:
    """A drawn study, the files of its T1 with contrast agent, and what a run wrote of it."""
    folder = tmp_path_factory.mktemp("study")
    drawn = draw_study(folder / "study", 24, 96)
    with pytest.MonkeyPatch.context() as monkeypatch:
        runs.use_net(monkeypatch, 96)
        runs.run(folder / "study" / "cd", "-o", folder / "out", "--write", "png,seg,sc,nifti", "--links")
    return folder / "study" / "cd", drawn.files["t1ce"], folder / "out"


def test_the_volume_is_that_of_the_ellipsoid(study: Any) -> None:
    """Within 2 % of the formula, and flagged, since no series has proven the model."""
    row = runs.find_taken(study[2])
    assert float(row["volume_ml"]) == pytest.approx(Tumour().volume_ml, rel=0.02)
    assert (row["objects"], row["flags"], row["error"], row["reason"]) == ("1", "unproven-series", "", "wanted")
    greatest = 2 * max(Tumour().radii)
    assert greatest - 6 < float(row["largest_mm"]) < greatest + 1
    assert len(runs.read_csv(study[2] / "series.csv")) == 10  # a row for every series, taken or not


def test_each_slice_has_its_row(study: Any) -> None:
    """Positions from the files' own, areas from the stored pixels."""
    _, files, out = study
    rows = runs.read_csv(out / "results.csv")
    slices = [dcmread(path) for path in files]
    along = np.array(slices[0].ImageOrientationPatient, float)
    normal = np.cross(along[:3], along[3:])
    slices.sort(key=lambda item: float(normal @ np.array(item.ImagePositionPatient, float)))
    assert [int(row["slice"]) for row in rows] == list(range(1, 25))
    for row, item in zip(rows, slices, strict=True):
        assert float(row["position_mm"]) == pytest.approx(normal @ np.array(item.ImagePositionPatient, float), abs=1e-3)
        drawn = (np.frombuffer(item.PixelData, "<u2") > runs.TUMOUR).sum() * float(item.PixelSpacing[0]) ** 2
        assert float(row["area_mm2"]) == pytest.approx(drawn, abs=0.01)
        assert row["file"] == f"{row['series']}/{int(row['slice']):04}" and (out / f"masks/{row['file']}.png").is_file()


def test_the_segmentation_lies_in_the_tumour(study: Any) -> None:
    """Every pixel of the SEG, placed by the SEG alone, lies in the ellipsoid, and none is missing."""
    _, files, out = study
    points = runs.list_lesion_points(out / runs.find_taken(out)["seg"])
    assert lie_in_tumour(points).all() and len(points) == count_drawn(files) > 500
    assert np.abs(points.mean(axis=0) - Tumour().centre).max() < 0.5
    seg, source = dcmread(out / runs.find_taken(out)["seg"]), dcmread(files[0])
    assert (seg.PatientID, seg.StudyInstanceUID) == (source.PatientID, source.StudyInstanceUID)
    assert seg.FrameOfReferenceUID == source.FrameOfReferenceUID and seg.SegmentationType == "BINARY"
    assert (seg.ContentDate, seg.SeriesDescription) == ("20200101", "edge-seg lesion (research)")
    known = {dcmread(path).SOPInstanceUID for path in files}
    referred = seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert {item.ReferencedSOPInstanceUID for item in referred} <= known


def test_the_volume_file_lies_in_the_tumour(study: Any) -> None:
    """Every voxel of the NIfTI mask, placed by its affine, lies in the ellipsoid, and none is missing."""
    _, files, out = study
    image = nibabel.load(out / runs.find_taken(out)["nifti"])
    assert image.shape == (96, 96, 24) and image.get_data_dtype() == np.uint8
    np.testing.assert_allclose(image.get_sform(), image.get_qform(), atol=1e-3)
    voxels = np.argwhere(np.asarray(image.dataobj))
    points = (voxels @ image.affine[:3, :3].T + image.affine[:3, 3]) * (-1, -1, 1)
    assert lie_in_tumour(points).all() and len(points) == count_drawn(files)


def test_captures_are_warned_about(study: Any) -> None:
    """One for each slice with a lesion and its neighbours; the warning is burned in, and no volume."""
    _, files, out = study
    row = runs.find_taken(out)
    captures = sorted((out / row["seg"]).parent.glob("sc-*.dcm"))
    assert len(captures) == int(row["sc"]) == int(row["lesion_slices"]) + 2
    first, item = dcmread(files[0]), dcmread(captures[3])
    assert item.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7" and item.StudyInstanceUID == first.StudyInstanceUID
    assert (item.BurnedInAnnotation, item.PatientID, list(item.PatientOrientation)) == ("NO", "PHANTOM", ["L", "P"])
    pixels = np.frombuffer(item.PixelData, np.uint8)[: item.Rows * item.Columns * 3].reshape(item.Rows, -1, 3)
    yellow = (pixels[..., 0] > 200) & (pixels[..., 1] > 200) & (pixels[..., 2] < 60)
    lit = np.nonzero(yellow.any(axis=1))[0]
    assert yellow.sum() > 500 and lit.min() > 0.85 * item.Rows and lit.max() < item.Rows


@pytest.mark.skipif(which("dciodvfy") is None, reason="dicom3tools is not installed")
def test_a_strict_reader_finds_no_fault(study: Any) -> None:
    """dciodvfy of dicom3tools, an implementation of its own: no error in the SEG, nor in a Secondary Capture."""
    folder = (study[2] / runs.find_taken(study[2])["seg"]).parent
    for path in (folder / "seg.dcm", sorted(folder.glob("sc-*.dcm"))[2]):
        done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True)
        assert [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")] == []


def test_what_names_a_patient_is_kept_apart(study: Any) -> None:
    """dicom/ is the user's alone, links.csv and the salt too; run.json says so, and names no path."""
    cd_folder, files, out = study
    modes = {name: stat.S_IMODE((out / name).stat().st_mode) for name in ("dicom", "links.csv", ".salt")}
    assert modes == {"dicom": 0o700, "links.csv": 0o600, ".salt": 0o600}
    links = runs.read_csv(out / "links.csv")
    assert {link["path"] for link in links} == set(map(str, files)) and {link["patient_id"] for link in links} == {
        "PHANTOM"
    }
    facts = json.loads((out / "run.json").read_text("utf-8"))
    assert "dicom/" in facts["identities"] and str(cd_folder.parent.parent) not in json.dumps(facts)
    assert runs.find_taken(out)["series"] in facts["arguments"]


def list_geometries() -> list[tuple[str, POINTS]]:
    """24 ways in which rows and columns run along the axes, straight and oblique."""
    found = []
    for row in range(3):
        for column in range(3):
            for signs in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
                if row != column:
                    along = np.zeros((2, 3))
                    along[0, row], along[1, column] = signs
                    found.append((f"straight {row}{column}{signs}", along))
                    tilted = np.linalg.qr((along @ TILT).T)
                    turned = tilted[0].T * np.sign(np.diag(tilted[1]))[:, None]
                    found.append((f"oblique {row}{column}{signs}", turned))
    return found


def test_96_geometries_lie_in_the_tumour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Classic and enhanced, 48 directions each, files shuffled: SEG and NIfTI lie in the ellipsoid by themselves."""
    items, drawn, size = [], {}, 32
    for form in ("classic", "enhanced"):
        for name, along in list_geometries():
            grid = Grid(
                tuple(along[0]), tuple(along[1]), size, 6, 8.0, offset=float(np.cross(*along) @ Tumour().centre)
            )
            plan = Plan(f"{form} {name}", CONTRASTS["t1ce"], grid, cd.T1CE, 5)
            pixels = [draw_slice(plan, n, Tumour(), np.random.default_rng(n)) for n in range(grid.slices)]
            slices = [make_image(plan, n, values) for n, values in enumerate(pixels)]
            drawn[str(slices[0].SeriesInstanceUID)] = int(sum((values > runs.TUMOUR).sum() for values in pixels))
            if form == "enhanced":
                whole = cd.to_enhanced(slices)
                whole.SOPInstanceUID = whole.file_meta.MediaStorageSOPInstanceUID = slices[0].SOPInstanceUID
                whole.SeriesInstanceUID, slices = slices[0].SeriesInstanceUID, [whole]
            items += slices
    cd.write_cd(tmp_path / "cd", items)
    runs.use_net(monkeypatch, size)
    runs.run(tmp_path / "cd", "-o", tmp_path / "out", "--series", "all", "--write", "seg,nifti", "--overlay", "none")
    rows = runs.read_csv(tmp_path / "out" / "series.csv")
    assert len(rows) == 96 and {row["error"] for row in rows} == {""}
    for row in rows:
        seg = dcmread(tmp_path / "out" / row["seg"])
        points = runs.list_lesion_points(tmp_path / "out" / row["seg"])
        assert lie_in_tumour(points).all()
        assert len(points) == drawn.pop(str(seg.ReferencedSeriesSequence[0].SeriesInstanceUID)) > 20
        image = nibabel.load(tmp_path / "out" / row["nifti"])
        voxels = np.argwhere(np.asarray(image.dataobj))
        own = (voxels @ image.affine[:3, :3].T + image.affine[:3, 3]) * (-1, -1, 1)
        assert len(own) == len(points) and np.abs(np.sort(own, axis=0) - np.sort(points, axis=0)).max() < 0.01
    assert not drawn


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
def test_nifti_keeps_its_own_geometry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    """A volume in an odd order: the mask has its header but for texts, and lies where the bright voxels are."""
    rng = np.random.default_rng(0)
    values = rng.integers(480, 500, (24, 24, 24)).astype(np.int16)
    values[0], values[:, 0], values[:, :, 0] = 0, 0, 0
    values[3:7, 10:13, 2:5] = 950
    affine = np.array([[0, 0, 5.0, 3], [-1.5, 0.1, 0, 4], [0.1, 1.5, 0, 5], [0, 0, 0, 1]])
    source = nibabel.Nifti1Image(values, affine)
    source.set_sform(affine, 2)
    source.set_qform(None, 0)
    source.header["descrip"], source.header["aux_file"], source.header["dim_info"] = b"DOE", b"JANE", 6
    nibabel.save(source, tmp_path / f"t1ce.{suffix}")
    runs.use_net(monkeypatch, 24)
    for plane in ("acquired", "axial", "coronal"):
        out = tmp_path / plane
        runs.run(tmp_path / f"t1ce.{suffix}", "-o", out, "--plane", plane)
        row = runs.find_taken(out)
        mask = nibabel.load(out / row["nifti"])
        np.testing.assert_array_equal(np.asarray(mask.dataobj), values > 900)
        np.testing.assert_array_equal(mask.get_sform(coded=True)[0], source.get_sform(coded=True)[0])
        assert mask.header["sform_code"] == 2 and mask.header["qform_code"] == 0 and mask.header["dim_info"] == 6
        assert mask.header["descrip"] == b"edge-seg mask (research)" and mask.header["aux_file"] == b""
        voxel = abs(np.linalg.det(affine[:3, :3]))
        assert float(row["volume_ml"]) == pytest.approx(36 * voxel / 1000, abs=6e-4)
        assert not (out / "dicom").exists()


def test_a_hole_is_not_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two slices of the tumour are missing: flagged, at most 1.5 steps a gap, no NIfTI; the SEG has what is there."""
    plan = Plan("t1ce", CONTRASTS["t1ce"], Grid((1, 0, 0), (0, 1, 0), 48, 24, 6.0), cd.T1CE, 5)
    pixels = [draw_slice(plan, n, Tumour(), np.random.default_rng(n)) for n in range(24)]
    kept = [n for n in range(24) if n not in (13, 14)]
    cd.write_cd(tmp_path / "cd", [make_image(plan, n, pixels[n]) for n in kept])
    runs.use_net(monkeypatch, 48)
    runs.run(tmp_path / "cd", "-o", tmp_path / "out", "--write", "seg,nifti", status=3)
    row = runs.find_taken(tmp_path / "out")
    areas = {n: (pixels[n] > runs.TUMOUR).sum() * plan.grid.pixel**2 for n in kept}
    expected = sum(area * (7.5 if n in (12, 15) else 6.0) for n, area in areas.items()) / 1000
    assert float(row["volume_ml"]) == pytest.approx(expected, abs=1e-3)
    assert row["flags"] == "gapped;unproven-series" and row["missing"] == "2" and row["nifti"] == ""
    assert row["error"] == "nifti: slices are missing: a volume of the others would be wrong"
    assert lie_in_tumour(runs.list_lesion_points(tmp_path / "out" / row["seg"])).all()


def test_a_slice_that_does_not_decode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Its row has failed, the others are there, the series has no volume; the exit status says so."""
    from pydicom import uid
    from pydicom.encaps import encapsulate

    items = list(cd.make_slices(cd.plan(20, cd.T1CE, 1, "t1ce")))
    items[2].file_meta.TransferSyntaxUID = uid.JPEGLSLossless
    items[2].PixelData = encapsulate([bytes(range(200))])
    items[2]["PixelData"].is_undefined_length = True
    cd.write_cd(tmp_path / "cd", items)
    runs.use_net(monkeypatch, 20)
    runs.run(tmp_path / "cd", "-o", tmp_path / "out", status=3)
    rows, row = runs.read_csv(tmp_path / "out" / "results.csv"), runs.find_taken(tmp_path / "out")
    assert [item["status"] for item in rows].count("failed") == 1 and rows[2]["status"] == "failed"
    assert (row["volume_ml"], row["flags"]) == ("", "incomplete")
    assert row["error"] == "1 of 5 slices could not be segmented"
    lines = capsys.readouterr().err.splitlines()
    assert lines[-2:] == [
        f"edge-seg: error: {rows[2]['file']}: damaged: it does not decode; copy it again from its source",
        f"edge-seg: error: {row['series']}: 1 of 5 slices could not be segmented",
    ]


@pytest.mark.parametrize(
    ("options", "status", "why"),
    [
        (["--series", "99"], 2, "--series 99: there are 1 series"),
        (["--series", "one"], 2, "neither a number of --list nor all"),
        (["--write", "png,pdf"], 2, "'pdf' is none of png, seg, sc, nifti"),
        (["--plane", "sagittal", "--series", "1"], 2, "series 1 is axial oblique, and only NIfTI is cut anew"),
        (["--salt", "gone"], 1, "--salt: No such file"),
        ([], 3, "no series that the model was made for"),
    ],
)
def test_what_cannot_be_done_writes_nothing(
    tmp_path: Path, capsys: Any, options: list[str], status: int, why: str
) -> None:
    """One line, and no folder."""
    cd.write_cd(tmp_path / "cd", list(cd.make_slices(cd.plan(20, cd.T2, 1, "t2"))))
    try:
        runs.run(tmp_path / "cd", "-o", tmp_path / "out", *options, status=status)
    except SystemExit as end:
        assert end.code == status
    assert why in capsys.readouterr().err.splitlines()[-1] and not (tmp_path / "out").exists()


def test_air_is_not_segmented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise with a bright spot, a fiftieth as bright as the other slices, has no lesion; a dim slice is flagged."""
    items = list(cd.make_slices(cd.plan(40, cd.T1CE, 1, "t1ce", 9)))
    rng = np.random.default_rng(0)
    for number, share in ((0, 0.02), (8, 0.2)):
        noise = rng.integers(450, 500, (40, 40))
        noise[0, 0], noise[10:20, 10:20] = 0, 950
        items[number].PixelData = (noise * share).astype("<u2").tobytes()
    cd.write_cd(tmp_path / "cd", items)
    runs.use_net(monkeypatch, 40)
    runs.run(tmp_path / "cd", "-o", tmp_path / "out")
    rows = runs.read_csv(tmp_path / "out" / "results.csv")
    assert rows[0]["lesion_pixels"] == "0" and rows[0]["flags"].split(";")[0] == "air"
    assert rows[8]["lesion_pixels"] == "100" and rows[8]["flags"].split(";")[0] == "faint"
    assert all("air" not in row["flags"] and "faint" not in row["flags"] for row in rows[1:8])


def test_a_model_of_several_sequences_is_refused() -> None:
    """Its channels are named; one series would stand for all of them."""
    contract = fakes.make_contract(colour="rgb")
    check_one_sequence(contract)
    several = replace(contract, input=replace(contract.input, channels=("t1", "t1ce", "flair")))
    with pytest.raises(ModelError, match=r"3 sequences at a time \(t1, t1ce, flair\)"):
        check_one_sequence(several)


def test_an_unsure_series_is_taken_and_flagged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing tells whether contrast agent was given."""
    cd.write_cd(tmp_path / "cd", list(cd.make_slices(cd.plan(20, {**cd.T1, "SeriesDescription": "AX T1"}, 1, "t1ce"))))
    runs.use_net(monkeypatch, 20)
    runs.run(tmp_path / "cd", "-o", tmp_path / "out")
    row = runs.find_taken(tmp_path / "out")
    assert (row["verdict"], row["reason"]) == ("unsure", "contrast") and "sequence?" in row["flags"].split(";")
    assert math.isfinite(float(row["volume_ml"]))
