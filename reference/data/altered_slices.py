"""Changes a slice: mirrors it, rescales it, matches its contrast to another's, or covers its lesion. Pure functions.

`evaluation/stress.py` scores a net on such slices; `training/batches.py` can train on the last two kinds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge_runtime.inference.preprocess import resize_area
from evidence.scores import Mask

from .lesion_shape import Grey, find_axis, find_head, reflect

MARGIN = 0.04  # of the head's size: the width of the rim around a lesion that is covered too
SliceChange = Callable[[Grey, Mask, Grey | None], "tuple[Grey, Mask] | None"]


def mirror(image: Grey, truth: Mask, other: Grey | None) -> tuple[Grey, Mask]:
    """Return image and mask with left and right exchanged."""
    return np.ascontiguousarray(image[:, ::-1]), np.ascontiguousarray(truth[:, ::-1])


def zoom(image: Grey, truth: Mask, factor: float) -> tuple[Grey, Mask] | None:
    """Return image and mask enlarged by `factor` about the centre of a frame of the same size.

    Below 1 air surrounds the smaller head. Above 1 the rim is cut off; None if that removes over a tenth of the lesion.
    """
    height, width = image.shape
    sides = max(1, round(height * factor)), max(1, round(width * factor))
    pixels = fit(np.rint(resize_area(image.astype(np.float32), *sides)), height, width).astype(np.uint8)
    lesion = fit(resize_area(truth.astype(np.float32), *sides) >= 0.5, height, width)
    visible = np.count_nonzero(lesion) / factor**2
    return None if visible < 0.9 * np.count_nonzero(truth) else (pixels, lesion)


def fit(values: npt.NDArray[Any], height: int, width: int) -> npt.NDArray[Any]:
    """Return (h, w) values cropped or padded with 0 to (height, width), about the same centre."""
    for axis, side in ((0, height), (1, width)):
        excess = values.shape[axis] - side
        if excess > 0:
            values = np.take(values, range(excess // 2, excess // 2 + side), axis)
        elif excess < 0:
            before = -excess // 2
            values = np.pad(values, [(before, -excess - before) if k == axis else (0, 0) for k in (0, 1)])
    return values


def match_contrast(image: Grey, truth: Mask, other: Grey | None) -> tuple[Grey, Mask] | None:
    """Return the image with its head's histogram matched to the other head's; None if either image has no head.

    Air is left out: otherwise its share of the frame would change every grey value.
    Source: Gonzalez and Woods, Digital Image Processing, 3.3 (histogram matching).
    """
    ours, theirs = find_head(image), None if other is None else find_head(other)
    if ours is None or theirs is None or other is None:
        return None
    counts = np.bincount(image[ours.mask], minlength=256) / np.count_nonzero(ours.mask)
    target = np.bincount(other[theirs.mask], minlength=256) / np.count_nonzero(theirs.mask)
    # Each grey value maps to the one of equal mid-rank in the other image.
    levels = np.interp(np.cumsum(counts) - counts / 2, np.cumsum(target) - target / 2, np.arange(256))
    matched = image.copy()
    matched[ours.mask] = np.rint(levels).astype(np.uint8)[image[ours.mask]]
    return matched, truth


def cover_lesion(image: Grey, lesion: Mask) -> tuple[Grey, Mask] | None:
    """Return the image with the lesion replaced by the mirrored other half, and the replaced region (H, W).

    The edge is blended. None without a symmetric head (sagittal or tilted slices), or if the lesion is nearer to the
    axis than the margin, so that its mirror image would show it again.
    """
    head = find_head(image)
    if head is None or not lesion.any():
        return None
    axis = find_axis(image, head, lesion)
    if axis is None:
        return None
    doubled_axis, margin = round(2 * axis), max(2, round(MARGIN * head.size))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1, 2 * margin + 1))
    region = cv2.dilate(lesion.astype(np.uint8), disc) > 0
    if (region & reflect(region, doubled_axis)).any():
        return None
    share = cv2.GaussianBlur(region.astype(np.float32), (0, 0), margin / 3)
    share[lesion] = 1
    covered = image * (1 - share) + reflect(image, doubled_axis) * share
    return np.rint(covered).astype(np.uint8), region
