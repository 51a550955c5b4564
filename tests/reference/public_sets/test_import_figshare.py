"""Figshare's MATLAB files become a data folder, from folders and zips; damaged and hostile ones are named."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shlex
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from published_sets import CODES, draw, encode, read, to_stored, write_figshare, write_mat, zip_files

from edge_runtime.system.files import TEMPORARY
from reference.__main__ import main, make_parser
from reference.data.folders import read_folder, read_mask, split_by_patient
from reference.public_sets import import_set

PARTS = ("brainTumorDataPublic_1-766.zip", "brainTumorDataPublic_767-1532.zip")


def name_patient(number: int) -> str:
    return f"MR{number // 2:03d}"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1.mat to 8.mat, two slices a patient; not to be written to."""
    folder = tmp_path_factory.mktemp("figshare") / "set"
    write_figshare(folder, range(1, 9), name_patient)
    return folder


def copy_set(published: Path, folder: Path) -> Path:
    folder.mkdir()
    for path in published.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def run(*words: str | Path) -> int:
    return main(["import", "figshare", *map(str, words)])


def list_folder(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def read_report(dest: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((dest / "import.json").read_text())
    return report


def refuse(capsys: pytest.CaptureFixture[str], dest: Path, *words: str | Path) -> str:
    """Run an import that must fail in one line and leave nothing; return the line."""
    before = sorted(dest.parent.iterdir())
    assert run(*words, dest) in (1, 2)
    output = capsys.readouterr()
    assert output.out == "" and output.err.startswith("reference: error: ") and output.err.count("\n") == 1
    assert sorted(dest.parent.iterdir()) == before
    return output.err


# ---------------------------------------------------------------- what is imported


def test_folder_becomes_a_data_folder(published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each slice comes upright, from its least to its greatest value, with its outline, class and patient."""
    dest = tmp_path / "dest"
    assert run(published, dest) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(dest)
    slices = {item.image.stem: item for item in read_folder(dest)}
    assert sorted(slices, key=int) == [str(number) for number in range(1, 9)]
    for name, item in slices.items():
        phantom = draw(int(name))
        stored = to_stored(phantom).astype(float)
        levels = 255 * (stored - stored.min()) / (stored.max() - stored.min())
        assert np.abs(read(item.image) - levels).max() <= 0.5 + 1e-6
        assert item.mask is not None and np.array_equal(read(item.mask), phantom.mask * 255)
        assert (item.kind, item.patient) == (phantom.kind, f"dest/{name_patient(int(name))}")
    report = read_report(dest)
    assert (report["slices"], report["patients"], report["problems"], report["left_out"]) == (8, 5, [], [])
    assert report["sizes"] == {"80x80": 8} and sum(report["classes"].values()) == 8
    assert "3064" in " ".join(report["notes"]), "that the set is not whole is said"
    assert (dest / "import.md").read_text().startswith("# Import: figshare\n")


def test_oblong_slices_are_not_turned(tmp_path: Path) -> None:
    """A slice wider than high stays so: MATLAB's order of axes is undone once."""
    phantom = draw(1, size=(70, 96))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "1.mat").write_bytes(write_mat(phantom))
    assert run(tmp_path / "set", tmp_path / "dest") == 0
    assert read(tmp_path / "dest" / "images" / "1.png").shape == (70, 96)
    assert np.array_equal(read(tmp_path / "dest" / "masks" / "1.png"), phantom.mask * 255)


def pack(published: Path, numbers: range) -> bytes:
    return zip_files({f"{number}.mat": (published / f"{number}.mat").read_bytes() for number in numbers})


def make_sources(published: Path, parent: Path) -> dict[str, Path]:
    """The same eight slices as one zip, as a folder of zips, as the zip of zips, and in nested folders with junk."""
    halves = pack(published, range(1, 5)), pack(published, range(5, 9))
    junk = {"README.txt": b"about", "cvind.mat": b"MATLAB 5.0", "__MACOSX/._1.mat": b"\0\5\26\7"}
    (parent / "zips").mkdir()
    for name, data in zip(PARTS, halves, strict=True):
        (parent / "zips" / name).write_bytes(data)
    (parent / "one.zip").write_bytes(pack(published, range(1, 9)))
    whole = zip_files({**dict(zip(PARTS, halves, strict=True)), **junk}, zipfile.ZIP_STORED)
    (parent / "1512427.zip").write_bytes(whole)
    (parent / "packed.zip").write_bytes(zip_files({**dict(zip(PARTS, halves, strict=True)), **junk}))
    write_figshare(parent / "deep" / "a" / "b", range(1, 5), name_patient)
    write_figshare(parent / "deep" / "c", range(5, 9), name_patient)
    (parent / "deep" / ".DS_Store").write_bytes(b"junk")
    names = ("zips", "one.zip", "1512427.zip", "packed.zip", "deep")
    return {name: parent / name for name in names}


def test_zips_and_folders_give_the_same(published: Path, tmp_path: Path) -> None:
    """Wherever the files lie, in zips as downloaded too, the same data folder comes out, byte for byte."""
    assert run(published, tmp_path / "plain") == 0
    expected = list_folder(tmp_path / "plain")
    for name, source in make_sources(published, tmp_path).items():
        dest = tmp_path / f"from-{name}"
        assert run(source, dest) == 0, name
        found = list_folder(dest)
        assert found.keys() == expected.keys()
        for file in expected.keys() - {"import.json", "import.md"}:
            assert found[file] == expected[file], (name, file)


def test_the_same_source_gives_the_same_bytes(published: Path, tmp_path: Path) -> None:
    """Report and all, two imports of one source are equal."""
    assert run(published, tmp_path / "a") == run(published, tmp_path / "b") == 0
    assert list_folder(tmp_path / "a") == list_folder(tmp_path / "b")


def test_a_set_that_is_there_twice_counts_once(published: Path, tmp_path: Path) -> None:
    """Zips beside what was unpacked of them are no second set; a number with two different files is damaged."""
    source = copy_set(published, tmp_path / "set")
    (source / PARTS[0]).write_bytes(pack(published, range(1, 5)))
    assert run(source, tmp_path / "dest") == 0
    assert read_report(tmp_path / "dest")["slices"] == 8
    (source / "4.mat").write_bytes(write_mat(draw(40)))
    assert run(source, tmp_path / "other", "--skip-damaged") == 0
    assert [problem["why"] for problem in read_report(tmp_path / "other")["problems"]] == [
        f"{PARTS[0]}/4.mat has the same number and is another file"
    ]


# ---------------------------------------------------------------- copies


def test_patients_who_share_a_slice_are_one(published: Path, tmp_path: Path) -> None:
    """A mirrored copy under another patient's name brings both patients together, whatever the split."""
    source = copy_set(published, tmp_path / "set")
    phantom = draw(2)
    mirrored = type(phantom)(phantom.image[:, ::-1], phantom.mask[:, ::-1], phantom.kind)
    (source / "9.mat").write_bytes(write_mat(mirrored, "Z9"))
    assert run(source, tmp_path / "dest") == 0
    report = read_report(tmp_path / "dest")["copies"]
    assert report["slices"][0] | {"likeness": 1} == {"id": "9", "copy_of": "2", "turn": "mirrored", "likeness": 1}
    assert report["patients_merged"] == [["MR001", "Z9"]] and report["turns"] == {"mirrored": 1}
    slices = read_folder(tmp_path / "dest")
    for seed in range(5):
        for part in split_by_patient(slices, (0.4,), seed):
            assert len({"2", "3", "9"} & {item.image.stem for item in part}) in (0, 3)


def test_what_another_folder_holds_is_left_out_with_its_patients(published: Path, tmp_path: Path) -> None:
    """Against an earlier import, copies and the other slices of their patients are left out; the report names them."""
    write_figshare(tmp_path / "first", [1, 2], name_patient)
    assert run(tmp_path / "first", tmp_path / "known") == 0
    assert run(published, tmp_path / "dest", "--against", tmp_path / "known") == 0
    assert {item.image.stem for item in read_folder(tmp_path / "dest")} == {"4", "5", "6", "7", "8"}
    report = read_report(tmp_path / "dest")
    assert [(row["file"], row["other"]) for row in report["left_out"]] == [
        ("1.mat", "known/1"),
        ("2.mat", "known/2"),
        ("3.mat", ""),
    ]
    assert report["against"] == [
        {"folder": "known", "images": 2, "copies": {"as it is": 2}, "others_of_their_patients": 1}
    ]
    assert not (tmp_path / "dest" / "masks" / "3.png").exists()


def test_nothing_left_is_an_error(published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If another folder holds every slice, the import ends with an error, and no empty folder is made."""
    assert run(published, tmp_path / "known") == 0
    capsys.readouterr()
    output = refuse(capsys, tmp_path / "dest", "--against", tmp_path / "known", "--", published)
    assert "none of 8 slices is left (a copy of one that is there already)" in output


# ---------------------------------------------------------------- damaged, missing, hostile


def replace(name: str, value: Any) -> Callable[[Any, h5py.Group], None]:
    def change(file: Any, scan: h5py.Group) -> None:
        del scan[name]
        if value is not None:
            scan[name] = value

    return change


def link_outside(file: Any, scan: h5py.Group) -> None:
    del scan["image"]
    scan["image"] = h5py.ExternalLink("/etc/passwd", "/image")


def keep_outside(file: Any, scan: h5py.Group) -> None:
    del scan["image"]
    scan.create_dataset("image", (80, 80), np.uint8, external=[("/etc/passwd", 0, 6400)])


def empty_patient(file: Any, scan: h5py.Group) -> None:
    del scan["PID"]
    scan["PID"] = np.array([0, 0], np.uint64)
    scan["PID"].attrs["MATLAB_empty"] = 1


def swell(file: Any, scan: h5py.Group) -> None:
    del scan["image"]
    scan.create_dataset("image", (1 << 17, 1 << 17), np.uint8, chunks=(1024, 1024), compression="gzip")


def swell_chunk(file: Any, scan: h5py.Group) -> None:
    del scan["image"]
    scan.create_dataset("image", (80, 80), np.uint8, chunks=(1 << 15, 1 << 15), maxshape=(None, None))


def hide_link(file: Any, scan: h5py.Group) -> None:
    file["elsewhere"] = np.ones((80, 80))
    del scan["tumorMask"]
    scan["tumorMask"] = h5py.SoftLink("/elsewhere")


CHANGES: dict[str, tuple[Callable[[Any, h5py.Group], None], str]] = {
    "no image": (replace("image", None), "cjdata/image is missing"),
    "no mask": (replace("tumorMask", None), "cjdata/tumorMask is missing"),
    "no label": (replace("label", None), "cjdata/label is missing"),
    "no patient": (replace("PID", None), "cjdata/PID is missing"),
    "no group": (lambda file, scan: file.move("cjdata", "other"), "cjdata is missing"),
    "data for a group": (
        lambda file, scan: (file.move("cjdata", "x"), file.create_dataset("cjdata", data=1)),
        "a group",
    ),
    "group for data": (lambda file, scan: (scan.move("PID", "x"), scan.create_group("PID")), "a dataset"),
    "label 7": (replace("label", np.array([[7.0]])), "cjdata/label is 7, not 1, 2 or 3"),
    "label 1.5": (replace("label", np.array([[1.5]])), "cjdata/label is 1.5"),
    "two labels": (replace("label", np.array([[1.0, 2.0]])), "cjdata/label is of shape"),
    "label as text": (replace("label", np.bytes_("glioma")), "cjdata/label holds"),
    "mask of another size": (replace("tumorMask", np.ones((80, 79), np.uint8)), "cjdata/tumorMask is (79, 80)"),
    "mask of many values": (replace("tumorMask", np.arange(6400).reshape(80, 80)), "more than two values"),
    "image of three axes": (replace("image", np.ones((3, 80, 80))), "not that of an image"),
    "image with NaN": (replace("image", np.full((80, 80), np.nan)), "NaN"),
    "image of one value": (replace("image", np.full((80, 80), 5)), "every pixel has the same value"),
    "image of complex": (replace("image", np.ones((80, 80), complex)), "not numbers"),
    "huge image": (swell, "has the shape (131072, 131072)"),
    "huge chunk": (swell_chunk, "has the shape (80, 80)"),
    "empty patient": (empty_patient, "cjdata/PID is empty"),
    "blank patient": (replace("PID", np.array([[32], [32]], np.uint16)), "cjdata/PID is empty"),
    "patient of many lines": (replace("PID", np.array([[65], [10], [66]], np.uint16)), "cjdata/PID is not a name"),
    "patient as path": (replace("PID", np.array([[46], [47]], np.uint16)), "cjdata/PID is not a name"),
    "long patient": (replace("PID", np.full((1, 5000), 65, np.uint16)), "cjdata/PID is not a name"),
    "external link": (link_outside, "image is a link to another place"),
    "external storage": (keep_outside, "keeps its data in another file"),
    "soft link": (hide_link, "tumorMask is a link to another place"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_damaged_file_is_named(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An invalid MATLAB file is one error line with its name and the reason; on demand it is skipped and reported."""
    change, why = CHANGES[case]
    write_figshare(tmp_path / "set", [1, 3], str)
    (tmp_path / "set" / "2.mat").write_bytes(write_mat(draw(2), change=change))
    output = refuse(capsys, tmp_path / "dest", tmp_path / "set")
    assert "2.mat" in output and why in output and "1 file is damaged or missing, 2 slices are not" in output
    assert run(tmp_path / "set", tmp_path / "dest", "--skip-damaged") == 0
    problems = read_report(tmp_path / "dest")["problems"]
    assert [problem["file"] for problem in problems] == ["2.mat"] and why in problems[0]["why"]
    assert {item.image.stem for item in read_folder(tmp_path / "dest")} == {"1", "3"}
    assert "`2.mat`" in (tmp_path / "dest" / "import.md").read_text()


BYTES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "truncated": (lambda data: data[: len(data) // 2], "a damaged MATLAB 7.3 file"),
    "only the head": (lambda data: data[:512], "not a MATLAB 7.3 file"),
    "empty": (lambda data: b"", "not a MATLAB 7.3 file"),
    "MATLAB 5": (lambda data: b"MATLAB 5.0 MAT-file, Platform".ljust(600), "a MATLAB 5 file, not 7.3"),
    "PNG": (lambda data: encode(np.zeros((9, 9), np.uint8)), "not a MATLAB 7.3 file"),
    "scrambled": (lambda data: data[:600] + bytes(200) + data[800:], "a damaged MATLAB 7.3 file"),
}


@pytest.mark.parametrize("case", BYTES)
def test_a_file_that_is_no_mat_is_named(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Truncated, empty and foreign files are named with the right reason."""
    change, why = BYTES[case]
    write_figshare(tmp_path / "set", [1, 2], str)
    (tmp_path / "set" / "2.mat").write_bytes(change(write_mat(draw(2))))
    assert f"2.mat ({why}" in refuse(capsys, tmp_path / "dest", tmp_path / "set")


def test_truncation_anywhere_is_noticed(tmp_path: Path) -> None:
    """A file cut at any of many places is never read as a slice, and never ends the program otherwise."""
    from edge_runtime.errors import ImageError
    from reference.public_sets.matlab import read_mat

    data = write_mat(draw(1))
    for end in range(0, len(data), 331):
        with pytest.raises(ImageError, match=r"^x: "):
            read_mat(data[:end], "x")


def test_missing_numbers_are_named(published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Gaps in the numbers are listed as ranges and counted; on demand they are skipped and reported."""
    source = copy_set(published, tmp_path / "set")
    for number in (1, 4, 5, 6):
        (source / f"{number}.mat").unlink()
    output = refuse(capsys, tmp_path / "dest", source)
    assert "4 files are damaged or missing" in output and "1.mat (missing), 4.mat to 6.mat (missing)" in output
    assert run(source, tmp_path / "dest", "--skip-damaged") == 0
    assert read_report(tmp_path / "dest")["problems"] == [
        {"file": "1.mat", "why": "missing", "slices": 1},
        {"file": "4.mat to 6.mat", "why": "missing", "slices": 3},
    ]


def test_a_missing_archive_is_named(published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers missing at the ends of a zip's range are no gap; those of a zip that is left out are."""
    (tmp_path / "zips").mkdir()
    for name, numbers in (("x_1-4.zip", range(1, 4)), ("x_7-9.zip", range(7, 9))):
        (tmp_path / "zips" / name).write_bytes(pack(published, numbers))
    output = refuse(capsys, tmp_path / "dest", tmp_path / "zips")
    assert "5.mat to 6.mat (missing)" in output and "2 files are" in output
    assert run(tmp_path / "zips" / "x_7-9.zip", tmp_path / "dest") == 0


def make_encrypted(data: bytes) -> bytes:
    """Return a zip with the encryption bit set in both headers of every entry."""
    changed = bytearray(data)
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = -1
        while (start := data.find(signature, start + 1)) >= 0:
            changed[start + at] |= 1
    return bytes(changed)


def make_lie(data: bytes) -> bytes:
    """Return a zip whose headers give a tenth of the first entry's size."""
    changed = bytearray(data)
    for signature, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = data.find(signature)
        (size,) = struct.unpack_from("<I", data, start + at)
        struct.pack_into("<I", changed, start + at, size // 10)
    return bytes(changed)


def spoil(data: bytes) -> bytes:
    """Change bytes in the middle of a zip's first entry."""
    return data[:400] + bytes(64) + data[464:]


def test_hostile_archives_are_named(published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Encrypted, spoilt, lying, swelling and outward-leading entries are not read, and nothing is written elsewhere."""
    good = (published / "1.mat").read_bytes()
    small = zip_files({"1.mat": good})
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("1.mat", good)
    cases = {
        "it is encrypted": make_encrypted(small),
        "damaged in its archive": spoil(small),
        "a damaged MATLAB 7.3 file|damaged in its archive": make_lie(small),
        "its name leads out of the archive": zip_files({"../1.mat": good}),
        "it would unpack to": zip_files({"1.mat": bytes((64 << 20) + 1)}),
        "compressed in a way that is not read": other.getvalue(),
    }
    for number, (why, data) in enumerate(cases.items()):
        path = tmp_path / f"{number}.zip"
        path.write_bytes(data)
        output = refuse(capsys, tmp_path / "dest", path)
        assert any(word in output for word in why.split("|")), output
    nested = {
        "it would unpack to": zip_files({"a.zip": bytes(30 << 20)}),
        "an archive in an archive in an archive": zip_files({"a.zip": zip_files({"b.zip": small})}),
        "the archive is damaged": zip_files({"a.zip": small[:-30]}),
        "it is encrypted": make_encrypted(zip_files({"a.zip": small})),
    }
    for number, (why, data) in enumerate(nested.items()):
        path = tmp_path / f"nested-{number}.zip"
        path.write_bytes(data)
        assert why in refuse(capsys, tmp_path / "dest", path)
    cut = tmp_path / "cut.zip"
    cut.write_bytes(small[:-30])
    assert "neither a folder nor a whole zip" in refuse(capsys, tmp_path / "dest", cut)


def test_a_damaged_archive_among_others_is_named(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A zip that was cut off is named beside the numbers that are missing for it."""
    (tmp_path / "zips").mkdir()
    (tmp_path / "zips" / "x_1-4.zip").write_bytes(pack(published, range(1, 5))[:-99])
    (tmp_path / "zips" / "x_5-8.zip").write_bytes(pack(published, range(5, 9)))
    assert "x_1-4.zip (the archive is damaged" in refuse(capsys, tmp_path / "dest", tmp_path / "zips")
    assert run(tmp_path / "zips", tmp_path / "dest", "--skip-damaged") == 0
    assert read_report(tmp_path / "dest")["slices"] == 4


def test_pipes_are_not_waited_for(published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pipe under a slice's name is refused like any damaged file."""
    source = copy_set(published, tmp_path / "set")
    os.mkfifo(source / "9.mat")
    assert "9.mat (not a regular file)" in refuse(capsys, tmp_path / "dest", source)


def test_sources_without_slices_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty folder, a path that is not there and a file that is no zip are each one line."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_bytes(b"no zip")
    for name, why in (("empty", "holds no 1.mat"), ("nowhere", "does not exist"), ("file", "neither a folder nor")):
        assert why in refuse(capsys, tmp_path / "dest", tmp_path / name)


# ---------------------------------------------------------------- the destination


def test_nothing_is_overwritten_without_force(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder with something in it is kept; with --force an earlier import is replaced, and nothing else."""
    dest = tmp_path / "dest"
    dest.mkdir()
    assert run(published, dest) == 0, "an empty folder is as good as none"
    (dest / "images" / "1.png").write_bytes(b"old")
    capsys.readouterr()
    assert "--force" in refuse(capsys, dest, published)
    assert (dest / "images" / "1.png").read_bytes() == b"old"
    assert run(published, dest, "--force") == 0
    assert (dest / "images" / "1.png").read_bytes() != b"old"
    (dest / "thesis.txt").write_text("years of work")
    capsys.readouterr()
    assert "thesis.txt, which no import wrote" in refuse(capsys, dest, "--force", published)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dest"]


def test_source_and_destination_are_apart(published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A destination in the source, or around it, is refused: the import would overwrite its source."""
    source = copy_set(published, tmp_path / "set")
    for dest in (source, source / "inside", tmp_path):
        assert run(source, dest, "--force") == 2
        assert "name a folder elsewhere" in capsys.readouterr().err
    assert len(list(source.iterdir())) == 8
    for dest in (tmp_path / ("x" * 300), tmp_path / "set" / "1.mat" / "in-a-file"):
        assert run(published, dest) in (1, 2)
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("case", ["interrupt", "disk"])
def test_an_import_that_ends_early_leaves_nothing(
    case: str, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After Ctrl-C or on a full disk there is no half folder, and an earlier import stands as it was."""
    dest = tmp_path / "dest"
    assert run(published, dest) == 0
    before = list_folder(dest)
    real = import_set.write_labels

    def stop(path: Path, rows: Any) -> None:
        real(path, rows)
        raise KeyboardInterrupt if case == "interrupt" else OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(import_set, "write_labels", stop)
    capsys.readouterr()
    assert run(published, dest, "--force") == (130 if case == "interrupt" else 1)
    output = capsys.readouterr()
    assert output.err.count("\n") == 1 and ("interrupted" if case == "interrupt" else "No space left") in output.err
    assert list_folder(dest) == before
    assert [path.name for path in tmp_path.iterdir()] == ["dest"] and not list(tmp_path.rglob(f"{TEMPORARY}*"))


def test_every_class_of_the_set_is_known() -> None:
    """The published codes have the meaning given in the set's README."""
    from reference.public_sets.matlab import LABELS

    assert {kind: code for code, kind in LABELS.items()} == CODES


def test_masks_are_read_as_the_trainer_reads_them(published: Path, tmp_path: Path) -> None:
    """What training sees of an imported mask is the drawn lesion."""
    assert run(published, tmp_path / "dest") == 0
    for item in read_folder(tmp_path / "dest"):
        assert np.array_equal(read_mask(item, 80, 80) > 0, draw(int(item.image.stem)).mask)


def test_the_pages_commands_parse() -> None:
    """Each command of ours on the page about data is one that the program takes."""
    page = (Path(__file__).parents[3] / "docs" / "data.md").read_text("utf-8")
    commands = re.findall(r"^python -m reference (.*)$", page, re.M)
    assert {make_parser().parse_args(shlex.split(command)).command for command in commands} == {"import", "train"}
