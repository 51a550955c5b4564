"""Which images show the same slice? A perceptual hash proposes pairs, and their local contrast decides.

Copies are found at any size and aspect, in any of the eight turns and mirrorings of a square, after JPEG, blurring,
sharpening, noise and a change of brightness, contrast or gamma; not after a crop or a turn by a few degrees.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edge_runtime.inference.preprocess import resize_area

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.intp]

DETAIL_SIDE = 64  # of the resized image that decides; at 32 slices of other patients are as similar
COARSE_SIDE = 32  # of the resized image that is hashed
HASH_SIDE = 8  # bits a side: the lowest frequencies
MAX_BITS_APART = 12  # of 64: misses 2 of the 4585 pairs of copies in 800 published slices
# Slices of two patients reach at most 0.82 (3.4 million pairs), copies changed as above 0.90 and more; in a published
# folder full of copies, 0.86 to 0.88 holds the fewest pairs. See docs/data.md.
MIN_LIKENESS = 0.86
BLOCK_SIZE = 1024  # images, or pairs of images, that are compared at once

# How to turn the second image of a pair so that it matches the first: bit 4 transposes, 2 and 1 flip rows, columns.
TURNS = (
    "as it is",
    "mirrored",
    "upside down",
    "turned by 180 degrees",
    "transposed",
    "turned by 90 degrees",
    "turned by 270 degrees",
    "transposed, turned by 180 degrees",
)


@dataclass(frozen=True)
class Fingerprints:
    """The fingerprints of N images, by which copies are recognised."""

    coarse: Floats  # (N, 32, 32) brightness
    detail: Floats  # (N, 64, 64) local contrast, mean 0 and length 1; zeros for an image without any


@dataclass(frozen=True)
class Copy:
    """A pair of images of one slice, by index: `second`, turned by TURNS[turn], shows the slice of `first`."""

    first: int
    second: int
    turn: int
    likeness: float  # correlation of local contrast, MIN_LIKENESS to 1


def make_fingerprint(image: npt.NDArray[np.uint8] | Floats) -> tuple[Floats, Floats]:
    """Return (coarse, detail) of an (H, W) image, see Fingerprints.

    Source: local contrast normalisation of Jarrett et al., "What is the best multi-stage architecture for object
    recognition?", ICCV 2009: the local mean is subtracted, then the result divided by the local deviation.
    """
    pixels = resize_area(image.astype(np.float32), DETAIL_SIDE, DETAIL_SIDE)
    centred = pixels - cv2.GaussianBlur(pixels, (0, 0), 4)
    spread = np.sqrt(cv2.GaussianBlur(centred * centred, (0, 0), 4))
    detail = centred / (spread + 0.1 * pixels.std() + np.float32(1e-3))  # the second term suppresses noise in air
    detail -= detail.mean()
    length = float(np.linalg.norm(detail))
    return resize_area(pixels, COARSE_SIDE, COARSE_SIDE), detail / np.float32(length) if length > 1 else np.zeros_like(
        detail
    )


def stack_fingerprints(fingerprints: Iterable[tuple[Floats, Floats]]) -> Fingerprints:
    """Return the fingerprints of single images as one object."""
    pairs = list(fingerprints)
    coarse = np.array([coarse for coarse, _ in pairs], np.float32).reshape(-1, COARSE_SIDE, COARSE_SIDE)
    return Fingerprints(
        coarse, np.array([detail for _, detail in pairs], np.float32).reshape(-1, DETAIL_SIDE, DETAIL_SIDE)
    )


def turn_fields(fields: Floats, turn: int) -> Floats:
    """Return (N, side, side) fields turned by TURNS[turn]."""
    turned = fields.swapaxes(1, 2) if turn & 4 else fields
    turned = turned[:, ::-1] if turn & 2 else turned
    turned = turned[:, :, ::-1] if turn & 1 else turned
    return np.ascontiguousarray(turned)


def hash_coarse(coarse: Floats) -> Floats:
    """Return (N, 64) of -1 and 1: which of the lowest 8 x 8 frequencies are above their median.

    Source: Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010, section 3.2.1.
    """
    at, k = np.arange(COARSE_SIDE), np.arange(HASH_SIDE)[:, None]
    cosine = np.cos(np.pi / COARSE_SIDE * (at + 0.5) * k).astype(np.float32)  # (8, 32): the DCT's first rows
    coefficients = (cosine @ coarse @ cosine.T).reshape(len(coarse), HASH_SIDE * HASH_SIDE)
    return np.where(coefficients > np.median(coefficients[:, 1:], axis=1, keepdims=True), 1, -1).astype(np.float32)


def find_copies(fingerprints: Fingerprints, others: Fingerprints | None = None) -> list[Copy]:
    """Return the pairs of an image and one of `others` that show the same slice, in order; by default of two images.

    Each pair is listed once, in the turn of greatest likeness.
    """
    compared = fingerprints if others is None else others
    best: dict[tuple[int, int], Copy] = {}
    bits, detail = hash_coarse(fingerprints.coarse), fingerprints.detail.reshape(-1, DETAIL_SIDE * DETAIL_SIDE)
    for turn in range(len(TURNS)):
        turned_bits = hash_coarse(turn_fields(compared.coarse, turn))
        turned = turn_fields(compared.detail, turn).reshape(-1, DETAIL_SIDE * DETAIL_SIDE)
        for first, second in find_candidates(bits, turned_bits, others is None):
            likeness = np.einsum("ij,ij->i", detail[first], turned[second])
            for i in np.flatnonzero(likeness >= MIN_LIKENESS):
                pair = int(first[i]), int(second[i])
                # Of equal turns the first is kept, so a symmetric image is a copy "as it is", not "mirrored".
                if pair not in best or likeness[i] > best[pair].likeness + 1e-4:
                    best[pair] = Copy(*pair, turn, float(likeness[i]))
    return [best[pair] for pair in sorted(best)]


def find_candidates(bits: Floats, others: Floats, within: bool) -> Iterator[tuple[Numbers, Numbers]]:
    """Yield indices of pairs with similar hashes, at most BLOCK_SIZE at once; `within` one set, only first < second."""
    for start in range(0, len(bits), BLOCK_SIZE):
        products = bits[start : start + BLOCK_SIZE] @ others.T  # 64 - 2 x bits apart
        first, second = np.nonzero(products >= HASH_SIDE * HASH_SIDE - 2 * MAX_BITS_APART)
        first += start
        if within:
            first, second = first[first < second], second[first < second]
        for at in range(0, len(first), BLOCK_SIZE):
            yield first[at : at + BLOCK_SIZE], second[at : at + BLOCK_SIZE]


def compare_pairwise(fingerprints: Fingerprints, others: Fingerprints) -> Floats:
    """Return (N,): the likeness of image i and image i of `others`, in the turn of greatest likeness."""
    turned = [
        np.einsum("ijk,ijk->i", fingerprints.detail, turn_fields(others.detail, turn)) for turn in range(len(TURNS))
    ]
    likeness: Floats = np.max(turned, axis=0)
    return likeness


def group_linked(count: int, links: Iterable[tuple[int, int]]) -> list[int]:
    """Return for each of `count` items the smallest index that it is linked with, directly or not."""
    root_of = list(range(count))
    for first, second in links:
        a, b = sorted((find_root(root_of, first), find_root(root_of, second)))
        root_of[b] = a
    return [find_root(root_of, i) for i in range(count)]


def find_root(root_of: Sequence[int], i: int) -> int:
    """Follow the links from item `i` to the smallest index of its group."""
    while root_of[i] != i:
        i = root_of[i]
    return i
