"""Measures how well copies are told from other slices, for docs/data.md: python docs/data/copies.py LABELLED PLAIN.

LABELLED is a data folder with patients, PLAIN a folder of images.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edge_runtime.images import read_image
from reference.copies import LEAST_LIKENESS, TURNS, Prints, find_copies, join, stack_prints, take_print, turn_fields
from reference.data import read_folder
from reference.published import to_eight_bits

Image = npt.NDArray[np.uint8]
EVERY = 13, 4  # which of the images of each folder are changed: enough, and not one patient's alone


def main() -> None:
    """Print all figures."""
    labelled, plain = (read_folder(Path(word)) for word in sys.argv[1:3])
    patients = np.array([item.patient for item in labelled])
    prints = print_images(read(item.image) for item in labelled)
    report_patients(prints, patients)
    images = [read(item.image) for item in (*labelled[:: EVERY[0]], *plain[:: EVERY[1]])]
    for name, change in CHANGES.items():
        values = measure_change(images, change)
        low, median = np.quantile(values, [0.01, 0.5])
        share = np.mean(values < LEAST_LIKENESS)
        print(f"{name}: lowest 1 % {low:.3f}, median {median:.3f}, missed {share:.1%} of {len(images)}")
    report_plain(print_images(read(item.image) for item in plain))


def read(path: Path) -> Image:
    """Return an image file, (H, W) uint8."""
    return to_eight_bits(read_image(path))


def print_images(images: Iterable[Image]) -> Prints:
    """Return the prints of images."""
    return stack_prints(take_print(image) for image in images)


def report_patients(prints: Prints, patients: npt.NDArray[np.str_]) -> None:
    """Print how alike different slices of one patient and of two are, in all turns."""
    detail = prints.detail.reshape(len(patients), -1)
    same = patients[:, None] == patients[None]
    pairs = np.triu(np.ones_like(same), 1)
    greatest = 0.0
    for turn in range(len(TURNS)):
        likeness = detail @ turn_fields(prints.detail, turn).reshape(detail.shape).T
        greatest = max(greatest, float(likeness[~same].max()))
        if turn == 0:
            inside = likeness[same & pairs]
    print(f"two patients: {np.count_nonzero(~same & pairs)} pairs, at most {greatest:.3f} in any turn")
    print(
        f"one patient: {len(inside)} pairs, 99 % below {np.quantile(inside, 0.99):.3f}, at most {inside.max():.3f}, "
        f"{np.count_nonzero(inside >= LEAST_LIKENESS)} from {LEAST_LIKENESS}"
    )
    found = find_copies(prints)
    print(f"found: {len(found)} pairs, {sum(patients[c.first] != patients[c.second] for c in found)} of two patients")


def measure_change(images: list[Image], change: Callable[[Image], Image]) -> npt.NDArray[np.float32]:
    """Return (N,): how alike each image and its changed copy are."""
    ours, theirs = print_images(images), print_images(change(image) for image in images)
    return np.einsum("ijk,ijk->i", ours.detail, theirs.detail)


def report_plain(prints: Prints) -> None:
    """Print how many different slices a folder holds."""
    found = find_copies(prints)
    sizes = Counter(join(len(prints.detail), [(copy.first, copy.second) for copy in found]))
    copied = sum(size for size in sizes.values() if size > 1)
    print(f"{len(prints.detail)} images: {len(sizes)} different, {copied} have a copy, largest {max(sizes.values())}")
    print(f"{len(found)} pairs:", ", ".join(f"{n} {TURNS[t]}" for t, n in Counter(c.turn for c in found).most_common()))
    counts, edges = np.histogram([copy.likeness for copy in found], [0.86, 0.88, 0.9, 0.92, 0.94, 0.96, 0.98, 1.01])
    detail = prints.detail.reshape(len(prints.detail), -1)
    alike = [detail @ turn_fields(prints.detail, turn).reshape(detail.shape).T for turn in range(len(TURNS))]
    every = np.count_nonzero(np.triu(np.max(alike, axis=0) >= LEAST_LIKENESS, 1))
    print(f"without the hash: {every} pairs")
    print("likeness:", ", ".join(f"{n} from {edge:.2f}" for n, edge in zip(counts, edges, strict=False)))


def compress(image: Image) -> Image:
    """As JPEG of quality 10."""
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 10])[1], cv2.IMREAD_GRAYSCALE)


def add_noise(image: Image) -> Image:
    """With noise of 8 grey levels."""
    return np.clip(image + np.random.default_rng(0).normal(0, 8, image.shape), 0, 255).astype(np.uint8)


def turn(image: Image) -> Image:
    """Turned by one degree."""
    height, width = image.shape
    return cv2.warpAffine(image, cv2.getRotationMatrix2D((width / 2, height / 2), 1, 1), (width, height))


def crop(image: Image) -> Image:
    """Without 1 % on each side."""
    y, x = (max(side // 100, 1) for side in image.shape)
    return image[y:-y, x:-x]


SHARPEN = np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]], np.float32)
CHANGES: dict[str, Callable[[Image], Image]] = {
    "JPEG of quality 10": compress,
    "64 x 64": lambda image: cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA),
    "512 x 512": lambda image: cv2.resize(image, (512, 512)),
    "noise": add_noise,
    "gamma 0.6": lambda image: (255 * (image / 255) ** 0.6).astype(np.uint8),
    "gamma 1.7": lambda image: (255 * (image / 255) ** 1.7).astype(np.uint8),
    "saturated by 1.6": lambda image: np.clip(image * 1.6, 0, 255).astype(np.uint8),
    "saturated by 2.5": lambda image: np.clip(image * 2.5, 0, 255).astype(np.uint8),
    "sharpened": lambda image: cv2.filter2D(image, -1, SHARPEN),
    "blurred": lambda image: cv2.GaussianBlur(image, (0, 0), image.shape[0] / 128),
    "turned by 1 degree": turn,
    "cropped by 1 %": crop,
    "histogram equalised": cv2.equalizeHist,
}

if __name__ == "__main__":
    main()
