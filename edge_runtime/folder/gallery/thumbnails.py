"""How is the gallery's picture of one image drawn: image, mask, overlay and contour side by side?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge_runtime.images.arrays import Labels
from edge_runtime.images.overlay import Colour, draw_contour, draw_overlay

Pixels = npt.NDArray[np.uint8]
MAX_MEAN = 200  # pixels averaged into one: the mean of one lit and 199 dark ones still rounds to 1 of 255


def draw_sprite(image8: Pixels, labels: Labels, colours: Sequence[Colour], side: int = 224) -> Pixels:
    """Return image, mask, overlay and contour side by side, each letterboxed into a square: (side, 4 * side, 3) RGB.

    image8: (H, W) or (H, W, 3). It is drawn on after shrinking: a fraction of the work, and outlines stay one pixel.
    """
    small = letterbox(image8, side)  # (side, side, 3)
    drawn = np.zeros((side, side), np.uint8)
    for label in range(1, len(colours) + 1):
        region = labels == label
        if region.any():
            drawn[letterbox(to_white(region), side, whole=True)[:, :, 0] > 0] = label
    mask = np.repeat(to_white(drawn)[:, :, None], 3, axis=2)
    views = (small, mask, draw_overlay(small, drawn, colours), draw_contour(small, drawn, colours))
    return np.concatenate(views, axis=1)  # (side, 4 * side, 3)


def to_white(mask: npt.NDArray[np.generic]) -> Pixels:
    """Return 255 where the mask is not 0."""
    return np.asarray((mask != 0) * np.uint8(255), np.uint8)  # (H, W)


def letterbox(view: Pixels, side: int, whole: bool = False) -> Pixels:
    """Fit into a black square, centred; `whole` keeps all lit pixels white, so that a small lesion does not vanish."""
    height, width = view.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST if whole else cv2.INTER_LINEAR
    vanishes = whole and height * width > MAX_MEAN * size[0] * size[1]
    source: npt.NDArray[Any] = np.ascontiguousarray(view, np.float32 if vanishes else np.uint8)
    small = cv2.resize(source, size[::-1], interpolation=method)
    top, left = (side - size[0]) // 2, (side - size[1]) // 2
    square = np.zeros((side, side, 3), np.uint8)
    shrunk = to_white(small) if whole else np.asarray(small, np.uint8)
    square[top : top + size[0], left : left + size[1]] = shrunk if shrunk.ndim == 3 else shrunk[:, :, None]
    return square
