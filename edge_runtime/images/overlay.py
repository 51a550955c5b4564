"""How is a result drawn: the image with tinted mask and contour, in the labels' colours?"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from .arrays import Image, Labels, full_scale

Picture = npt.NDArray[np.uint8]  # (H, W, 3) RGB
Colour = tuple[int, int, int]
Box = tuple[slice, slice]  # rows, columns
TINT = 0.35  # share of the label's colour over a lesion: the anatomy stays visible


def to_picture(image: Image) -> Picture:
    """Return any image as (H, W, 3) uint8 RGB; 16-bit images by the bit depth they use."""
    pixels = image if image.dtype == np.uint8 else np.rint(image * (255.0 / full_scale(image))).astype(np.uint8)
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), np.uint8) if pixels.ndim == 2 else np.array(pixels)


def draw_contour(picture: Picture, labels: Labels, colours: Sequence[Colour]) -> Picture:
    """Return a copy with each label's outline; colours[k] is of label k + 1."""
    drawn = picture.copy()
    for label, box in find_boxes(labels, len(colours)):
        draw_outline(drawn, labels, label, box, colours[label - 1])
    return drawn


def draw_overlay(picture: Picture, labels: Labels, colours: Sequence[Colour]) -> Picture:
    """Return a copy with each label tinted and outlined; colours[k] is of label k + 1."""
    drawn = picture.copy()
    boxes = find_boxes(labels, len(colours))
    for label, box in boxes:
        shades = np.rint(np.arange(256)[:, None] * (1 - TINT) + np.array(colours[label - 1]) * TINT)  # (256, 3)
        part = drawn[box]
        np.copyto(part, cv2.LUT(part, shades[None].astype(np.uint8)), where=(labels[box] == label)[:, :, None])
    for label, box in boxes:
        draw_outline(drawn, labels, label, box, colours[label - 1])
    return drawn


def find_boxes(labels: Labels, count: int) -> list[tuple[int, Box]]:
    """Return the labels 1 to `count` that are there, each with the smallest box that holds it."""
    labels = np.ascontiguousarray(labels, np.uint8)  # a mask may be bool
    left, top, width, height = cv2.boundingRect(labels)  # of all labels: most of an image has none
    found = []
    for label in range(1, count + 1) if width else ():
        x, y, w, h = cv2.boundingRect((labels[top : top + height, left : left + width] == label).astype(np.uint8))
        if w:
            found.append((label, (slice(top + y, top + y + h), slice(left + x, left + x + w))))
    return found


def draw_outline(drawn: Picture, labels: Labels, label: int, box: Box, colour: Colour) -> None:
    """Draw a label's outline into a picture. box: one that holds the label."""
    region = (labels[box] == label).astype(np.uint8)
    outlines, _ = cv2.findContours(region, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE, offset=(box[1].start, box[0].start))
    cv2.drawContours(drawn, outlines, -1, colour, max(1, min(drawn.shape[:2]) // 256))
