"""Which images show the same slice: a perceptual hash proposes pairs, the fine structure of both decides.

Copies are found at any size and aspect, in any of the eight turns and mirrorings of a square, after JPEG, blurring,
sharpening, noise and a change of brightness, contrast or gamma; not after a crop or a turn by a few degrees.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edge_runtime.preprocess import resize_area

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.intp]

SIDE = 64  # of the stretched image that decides; at 32 other patients' slices are alike as well
COARSE = 32  # of the one that is hashed
BITS = 8  # a side: the lowest frequencies
MOST_BITS_APART = 12  # of 64: that loses 2 of the 4585 pairs of copies in 800 published slices
# Two patients' slices are alike by 0.82 at most (3.4 million pairs), copies changed as above by 0.90 and more; in a
# published folder full of copies, fewest pairs lie at 0.86 to 0.88. See docs/data.md.
LEAST_LIKENESS = 0.86
BLOCK = 1024  # images whose distances, and pairs whose likeness, are computed at once

# How the second image of a pair is to be turned to look like the first: bit 4 transposes, 2 and 1 flip rows, columns.
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
class Prints:
    """What N images are recognised by."""

    coarse: Floats  # (N, 32, 32) brightness
    detail: Floats  # (N, 64, 64) local contrast, mean 0 and length 1; zeros for an image without any


@dataclass(frozen=True)
class Copy:
    """Image number `second` shows the slice of number `first` once it is turned by TURNS[turn]."""

    first: int
    second: int
    turn: int
    likeness: float  # correlation of local contrast, LEAST_LIKENESS to 1


def take_print(image: npt.NDArray[np.uint8] | Floats) -> tuple[Floats, Floats]:
    """Return (coarse, detail) of an (H, W) image, see Prints.

    Source: local contrast normalisation of Jarrett et al., "What is the best multi-stage architecture for object
    recognition?", ICCV 2009: the local mean is taken off, then the local deviation divided out.
    """
    pixels = resize_area(image.astype(np.float32), SIDE, SIDE)
    centred = pixels - cv2.GaussianBlur(pixels, (0, 0), 4)
    spread = np.sqrt(cv2.GaussianBlur(centred * centred, (0, 0), 4))
    detail = centred / (spread + 0.1 * pixels.std() + np.float32(1e-3))  # without the second term, air's noise counts
    detail -= detail.mean()
    length = float(np.linalg.norm(detail))
    return resize_area(pixels, COARSE, COARSE), detail / np.float32(length) if length > 1 else np.zeros_like(detail)


def stack_prints(prints: Iterable[tuple[Floats, Floats]]) -> Prints:
    """Return the prints of single images as one."""
    pairs = list(prints)
    coarse = np.array([coarse for coarse, _ in pairs], np.float32).reshape(-1, COARSE, COARSE)
    return Prints(coarse, np.array([detail for _, detail in pairs], np.float32).reshape(-1, SIDE, SIDE))


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
    at, k = np.arange(COARSE), np.arange(BITS)[:, None]
    cosine = np.cos(np.pi / COARSE * (at + 0.5) * k).astype(np.float32)  # (8, 32): the DCT's first rows
    waves = (cosine @ coarse @ cosine.T).reshape(len(coarse), BITS * BITS)
    return np.where(waves > np.median(waves[:, 1:], axis=1, keepdims=True), 1, -1).astype(np.float32)


def find_copies(ours: Prints, theirs: Prints | None = None) -> list[Copy]:
    """Return the pairs of one of ours and one of theirs that show the same slice, or of two of ours; in order.

    Each pair comes once, in the turn in which it is most alike.
    """
    other = ours if theirs is None else theirs
    best: dict[tuple[int, int], Copy] = {}
    bits, detail = hash_coarse(ours.coarse), ours.detail.reshape(-1, SIDE * SIDE)
    for turn in range(len(TURNS)):
        turned_bits = hash_coarse(turn_fields(other.coarse, turn))
        turned = turn_fields(other.detail, turn).reshape(-1, SIDE * SIDE)
        for first, second in find_close(bits, turned_bits, theirs is None):
            likeness = np.einsum("ij,ij->i", detail[first], turned[second])
            for i in np.flatnonzero(likeness >= LEAST_LIKENESS):
                pair = int(first[i]), int(second[i])
                # An image that is its own mirror is called a copy as it is: the first turn wins a draw.
                if pair not in best or likeness[i] > best[pair].likeness + 1e-4:
                    best[pair] = Copy(*pair, turn, float(likeness[i]))
    return [best[pair] for pair in sorted(best)]


def find_close(bits: Floats, others: Floats, within: bool) -> Iterator[tuple[Numbers, Numbers]]:
    """Yield pairs of numbers whose hashes are close, at most BLOCK at once; `within` one set, only first < second."""
    for start in range(0, len(bits), BLOCK):
        agree = bits[start : start + BLOCK] @ others.T  # 64 - 2 x bits apart
        first, second = np.nonzero(agree >= BITS * BITS - 2 * MOST_BITS_APART)
        first += start
        if within:
            first, second = first[first < second], second[first < second]
        for at in range(0, len(first), BLOCK):
            yield first[at : at + BLOCK], second[at : at + BLOCK]


def compare_pairwise(ours: Prints, theirs: Prints) -> Floats:
    """Return (N,): how alike image i of ours and image i of theirs are, in the turn in which they are most."""
    turned = [np.einsum("ijk,ijk->i", ours.detail, turn_fields(theirs.detail, turn)) for turn in range(len(TURNS))]
    likeness: Floats = np.max(turned, axis=0)
    return likeness


def join(count: int, links: Iterable[tuple[int, int]]) -> list[int]:
    """Return for each of `count` things the smallest number of those that it is linked with, directly or not."""
    lowest = list(range(count))
    for first, second in links:
        a, b = sorted((find_lowest(lowest, first), find_lowest(lowest, second)))
        lowest[b] = a
    return [find_lowest(lowest, i) for i in range(count)]


def find_lowest(lowest: Sequence[int], i: int) -> int:
    """Follow the links from thing `i` to the smallest."""
    while lowest[i] != i:
        i = lowest[i]
    return i
