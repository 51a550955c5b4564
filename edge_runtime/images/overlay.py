"""How is a result drawn: the image with tinted mask and contour, in the labels' colours?"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from .arrays import Image, Labels, full_scale

Picture = npt.NDArray[np.uint8]  # (H, W, 3) RGB
Colour = tuple[int, int, int]
TINT = 0.35  # share of the label's colour over a lesion: the anatomy stays visible


def to_picture(image: Image) -> Picture:
    """Return any image as (H, W, 3) uint8 RGB; 16-bit images by the bit depth they use."""
    pixels = image if image.dtype == np.uint8 else np.rint(image * (255.0 / full_scale(image))).astype(np.uint8)
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), np.uint8) if pixels.ndim == 2 else np.array(pixels)


def draw_contour(picture: Picture, labels: Labels, colours: Sequence[Colour]) -> Picture:
    """Return a copy with each label's outline; colours[k] is of label k + 1."""
    drawn = picture.copy()
    for label, colour in enumerate(colours, 1):
        outlines, _ = cv2.findContours((labels == label).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn, outlines, -1, colour, max(1, min(drawn.shape[:2]) // 256))
    return drawn


def draw_overlay(picture: Picture, labels: Labels, colours: Sequence[Colour]) -> Picture:
    """Return a copy with each label tinted and outlined; colours[k] is of label k + 1."""
    tinted = picture.copy()
    for label, colour in enumerate(colours, 1):
        region = (labels == label).astype(np.uint8)
        left, top, width, height = cv2.boundingRect(region)
        if width:
            box = slice(top, top + height), slice(left, left + width)
            shades = np.rint(np.arange(256)[:, None] * (1 - TINT) + np.array(colour) * TINT)  # (256, 3)
            part = tinted[box]
            np.copyto(part, cv2.LUT(part, shades[None].astype(np.uint8)), where=region[box][:, :, None] > 0)
    return draw_contour(tinted, labels, colours)
