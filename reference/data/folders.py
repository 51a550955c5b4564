"""Reads data folders (images, masks, classes, patients), splits them, and makes the arrays that a net is trained on.

A data folder holds `images/*.png`, `masks/*.png` of the same names and `labels.csv` with columns id, class, patient.
A plain folder of images is tumour-free by definition: empty masks, class "none", each slice its own patient.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edge_runtime.errors import UsageError
from edge_runtime.images.formats import SUFFIXES
from edge_runtime.images.read import read_image
from edge_runtime.inference.preprocess import to_grey, to_tensor
from edge_runtime.system.files import hash_file
from edge_runtime.system.spreadsheet import unescape_formula

from .same_slice import find_copies, group_linked, make_fingerprint, stack_fingerprints


@dataclass(frozen=True)
class Slice:
    """One image with its mask's file (None: no tumour), class and patient (unique over all folders)."""

    image: Path
    mask: Path | None
    kind: str
    patient: str


def read_folder(folder: Path) -> list[Slice]:
    """List a data folder's slices, sorted by file name.

    Raises: UsageError if the folder or its labels are missing, or an image has no mask or no row in labels.csv.
    """
    if not folder.is_dir():
        raise UsageError(str(folder), "no such folder", "give a data folder, see python -m reference --help")
    if not (folder / "images").is_dir():
        return read_tumour_free(folder)
    labels = read_labels(folder / "labels.csv")
    slices = []
    for image in sorted((folder / "images").glob("*.png")):
        mask = folder / "masks" / image.name
        if not mask.is_file():
            raise UsageError(str(image), "it has no mask", f"add {mask}")
        if image.stem not in labels:
            raise UsageError(str(image), "labels.csv has no row for it", "add id, class and patient")
        kind, patient = labels[image.stem]
        slices.append(Slice(image, mask, kind, f"{folder.resolve().name}/{patient}"))
    return slices


def read_tumour_free(folder: Path) -> list[Slice]:
    """List a plain folder of images as slices without tumour; copies of one slice count as one patient.

    Public folders hold many copies: mirrored, turned, recompressed. On both sides of a split they would leak.
    Raises: UsageError if there is no image; ImageError if one cannot be read.
    """
    images = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not images:
        raise UsageError(str(folder), "it holds neither images/ nor image files", "give a data folder")
    digests = [hash_file(path) for path in images]
    same = [(digests.index(digest), i) for i, digest in enumerate(digests)]
    fingerprints = stack_fingerprints(make_fingerprint(to_grey(read_image(path).astype(np.float32))) for path in images)
    groups = group_linked(len(images), [*same, *((copy.first, copy.second) for copy in find_copies(fingerprints))])
    names: dict[int, str] = {}
    for group, digest in zip(groups, digests, strict=True):  # independent of the files' names
        names[group] = min(names.get(group, digest), digest)
    parent = folder.resolve().name
    return [Slice(path, None, "none", f"{parent}/{names[group]}") for path, group in zip(images, groups, strict=True)]


def read_labels(path: Path) -> dict[str, tuple[str, str]]:
    """Return {id: (class, patient)}.

    Raises: UsageError if the file or one of its three columns is missing.
    """
    if not path.is_file():
        raise UsageError(str(path), "no such file", "a data folder needs labels.csv with id, class and patient")
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        missing = {"id", "class", "patient"} - set(rows.fieldnames or ())
        if missing:
            raise UsageError(str(path), f"column {', '.join(sorted(missing))} is missing", "use id,class,patient")
        return {row["id"]: (row["class"], row["patient"]) for row in map(unescape_row, rows)}


def unescape_row(row: dict[str, str]) -> dict[str, str]:
    """Return a row with its texts as they were; a cell that the file lacks stays None."""
    return {name: unescape_formula(cell) if isinstance(cell, str) else cell for name, cell in row.items()}


def split_by_patient(slices: Sequence[Slice], shares: Sequence[float], seed: int) -> list[list[Slice]]:
    """Return [the rest, one list for each share]: that share of each class's patients, none in two lists."""
    kinds: dict[str, str] = {}
    for item in slices:  # a patient counts in the class of its first slice
        kinds.setdefault(item.patient, item.kind)
    part_of: dict[str, int] = {}
    for kind in sorted(set(kinds.values())):
        patients = sorted(patient for patient, own in kinds.items() if own == kind)
        np.random.default_rng([seed, *kind.encode()]).shuffle(
            patients
        )  # so that a class's split does not depend on the others
        ends = [round(sum(shares[: i + 1]) * len(patients)) for i in range(len(shares))]
        for i, (start, end) in enumerate(zip([0, *ends], ends, strict=False), 1):
            part_of.update(dict.fromkeys(patients[start:end], i))
    return [[item for item in slices if part_of.get(item.patient, 0) == i] for i in range(len(shares) + 1)]


