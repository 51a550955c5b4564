"""Where a lesion lies in the head and what it looks like, in the head's own units. Pure functions of arrays.

The head is what is brighter than air, its outline filled: scalp and skull belong to it. Positions are in its bounding
box, (0, 0) at the top left and (1, 1) at the bottom right; lengths are shares of its size, the diameter of the disc
of its area. So slices of any framing can be laid over each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge_runtime.preprocess import Image, full_scale, to_grey

from .metrics import Mask

Grey = npt.NDArray[np.uint8]  # (H, W)

AIR = 0.12  # of the 99th percentile: below it is air
REACH = 0.10  # of the head's width: how far from its middle the axis of symmetry is looked for
ALIKE = 0.6  # correlation of a slice with its mirror image from which on it is symmetric; sagittal slices stay below


@dataclass(frozen=True)
class Head:
    """A head's `mask` (H, W), its box (left, top, width, height) and its `size` in pixels."""

    mask: Mask
    box: tuple[int, int, int, int]
    size: float


@dataclass(frozen=True)
class Shape:
    """One lesion mask's position and form; what its slice does not allow to say is None."""

    x: float  # centroid in the head's box
    y: float
    area: float  # share of the head's area
    roundness: float  # 4πA/P² of the largest component: 1 for a circle
    solidity: float  # the largest component's share of its convex hull
    edge: float  # from the lesion's nearest pixel to the head's outline
    midline: float | None  # from the centroid to the axis of symmetry
    components: int
    contrast: float  # brightness inside less that of a ring around it, by the head's spread of brightness


def to_grey8(image: Image) -> Grey:
    """Return any image as (H, W) uint8."""
    if image.dtype == np.uint8 and image.ndim == 2:
        return np.asarray(image)
    grey = to_grey(image.astype(np.float32)) * np.float32(255 / full_scale(image))
    return np.asarray(np.rint(np.clip(grey, 0, 255)), np.uint8)


def find_head(image: Grey) -> Head | None:
    """Return a slice's head, None if it has none: a blank image."""
    limit = AIR * float(np.percentile(image, 99))
    bright = np.asarray(cv2.GaussianBlur(image, (5, 5), 0) > limit, np.uint8)
    closed = cv2.morphologyEx(bright, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    outlines, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not outlines:
        return None
    outline = max(outlines, key=cv2.contourArea)
    mask = cv2.drawContours(np.zeros_like(image), [outline], -1, 1, cv2.FILLED) > 0
    left, top, width, height = cv2.boundingRect(outline)
    size = 2 * float(np.sqrt(np.count_nonzero(mask) / np.pi))
    return Head(mask, (left, top, width, height), size)


def find_axis(image: Grey, head: Head, lesion: Mask) -> float | None:
    """Return the column about which a head is its own mirror image, None if about none: sagittal slices, tilted ones.

    Where head and mirrored head overlap, the blurred image must correlate with its mirror image; what does not overlap
    counts against it by its share. The lesion's place is not compared.
    """
    left, _, width, _ = head.box
    compared = head.mask & ~lesion
    soft = cv2.GaussianBlur(image.astype(np.float32), (0, 0), max(1.0, width / 40))
    middle, reach = 2 * left + width - 1, round(2 * REACH * width)
    best, found = ALIKE, None
    for twice in range(middle - reach, middle + reach + 1, 2 if reach > 20 else 1):
        pair = reflect(compared, twice) & compared
        if np.count_nonzero(pair) < 16:
            continue
        overlap = np.count_nonzero(pair) / np.count_nonzero(compared)
        one, other = soft[pair], reflect(soft, twice)[pair]
        spread = float(one.std() * other.std())
        alike = overlap * float(np.mean((one - one.mean()) * (other - other.mean()))) / spread if spread else 0.0
        if alike > best:
            best, found = alike, twice / 2
    return found


def reflect(values: npt.NDArray[Any], twice: int) -> npt.NDArray[Any]:
    """Return (H, W) values mirrored about column `twice` / 2; what comes from beyond the frame is 0."""
    columns = twice - np.arange(values.shape[1])
    inside = (columns >= 0) & (columns < values.shape[1])
    mirrored = np.zeros_like(values)
    mirrored[:, inside] = values[:, columns[inside]]
    return mirrored


def measure_shape(lesion: Mask, image: Grey, head: Head, axis: float | None) -> Shape | None:
    """Return a lesion's shape in its head with its axis of symmetry; None if it has no pixel."""
    if not lesion.any():
        return None
    rows, columns = np.nonzero(lesion)
    left, top, width, height = head.box
    row, column = rows.mean(), columns.mean()
    inner = cv2.distanceTransform(np.pad(head.mask, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    count, labels, facts, _ = cv2.connectedComponentsWithStats(lesion.astype(np.uint8), connectivity=8)
    largest = labels == 1 + int(facts[1:, cv2.CC_STAT_AREA].argmax())
    roundness, solidity = measure_form(largest)
    return Shape(
        x=float((column - left) / width),
        y=float((row - top) / height),
        area=float(len(rows) / np.count_nonzero(head.mask)),
        roundness=roundness,
        solidity=solidity,
        edge=float(inner[lesion].min() / head.size),
        midline=None if axis is None else float(abs(column - axis) / head.size),
        components=count - 1,
        contrast=measure_contrast(lesion, image, head),
    )


def measure_form(part: Mask) -> tuple[float, float]:
    """Return roundness and solidity of one component, from its outline smoothed over two pixels and more: the steps of
    a drawn circle would lengthen it by 6 %.

    Roundness is 4πA/P². Source: Cox, A method of assigning numerical and percentage values to the degree of roundness
    of sand grains, Journal of Paleontology 1927; solidity: Gonzalez and Woods, Digital Image Processing, 11.2.
    """
    large = cv2.resize(np.pad(part, 2).astype(np.float32), None, fx=4, fy=4, interpolation=cv2.INTER_LINEAR)
    outlines, _ = cv2.findContours((large >= 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    points = max(outlines, key=len)[:, 0].astype(np.float64)  # (points, 2), a quarter of a pixel apart
    window = min(9, len(points))
    around = np.concatenate([points, points[: window - 1]])
    outline = np.stack([np.convolve(side, np.full(window, 1 / window), "valid") for side in around.T], axis=1)
    closed = outline.astype(np.float32)
    area, length = cv2.contourArea(closed), cv2.arcLength(closed, closed=True)
    hull = cv2.contourArea(cv2.convexHull(closed))
    return (min(1.0, 4 * np.pi * area / length**2) if length else 0.0), (area / hull if hull else 1.0)


def measure_contrast(lesion: Mask, image: Grey, head: Head) -> float:
    """Return how much brighter a lesion is than the head within 4 % of its size around, in the head's deviations."""
    side = 2 * max(1, round(0.04 * head.size)) + 1
    wide = cv2.dilate(lesion.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))) > 0
    ring, spread = wide & ~lesion & head.mask, float(image[head.mask].std())
    if not ring.any() or not spread:
        return 0.0
    return float((image[lesion].mean() - image[ring].mean()) / spread)
