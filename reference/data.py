"""Data folders: images, masks, classes and patients, split by patient; and the arrays a net is trained on.

A data folder holds `images/*.png`, `masks/*.png` of the same names and `labels.csv` with columns id, class, patient.
A plain folder of images is tumour-free by definition: empty masks, class "none", each slice a patient of its own.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edge_runtime.errors import UsageError
from edge_runtime.images import SUFFIXES, read_image
from edge_runtime.preprocess import to_grey, to_tensor

from .copies import find_copies, join, stack_prints, take_print


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

    Public folders hold many: mirrored, turned, recompressed. On both sides of a split they would be learnt by heart.
    Raises: UsageError if there is no image; ImageError if one cannot be read.
    """
    images = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not images:
        raise UsageError(str(folder), "it holds neither images/ nor image files", "give a data folder")
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in images]
    same = [(digests.index(digest), i) for i, digest in enumerate(digests)]
    prints = stack_prints(take_print(to_grey(read_image(path).astype(np.float32))) for path in images)
    groups = join(len(images), [*same, *((copy.first, copy.second) for copy in find_copies(prints))])
    names: dict[int, str] = {}
    for group, digest in zip(groups, digests, strict=True):  # whatever the files are called
        names[group] = min(names.get(group, digest), digest)
    place = folder.resolve().name
    return [Slice(path, None, "none", f"{place}/{names[group]}") for path, group in zip(images, groups, strict=True)]


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
        return {row["id"]: (row["class"], row["patient"]) for row in rows}


def split_by_patient(slices: Sequence[Slice], shares: Sequence[float], seed: int) -> list[list[Slice]]:
    """Return [the rest, one list for each share]: that share of each class's patients, none in two lists."""
    kinds: dict[str, str] = {}
    for item in slices:  # a patient counts in the class of its first slice
        kinds.setdefault(item.patient, item.kind)
    place: dict[str, int] = {}
    for kind in sorted(set(kinds.values())):
        patients = sorted(patient for patient, its in kinds.items() if its == kind)
        np.random.default_rng([seed, *kind.encode()]).shuffle(patients)  # a class's split is its own affair
        ends = [round(sum(shares[: i + 1]) * len(patients)) for i in range(len(shares))]
        for i, (start, end) in enumerate(zip([0, *ends], ends, strict=False), 1):
            place.update(dict.fromkeys(patients[start:end], i))
    return [[item for item in slices if place.get(item.patient, 0) == i] for i in range(len(shares) + 1)]


def split_by_slice(slices: Sequence[Slice], shares: Sequence[float], seed: int) -> list[list[Slice]]:
    """Return [the rest, one list for each share] of slices drawn without a look at their patients, as in the paper.

    Slices of one patient then lie on both sides: what a net scores there, it may have learnt by heart.
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
    """Return images (N, size, size, C) in 0…255 and masks (N, size, size) in {0, 1}, both uint8 to spare memory."""
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
    """Return a varied copy: image (H, W, C) float32 in [0, 1] and mask (H, W, 1) float32 in {0, 1}.

    Mirrors, turns up to 25 degrees, scales each axis by 0.6 to 1.35, shifts; then gamma, gain, a smooth bias field,
    blur and noise, so that neither scanner, contrast nor framing tells where a slice is from.
    """
    height, width = mask.shape
    matrix = draw_affine(rng, height, width)
    warped = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR)
    turned = cv2.warpAffine(mask, matrix, (width, height), flags=cv2.INTER_NEAREST)
    pixels = vary_intensity(warped.reshape(height, width, -1).astype(np.float32) / 255, rng)
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
    """Return (H, W, C) pixels in [0, 1] as another scanner might have shown them."""
    height, width = pixels.shape[:2]
    if rng.random() < 0.7:
        pixels = pixels ** np.float32(np.exp(rng.uniform(-0.5, 0.5)))
    if rng.random() < 0.7:
        pixels = pixels * np.float32(rng.uniform(0.65, 1.3))
    if rng.random() < 0.3:
        field = cv2.resize(rng.uniform(0.75, 1.25, (3, 3)).astype(np.float32), (width, height))
        pixels = pixels * field[:, :, None]
    if rng.random() < 0.2:
        pixels = cv2.GaussianBlur(pixels, (0, 0), float(rng.uniform(0.4, 1.1))).reshape(pixels.shape)
    if rng.random() < 0.3:
        pixels = pixels + rng.normal(0, rng.uniform(0.005, 0.04), pixels.shape).astype(np.float32)
    return np.clip(pixels, 0, 1)
