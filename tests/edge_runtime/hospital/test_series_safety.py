"""What a run on series must not do: tell who patients are, lose work when killed, or cost a run of images anything."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import folder_runs
import hospital_cd as cd
import hospital_runs as runs
import numpy as np
import pytest
from test_privacy import PLANT, ROOT, planted

from reference.data.phantom import draw_phantom

__all__ = ["planted"]
ALL = ["--series", "all", "--write", "png,seg,sc,nifti", "--threads", "1"]


def run_apart(*arguments: object, path: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "edge_runtime.cli", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [path, str(ROOT)]))}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


@pytest.mark.parametrize("mode", ["--json", "--no-isolation"])
def test_planted_strings_are_found_nowhere(planted: Path, tmp_path: Path, mode: str) -> None:
    """In every text, invalid value, name, zip, DICOMDIR and NIfTI header: not in OUT but for dicom/, nor printed."""
    out = tmp_path / "out"
    done = run_apart(planted, "-o", out, mode, *ALL)
    assert done.returncode in (0, 3) and "Traceback" not in done.stderr
    rows = runs.read_csv(out / "series.csv")
    assert sum(bool(row["lesion_slices"]) for row in rows) >= 4 and len(list(out.rglob("masks/*/*.png"))) > 10
    written = [str(path) for path in out.rglob("*")]
    for path in out.rglob("*"):
        if path.is_file() and path.parts[len(out.parts)] != "dicom":
            data = path.read_bytes()
            written.append((gzip.decompress(data) if path.suffix == ".gz" else data).decode("latin-1"))
    assert any("edge-seg mask" in text for text in written)
    text = "\n".join([*written, done.stdout, done.stderr]).lower()
    for secret in (PLANT, "1.2.826", "20200101", "DRAWN^PHANTOM", str(planted)):
        assert secret.lower() not in text


def test_a_killed_run_ends_with_the_same_bytes(tmp_path: Path) -> None:
    """Killed while it segments and while it writes the series; the same command then leaves what one run leaves."""
    cd.write_cd(tmp_path / "cd", list(cd.make_slices(cd.plan(48, cd.T1CE, 1, "t1ce", 9))))
    (tmp_path / "salt").write_bytes(bytes(range(32)))
    arguments = [tmp_path / "cd", "--salt", tmp_path / "salt", "--write", "png,seg,sc,nifti", "--links"]
    assert run_apart(*arguments, "-o", tmp_path / "whole").returncode == 0
    expected = dict(runs.list_outputs(tmp_path / "whole"))
    assert any("seg.dcm" in name for name in expected) and "links.csv" in expected
    out = tmp_path / "killed"
    for sign in ("masks/*/*.png", "dicom"):
        process = folder_runs.start(*arguments, "-o", out, start_new_session=True)
        until = time.monotonic() + 100
        while not list(out.glob(sign)) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert not (out / "series.csv").exists()
    assert run_apart(*arguments, "-o", out).returncode == 0
    found = {name: data for name, data in runs.list_outputs(out) if ".tmp-" not in name}
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []


def test_own_results_are_not_segmented_again(tmp_path: Path) -> None:
    """SEG, SC and NIfTI that a run wrote, copied out of its folder, are all known as such."""
    cd.write_cd(tmp_path / "cd", list(cd.make_slices(cd.plan(48, cd.T1CE, 1, "t1ce", 9))))
    assert run_apart(tmp_path / "cd", "-o", tmp_path / "out", "--write", "seg,sc,nifti").returncode == 0
    results = [path for name in ("dicom", "nifti") for path in (tmp_path / "out" / name).rglob("*") if path.is_file()]
    assert len(results) > 3
    done = run_apart("--list", "--json", *results)
    series = json.loads(done.stdout)["series"]
    assert done.returncode == 3 and [item["reason"] for item in series] == ["own-result"] * len(series)


def test_a_slice_as_dicom_is_segmented_as_its_png(tmp_path: Path) -> None:
    """A drawn slice as 8-bit PNG, and as signed 16-bit DICOM with another scale: the same mask, by the real model."""
    image = draw_phantom(np.random.default_rng(3), "meningioma", (256, 256)).image.astype(float)
    image = np.rint((image - image.min()) * 255 / (image.max() - image.min()))
    slices = list(cd.make_slices(cd.plan(256, cd.T1CE, 1, "t1ce", 3)))
    for item in slices:
        item.PixelRepresentation, item.BitsStored, item.HighBit = 1, 16, 15
        item.RescaleSlope, item.RescaleIntercept = 2.5, 3
        item.PixelData = (image * 7 - 300).astype("<i2").tobytes()
    cd.write_cd(tmp_path / "cd", slices)
    (tmp_path / "png").mkdir()
    (tmp_path / "png" / "a.png").write_bytes(cv2.imencode(".png", image.astype(np.uint8))[1].tobytes())
    assert run_apart(tmp_path / "png", "-o", tmp_path / "one").returncode == 0
    # Three slices of the same pixels are no copies: they lie in different places.
    assert run_apart(tmp_path / "cd", "-o", tmp_path / "two").returncode == 0
    expected = (tmp_path / "one" / "masks" / "a.png").read_bytes()
    found = [path.read_bytes() for path in sorted((tmp_path / "two" / "masks").rglob("*.png"))]
    assert cv2.imdecode(np.frombuffer(expected, np.uint8), -1).any()
    assert found == [expected] * 3
    assert runs.read_csv(tmp_path / "two" / "results.csv")[0]["lesion_pixels"] != "0"


def test_a_run_of_images_touches_no_package_of_series(tmp_path: Path) -> None:
    """Packages that would leave a mark when imported leave none, also in the run's child processes."""
    traps, mark = tmp_path / "traps", tmp_path / "touched"
    traps.mkdir()
    for name in ("pydicom", "highdicom", "nibabel", "gdcm"):
        (traps / f"{name}.py").write_text(f"open({str(mark)!r}, 'w')\n")
    folder_runs.draw_folder(tmp_path / "in", 2)
    done = run_apart(tmp_path / "in", "-o", tmp_path / "out", path=str(traps))
    assert done.returncode == 0 and len(list((tmp_path / "out" / "masks").iterdir())) == 2
    assert not mark.exists()
    assert not any((tmp_path / "out" / name).exists() for name in (".salt", "series.csv", "dicom", "nifti"))
    (tmp_path / "in" / "scan.dcm").write_bytes(bytes(128) + b"DICM" + bytes(200))
    run_apart(tmp_path / "in", "-o", tmp_path / "out2", path=str(traps))
    assert mark.exists()  # the traps do work


def test_images_beside_series_are_segmented_too(tmp_path: Path) -> None:
    """A PNG beside DICOM files keeps its own name; with --series it is left out."""
    folder_runs.draw_folder(tmp_path / "in", 1)
    for number, item in enumerate(cd.make_slices(cd.plan(48, cd.T1CE, 1, "t1ce", 4))):
        item.save_as(tmp_path / "in" / f"IM{number}", enforce_file_format=True)
    assert run_apart(tmp_path / "in", "-o", tmp_path / "out").returncode == 0
    files = [row["file"] for row in runs.read_csv(tmp_path / "out" / "results.csv")]
    assert files[0] == "00.png" and len(files) == 5
    assert run_apart(tmp_path / "in", "-o", tmp_path / "only", "--series", "1").returncode == 0
    assert len(runs.read_csv(tmp_path / "only" / "results.csv")) == 4
