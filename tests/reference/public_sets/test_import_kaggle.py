"""Kaggle's PNG pairs and class folders become data folders, and what is a copy of what is found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from published_sets import KINDS, draw, read, save, write_figshare, write_segmentation, zip_files

from reference.__main__ import main
from reference.data.folders import read_folder, split_by_patient
from reference.evaluation.predict import evaluate, find_slices


def run(*words: str | Path) -> int:
    return main(["import", *map(str, words)])


def read_report(dest: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((dest / "import.json").read_text())
    return report


def refuse(capsys: pytest.CaptureFixture[str], dest: Path, *words: str | Path) -> str:
    """Run an import that must fail in one line and leave nothing; return the line."""
    capsys.readouterr()
    assert run(*words, dest) in (1, 2)
    output = capsys.readouterr()
    assert output.out == "" and output.err.startswith("reference: error: ") and output.err.count("\n") == 1
    assert not dest.exists()
    return output.err


# ---------------------------------------------------------------- images and masks


def test_pairs_become_a_data_folder(tmp_path: Path) -> None:
    """Images and masks of the same number are kept unchanged; the report notes unknown classes and patients."""
    write_segmentation(tmp_path / "set", range(1, 7))
    assert run("kaggle-segmentation", tmp_path / "set", tmp_path / "dest") == 0
    slices = read_folder(tmp_path / "dest")
    assert {item.image.stem for item in slices} == {str(number) for number in range(1, 7)}
    assert {item.kind for item in slices} == {"tumour"} and len({item.patient for item in slices}) == 6
    for item in slices:
        phantom = draw(int(item.image.stem))
        assert item.mask is not None and np.array_equal(read(item.mask), phantom.mask * 255)
        assert np.array_equal(read(item.image), phantom.image)
    report = read_report(tmp_path / "dest")
    assert "the set names none" in report["patients_from"] and "--labels" in " ".join(report["notes"])


def test_copies_without_patients_stay_in_one_part(tmp_path: Path) -> None:
    """Where no patient is known, a slice and its mirrored and recompressed copies are never split."""
    source = tmp_path / "set"
    write_segmentation(source, range(1, 9))
    for number, change in ((9, np.fliplr), (10, lambda image: cv2.resize(image, (200, 200)))):
        save(source / "images" / f"{number}.png", np.ascontiguousarray(change(draw(2).image)))
        save(source / "masks" / f"{number}.png", np.ascontiguousarray(change(draw(2).mask.astype(np.uint8) * 255)))
    assert run("kaggle-segmentation", source, tmp_path / "dest") == 0
    slices = read_folder(tmp_path / "dest")
    for seed in range(8):
        for part in split_by_patient(slices, (0.3, 0.3), seed):
            assert len({"2", "9", "10"} & {item.image.stem for item in part}) in (0, 3)
    assert read_report(tmp_path / "dest")["copies"]["slices_with_a_copy"] == 3


def test_a_zip_in_any_depth_gives_the_same(tmp_path: Path) -> None:
    """The downloaded zip, its folders inside another, is read as it is."""
    write_segmentation(tmp_path / "set", range(1, 4))
    files = {f"data/{path.relative_to(tmp_path / 'set')}": path.read_bytes() for path in tmp_path.glob("set/*/*.png")}
    (tmp_path / "archive.zip").write_bytes(zip_files({**files, "data/readme.txt": b"hello"}))
    assert run("kaggle-segmentation", tmp_path / "set", tmp_path / "a") == 0
    assert run("kaggle-segmentation", tmp_path / "archive.zip", tmp_path / "b") == 0
    for path in sorted((tmp_path / "a").rglob("*.png")):
        assert (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes() == path.read_bytes()


def test_colour_and_binary_masks_are_read(tmp_path: Path) -> None:
    """Three equal channels are one, and masks of 0 and 1 or of JPEG's near-white are outlines all the same."""
    phantom = draw(1)
    for number, mask in ((1, phantom.mask.astype(np.uint8)), (2, phantom.mask.astype(np.uint8) * 250 + 3)):
        save(tmp_path / "set" / "images" / f"{number}.png", np.dstack([phantom.image] * 3))
        save(tmp_path / "set" / "masks" / f"{number}.png", mask)
    assert run("kaggle-segmentation", tmp_path / "set", tmp_path / "dest") == 0
    for number in (1, 2):
        assert np.array_equal(read(tmp_path / "dest" / "images" / f"{number}.png"), phantom.image)
        assert np.array_equal(read(tmp_path / "dest" / "masks" / f"{number}.png"), phantom.mask * 255)


