"""`edge-seg --list`: the right verdict and reason for each series of a CD, however its files are named and packed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hospital_cd as cd
import pydicom
import pytest

from edge_runtime.cli import main
from edge_runtime.errors import EdgeSegError

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def disc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cd.write_cd(tmp_path_factory.mktemp("disc") / "cd", cd.list_objects())


@pytest.fixture
def ask(capfd: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """Run --list --json and return its output."""

    def run(*arguments: object, status: int = 0) -> dict[str, Any]:
        capfd.readouterr()
        assert main(["--list", "--json", *map(str, arguments)]) == status
        output: dict[str, Any] = json.loads(capfd.readouterr().out)
        return output

    return run


def to_verdicts(listing: dict[str, Any]) -> list[tuple[int, str, str]]:
    return sorted((row["rows"] or 0, row["verdict"], row["reason"]) for row in listing["series"])


def list_expected() -> list[tuple[int, str, str]]:
    kinds = [(size, *verdict) for size, verdict in cd.EXPECTED.items() for _ in range(3 if size == 24 else 1)]
    return sorted([*kinds, *((0, *verdict) for verdict in cd.NOT_IMAGES)])


def test_each_kind_has_its_verdict_and_reason(disc: Path, ask: Callable[..., dict[str, Any]]) -> None:
    """Fourteen kinds of series, verdicts written by hand; DERIVED alone drops nothing."""
    listing = ask(disc)
    assert to_verdicts(listing) == list_expected()
    assert listing["taken"] == 3 and listing["wanted"]["assumed"]
    assert [row["series"] for row in listing["series"]] == list(range(1, len(listing["series"]) + 1))
    assert all(row["why"] for row in listing["series"])


def test_a_series_has_its_geometry(disc: Path, ask: Callable[..., dict[str, Any]]) -> None:
    """Plane, size, step and thickness are those of the drawing, though InstanceNumber runs against the position."""
    row = next(row for row in ask(disc)["series"] if row["rows"] == 20)
    assert (row["plane"], row["slices"], row["step_mm"], row["thickness_mm"]) == ("axial oblique", 5, 30.0, 24.0)
    assert row["pixel_mm"] == [11.5, 11.5]
    assert (row["missing"], row["duplicates"], row["uneven"], row["flags"]) == (0, 0, 0, [])


def strip(listing: dict[str, Any]) -> list[str]:
    """The rows without their numbers, in an order of their own."""
    return sorted(json.dumps({**row, "series": 0}) for row in listing["series"])


def copy_disc(disc: Path, dest: Path, change: Callable[[Path], None] = lambda path: None) -> Path:
    """Copy a CD under other names, with suffixes that lie."""
    dest.mkdir(parents=True)
    for number, path in enumerate(sorted(disc.iterdir(), reverse=True)):
        copy = dest / f"scan {number}{('.jpg', '.dcm', '')[number % 3]}"
        copy.write_bytes(path.read_bytes())
        change(copy)
    return dest


@pytest.mark.parametrize(
    "change", [lambda path: None, cd.drop_preamble, cd.drop_meta], ids=["names", "preamble", "meta"]
)
def test_names_and_preambles_do_not_matter(
    disc: Path, tmp_path: Path, ask: Callable[..., dict[str, Any]], change: Callable[[Path], None]
) -> None:
    """The same rows for files renamed, without their preamble, and without any meta information."""
    assert strip(ask(copy_disc(disc, tmp_path / "copy", change))) == strip(ask(disc))


def test_a_zip_is_a_folder(disc: Path, tmp_path: Path, ask: Callable[..., dict[str, Any]]) -> None:
    """The same rows from a zip, also twice; nothing is unpacked."""
    archive = cd.write_zip(disc, tmp_path / "export", lambda path: f"a/b/{path.name}")
    before = sorted(tmp_path.iterdir())
    assert strip(ask(archive)) == strip(ask(disc))
    assert sorted(tmp_path.iterdir()) == before


def test_a_directory_is_a_hint_only(disc: Path, tmp_path: Path, ask: Callable[..., dict[str, Any]]) -> None:
    """A DICOMDIR that names two of the files, in other case, and one that is not there changes no row.

    It has its folder read to the depth.
    """
    (tmp_path / "cd").mkdir()
    copy = Path(shutil.copytree(disc, tmp_path / "cd" / "Images"))
    images = sorted(path.name for path in copy.iterdir() if "PixelData" in pydicom.dcmread(path))
    files = [f"IMAGES/{images[0]}", f"IMAGES/{images[1].lower()}", "IMAGES/GONE"]
    cd.make_directory(files, "1.2.3").save_as(tmp_path / "cd" / "DICOMDIR", enforce_file_format=True)
    listing = ask(tmp_path / "cd")
    assert strip(listing) == strip(ask(disc))
    assert (listing["files"]["named_but_absent"], listing["files"]["not_named"]) == (1, len(images) - 2)


def test_folders_in_it_need_recursive(disc: Path, tmp_path: Path, ask: Callable[..., dict[str, Any]]) -> None:
    """Without a DICOMDIR a folder in the folder is read with --recursive only."""
    copy_disc(disc, tmp_path / "cd" / "inner")
    with pytest.raises(AssertionError):
        ask(tmp_path / "cd")
    assert strip(ask(tmp_path / "cd", "--recursive")) == strip(ask(disc))


def test_a_multi_frame_object_is_a_series(tmp_path: Path, ask: Callable[..., dict[str, Any]]) -> None:
    """An enhanced MR object with shuffled frames has the plane, step and verdict of the classic series."""
    slices = list(cd.make_slices(cd.plan(20, cd.T1CE, 30, "t1ce")))
    cd.write_cd(tmp_path / "classic", slices)
    cd.write_cd(tmp_path / "enhanced", [cd.to_enhanced(slices)])
    (classic,), (enhanced,) = (ask(tmp_path / name)["series"] for name in ("classic", "enhanced"))
    assert enhanced.pop("kind") == "multi-frame" and classic.pop("kind") == "classic"
    assert enhanced == classic and enhanced["verdict"] == "yes"


def test_exit_3_if_none_would_be_taken(tmp_path: Path, ask: Callable[..., dict[str, Any]]) -> None:
    """A folder of T2 alone."""
    cd.write_cd(tmp_path / "cd", list(cd.make_slices(cd.plan(22, cd.T2, 1, "t2"))))
    assert ask(tmp_path / "cd", status=3)["taken"] == 0


def test_what_is_assumed_is_said(disc: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A contract of format 1 does not say which images it wants; the table is on stdout, that line on stderr."""
    assert main(["--list", str(disc)]) == 0
    output, errors = capfd.readouterr()
    assert "assumed: MR, T1 with contrast agent, 3 slices or more" in errors and errors.count("\n") == 1
    rows = output.splitlines()
    assert rows[0].split()[:3] == ["#", "verdict", "reason"] and rows[-1] == "16 series, 3 would be taken"


