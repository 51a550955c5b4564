"""Segmentation scores: a slice's counts, and BinaryIoU, tumour IoU, Dice, HD95 and false alarms over many slices.

Every score is a ratio of sums over slices, so it can be taken again from any drawing of patients (intervals.py).
A score without slices to take it from is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]  # (H, W)
Table = npt.NDArray[np.float64]  # (..., COLUMNS)

CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
COLUMNS = ("hit", "false", "missed", "rest", "dice", "real", "hd95", "both", "overlooked", "alarm", "free")
# The column that counts the slices which a score stands on; the pooled ones stand on all.
COUNTED = {"dice": "real", "hd95_px": "both", "overlooked": "real", "false_alarms": "free"}


@dataclass(frozen=True)
class Row:
    """One slice: whose and what, its pixels by truth and finding, and HD95 in pixels where it was measured."""

    name: str
    patient: str
    kind: str
    hit: int  # true positive pixels
    false: int
    missed: int
    rest: int  # true negative pixels
    hd95_px: float | None = None

    @property
    def fraction(self) -> float:
        """The true lesion's share of the slice."""
        return (self.hit + self.missed) / (self.hit + self.false + self.missed + self.rest)

    @property
    def dice(self) -> float | None:
        """2 · hit / (found + real); None without a true lesion."""
        return 2 * self.hit / (2 * self.hit + self.false + self.missed) if self.hit + self.missed else None

    @property
    def columns(self) -> tuple[float, ...]:
        """The slice's part of the sums, in the order of COLUMNS."""
        real, found = self.hit + self.missed > 0, self.hit + self.false > 0
        both = self.hd95_px is not None
        shares = (self.dice or 0.0, real, self.hd95_px or 0.0, both, real and not self.hit, found and not real)
        return (self.hit, self.false, self.missed, self.rest, *map(float, shares), float(not real))


def score_slice(found: Mask, truth: Mask, kind: str, patient: str = "", name: str = "", distances: bool = False) -> Row:
    """Return one slice's row; `distances`: with HD95, where both masks have a lesion."""
    hit = int(np.count_nonzero(found & truth))
    area, real = int(np.count_nonzero(found)), int(np.count_nonzero(truth))
    apart = measure_hd95(found, truth) if distances and area and real else None
    return Row(name, patient, kind, hit, area - hit, real - hit, truth.size - area - real + hit, apart)


def measure_hd95(a: Mask, b: Mask) -> float:
    """Return the 95th percentile Hausdorff distance of two masks in pixels, the larger of both directions.

    The same measure as in benchmarks, whose room this one may not enter; a test holds the two together.
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


def to_table(rows: Sequence[Row]) -> Table:
    """Return the rows' columns, (rows, COLUMNS)."""
    return np.array([row.columns for row in rows], np.float64).reshape(-1, len(COLUMNS))


def pool(sums: Table) -> dict[str, npt.NDArray[np.float64]]:
    """Return {score: values (...)} from columns summed over slices, (..., COLUMNS).

    binary_io_u: mean of the tumour's and the background's IoU over all pixels of all slices (Keras BinaryIoU).
    dice and overlooked (the share of lesions of which no pixel was found): over slices with a lesion. hd95_px: mean
    over slices where both masks have one. false_alarms: share of slices without a lesion where any was found.
    """
    hit, false, missed, rest, dice, real, hd95, both, overlooked, alarm, free = np.moveaxis(sums, -1, 0)
    tumour, background = divide(hit, hit + false + missed), divide(rest, rest + false + missed)
    return {
        "binary_io_u": (tumour + background) / 2,
        "tumour_iou": tumour,
        "dice": divide(dice, real),
        "hd95_px": divide(hd95, both),
        "overlooked": divide(overlooked, real),
        "false_alarms": divide(alarm, free),
    }


def divide(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return a / b, NaN for b = 0."""
    return np.asarray(np.divide(a, b, out=np.full(np.shape(b), np.nan), where=np.asarray(b) != 0))


class Scores:
    """Collects predicted and true masks one slice at a time."""

    def __init__(self, distances: bool = False) -> None:
        self.distances = distances
        self.rows: list[Row] = []

    def add(self, predicted: Mask, truth: Mask, kind: str, patient: str = "", name: str = "") -> None:
        """Add one slice of class `kind`; both masks (H, W) bool."""
        self.rows.append(score_slice(predicted, truth, kind, patient, name, self.distances))

    def summary(self) -> dict[str, float]:
        """Return pool's scores, hd95_px only if distances were measured, and `dice_KIND` of each class with lesions."""
        found = {name: float(value) for name, value in pool(to_table(self.rows).sum(axis=0)).items()}
        if not self.distances:
            del found["hd95_px"]
        del found["overlooked"]
        for kind in sorted({row.kind for row in self.rows if row.dice is not None}):
            its = [row for row in self.rows if row.kind == kind]
            found[f"dice_{kind}"] = float(pool(to_table(its).sum(axis=0))["dice"])
        return found
