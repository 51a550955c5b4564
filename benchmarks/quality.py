"""How good a mask is: against the truth and against another model's. Pure functions of masks, (H, W) bool.

A score that is not defined for an image is None and left out of means, never 0 or 1; n says how many images count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from .samples import bound, draw_again

Mask = npt.NDArray[np.bool_]
Row = dict[str, Any]  # one image's scores and counts
Table = npt.NDArray[np.float64]  # (images, columns)

CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
COUNTS = ("hit", "false", "missed", "rest")  # pixels: true positive, false positive, false negative, true negative
MEANS = ("dice", "hd95_px", "lesion_area_error")


def score_image(found: Mask, truth: Mask) -> Row:
    """Return one image's counts and scores.

    iou is None where neither mask has a lesion; dice and lesion_area_error where the truth has none; hd95_px where
    either has none. alarm tells, of an image without a true lesion, whether one was found.
    """
    hit = int(np.count_nonzero(found & truth))
    area, real = int(np.count_nonzero(found)), int(np.count_nonzero(truth))
    counts = (hit, area - hit, real - hit, truth.size - area - real + hit)
    return {
        **dict(zip(COUNTS, counts, strict=True)),
        "iou": hit / (area + real - hit) if area + real else None,
        "dice": 2 * hit / (area + real) if real else None,
        "hd95_px": measure_hd95(found, truth) if area and real else None,
        "lesion_area_error": abs(area - real) / real if real else None,
        "alarm": None if real else area > 0,
    }


def measure_hd95(a: Mask, b: Mask) -> float:
    """Return the 95th percentile Hausdorff distance of two masks in pixels, the larger of both directions.

    Source: Maier-Hein, Reinke et al., Metrics reloaded, Nature Methods 2024; MONAI takes it likewise.
    """
    one, other = find_border(a), find_border(b)
    there, back = (np.percentile(measure_distance(y)[x], 95) for x, y in ((one, other), (other, one)))
    return float(max(there, back))


def find_border(mask: Mask) -> Mask:
    """Return a mask's pixels that have a neighbour, of four, outside it; beyond the image's edge is outside."""
    pixels = mask.astype(np.uint8)
    inside = cv2.erode(pixels, CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(pixels > inside)


def measure_distance(border: Mask) -> npt.NDArray[np.float32]:
    """Return each pixel's distance to the nearest pixel of a border, (H, W)."""
    apart = cv2.distanceTransform((~border).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(apart, np.float32)


def to_table(rows: Sequence[Row], names: Sequence[str]) -> Table:
    """Return rows as (images, names), what is not defined as NaN; it never leaves this module."""
    return np.array([[np.nan if row[name] is None else float(row[name]) for name in names] for row in rows])


def pool_iou(counts: Table) -> npt.NDArray[np.float64]:
    """Return the lesion's IoU over all pixels; counts (..., images, 4) in the order of COUNTS."""
    hit, false, missed, _ = np.moveaxis(counts.sum(axis=-2), -1, 0)
    return divide(hit, hit + false + missed)


def pool_binary_iou(counts: Table) -> npt.NDArray[np.float64]:
    """Return the mean of lesion's and background's IoU over all pixels. Source: keras.metrics.BinaryIoU."""
    _, false, missed, rest = np.moveaxis(counts.sum(axis=-2), -1, 0)
    return (pool_iou(counts) + divide(rest, rest + false + missed)) / 2


def mean_defined(values: Table) -> npt.NDArray[np.float64]:
    """Return the mean of the values that are defined; values (..., images, 1)."""
    there = ~np.isnan(values[..., 0])
    return divide(np.where(there, values[..., 0], 0).sum(axis=-1), there.sum(axis=-1))


def divide(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return a / b, NaN for b = 0."""
    return np.asarray(np.divide(a, b, out=np.full(np.shape(b), np.nan), where=np.asarray(b) != 0))


Pool = Callable[[Table], npt.NDArray[np.float64]]
POOLS: Mapping[str, tuple[tuple[str, ...], Pool]] = {
    "iou": (COUNTS, pool_iou),
    "binary_iou": (COUNTS, pool_binary_iou),
    **{name: ((name,), mean_defined) for name in MEANS},
    "false_alarms": (("alarm",), mean_defined),
}


def summarize(rows: Sequence[Row], name: str) -> Row:
    """Return {value, interval, n} of a score over images; the interval by drawing images again, 95 %."""
    columns, pool = POOLS[name]
    table = to_table(rows, columns)
    return to_score(pool(table), pool_draws(table, pool), count_defined(rows, name))


def summarize_difference(rows: Sequence[Row], others: Sequence[Row], name: str) -> Row:
    """Return {value, interval, n} of a score less another model's on the same images, which are drawn together."""
    columns, pool = POOLS[name]
    one, two = to_table(rows, columns), to_table(others, columns)
    drawn = pool_draws(one, pool) - pool_draws(two, pool)
    return to_score(pool(one) - pool(two), drawn, count_defined(rows, name))


def pool_draws(table: Table, pool: Pool) -> npt.NDArray[np.float64]:
    """Return the pooled score of each draw of as many images, the same draws for all tables of one length."""
    drawn = draw_again(len(table))  # (draws, images)
    blocks = np.array_split(drawn, max(1, drawn.size * table.shape[1] // 4_000_000))
    return np.concatenate([pool(table[block]) for block in blocks])


def to_score(value: Any, drawn: npt.NDArray[np.float64], n: int) -> Row:
    """Return {value, interval, n}, null where the value is not defined; of one image alone there is no interval."""
    spread = drawn[np.isfinite(drawn)]
    interval = bound(spread) if n > 1 and len(spread) else [None, None]
    return {"value": round(float(value), 6) if np.isfinite(value) else None, "interval": interval, "n": n}


def count_defined(rows: Sequence[Row], name: str) -> int:
    """Return how many images a score stands on."""
    column = {"iou": "hit", "binary_iou": "hit", "false_alarms": "alarm"}.get(name, name)
    return sum(row[column] is not None for row in rows)
