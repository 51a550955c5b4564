"""How is the gallery's picture of one image drawn: image, mask, overlay and contour side by side?"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from edge_runtime.images.arrays import Labels
from edge_runtime.images.overlay import Colour, draw_contour, draw_overlay, to_picture

Pixels = npt.NDArray[np.uint8]


def draw_sprite(image8: Pixels, labels: Labels, colours: Sequence[Colour], side: int = 224) -> Pixels:
    """Return image, mask, overlay and contour side by side, each letterboxed into a square: (side, 4 * side, 3) RGB.

    image8: (H, W) or (H, W, 3). It is drawn on after shrinking: a fraction of the work, and outlines stay one pixel.
    """
    small, drawn = letterbox(image8, side), place(shrink_labels(labels, *find_size(labels.shape, side)), side)
    small = to_picture(small)
    mask = cv2.cvtColor((drawn > 0) * np.uint8(255), cv2.COLOR_GRAY2RGB)
    views = (small, mask, draw_overlay(small, drawn, colours), draw_contour(small, drawn, colours))
    return np.concatenate(views, axis=1)  # (side, 4 * side, 3)


def find_size(shape: tuple[int, ...], side: int) -> tuple[int, int]:
    """Return the height and width of an image of this shape whose longer side is `side`."""
    height, width = (max(1, round(length * side / max(shape[:2]))) for length in shape[:2])
    return height, width


def letterbox(image8: Pixels, side: int) -> Pixels:
    """Return (H, W) or (H, W, 3) fitted into a black square: area means where it shrinks, linear where it grows."""
    height, width = find_size(image8.shape, side)
    method = cv2.INTER_AREA if side < max(image8.shape[:2]) else cv2.INTER_LINEAR
    rows, columns = image8.shape[0] // height, image8.shape[1] // width
    if rows > 1 and columns > 1:  # first by a whole factor, which is ten times as fast
        whole = image8[: image8.shape[0] // rows * rows, : image8.shape[1] // columns * columns]
        size = whole.shape[1] // columns, whole.shape[0] // rows
        image8 = np.asarray(cv2.resize(whole, size, interpolation=method), np.uint8)
        method = cv2.INTER_LINEAR  # of what is left, less than a half
    return place(np.asarray(cv2.resize(image8, (width, height), interpolation=method), np.uint8), side)


def shrink_labels(labels: Labels, height: int, width: int) -> Labels:
    """Return labels in another size: each pixel the highest label of those that it stands for; none vanishes."""
    rows, columns = (np.arange(n) * full // n for n, full in zip((height, width), labels.shape, strict=True))
    kernel = np.ones([-(-full // n) for n, full in zip((height, width), labels.shape, strict=True)], np.uint8)
    highest = cv2.dilate(labels, kernel, anchor=(0, 0))  # of what begins at a pixel
    return np.asarray(highest.take(rows, 0).take(columns, 1), np.uint8)


def place(view: Pixels, side: int) -> Pixels:
    """Return a view in the middle of a black square."""
    height, width = view.shape[:2]
    top, left = (side - height) // 2, (side - width) // 2
    square = np.zeros((side, side, *view.shape[2:]), np.uint8)
    square[top : top + height, left : left + width] = view
    return square
