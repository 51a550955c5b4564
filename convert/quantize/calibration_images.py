"""Which images set a full-integer model's activation ranges? Found, read as on the device, counted and hashed.

They are part of the model as its weights are: their digest goes into the contract, and no check may use them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.contract.fields import Calibration, InputSpec
from edge_runtime.errors import EdgeSegError, ImageError, UsageError
from edge_runtime.folder.inputs import find_inputs
from edge_runtime.images.arrays import Image
from edge_runtime.images.read import decode_image, read_bytes, read_image
from edge_runtime.inference.preprocess import Tensor, to_model_input

MIN_IMAGES, MAX_IMAGES = 100, 500  # as in the paper: 100 to 500 representative images
NAMED = 3  # how many images a message names


@dataclass(frozen=True)
class CalibrationImage:
    """One calibration image: where it is, and the SHA-256 of its file and of its pixels."""

    path: Path
    sha256: str
    pixels: str


@dataclass(frozen=True)
class CalibrationSet:
    """The images that a model is calibrated with, and notes on them for the report."""

    folder: Path
    images: tuple[CalibrationImage, ...]
    notes: tuple[str, ...]

    @property
    def calibration(self) -> Calibration:
        """The contract's field: how many, and the SHA-256 over the files' sorted SHA-256s, one a line."""
        lines = "".join(f"{digest}\n" for digest in sorted(image.sha256 for image in self.images))
        return Calibration(len(self.images), hashlib.sha256(lines.encode()).hexdigest())


@dataclass(frozen=True)
class CalibrationTensors:
    """The images as the model's float32 tensors (1, H, W, C), read again in each iteration."""

    images: Sequence[CalibrationImage]
    spec: InputSpec

    def __iter__(self) -> Iterator[Tensor]:
        for item in self.images:
            yield to_model_input(read_image(item.path), self.spec)


def find_calibration(folder: Path) -> CalibrationSet:
    """Choose the images of a folder to calibrate with: all, or MAX_IMAGES evenly spread over their sorted names.

    Unreadable images and copies are left out. Notes tell of both, and of fewer than MIN_IMAGES.

    Raises:
        UsageError: no folder, no image in it, or none that can be read.
    """
    option, fix = f"--calibrate {folder}", f"give a folder of {MIN_IMAGES} to {MAX_IMAGES} representative images"
    if not folder.is_dir():
        raise UsageError(option, "it is a file" if folder.exists() else "no such folder", fix)
    try:
        paths = [item.path for item in find_inputs([folder], False, folder / "no output here").inputs]
    except EdgeSegError as error:
        inner = folder / "images"
        raise UsageError(option, error.why, f"--calibrate {inner}" if inner.is_dir() else fix) from None
    chosen = pick_evenly(paths, MAX_IMAGES)
    images, bad, twice = read_images(chosen)
    if not images:
        raise UsageError(option, f"none of its {len(chosen)} images can be read; {bad[0].what}: {bad[0].why}")
    return CalibrationSet(folder, tuple(images), tuple(list_notes(len(paths), len(images), bad, twice)))


def pick_evenly(paths: Sequence[Path], count: int) -> list[Path]:
    """Return the paths, or `count` of them at even distances: the same ones each time."""
    if len(paths) <= count:
        return list(paths)
    return [paths[i * len(paths) // count] for i in range(count)]


def read_images(paths: Sequence[Path]) -> tuple[list[CalibrationImage], list[ImageError], list[Path]]:
    """Return the images, errors of unreadable ones, and paths of copies: the same pixels as an image before."""
    images: dict[str, CalibrationImage] = {}
    bad, twice = [], []
    for path in paths:
        try:
            image = hash_image(path)
        except ImageError as error:
            bad.append(error)
            continue
        if image.pixels in images:
            twice.append(path)
        images.setdefault(image.pixels, image)
    return list(images.values()), bad, twice


def hash_image(path: Path) -> CalibrationImage:
    """Return an image's hashes. Raises: ImageError."""
    data = read_bytes(path, str(path))
    return CalibrationImage(path, hashlib.sha256(data).hexdigest(), hash_pixels(decode_image(data, str(path))))


def hash_pixels(image: Image) -> str:
    """Return the SHA-256 of an image's pixels, shape and depth: a copy saved in another format has the same."""
    return hashlib.sha256(f"{image.shape}{image.dtype}".encode() + image.tobytes()).hexdigest()


def list_notes(found: int, used: int, bad: Sequence[ImageError], twice: Sequence[Path]) -> list[str]:
    """Return the report's notes on the calibration."""
    notes = []
    if found > MAX_IMAGES:
        notes.append(f"calibrated with {used} of {found} images, evenly picked by name")
    if bad:
        notes.append(f"calibration: {len(bad)} unreadable images left out: " + format_names([e.what for e in bad]))
    if twice:
        notes.append(f"calibration: {len(twice)} copies left out: " + format_names([str(path) for path in twice]))
    if used < MIN_IMAGES:
        notes.append(
            f"calibrated with only {used} images: give {MIN_IMAGES} to {MAX_IMAGES} that show what the device will see"
        )
    return notes


def format_names(names: Sequence[str]) -> str:
    """Return the first names and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(Path(name).name for name in names[:NAMED]) + more


def refuse_overlap(check_paths: Sequence[Path], calibration: CalibrationSet) -> None:
    """Raise an error if an image to check on has the bytes or the pixels of a calibration image.

    Raises:
        UsageError: names the first and says how many there are.
    """
    files = {image.sha256 for image in calibration.images}
    pixels = {image.pixels for image in calibration.images}
    shared = []
    for path in check_paths:
        try:
            image = hash_image(path)
        except ImageError:
            continue  # the check on images reports it
        if image.sha256 in files or image.pixels in pixels:
            shared.append(path)
    if shared:
        more = f" (and {len(shared) - 1} more of the {len(check_paths)})" if len(shared) > 1 else ""
        why = f"the model was calibrated with it{more}"
        raise UsageError(f"--check {shared[0]}", why, f"check on images that are not in {calibration.folder}")
