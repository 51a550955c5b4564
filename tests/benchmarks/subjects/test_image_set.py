"""Which images and masks a run takes, and which it refuses before it begins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from fakes import make_contract

from benchmarks.subjects.images import (
    MAX_TIMED,
    check_calibration,
    check_masks,
    choose_timed,
    read_image_set,
    read_mask,
    write_tensors,
)
from edge_runtime.errors import EdgeSegError, ImageError, UsageError
from edge_runtime.images.write import encode_png
from reference.data.phantom import draw_phantom

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


def draw_mask(size: int, radius: float) -> Pixels:
    """A disc, white on black."""
    rows, columns = np.mgrid[:size, :size] - size * 0.45
    return ((rows**2 + columns**2 < radius**2) * 255).astype(np.uint8)


def through_jpeg(mask: Pixels, quality: int) -> Pixels:
    ok, data = cv2.imencode(".jpg", mask, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert ok
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)


def enlarge(mask: Pixels, by: int) -> Pixels:
    small = cv2.resize(mask, None, fx=1 / by, fy=1 / by, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, mask.shape[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)


@pytest.mark.parametrize("size", [64, 128, 512])
@pytest.mark.parametrize(
    ("spoil", "least", "border"),  # the least radius that survives it, and how far it may move the border
    [
        (lambda mask: mask, 2, 0),
        (lambda mask: through_jpeg(mask, 30), 3, 1),
        (lambda mask: through_jpeg(mask, 75), 2, 1),
        (lambda mask: cv2.GaussianBlur(mask, (0, 0), 1.5), 4, 1),
        (lambda mask: enlarge(mask, 2), 3, 1),
        (lambda mask: enlarge(mask, 8), 12, 3),
        (lambda mask: mask.astype(np.uint16) * 257, 2, 0),
    ],
    ids=["clean", "jpeg 30", "jpeg 75", "blurred", "enlarged twice", "enlarged eightfold", "16 bit"],
)
def test_a_mask_that_was_saved_with_loss_is_a_mask(
    write: Write, size: int, spoil: Callable[[Pixels], Pixels], least: float, border: float
) -> None:
    """Its grey pixels are the lesion's border: half of white decides on them, for small lesions and large ones."""
    for radius in (least, max(least, size / 16), size / 5):
        clean = draw_mask(size, radius)
        found = read_mask(write("m/m.png", spoil(clean)), clean)
        assert np.count_nonzero(found != (clean > 0)) <= border * 2 * np.pi * radius


@pytest.mark.parametrize("side", [64, 256])
def test_grey_pictures_are_no_masks(tmp_path: Path, write: Write, side: int) -> None:
    """The images' folder given for the masks', or one like it: it is named, and how many, before a conversion."""
    for number, kind in enumerate(("glioma", "meningioma", "pituitary", "none")):
        phantom = draw_phantom(np.random.default_rng(number), kind, side)
        write(f"images/{number}.png", phantom.image)
        write(f"masks/{number}.png", phantom.mask.astype(np.uint8) * 255)
        write(f"bright/{number}.png", (255 - 0.5 * (255 - phantom.image)).astype(np.uint8))
    (tmp_path / "copies").symlink_to(tmp_path / "images")
    for labels in (None, 2):
        check_masks(read_image_set(tmp_path / "images", tmp_path / "masks"), labels)
        for name in ("copies", "bright"):
            with pytest.raises(UsageError, match=rf"--masks \S+/{name}: all of its files are grey pictures, no masks"):
                check_masks(read_image_set(tmp_path / "images", tmp_path / name), labels)
    write("masks/2.png", draw_phantom(np.random.default_rng(2), "pituitary", side).image)
    with pytest.raises(
        UsageError, match=r"masks: 1 of 4 of its files are grey pictures, no masks \(2\.png: \d\d %|2\.png"
    ):
        check_masks(read_image_set(tmp_path / "images", tmp_path / "masks"))


def test_a_red_mask_is_refused(write: Write) -> None:
    """Its grey is below half of white: every lesion would be missed without a word."""
    red = np.zeros((16, 16, 3), np.uint8)
    red[4:9, 4:9, 0] = 255
    with pytest.raises(ImageError, match="its highest value is 76, neither a label nor white"):
        read_mask(write("m/m.png", red), red)


def test_label_values_pass_before_the_model_is_known(tmp_path: Path, write: Write) -> None:
    """A mask of labels is neither grey nor dark; with the model's own number its labels are checked."""
    labels = np.tile(np.arange(4, dtype=np.uint8), (16, 4))
    write("images/a.png", labels)
    write("masks/a.png", labels)
    data = read_image_set(tmp_path / "images", tmp_path / "masks")
    check_masks(data)
    check_masks(data, 4)
    with pytest.raises(ImageError, match="its highest value is 3, neither a label nor white"):
        check_masks(data, 2)


def test_a_folder_without_any_mask_is_named(tmp_path: Path, write: Write) -> None:
    """A wrong folder is told from one that lacks a mask."""
    for name in ("a", "b", "c"):
        write(f"images/{name}.png", grey(16, 16))
    write("other/z.png", grey(16, 16, 255))
    with pytest.raises(ImageError, match=r"--masks \S+/other: it has no mask of any of the 3 images"):
        read_image_set(tmp_path / "images", tmp_path / "other")
    write("other/b.png", grey(16, 16, 255))
    with pytest.raises(ImageError, match=r"images/a\.png: it has no mask, nor have 1 more; add \S+other/a\.png"):
        read_image_set(tmp_path / "images", tmp_path / "other")


def test_the_folder_above_the_images_names_the_one_below(tmp_path: Path, write: Write) -> None:
    """The commonest wrong folder: the set's own, with images and masks in it. No option is named that is not there."""
    (tmp_path / "set").mkdir()
    write("set/images/a.png", grey(16, 16))
    write("set/masks/a.png", grey(16, 16, 255))
    with pytest.raises(
        EdgeSegError, match=r"--images \S+/set: no images in it.*; give .* such as \S+/set/images$"
    ) as told:
        read_image_set(tmp_path / "set", tmp_path / "set/masks")
    assert "--recursive" not in str(told.value)