def test_labels_come_from_a_figshare_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With labels.csv of the same numbers, slices have class and patient; labels of other slices are refused."""
    write_figshare(tmp_path / "mat", range(1, 7), lambda number: f"P{number // 3}")
    write_segmentation(tmp_path / "set", range(1, 7))
    assert run("figshare", tmp_path / "mat", tmp_path / "fig") == 0
    labels = tmp_path / "fig" / "labels.csv"
    assert run("kaggle-segmentation", tmp_path / "set", tmp_path / "dest", "--labels", labels) == 0
    assert (tmp_path / "dest" / "labels.csv").read_text() == labels.read_text()
    save(tmp_path / "set" / "images" / "4.png", draw(44).image)
    save(tmp_path / "set" / "masks" / "4.png", draw(44).mask.astype(np.uint8) * 255)
    output = refuse(capsys, tmp_path / "other", "kaggle-segmentation", tmp_path / "set", "--labels", labels)
    assert "1 of 6 slices are not those of that number" in output and "4.png" in output
    write_segmentation(tmp_path / "set", [4, 7])
    output = refuse(capsys, tmp_path / "other", "kaggle-segmentation", tmp_path / "set", "--labels", labels)
    assert "images/7.png (the labels have no row for it)" in output
    output = refuse(capsys, tmp_path / "other", "figshare", tmp_path / "mat", "--labels", labels)
    assert "classes of its own" in output
    for text, why in (("id,class\n1,a\n", "column patient is missing"), ("id,class,patient\n1\n", "too few columns")):
        (tmp_path / "bad.csv").write_text(text)
        output = refuse(
            capsys, tmp_path / "other", "kaggle-segmentation", tmp_path / "set", "--labels", tmp_path / "bad.csv"
        )
        assert why in output


def test_damaged_pairs_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A PDF, half a PNG, a mask of another size, lone images and masks and a gap are each named with the reason."""
    source = tmp_path / "set"
    write_segmentation(source, range(1, 9))
    (source / "images" / "1.png").write_bytes(b"%PDF-1.7 and so on")
    whole = (source / "images" / "2.png").read_bytes()
    (source / "images" / "2.png").write_bytes(whole[: len(whole) // 2])
    save(source / "masks" / "3.png", np.zeros((80, 81), np.uint8))
    (source / "masks" / "4.png").unlink()
    (source / "images" / "5.png").unlink()
    for folder in ("images", "masks"):
        (source / folder / "6.png").unlink()
    save(source / "images" / "7.png", np.full((80, 80), 9, np.uint8))
    output = refuse(capsys, tmp_path / "dest", "kaggle-segmentation", source)
    expected = {
        "images/1.png": "but a PDF",
        "images/2.png": "damaged PNG",
        "masks/3.png": "it is (80, 81), its image (80, 80)",
        "images/4.png": "it has no mask",
        "masks/5.png": "a mask without its image",
        "images/6.png": "missing",
        "images/7.png": "every pixel has the same value",
    }
    assert "7 files are damaged or missing, 1 slices are not" in output
    assert run("kaggle-segmentation", source, tmp_path / "dest", "--skip-damaged") == 0
    problems = {problem["file"]: problem["why"] for problem in read_report(tmp_path / "dest")["problems"]}
    assert problems.keys() == expected.keys()
    for file, why in expected.items():
        assert file in output and why in output and why in problems[file]
    assert [item.image.stem for item in read_folder(tmp_path / "dest")] == ["8"]


def test_a_source_of_another_layout_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Images without masks, or loose ones, are no such set."""
    save(tmp_path / "set" / "images" / "1.png", draw(1).image)
    assert "masks/1.png" in refuse(capsys, tmp_path / "dest", "kaggle-segmentation", tmp_path / "set")
    assert "folders glioma" in refuse(capsys, tmp_path / "dest", "kaggle-classes", tmp_path / "set")


# ---------------------------------------------------------------- four class folders


def write_classes(folder: Path, per_class: int = 3) -> None:
    """Training/ and Testing/ of four class folders, JPEG, in two sizes."""
    for at, part in enumerate(("Training", "Testing")):
        for k, name in enumerate((*KINDS, "notumor")):
            for i in range(per_class):
                phantom = draw(5000 + 1000 * at + 100 * k + i, "none" if name == "notumor" else name, 80 + 16 * (i % 2))
                save(folder / part / name / f"{part[:2]}-{name[:2]}_{10 + i:04d}.jpg", phantom.image)


def test_class_folders_become_a_data_folder(tmp_path: Path) -> None:
    """Every slice has its class in labels.csv; only those without tumour, which need no outline, are trained on."""
    write_classes(tmp_path / "set")
    assert run("kaggle-classes", tmp_path / "set", tmp_path / "dest") == 0
    slices = read_folder(tmp_path / "dest")
    assert len(slices) == 6 and {item.kind for item in slices} == {"none"}
    assert all(item.mask is not None and not read(item.mask).any() for item in slices)
    assert len(list((tmp_path / "dest" / "unmasked").iterdir())) == 18
    rows = [line.split(",") for line in (tmp_path / "dest" / "labels.csv").read_text().splitlines()[1:]]
    assert {row[1] for row in rows} == {*KINDS, "none"} and len(rows) == 24
    assert "Training-glioma-Tr-gl_0010" in {row[0] for row in rows}
    report = read_report(tmp_path / "dest")
    assert report["with_mask"] == 6 and report["classes"] == dict.fromkeys(sorted((*KINDS, "none")), 6)
    assert "unmasked/" in " ".join(report["notes"])


def test_slices_without_tumour_count_as_false_alarms(tmp_path: Path) -> None:
    """What is imported as class none is scored as tumour-free, like a plain folder of images."""
    write_classes(tmp_path / "set")
    assert run("kaggle-classes", tmp_path / "set", tmp_path / "dest") == 0
    dest = tmp_path / "dest"
    labelled = find_slices(dest / "images", dest / "masks", dest / "labels.csv")
    for slices in (labelled, read_folder(dest / "images")):
        scores = evaluate(lambda image: np.ones(image.shape[:2], np.float32), slices, [0.5])[0.5]
        assert scores["false_alarms"] == 1.0 and np.isnan(scores["dice"])


def test_folders_without_training_and_testing(tmp_path: Path) -> None:
    """Four class folders at the top, in a zip too, are the same set; names that clash get a number."""
    for name in (*KINDS, "notumor"):
        save(tmp_path / "set" / name / "a.jpg", draw(len(name), "none" if name == "notumor" else name).image)
    save(tmp_path / "set" / "notumor" / "a.png", draw(77, "none").image)
    assert run("kaggle-classes", tmp_path / "set", tmp_path / "dest") == 0
    assert {item.image.stem for item in read_folder(tmp_path / "dest")} == {"notumor-a", "notumor-a-2"}
    files = {str(path.relative_to(tmp_path / "set")): path.read_bytes() for path in tmp_path.glob("set/*/*")}
    (tmp_path / "archive.zip").write_bytes(zip_files(files))
    assert run("kaggle-classes", tmp_path / "archive.zip", tmp_path / "zipped") == 0
    assert read_report(tmp_path / "zipped")["slices"] == 5


def test_copies_between_training_and_testing_are_counted(tmp_path: Path) -> None:
    """A slice published in both parts is counted in the report, and its copies are one patient."""
    write_classes(tmp_path / "set")
    twin = draw(5300, "none").image  # Training/notumor, number 10
    save(tmp_path / "set" / "Testing" / "notumor" / "Te-no_0099.jpg", np.ascontiguousarray(twin[:, ::-1]))
    assert run("kaggle-classes", tmp_path / "set", tmp_path / "dest") == 0
    copies = read_report(tmp_path / "dest")["copies"]
    assert copies["from_testing_in_training"] == 1 and copies["turns"] == {"mirrored": 1}
    patients = {item.image.stem: item.patient for item in read_folder(tmp_path / "dest")}
    assert patients["Training-notumor-Tr-no_0010"] == patients["Testing-notumor-Te-no_0099"]
    assert len(set(patients.values())) == 6


def test_a_copy_of_a_tumour_is_not_tumour_free(tmp_path: Path) -> None:
    """A slice that stands in notumor and in glioma is left out as tumour-free, and both names are reported."""
    write_classes(tmp_path / "set")
    other = read(tmp_path / "set" / "Training" / "glioma" / "Tr-gl_0011.jpg")
    save(tmp_path / "set" / "Testing" / "notumor" / "Te-no_0050.jpg", np.ascontiguousarray(other[:, ::-1]))
    assert run("kaggle-classes", tmp_path / "set", tmp_path / "dest") == 0
    report = read_report(tmp_path / "dest")
    assert report["left_out"] == [
        {
            "file": "Testing/notumor/Te-no_0050.jpg",
            "why": "classed as without tumour, its copy as glioma",
            "other": "Training-glioma-Tr-gl_0011",
        }
    ]
    assert len(read_folder(tmp_path / "dest")) == 6
    assert "Te-no_0050" in (tmp_path / "dest" / "import.md").read_text()


def test_mirrored_copies_between_sets_are_left_out(tmp_path: Path) -> None:
    """What the second set took from the first, mirrored and recompressed, is not imported beside it."""
    write_figshare(tmp_path / "mat", range(1, 5), str)
    assert run("figshare", tmp_path / "mat", tmp_path / "fig") == 0
    write_classes(tmp_path / "set")
    for number in range(1, 5):
        phantom = draw(number)
        image = cv2.resize(phantom.image[:, ::-1], (120, 120))
        save(tmp_path / "set" / "Training" / phantom.kind / f"Tr-x_{number:04d}.jpg", image)
    assert run("kaggle-classes", tmp_path / "set", tmp_path / "dest", "--against", tmp_path / "fig") == 0
    report = read_report(tmp_path / "dest")
    assert {row["other"] for row in report["left_out"]} == {f"fig/{number}" for number in range(1, 5)}
    assert report["against"][0]["copies"] == {"mirrored": 4} and report["slices"] == 24
    # and the other way round: the images without masks count as well
    write_segmentation(tmp_path / "pairs", range(1, 7))
    assert run("kaggle-classes", tmp_path / "set", tmp_path / "classes") == 0
    assert run("kaggle-segmentation", tmp_path / "pairs", tmp_path / "rest", "--against", tmp_path / "classes") == 0
    assert {item.image.stem for item in read_folder(tmp_path / "rest")} == {"5", "6"}


def test_a_missing_class_and_damaged_images_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty class folder, a truncated JPEG and an HTML page named .jpg are named; other files are not read."""
    write_classes(tmp_path / "set", 1)
    for part in ("Training", "Testing"):
        for path in (tmp_path / "set" / part / "pituitary").iterdir():
            path.unlink()
    cut = tmp_path / "set" / "Training" / "glioma" / "Tr-gl_0010.jpg"
    cut.write_bytes(cut.read_bytes()[:-200])
    (tmp_path / "set" / "Training" / "notumor" / "page.jpg").write_bytes(b"<!DOCTYPE html><p>Not found")
    (tmp_path / "set" / "Training" / "notumor" / "notes.txt").write_text("to do")
    (tmp_path / "set" / "Training" / "notumor" / "._Tr-no_0010.jpg").write_bytes(b"junk")
    output = refuse(capsys, tmp_path / "dest", "kaggle-classes", tmp_path / "set")
    for words in ("pituitary/ (the class folder is missing or empty)", "Tr-gl_0010.jpg (damaged JPEG", "an HTML page"):
        assert words in output
    assert "3 files are" in output and "notes" not in output and "._" not in output


def test_odd_names_make_plain_ids(tmp_path: Path) -> None:
    """Names of blanks, brackets, accents, newlines and great length become ids that are file names."""
    names = ["a (1)", "ünï", "x\ny", "n" * 240, "-dash", "a,b"]
    for i, name in enumerate(names):
        save(tmp_path / "set" / "notumor" / f"{name}.jpg", draw(i, "none").image)
    for name in KINDS:
        save(tmp_path / "set" / name / "a.jpg", draw(50 + len(name), name).image)
    assert run("kaggle-classes", tmp_path / "set", tmp_path / "dest") == 0
    slices = read_folder(tmp_path / "dest")
    assert len(slices) == len(names) and len({item.patient for item in slices}) == len(names)
    assert all(len(item.image.name) < 120 and not set(item.image.name) & set(" (),\n") for item in slices)
