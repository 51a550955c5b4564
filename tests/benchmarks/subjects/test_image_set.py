"""Which images and masks a run takes, and which it refuses before it begins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from fakes import make_contract

from benchmarks.subjects.images import (
    MAX_TIMED,
    check_calibration,
    check_masks,
    check_output_folder,
    choose_timed,
    read_image_set,
    read_mask,
    write_tensors,
)
from edge_runtime.errors import EdgeSegError, ImageError, UsageError
from edge_runtime.images.write import encode_png

Pixels = npt.NDArray[Any]
Write = Callable[[str, Pixels], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def put(name: str, pixels: Pixels) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode_png(pixels))
        return path

    return put


def grey(height: int, width: int, value: int = 9) -> Pixels:
    return np.full((height, width), value, np.uint8)


def test_data_are_named_counted_and_hashed(tmp_path: Path, write: Write) -> None:
    """Sizes by number; the digest changes with a name, an image's bytes and a mask's."""
    for name in ("b", "a", "c"):
        write(f"images/{name}.png", grey(20, 30) if name == "c" else grey(16, 16))
        write(f"masks/{name}.png", grey(20, 30, 0) if name == "c" else grey(16, 16, 255))
    data = read_image_set(tmp_path / "images", tmp_path / "masks")
    description = data.describe()
    assert [path.name for path in data.images] == ["a.png", "b.png", "c.png"]
    assert (description["images"], description["masks"], description["sizes"]) == (3, 3, {"16x16": 2, "20x30": 1})
    digests = {description["sha256"], read_image_set(tmp_path / "images", None).describe()["sha256"]}
    write("masks/a.png", grey(16, 16, 0))
    digests.add(read_image_set(tmp_path / "images", tmp_path / "masks").describe()["sha256"])
    (tmp_path / "images/a.png").rename(tmp_path / "images/d.png")
    digests.add(read_image_set(tmp_path / "images", None).describe()["sha256"])
    assert len(digests) == 4


def test_a_pdf_under_an_image_s_name_is_refused(tmp_path: Path, write: Write) -> None:
    """Before anything is measured, by name."""
    write("images/a.png", grey(16, 16))
    (tmp_path / "images/b.png").write_bytes(b"%PDF-1.7 and so on")
    with pytest.raises(ImageError, match=r"b\.png: not a PNG, JPEG, TIFF or BMP image but a PDF"):
        read_image_set(tmp_path / "images", None)


def test_an_empty_folder_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    """No images, nothing to measure."""
    (tmp_path / "images").mkdir()
    with pytest.raises(EdgeSegError, match="no images in it"):
        read_image_set(tmp_path / "images", None)
    with pytest.raises(UsageError, match="no such folder"):
        read_image_set(tmp_path / "none", None)


def test_an_image_without_a_mask_is_refused(tmp_path: Path, write: Write) -> None:
    """It would count as an image without a lesion."""
    write("images/a.png", grey(16, 16))
    (tmp_path / "masks").mkdir()
    with pytest.raises(ImageError, match="it has no mask"):
        read_image_set(tmp_path / "images", tmp_path / "masks")


@pytest.mark.parametrize(
    ("values", "labels", "lesion"),
    [
        ([0, 255], 2, [False, True]),
        ([0, 1], 2, [False, True]),  # label values: half of white would call them empty
        ([0, 3, 1], 4, [False, True, True]),
        ([0, 100, 128, 255], 2, [False, False, True, True]),  # a mask that was scaled or saved with loss
        ([0, 0], 2, [False, False]),
    ],
)
def test_masks_are_white_or_label_values(write: Write, values: list[int], labels: int, lesion: list[bool]) -> None:
    """Both kinds that are in use."""
    pixels = np.array([values], np.uint8)
    assert read_mask(write("m/m.png", pixels), pixels, labels).tolist() == [lesion]


@pytest.mark.parametrize("values", [[0, 2], [0, 127], [3, 64]])
def test_a_mask_that_is_neither_is_refused(write: Write, values: list[int]) -> None:
    """By half of white it would be empty, and every model perfect or all alarms."""
    pixels = np.array([values], np.uint8)
    with pytest.raises(ImageError, match="neither a label nor white"):
        read_mask(write("m/m.png", pixels), pixels)


def test_a_mask_of_another_size_is_refused(tmp_path: Path, write: Write) -> None:
    """Stretching it would be a guess."""
    write("images/a.png", grey(16, 20))
    write("masks/a.png", grey(20, 16, 255))
    with pytest.raises(ImageError, match="it has 20x16 pixels, its image 16x20"):
        check_masks(read_image_set(tmp_path / "images", tmp_path / "masks"), 2)


def test_inference_is_timed_on_images_from_the_whole_folder(tmp_path: Path, write: Write) -> None:
    """At most TIMED, the first and a late one among them, as the contract's tensors."""
    for number in range(50):
        write(f"images/{number:02}.png", grey(16, 16, number))
    timed = choose_timed(read_image_set(tmp_path / "images", None))
    assert len(timed) == MAX_TIMED and timed[0].name == "00.png" and timed[-1].name > "40.png"
    tensors = np.load(write_tensors(timed, make_contract(8), tmp_path / "t.npy"))
    assert tensors.shape == (MAX_TIMED, 1, 8, 8, 1) and tensors.dtype == np.float32
    assert tensors[3].max() == pytest.approx(9 / 255)


def test_calibration_on_test_images_is_refused(tmp_path: Path, write: Write) -> None:
    """Also under another name: it is the bytes that count."""
    write("images/a.png", grey(16, 16, 1))
    write("other/z.png", grey(16, 16, 2))
    data = read_image_set(tmp_path / "images", None)
    assert [path.name for path in check_calibration(tmp_path / "other", data)] == ["z.png"]
    write("other/y.png", grey(16, 16, 1))
    with pytest.raises(UsageError, match=r"1 of its images are test images \(y.png\)"):
        check_calibration(tmp_path / "other", data)


def test_nothing_is_overwritten_without_force(tmp_path: Path) -> None:
    """A new folder and an empty one will do; a file never."""
    check_output_folder(tmp_path / "new", False)
    check_output_folder(tmp_path, False)
    (tmp_path / "x").write_text("")
    check_output_folder(tmp_path, True)
    for out, force in ((tmp_path, False), (tmp_path / "x", True)):
        with pytest.raises(EdgeSegError, match="exists already"):
            check_output_folder(out, force)
