"""Folders as users have them: what is unusable is named, and no mask is read as what it is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.verify.check_images import CheckImages, LeftOutImage, find_check_images, read_truth
from edge_runtime.contract.fields import Label
from edge_runtime.errors import UsageError

Save = Callable[[Path, Any], None]
LESION = (Label("lesion", (255, 0, 0)),)
THREE = (Label("background", (0, 0, 0)), Label("edema", (0, 255, 0)), Label("core", (0, 0, 255)))


@pytest.fixture
def data(tmp_path: Path, save_image: Save) -> Path:
    """Images a, b.jpg, c.tif, d, of 20 x 30, and masks of them all, in folders images and masks."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    image = np.arange(600, dtype=np.uint8).reshape(20, 30)
    for name in ("a.png", "b.jpg", "c.tif", "d.png"):
        save_image(tmp_path / "images" / name, image)
    for name in ("a.png", "b.png", "c.tif.png", "d.png"):
        save_image(tmp_path / "masks" / name, np.where(image > 200, 255, 0).astype(np.uint8))
    return tmp_path


def find(data: Path, masks: bool = True) -> CheckImages:
    return find_check_images(data / "images", data / "masks" if masks else None, data / "out.worst")


def test_masks_are_found_by_stem_or_name(data: Path) -> None:
    """NAME.png by stem or by whole name; without masks none is looked for."""
    found = find(data)
    assert [(case.file, case.mask.name) for case in found.images if case.mask] == [
        ("a.png", "a.png"),
        ("b.jpg", "b.png"),
        ("c.tif", "c.tif.png"),
        ("d.png", "d.png"),
    ]
    assert not found.left_out
    assert found.format_summary() == "4 images to check on with masks"
    assert all(case.mask is None for case in find(data, masks=False).images)


def test_what_is_unusable_is_named(data: Path, save_image: Save) -> None:
    """A PDF named .png, a mask that is missing and one of another size are left out, counted, the first one named."""
    (data / "images" / "a.png").write_bytes(b"%PDF-1.7\n")
    (data / "masks" / "b.png").unlink()
    save_image(data / "masks" / "d.png", np.zeros((20, 31), np.uint8))
    found = find(data)
    assert [case.file for case in found.images] == ["c.tif"]
    assert found.left_out == (
        LeftOutImage("a.png", "not a PNG, JPEG, TIFF or BMP image but a PDF"),
        LeftOutImage("b.jpg", "it has no mask b.png"),
        LeftOutImage("d.png", "mask d.png: it has 31 x 20 pixels, its image 30 x 20"),
    )
    assert found.format_summary().startswith(
        "1 images to check on with masks; 3 left out, the first is a.png: not a PNG"
    )


def test_nothing_usable_is_an_error(data: Path) -> None:
    """No masks at all, an empty folder, none at all, or a data folder given whole: one line that helps."""
    for mask in (data / "masks").iterdir():
        mask.unlink()
    with pytest.raises(UsageError, match=r"none of its 4 images can be used; a.png: it has no mask a.png"):
        find(data)
    (data / "empty").mkdir()
    with pytest.raises(UsageError, match="no images in it"):
        find_check_images(data / "empty", None, data / "out.worst")
    with pytest.raises(UsageError, match="no such file or folder"):
        find_check_images(data / "gone", None, data / "out.worst")
    with pytest.raises(UsageError, match=r"--check .*images --masks .*masks"):
        find_check_images(data, None, data / "out.worst")
    with pytest.raises(UsageError, match="folder of the images"):
        find_check_images(data / "images", data / "images", data / "out.worst")
    with pytest.raises(UsageError, match="no such folder"):
        find_check_images(data / "images", data / "gone", data / "out.worst")


@pytest.mark.parametrize("high", [1, 255, 65535])
def test_masks_of_one_lesion_in_all_their_ways(tmp_path: Path, save_image: Save, high: int) -> None:
    """{0, 1}, {0, 255} and 16 bits mean the same."""
    mask = np.zeros((6, 8), np.uint16 if high > 255 else np.uint8)
    mask[2:4, 3:7] = high
    save_image(tmp_path / "m.png", mask)
    truth = read_truth(tmp_path / "m.png", LESION)
    assert truth.dtype == np.uint8
    assert (truth == (mask > 0)).all()
    assert (read_truth(tmp_path / "m.png", THREE[:2]) == truth).all()


def test_soft_edges_count_from_half_of_white(tmp_path: Path, save_image: Save) -> None:
    """A mask with grey edges is lesion from half of white on, as in training; an empty one has none."""
    save_image(tmp_path / "m.png", np.array([[0, 100, 128, 255]], np.uint8))
    assert read_truth(tmp_path / "m.png", LESION).tolist() == [[0, 0, 1, 1]]
    save_image(tmp_path / "e.png", np.zeros((3, 3), np.uint8))
    assert not read_truth(tmp_path / "e.png", LESION).any()


def test_label_values_and_what_they_are_not(tmp_path: Path, save_image: Save) -> None:
    """Of several labels the values are the labels; others, colours, and labels for one lesion are refused by name."""
    labels = np.array([[0, 1], [2, 0]], np.uint8)
    save_image(tmp_path / "m.png", labels)
    assert (read_truth(tmp_path / "m.png", THREE) == labels).all()
    with pytest.raises(UsageError, match=r"m.png: the mask's values are 0, 1, 2, not 0 and 255"):
        read_truth(tmp_path / "m.png", LESION)
    save_image(tmp_path / "w.png", labels * 127)
    with pytest.raises(UsageError, match=r"w.png: .* 0, 127, 254, not .*: 0 background, 1 edema, 2 core"):
        read_truth(tmp_path / "w.png", THREE)
    save_image(tmp_path / "c.png", np.arange(12, dtype=np.uint8).reshape(2, 2, 3))
    with pytest.raises(UsageError, match=r"coloured.*0\.\.\.2"):
        read_truth(tmp_path / "c.png", THREE)
