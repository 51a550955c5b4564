"""Measures how well copies are distinguished from other slices, for docs/data.md: tools/copies.py LABELLED PLAIN.

LABELLED is a data folder with patients, PLAIN a folder of images.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge_runtime.images import read_image
from reference.data.folders import read_folder
from reference.data.same_slice import (
    MIN_LIKENESS,
    TURNS,
    Fingerprints,
    find_copies,
    group_linked,
    make_fingerprint,
    stack_fingerprints,
    turn_fields,
)
from reference.public_sets.layouts import to_eight_bits

Image = npt.NDArray[np.uint8]
STEPS = 13, 4  # every 13th and 4th image of the two folders is changed: enough, of many patients


def main() -> None:
    """Print all figures."""
    labelled, plain = (read_folder(Path(word)) for word in sys.argv[1:3])
    patients = np.array([item.patient for item in labelled])
    fingerprints = fingerprint_images(read(item.image) for item in labelled)
    report_patients(fingerprints, patients)
    images = [read(item.image) for item in (*labelled[:: STEPS[0]], *plain[:: STEPS[1]])]
    for name, change in CHANGES.items():
        values = measure_change(images, change)
        low, median = np.quantile(values, [0.01, 0.5])
        share = np.mean(values < MIN_LIKENESS)
        print(f"{name}: lowest 1 % {low:.3f}, median {median:.3f}, missed {share:.1%} of {len(images)}")
    report_plain(fingerprint_images(read(item.image) for item in plain))


def read(path: Path) -> Image:
    """Return an image file, (H, W) uint8."""
    return to_eight_bits(read_image(path))


def fingerprint_images(images: Iterable[Image]) -> Fingerprints:
    """Return the fingerprints of images."""
    return stack_fingerprints(make_fingerprint(image) for image in images)


def report_patients(fingerprints: Fingerprints, patients: npt.NDArray[np.str_]) -> None:
    """Print the likeness of different slices of one patient and of two patients, in all turns."""
    detail = fingerprints.detail.reshape(len(patients), -1)
    same = patients[:, None] == patients[None]
    pairs = np.triu(np.ones_like(same), 1)
    greatest = 0.0
    for turn in range(len(TURNS)):
        likeness = detail @ turn_fields(fingerprints.detail, turn).reshape(detail.shape).T
        greatest = max(greatest, float(likeness[~same].max()))
        if turn == 0:
            inside = likeness[same & pairs]
    print(f"two patients: {np.count_nonzero(~same & pairs)} pairs, at most {greatest:.3f} in any turn")
    print(
        f"one patient: {len(inside)} pairs, 99 % below {np.quantile(inside, 0.99):.3f}, at most {inside.max():.3f}, "
        f"{np.count_nonzero(inside >= MIN_LIKENESS)} from {MIN_LIKENESS}"
    )
    found = find_copies(fingerprints)
    print(f"found: {len(found)} pairs, {sum(patients[c.first] != patients[c.second] for c in found)} of two patients")


def measure_change(images: list[Image], change: Callable[[Image], Any]) -> npt.NDArray[np.float32]:
    """Return (N,): the likeness of each image and its changed copy."""
    ours, theirs = fingerprint_images(images), fingerprint_images(change(image) for image in images)
    return np.asarray(np.einsum("ijk,ijk->i", ours.detail, theirs.detail))


def report_plain(fingerprints: Fingerprints) -> None:
    """Print how many different slices a folder holds, and the pairs of copies."""
    found = find_copies(fingerprints)
    sizes = Counter(group_linked(len(fingerprints.detail), [(copy.first, copy.second) for copy in found]))
    copied = sum(size for size in sizes.values() if size > 1)
    largest = max(sizes.values())
    print(f"{len(fingerprints.detail)} images: {len(sizes)} different, {copied} have a copy, largest {largest}")
    print(f"{len(found)} pairs:", ", ".join(f"{n} {TURNS[t]}" for t, n in Counter(c.turn for c in found).most_common()))
    counts, edges = np.histogram([copy.likeness for copy in found], [0.86, 0.88, 0.9, 0.92, 0.94, 0.96, 0.98, 1.01])
    detail = fingerprints.detail.reshape(len(fingerprints.detail), -1)
    alike = [detail @ turn_fields(fingerprints.detail, turn).reshape(detail.shape).T for turn in range(len(TURNS))]
    every = np.count_nonzero(np.triu(np.max(alike, axis=0) >= MIN_LIKENESS, 1))
    print(f"without the hash: {every} pairs")
    print("likeness:", ", ".join(f"{n} from {edge:.2f}" for n, edge in zip(counts, edges, strict=False)))


def compress(image: Image) -> Image:
    """Return the image as JPEG of quality 10."""
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 10])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)


def add_noise(image: Image) -> Image:
    """Return the image with noise of 8 grey levels."""
    return np.clip(image + np.random.default_rng(0).normal(0, 8, image.shape), 0, 255).astype(np.uint8)


def rotate(image: Image) -> Image:
    """Return the image turned by one degree."""
    height, width = image.shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 1, 1)
    return np.asarray(cv2.warpAffine(image, turn, (width, height)), np.uint8)


def crop(image: Image) -> Image:
    """Return the image without 1 % on each side."""
    y, x = (max(side // 100, 1) for side in image.shape)
    return image[y:-y, x:-x]


SHARPEN = np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]], np.float32)
CHANGES: dict[str, Callable[[Image], Any]] = {
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
    "turned by 1 degree": rotate,
    "cropped by 1 %": crop,
    "histogram equalised": cv2.equalizeHist,
}

if __name__ == "__main__":
    main()
