"""The gallery's picture of one image: original, mask, overlay and contour side by side."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
MOST_SHARES = 200  # pixels that share one: the mean of one lit and 199 dark ones still rounds to 1 of 255


def draw_sprite(
    image8: Pixels, mask: npt.NDArray[np.generic], overlay: Pixels, contour: Pixels, side: int = 224
) -> Pixels:
    """Original, mask, overlay and contour side by side, each letterboxed into a square: (side, 4 * side, 3) RGB."""
    views = (image8, to_white(mask), overlay, contour)
    squares = [letterbox(view, side, whole=number == 1) for number, view in enumerate(views)]
    return np.concatenate(squares, axis=1)  # (side, 4 * side, 3)


def to_white(mask: npt.NDArray[np.generic]) -> Pixels:
    return np.asarray((mask != 0) * np.uint8(255), np.uint8)  # (H, W): one channel until it is small


def letterbox(view: Pixels, side: int, whole: bool = False) -> Pixels:
    """Fit into a black square, centred; `whole` keeps every lit pixel white, so that a small lesion does not fade."""
    height, width = view.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST if whole else cv2.INTER_LINEAR
    fades = whole and height * width > MOST_SHARES * size[0] * size[1]
    source: npt.NDArray[Any] = np.ascontiguousarray(view, np.float32 if fades else np.uint8)
    small = cv2.resize(source, size[::-1], interpolation=method)
    top, left = (side - size[0]) // 2, (side - size[1]) // 2
    square = np.zeros((side, side, 3), np.uint8)
    shrunk = to_white(small) if whole else np.asarray(small, np.uint8)
    square[top : top + size[0], left : left + size[1]] = shrunk if shrunk.ndim == 3 else shrunk[:, :, None]
    return square