def split_by_slice(slices: Sequence[Slice], shares: Sequence[float], seed: int) -> list[list[Slice]]:
    """Return [the rest, one list for each share] of slices drawn regardless of their patients, as in the paper.

    Slices of one patient are then on both sides of the split, so scores include memorised patients.
    """
    order = np.random.default_rng(seed).permutation(len(slices))
    ends = [round(sum(shares[: i + 1]) * len(slices)) for i in range(len(shares))]
    parts = [order[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    return [[slices[i] for i in sorted(part)] for part in (order[ends[-1] :], *parts)]


SPLITS = {"patient": split_by_patient, "slice": split_by_slice}


def name_slice(item: Slice) -> str:
    """Return FOLDER/FILE, which names a slice among the data folders."""
    return f"{item.patient.split('/')[0]}/{item.image.name}"


def read_mask(item: Slice, height: int, width: int) -> npt.NDArray[np.float32]:
    """Return (height, width) float32 in {0, 1}: the mask resized by area and thresholded at one half."""
    if item.mask is None:
        return np.zeros((height, width), np.float32)
    mask = to_tensor(read_image(item.mask), height, width, "grey")[0, :, :, 0]  # (height, width) in [0, 1]
    return (mask >= 0.5).astype(np.float32)


def read_arrays(slices: Sequence[Slice], size: int, colour: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return images (N, size, size, C) in 0…255 and masks (N, size, size) in {0, 1}, both uint8 to save memory."""
    channels = 3 if colour == "rgb" else 1
    images = np.empty((len(slices), size, size, channels), np.uint8)
    masks = np.empty((len(slices), size, size), np.uint8)
    for i, item in enumerate(slices):
        images[i] = to_tensor(read_image(item.image), size, size, colour, scale=1.0, dtype="uint8")[0]
        masks[i] = read_mask(item, size, size)
    return images, masks


def augment(
    image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8], rng: np.random.Generator
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return an augmented copy: image (H, W, C) float32 in [0, 1] and mask (H, W, 1) float32 in {0, 1}.

    Mirrors, turns up to 25 degrees, scales each axis by 0.6 to 1.35, shifts; then gamma, gain, a smooth bias field,
    blur and noise, so that scanner, contrast and framing do not identify a slice's source.
    """
    height, width = mask.shape
    matrix = draw_affine(rng, height, width)
    warped = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR)
    turned = cv2.warpAffine(mask, matrix, (width, height), flags=cv2.INTER_NEAREST)
    scaled = warped.reshape(height, width, -1).astype(np.float32) / np.float32(255)
    pixels = vary_intensity(scaled, rng)
    return pixels, turned.astype(np.float32)[:, :, None]


def draw_affine(rng: np.random.Generator, height: int, width: int) -> npt.NDArray[np.float64]:
    """Return a random 2x3 affine matrix about the image's centre."""
    angle = np.deg2rad(rng.uniform(-25, 25)) if rng.random() < 0.7 else 0.0
    zoom = rng.uniform(0.65, 1.25)
    sy, sx = zoom * rng.uniform(0.93, 1.08), zoom * rng.uniform(0.93, 1.08)
    mirror_x = -1 if rng.random() < 0.5 else 1
    mirror_y = -1 if rng.random() < 0.15 else 1
    cos, sin = np.cos(angle), np.sin(angle)
    linear = np.array([[cos, -sin], [sin, cos]]) @ np.diag([mirror_x * sx, mirror_y * sy])
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    shift = rng.uniform(-0.08, 0.08, 2) * (width, height)
    return np.column_stack([linear, centre - linear @ centre + shift])


def vary_intensity(pixels: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return (H, W, C) pixels in [0, 1] with random gamma, gain, bias field, blur and noise."""
    height, width = pixels.shape[:2]
    if rng.random() < 0.7:
        pixels = pixels ** np.float32(np.exp(rng.uniform(-0.5, 0.5)))
    if rng.random() < 0.7:
        pixels = pixels * np.float32(rng.uniform(0.65, 1.3))
    if rng.random() < 0.3:
        field = cv2.resize(rng.uniform(0.75, 1.25, (3, 3)).astype(np.float32), (width, height))
        pixels = pixels * field[:, :, None]
    if rng.random() < 0.2:
        blurred = cv2.GaussianBlur(pixels, (0, 0), float(rng.uniform(0.4, 1.1)))
        pixels = np.asarray(blurred, np.float32).reshape(pixels.shape)
    if rng.random() < 0.3:
        pixels = pixels + rng.normal(0, rng.uniform(0.005, 0.04), pixels.shape).astype(np.float32)
    return np.clip(pixels, 0, 1)
