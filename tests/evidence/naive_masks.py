"""Drawn masks, and scores of them pixel by pixel: oracles that share no code with the project."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


def blob(rng: np.random.Generator, height: int = 40, width: int = 52) -> Mask:
    """An ellipse somewhere, now and then cut by the image's edge."""
    y, x = np.mgrid[:height, :width]
    cy, cx = rng.uniform(0, height), rng.uniform(0, width)
    return ((y - cy) / rng.uniform(3, 12)) ** 2 + ((x - cx) / rng.uniform(3, 12)) ** 2 < 1


def naive_iou(a: Mask, b: Mask) -> float:
    """Pixel by pixel, with sets."""
    one = {(y, x) for y, x in zip(*np.nonzero(a), strict=True)}
    two = {(y, x) for y, x in zip(*np.nonzero(b), strict=True)}
    return len(one & two) / len(one | two)


def naive_border(mask: Mask) -> list[tuple[int, int]]:
    """Pixels of the mask with one of four neighbours outside it or the image."""
    height, width = mask.shape
    return [
        (y, x)
        for y in range(height)
        for x in range(width)
        if mask[y, x]
        and any(
            not (0 <= y + dy < height and 0 <= x + dx < width and mask[y + dy, x + dx])
            for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))
        )
    ]


def naive_hd95(a: Mask, b: Mask) -> float:
    """All distances between all border pixels."""
    one, two = naive_border(a), naive_border(b)

    def directed(these: list[tuple[int, int]], those: list[tuple[int, int]]) -> float:
        apart = sorted(min(math.dist(p, q) for q in those) for p in these)
        place = 0.95 * (len(apart) - 1)
        low = math.floor(place)
        high = min(low + 1, len(apart) - 1)
        return apart[low] + (apart[high] - apart[low]) * (place - low)

    return max(directed(one, two), directed(two, one))
