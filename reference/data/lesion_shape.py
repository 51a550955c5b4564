"""Where does a lesion lie in the head, and what is its shape, in the head's own units? Pure functions of arrays.

The head is all that is brighter than air, with its outline filled: it includes scalp and skull. Positions are relative
to its bounding box, (0, 0) at the top left and (1, 1) at the bottom right. Lengths are relative to its size, the
diameter of a disc of its area. So slices of any framing can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge_runtime.images.arrays import Image, full_scale
from edge_runtime.inference.preprocess import to_grey
from evidence.scores import Mask

Grey = npt.NDArray[np.uint8]  # (H, W)

AIR_THRESHOLD = 0.12  # of the 99th percentile: darker pixels are air
AXIS_SEARCH = 0.10  # of the head's width: greatest distance of the axis of symmetry from its middle
MIN_SYMMETRY = 0.6  # least correlation of a symmetric slice with its mirror image; sagittal slices are below


@dataclass(frozen=True)
class Head:
    """A head's `mask` (H, W), its box (left, top, width, height) and its `size` in pixels."""

    mask: Mask
    box: tuple[int, int, int, int]
    size: float


@dataclass(frozen=True)
class Shape:
    """One lesion mask's position and shape; None where the slice does not allow the measurement."""

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
    limit = AIR_THRESHOLD * float(np.percentile(image, 99))
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
    """Return the column of a head's axis of symmetry; None without one, as in sagittal and tilted slices.

    The score is the correlation of the blurred image with its mirror image where head and mirrored head overlap, times
    the share that overlaps. The lesion is not compared.
    """
    left, _, width, _ = head.box
    compared = head.mask & ~lesion
    blurred = cv2.GaussianBlur(image.astype(np.float32), (0, 0), max(1.0, width / 40))
    middle, reach = 2 * left + width - 1, round(2 * AXIS_SEARCH * width)
    best, axis = MIN_SYMMETRY, None
    for doubled_axis in range(middle - reach, middle + reach + 1, 2 if reach > 20 else 1):
        overlapping = reflect(compared, doubled_axis) & compared
        if np.count_nonzero(overlapping) < 16:
            continue
        overlap = np.count_nonzero(overlapping) / np.count_nonzero(compared)
        one, other = blurred[overlapping], reflect(blurred, doubled_axis)[overlapping]
        spread = float(one.std() * other.std())
        similarity = overlap * float(np.mean((one - one.mean()) * (other - other.mean()))) / spread if spread else 0.0
        if similarity > best:
            best, axis = similarity, doubled_axis / 2
    return axis


def reflect(values: npt.NDArray[Any], doubled_axis: int) -> npt.NDArray[Any]:
    """Return (H, W) values mirrored about column `doubled_axis` / 2; pixels from outside the frame are 0."""
    columns = doubled_axis - np.arange(values.shape[1])
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
    depth = cv2.distanceTransform(np.pad(head.mask, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(lesion.astype(np.uint8), connectivity=8)
    largest = labels == 1 + int(statistics[1:, cv2.CC_STAT_AREA].argmax())
    roundness, solidity = measure_form(largest)
    return Shape(
        x=float((column - left) / width),
        y=float((row - top) / height),
        area=float(len(rows) / np.count_nonzero(head.mask)),
        roundness=roundness,
        solidity=solidity,
        edge=float(depth[lesion].min() / head.size),
        midline=None if axis is None else float(abs(column - axis) / head.size),
        components=count - 1,
        contrast=measure_contrast(lesion, image, head),
    )


def measure_form(part: Mask) -> tuple[float, float]:
    """Return roundness and solidity of one component, from its smoothed outline.

    Without smoothing over two pixels the pixel steps of a circle would lengthen its outline by 6 %.
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
    """Return a lesion's mean brightness less that of a ring of 4 % of the head's size, in the head's deviations."""
    side = 2 * max(1, round(0.04 * head.size)) + 1
    wide = cv2.dilate(lesion.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))) > 0
    ring, spread = wide & ~lesion & head.mask, float(image[head.mask].std())
    if not ring.any() or not spread:
        return 0.0
    return float((image[lesion].mean() - image[ring].mean()) / spread)
