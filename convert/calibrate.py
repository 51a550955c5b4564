"""The images that set a full-integer model's activation ranges: found, read as on the device, counted and hashed.

They are data of the model as its weights are: their digest goes into the contract, and none of them may judge it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.contract import Calibration, InputSpec
from edge_runtime.errors import EdgeSegError, ImageError, UsageError
from edge_runtime.images import decode_image, read_bytes, read_image
from edge_runtime.inputs import find_inputs
from edge_runtime.preprocess import Image, Tensor, to_tensor

FEWEST, MOST = 100, 500  # as the paper has it: 100 to 500 representative images
NAMED = 3  # how many images a message names


@dataclass(frozen=True)
class Sample:
    """One calibration image: where it is, and the SHA-256 of its file and of its pixels."""

    path: Path
    sha256: str
    pixels: str


@dataclass(frozen=True)
class Calibrated:
    """The images a model is calibrated with, and what is to be said of them."""

    folder: Path
    samples: tuple[Sample, ...]
    notes: tuple[str, ...]

    @property
    def calibration(self) -> Calibration:
        """What the contract says of them: how many, and the SHA-256 over the files' sorted SHA-256s, one a line."""
        lines = "".join(f"{digest}\n" for digest in sorted(sample.sha256 for sample in self.samples))
        return Calibration(len(self.samples), hashlib.sha256(lines.encode()).hexdigest())


@dataclass(frozen=True)
class Tensors:
    """The images as the model's float32 tensors (1, H, W, C), read anew each time they are gone through."""

    samples: Sequence[Sample]
    spec: InputSpec

    def __iter__(self) -> Iterator[Tensor]:
        _, height, width, _ = self.spec.shape
        spec = self.spec
        for sample in self.samples:
            image = read_image(sample.path)
            yield to_tensor(image, height, width, spec.colour, spec.scale, spec.offset, spec.dtype)


def find_calibration(folder: Path) -> Calibrated:
    """Choose the images of a folder to calibrate with: all of them, or MOST evenly spread over their sorted names.

    What cannot be read and what is there twice is left out; both are notes, as are fewer than FEWEST.

    Raises:
        UsageError: no folder, no image in it, or none that can be read.
    """
    option = f"--calibrate {folder}"
    if not folder.is_dir():
        why = "it is a file" if folder.exists() else "no such folder"
        raise UsageError(option, why, f"give a folder of {FEWEST} to {MOST} representative images")
    try:
        paths = [item.path for item in find_inputs([folder], False, folder / "no output here")]
    except EdgeSegError as error:
        inner = folder / "images"
        fix = f"--calibrate {inner}" if inner.is_dir() else f"give a folder of {FEWEST} to {MOST} representative images"
        raise UsageError(option, error.why, fix) from None
    chosen = pick_evenly(paths, MOST)
    samples, bad, twice = read_samples(chosen)
    if not samples:
        raise UsageError(option, f"none of its {len(chosen)} images can be read; {bad[0].what}: {bad[0].why}")
    return Calibrated(folder, tuple(samples), tuple(word_notes(len(paths), len(samples), bad, twice)))


def pick_evenly(paths: Sequence[Path], most: int) -> list[Path]:
    """Return the paths, or `most` of them at even distances: the same ones each time."""
    if len(paths) <= most:
        return list(paths)
    return [paths[i * len(paths) // most] for i in range(most)]


def read_samples(paths: Sequence[Path]) -> tuple[list[Sample], list[ImageError], list[Path]]:
    """Return the samples, what could not be read, and what shows the same pixels as one before."""
    samples: dict[str, Sample] = {}
    bad, twice = [], []
    for path in paths:
        try:
            sample = read_sample(path)
        except ImageError as error:
            bad.append(error)
            continue
        if sample.pixels in samples:
            twice.append(path)
        samples.setdefault(sample.pixels, sample)
    return list(samples.values()), bad, twice


def read_sample(path: Path) -> Sample:
    """Return an image's hashes. Raises: ImageError."""
    data = read_bytes(path, str(path))
    return Sample(path, hashlib.sha256(data).hexdigest(), hash_pixels(decode_image(data, str(path))))


def hash_pixels(image: Image) -> str:
    """Return the SHA-256 of an image's pixels, shape and depth: a copy saved in another format has the same."""
    return hashlib.sha256(f"{image.shape}{image.dtype}".encode() + image.tobytes()).hexdigest()


def word_notes(found: int, used: int, bad: Sequence[ImageError], twice: Sequence[Path]) -> list[str]:
    """Return what a reader of the report should know of the calibration."""
    notes = []
    if found > MOST:
        notes.append(f"calibrated with {used} of {found} images, evenly picked by name")
    if bad:
        notes.append(f"calibration: {len(bad)} unreadable images left out: " + name_some([e.what for e in bad]))
    if twice:
        notes.append(f"calibration: {len(twice)} copies left out: " + name_some([str(path) for path in twice]))
    if used < FEWEST:
        notes.append(f"calibrated with only {used} images: give {FEWEST} to {MOST} that show what the device will see")
    return notes


def name_some(names: Sequence[str]) -> str:
    """Return the first names and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(Path(name).name for name in names[:NAMED]) + more


def refuse_overlap(check_paths: Sequence[Path], calibrated: Calibrated) -> None:
    """Refuse to judge a model on what set its ranges: images of the same bytes or the same pixels.

    Raises:
        UsageError: names the first and says how many there are.
    """
    files = {sample.sha256 for sample in calibrated.samples}
    pixels = {sample.pixels for sample in calibrated.samples}
    shared = []
    for path in check_paths:
        try:
            sample = read_sample(path)
        except ImageError:
            continue  # whoever checks on it will say so
        if sample.sha256 in files or sample.pixels in pixels:
            shared.append(path)
    if shared:
        more = f" (and {len(shared) - 1} more of the {len(check_paths)})" if len(shared) > 1 else ""
        why = f"the model was calibrated with it{more}"
        raise UsageError(f"--check {shared[0]}", why, f"check on images that are not in {calibrated.folder}")
