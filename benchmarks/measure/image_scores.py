"""Which scores does one image have, and which do many images have, with intervals? Masks are (H, W) bool.

A score that is undefined for an image is None and left out of means, never 0 or 1; n is the number of defined ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from evidence.bootstrap import Values, resample, round_interval
from evidence.hausdorff import measure_hd95
from evidence.scores import Mask, count_confusion, divide, find_iou, find_mean_iou

Row = dict[str, Any]  # one image's scores and counts
Sums = npt.NDArray[np.float64]  # (columns, images) or (columns, draws)

COUNTS = ("tp", "fp", "fn", "tn")
COLUMNS = {"lesion_iou": "tp", "mean_iou": "tp", "false_alarms": "alarm"}  # of a row, by score; others have its name


def score_image(found: Mask, truth: Mask) -> Row:
    """Return one image's counts and scores.

    lesion_iou is None where neither mask has a lesion; dice and lesion_area_error where the truth has none; hd95_px
    where either has none. alarm tells, of an image without a true lesion, whether one was found.
    """
    pixels = count_confusion(found, truth)
    return {
        **asdict(pixels),
        "lesion_iou": pixels.iou,
        "dice": pixels.dice,
        "hd95_px": measure_hd95(found, truth) if pixels.found and pixels.real else None,
        "lesion_area_error": pixels.area_error,
        "alarm": None if pixels.real else pixels.found > 0,
    }


def to_sums(rows: Sequence[Row], name: str) -> Sums:
    """Return the columns (columns, images) whose sums make a score: counts, or values and whether they are defined."""
    if name in ("lesion_iou", "mean_iou"):
        return np.array([[row[column] for row in rows] for column in COUNTS], np.float64)
    values = [row[COLUMNS.get(name, name)] for row in rows]
    return np.array([[value or 0 for value in values], [value is not None for value in values]], np.float64)


def pool(sums: Sums, name: str) -> Values:
    """Return a score from sums over images: IoUs of all pixels, or the mean of the values that are defined."""
    if name == "lesion_iou":
        return find_iou(*sums[:3])
    return find_mean_iou(*sums) if name == "mean_iou" else divide(*sums)


def summarize(rows: Sequence[Row], name: str) -> Row:
    """Return {value, interval, n} of a score over images; the 95 % interval by resampling images."""
    sums = to_sums(rows, name)
    drawn = resample(len(rows), lambda weights: {name: pool(sums @ weights.T, name)})
    return to_score(pool(sums.sum(axis=1), name), drawn[name], count_defined(rows, name))


def summarize_difference(rows: Sequence[Row], others: Sequence[Row], name: str) -> Row:
    """Return {value, interval, n} of a score less another model's on the same images, resampled together."""
    one, two = to_sums(rows, name), to_sums(others, name)
    drawn = resample(len(rows), lambda weights: {name: pool(one @ weights.T, name) - pool(two @ weights.T, name)})
    value = pool(one.sum(axis=1), name) - pool(two.sum(axis=1), name)
    return to_score(value, drawn[name], count_defined(rows, name))


def to_score(value: Any, drawn: Values, n: int) -> Row:
    """Return {value, interval, n}, null where the value is undefined; one image alone has no interval."""
    interval = round_interval(drawn)
    known = n > 1 and np.isfinite(interval[0])
    rounded = round(float(value), 6) if np.isfinite(value) else None
    return {"value": rounded, "interval": interval if known else [None, None], "n": n}


def count_defined(rows: Sequence[Row], name: str) -> int:
    """Return the number of images for which a score is defined."""
    return sum(row[COLUMNS.get(name, name)] is not None for row in rows)
