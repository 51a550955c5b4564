"""Calibration images: chosen the same way each time, read as on the device, hashed, and kept from judging the model."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from convert.quantize.calibration_images import (
    MAX_IMAGES,
    CalibrationTensors,
    find_calibration,
    hash_pixels,
    pick_evenly,
    refuse_overlap,
)
from edge_runtime.contract.fields import InputSpec
from edge_runtime.errors import UsageError
from edge_runtime.images import read_image
from edge_runtime.images.write import encode_png
from edge_runtime.inference.preprocess import to_tensor
from reference.data.phantom import draw_phantom

GREY = InputSpec((1, 32, 32, 1), "float32", "grey", "stretch-area", 1 / 255, 0.0)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of six drawn slices, one of them 16-bit, one a JPEG."""
    folder = tmp_path / "slices"
    folder.mkdir()
    for i in range(6):
        image = draw_phantom(np.random.default_rng(i), "glioma", (64, 72)).image
        if i == 4:
            cv2.imwrite(str(folder / f"{i}.jpg"), image)
        else:
            (folder / f"{i}.png").write_bytes(encode_png(image.astype(np.uint16) * 16 if i == 3 else image))
    return folder


def test_images_are_read_as_on_the_device(images: Path) -> None:
    """The tensors are read_image's and to_tensor's, in the order of names, as often as one goes through them."""
    calibrated = find_calibration(images)
    tensors = CalibrationTensors(calibrated.images, GREY)
    expected = [to_tensor(read_image(path), 32, 32) for path in sorted(images.iterdir())]
    for _ in range(2):
        for found, one in zip(tensors, expected, strict=True):
            np.testing.assert_array_equal(found, one)
    colour = InputSpec((1, 20, 24, 3), "float32", "rgb", "stretch-area", 1.0, -3.0)
    first = next(iter(CalibrationTensors(calibrated.images, colour)))
    assert first.shape == (1, 20, 24, 3) and first.min() >= -3 and first.max() > 1


def test_the_contract_gets_count_and_digest(images: Path) -> None:
    """The digest is the SHA-256 over the files' sorted SHA-256s; names and order do not matter, content does."""
    digests = sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in images.iterdir())
    expected = hashlib.sha256("".join(f"{digest}\n" for digest in digests).encode()).hexdigest()
    calibration = find_calibration(images).calibration
    assert (calibration.count, calibration.sha256) == (6, expected)
    (images / "0.png").rename(images / "z.png")
    assert find_calibration(images).calibration == calibration
    (images / "z.png").unlink()
    assert find_calibration(images).calibration != calibration


def test_few_images_are_a_warning(images: Path) -> None:
    """Fewer than 100 are taken, with a note that says how many there should be."""
    (note,) = find_calibration(images).notes
    assert note.startswith("calibrated with only 6 images: give 100 to 500")


def test_many_images_are_picked_evenly() -> None:
    """Of more than 500, 500 are taken at even distances, none twice, the same ones each time."""
    paths = [Path(f"{i:05}.png") for i in range(1234)]
    chosen = pick_evenly(paths, MAX_IMAGES)
    places = [int(path.stem) for path in chosen]
    assert len(chosen) == 500 and places == sorted(set(places)) == [i * 1234 // 500 for i in range(500)]
    assert set(np.diff(places)) == {2, 3}
    assert pick_evenly(paths[:500], MAX_IMAGES) == paths[:500]


def test_more_than_500_images_in_a_folder(tmp_path: Path) -> None:
    """What is picked from a folder is what the note and the contract count."""
    for i in range(503):
        (tmp_path / f"{i:04}.png").write_bytes(
            encode_png(np.full((3, 3), i % 256, np.uint8) + np.uint8(i // 256) * np.eye(3, dtype=np.uint8))
        )
    calibrated = find_calibration(tmp_path)
    assert calibrated.calibration.count == 500
    assert calibrated.notes == ("calibrated with 500 of 503 images, evenly picked by name",)


def test_unreadable_images_and_copies_are_left_out_in_one_line(images: Path) -> None:
    """Each is named in a note; the digest is of the others."""
    expected = find_calibration(images).calibration
    for i in range(4):
        (images / f"bad{i}.png").write_bytes(b"\x89PNG no image")
    shutil.copy(images / "0.png", images / "again.png")
    calibrated = find_calibration(images)
    bad, twice, few = calibrated.notes
    assert bad == "calibration: 4 unreadable images left out: bad0.png, bad1.png, bad2.png and 1 more"
    assert twice == "calibration: 1 copies left out: again.png"
    assert "only 6" in few
    assert calibrated.calibration == expected


def test_what_cannot_be_calibrated_with_is_one_line(tmp_path: Path, images: Path) -> None:
    """No folder, a file, an empty folder, a data folder one level too high, nothing readable: usage errors."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "data").mkdir()
    images.rename(tmp_path / "data" / "images")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"hello")
    cases = {
        "missing": "no such folder; give a folder of 100 to 500",
        "data/images/0.png": "it is a file",
        "empty": "no images in it; give a folder of 100 to 500",
        "data": f"no images in it; --calibrate {tmp_path / 'data' / 'images'}",
        "bad": "none of its 1 images can be read",
    }
    for name, words in cases.items():
        with pytest.raises(UsageError) as caught:
            find_calibration(tmp_path / name)
        assert words in str(caught.value) and "\n" not in str(caught.value)
        assert str(caught.value).startswith(f"--calibrate {tmp_path / name}: ")
        assert caught.value.exit_code == 2


def test_calibration_images_cannot_be_checked_on(images: Path, tmp_path: Path) -> None:
    """A check image with the bytes or the pixels of a calibration image is refused, under whatever name or format."""
    calibrated = find_calibration(images)
    fresh, copied, saved = (tmp_path / name for name in ("fresh.png", "copied.png", "saved.bmp"))
    fresh.write_bytes(encode_png(draw_phantom(np.random.default_rng(99), "none", (64, 72)).image))
    shutil.copy(images / "1.png", copied)
    cv2.imwrite(str(saved), read_image(images / "2.png"))
    (tmp_path / "broken.png").write_bytes(b"")
    refuse_overlap([fresh, tmp_path / "broken.png"], calibrated)
    with pytest.raises(
        UsageError, match=r"copied.png: the model was calibrated with it \(and 1 more of the 3\);"
    ) as caught:
        refuse_overlap([fresh, copied, saved], calibrated)
    assert caught.value.exit_code == 2
    with pytest.raises(UsageError, match=r"saved.bmp: the model was calibrated with it;"):
        refuse_overlap([fresh, saved], calibrated)


def test_pixels_are_hashed_with_their_shape_and_depth() -> None:
    """The same bytes as another shape or depth are another image."""
    image = np.arange(64, dtype=np.uint8).reshape(4, 16)
    hashes = {hash_pixels(image), hash_pixels(image.reshape(8, 8)), hash_pixels(image.view(np.uint16))}
    assert len(hashes) == 3
