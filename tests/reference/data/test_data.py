"""Data folders and splits: nobody is in both halves, masks follow their images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.errors import UsageError
from reference.data.folders import augment, read_arrays, read_folder, read_mask, split_by_patient
from reference.data.phantom import draw_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder of 40 slices of 20 patients, two classes."""
    root = tmp_path / "set"
    for sub in ("images", "masks"):
        (root / sub).mkdir(parents=True)
    rows = ["id,class,patient"]
    for i in range(40):
        mask = np.zeros((50, 60), np.uint8)
        mask[10:20, 5 : 15 + i % 5] = 255
        cv2.imwrite(str(root / "images" / f"{i}.png"), mask // 2 + 20)
        cv2.imwrite(str(root / "masks" / f"{i}.png"), mask)
        rows.append(f"{i},{'glioma' if i < 24 else 'pituitary'},p{i // 2}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return root


def test_folder_lists_every_slice_with_class_and_patient(folder: Path) -> None:
    """Every image comes with its mask, class and a patient's name that no other folder can share."""
    slices = read_folder(folder)
    assert len(slices) == 40
    assert {item.kind for item in slices} == {"glioma", "pituitary"}
    assert all(item.mask is not None and item.mask.name == item.image.name for item in slices)
    assert {item.patient for item in slices} == {f"set/p{i}" for i in range(20)}


def test_no_patient_is_in_two_parts(folder: Path) -> None:
    """The split is by patient, holds out the shares asked for in every class, and depends on the seed alone."""
    slices = read_folder(folder)
    parts = split_by_patient(slices, (0.25, 0.5), seed=3)
    patients = [{item.patient for item in part} for part in parts]
    assert not (patients[0] & patients[1] or patients[0] & patients[2] or patients[1] & patients[2])
    assert sorted([item for part in parts for item in part], key=lambda s: s.image) == sorted(
        slices, key=lambda s: s.image
    )
    held = [
        {kind: len({s.patient for s in part if s.kind == kind}) for kind in ("glioma", "pituitary")} for part in parts
    ]
    assert held[1] == {"glioma": 3, "pituitary": 2}
    assert held[2] == {"glioma": 6, "pituitary": 4}
    assert split_by_patient(slices, (0.25, 0.5), seed=3) == parts
    assert split_by_patient(slices, (0.25, 0.5), seed=4)[1] != parts[1]
    assert split_by_patient(slices, (0.25, 0.0), seed=3)[1] == parts[1], "a test part leaves the validation as it was"


def test_plain_folder_is_tumour_free_and_copies_stay_together(tmp_path: Path) -> None:
    """Images without masks have empty ones; a file's copy and a slice mirrored, resized and dimmed are one patient."""
    draw_folder(4, tmp_path / "drawn", seed=2, size=128)
    first, *others = (cv2.imread(str(path), 0) for path in sorted((tmp_path / "drawn" / "images").iterdir()))
    flat = np.full((8, 8), 10, np.uint8)
    mirrored = cv2.resize(first[:, ::-1], (200, 200)) // 2
    plain = tmp_path / "plain"
    plain.mkdir()
    for name, image in (("a", first), ("b", others[0]), ("c", others[1]), ("d", mirrored), ("e", flat), ("f", flat)):
        cv2.imwrite(str(plain / f"{name}.png"), image)
    a, b, c, d, e, f = read_folder(plain)
    assert {item.kind for item in (a, b, c, d, e, f)} == {"none"}
    assert a.patient == d.patient and e.patient == f.patient
    assert len({a.patient, b.patient, c.patient, e.patient}) == 4
    assert not read_mask(a, 8, 8).any()


def test_a_class_more_leaves_the_others_where_they_were(folder: Path) -> None:
    """Slices of another class, or fewer of them, move no patient from one part to another."""
    slices = read_folder(folder)
    gliomas = [item for item in slices if item.kind == "glioma"]
    whole, part = (split_by_patient(items, (0.25, 0.25), seed=3) for items in (slices, gliomas))
    assert [[item for item in items if item.kind == "glioma"] for items in whole] == part


def test_missing_parts_are_named(folder: Path) -> None:
    """A missing mask, label, column or folder is one line that names it."""
    (folder / "masks" / "7.png").rename(folder / "away.png")
    with pytest.raises(UsageError, match=r"7\.png: it has no mask"):
        read_folder(folder)
    (folder / "away.png").rename(folder / "masks" / "7.png")
    (folder / "labels.csv").write_text("id,class\n0,glioma\n")
    with pytest.raises(UsageError, match="column patient is missing"):
        read_folder(folder)
    with pytest.raises(UsageError, match="no such folder"):
        read_folder(folder / "nowhere")


def test_arrays_hold_images_and_binary_masks(folder: Path) -> None:
    """Images come at the size asked for in 0…255, masks in {0, 1}, area kept within the resize's rounding."""
    slices = read_folder(folder)[:4]
    images, masks = read_arrays(slices, 64, "grey")
    assert images.shape == (4, 64, 64, 1) and masks.shape == (4, 64, 64)
    assert set(np.unique(masks)) == {0, 1}
    true = (cv2.imread(str(slices[0].mask), 0) > 0).mean()
    assert masks[0].mean() == pytest.approx(true, abs=0.01)


def test_augmentation_moves_mask_with_image() -> None:
    """After every augmentation the bright square of the image is inside the mask, and values stay in range."""
    image = np.full((64, 64, 1), 30, np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    mask[20:44, 22:42] = 1
    image[mask > 0] = 220
    for seed in range(30):
        pixels, moved = augment(image, mask, np.random.default_rng(seed))
        assert pixels.shape == moved.shape == (64, 64, 1)
        assert pixels.min() >= 0 and pixels.max() <= 1 and set(np.unique(moved)) <= {0.0, 1.0}
        inside, outside = pixels[moved > 0], pixels[moved == 0]
        assert inside.mean() > outside.mean() + 0.15
    again = augment(image, mask, np.random.default_rng(29))
    assert np.array_equal(again[0], pixels) and np.array_equal(again[1], moved)