def hide(tmp_path: Path, name: str) -> dict[str, str]:
    """An environment in which a package is not installed, also for child processes."""
    place = tmp_path / "hidden"
    place.mkdir()
    (place / f"{name}.py").write_text(f"raise ModuleNotFoundError('No module named {name}', name='{name}')\n")
    return {**os.environ, "PYTHONPATH": f"{place}{os.pathsep}{ROOT}"}


@pytest.mark.parametrize(("name", "extra"), [("pydicom", "dicom"), ("nibabel", "nifti")])
def test_without_the_package_one_line_names_the_extra(disc: Path, tmp_path: Path, name: str, extra: str) -> None:
    """Nothing on stdout, one line on stderr, exit 1."""
    folder = disc
    if name == "nibabel":
        folder = tmp_path / "nifti"
        folder.mkdir()
        (folder / "a.nii").write_bytes(b"\x5c\1\0\0" + bytes(340) + b"n+1\0" + bytes(1000))
    command = [sys.executable, "-P", "-m", "edge_runtime.cli", "--list", str(folder)]
    done = subprocess.run(command, env=hide(tmp_path, name), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("edge-seg: error: input 1: it holds ") and done.stderr.count("\n") == 1
    assert f"pip install '.[{extra}]'" in done.stderr


def test_nothing_of_it_is_imported_by_a_run_of_images() -> None:
    """Neither the packages nor the room itself, by what a run and its child processes import."""
    modules = ("cli.roads", "cli.segment", "folder.run", "folder.pipeline", "folder.pools.child_main")
    code = "import " + ", ".join(f"edge_runtime.{name}" for name in modules)
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "edge_runtime.folder.run" in done.stderr
    assert not [name for name in ("pydicom", "nibabel", "highdicom", "hospital") if name in done.stderr]


def test_no_series_is_one_line(tmp_path: Path) -> None:
    """A folder of other files, a path that does not exist and no path: errors that quote no path."""
    (tmp_path / "notes.txt").write_text("nothing to see")
    from edge_runtime.contract.fields import Acquisition
    from edge_runtime.hospital.find_series import find_series

    wanted = Acquisition("MR", "T1", "yes", 3)
    for path, why in ((tmp_path, "no DICOM or NIfTI file in them"), (tmp_path / "gone", "no such file or folder")):
        with pytest.raises(EdgeSegError, match=why) as error:
            find_series([path], wanted)
        assert str(tmp_path) not in str(error.value)


def test_a_zip_of_two_discs_holds_each_series_once(
    disc: Path, tmp_path: Path, ask: Callable[..., dict[str, Any]]
) -> None:
    """The same objects twice are copies: the rows are the same but for the count of duplicates."""
    archive = tmp_path / "twice.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(disc.iterdir()):
            file.write(path, f"one/{path.name}")
            file.write(path, f"two/{path.name}")
    twice, once = ask(archive), ask(disc)
    assert to_verdicts(twice) == to_verdicts(once)
    row = next(row for row in twice["series"] if row["rows"] == 20)
    assert (row["slices"], row["duplicates"], row["flags"]) == (5, 5, ["duplicates"])
