"""HD95: how far apart the borders of two masks are, in pixels."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]  # (H, W)

CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def measure_hd95(a: Mask, b: Mask) -> float:
    """Return the 95th percentile Hausdorff distance of two masks in pixels, the larger of both directions.

    Source: Maier-Hein, Reinke et al., Metrics reloaded, Nature Methods 2024; MONAI takes it likewise.
    """
    one, other = find_border(a), find_border(b)
    return float(max(np.percentile(measure_distance(y)[x], 95) for x, y in ((one, other), (other, one))))


def find_border(mask: Mask) -> Mask:
    """Return a mask's pixels that have a neighbour, of four, outside it; beyond the image's edge is outside."""
    pixels = mask.astype(np.uint8)
    return np.asarray(pixels > cv2.erode(pixels, CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=0))


def measure_distance(border: Mask) -> npt.NDArray[np.float32]:
    """Return each pixel's distance to the nearest pixel of a border, (H, W)."""
    apart = cv2.distanceTransform((~border).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(apart, np.float32)
