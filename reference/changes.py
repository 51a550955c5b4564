"""A slice changed: mirrored, rescaled, in another slice's contrast, without its lesion. Pure functions of arrays.

`reference/stress.py` scores a net on such slices; `reference/train.py` may train on those of the last two kinds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge_runtime.preprocess import resize_area

from .metrics import Mask
from .shape import Grey, find_axis, find_head, reflect

MARGIN = 0.04  # of the head's size: how far around a lesion the other half is laid over it
Change = Callable[[Grey, Mask, Grey | None], "tuple[Grey, Mask] | None"]


def mirror(image: Grey, truth: Mask, other: Grey | None) -> tuple[Grey, Mask]:
    """Return image and mask with left and right exchanged."""
    return np.ascontiguousarray(image[:, ::-1]), np.ascontiguousarray(truth[:, ::-1])


def zoom(image: Grey, truth: Mask, factor: float) -> tuple[Grey, Mask] | None:
    """Return image and mask enlarged by `factor` about the centre of a frame that stays as it is.

    Below 1 air surrounds the smaller head. Above 1 the rim is cut off; None if more than a tenth of the lesion was.
    """
    height, width = image.shape
    sides = max(1, round(height * factor)), max(1, round(width * factor))
    pixels = fit(np.rint(resize_area(image.astype(np.float32), *sides)), height, width).astype(np.uint8)
    lesion = fit(resize_area(truth.astype(np.float32), *sides) >= 0.5, height, width)
    kept = np.count_nonzero(lesion) / factor**2
    return None if kept < 0.9 * np.count_nonzero(truth) else (pixels, lesion)


def fit(values: npt.NDArray[Any], height: int, width: int) -> npt.NDArray[Any]:
    """Return (h, w) values cut or filled up with 0 to (height, width), the centre kept."""
    for axis, side in ((0, height), (1, width)):
        over = values.shape[axis] - side
        if over > 0:
            values = np.take(values, range(over // 2, over // 2 + side), axis)
        elif over < 0:
            before = -over // 2
            values = np.pad(values, [(before, -over - before) if k == axis else (0, 0) for k in (0, 1)])
    return values


def match_contrast(image: Grey, truth: Mask, other: Grey | None) -> tuple[Grey, Mask] | None:
    """Return the image with its head's brightnesses spread like those of the other image's head; None without a head.

    Air is left alone: how much of it a frame holds would otherwise move every grey value.
    Source: Gonzalez and Woods, Digital Image Processing, 3.3 (histogram matching).
    """
    ours, theirs = find_head(image), None if other is None else find_head(other)
    if ours is None or theirs is None or other is None:
        return None
    counts = np.bincount(image[ours.mask], minlength=256) / np.count_nonzero(ours.mask)
    goal = np.bincount(other[theirs.mask], minlength=256) / np.count_nonzero(theirs.mask)
    # A grey value goes where its middle rank lies in the other image.
    levels = np.interp(np.cumsum(counts) - counts / 2, np.cumsum(goal) - goal / 2, np.arange(256))
    matched = image.copy()
    matched[ours.mask] = np.rint(levels).astype(np.uint8)[image[ours.mask]]
    return matched, truth


def cover_lesion(image: Grey, lesion: Mask) -> tuple[Grey, Mask] | None:
    """Return the image with the lesion's place taken from the mirrored other half, and that place (H, W).

    The edge is blended. None where that cannot be done: no symmetric head (sagittal or tilted slices), or a lesion
    that comes nearer to the axis than the margin, so that its mirror image would show it again.
    """
    head = find_head(image)
    if head is None or not lesion.any():
        return None
    axis = find_axis(image, head, lesion)
    if axis is None:
        return None
    twice, margin = round(2 * axis), max(2, round(MARGIN * head.size))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1, 2 * margin + 1))
    place = cv2.dilate(lesion.astype(np.uint8), disc) > 0
    if (place & reflect(place, twice)).any():
        return None
    share = cv2.GaussianBlur(place.astype(np.float32), (0, 0), margin / 3)
    share[lesion] = 1
    covered = image * (1 - share) + reflect(image, twice) * share
    return np.rint(covered).astype(np.uint8), place


def disguise(
    image: npt.NDArray[np.uint8],
    mask: npt.NDArray[np.uint8],
    other: npt.NDArray[np.uint8],
    rng: np.random.Generator,
    match: float,
    cover: float,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return a training slice, (H, W, C) with mask (H, W) in {0, 1}, with what a net could know its source by changed.

    match: the chance that it is in the other slice's contrast. cover: the chance that its lesion is covered, and its
    mask empty, where that can be done. Slices are grey: the first channel is taken for all.
    """
    grey, lesion = image[..., 0], mask > 0
    if rng.random() < cover and lesion.any():
        covered = cover_lesion(grey, lesion)
        if covered is not None:
            grey, lesion = covered[0], np.zeros_like(lesion)
    if rng.random() < match:
        matched = match_contrast(grey, lesion, other[..., 0])
        if matched is not None:
            grey = matched[0]
    return np.repeat(grey[..., None], image.shape[2], axis=2), lesion.astype(np.uint8)
