"""How good are the masks of many slices? Mean IoU, lesion IoU, Dice, HD95 and false alarms, from one row per slice.

Every score is a ratio of sums over slices, so it can be taken again from any drawing of patients (intervals.py).
A score without slices to take it from is NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evidence.bootstrap import Values
from evidence.hausdorff import measure_hd95
from evidence.scores import Confusion, Mask, count_confusion, divide, find_iou, find_mean_iou

Table = npt.NDArray[np.float64]  # (..., COLUMNS)

COLUMNS = ("tp", "fp", "fn", "tn", "dice", "real", "hd95", "both", "overlooked", "alarm", "free")
# The column that counts the slices which a score stands on; the pooled ones stand on all.
COUNTED = {"dice": "real", "hd95_px": "both", "overlooked": "real", "false_alarms": "free"}
OLD_NAMES = {"binary_io_u": "mean_iou", "tumour_iou": "lesion_iou"}  # of scores, in files of earlier versions


@dataclass(frozen=True)
class SliceRow(Confusion):
    """One slice: its pixels by truth and finding, whose and what it is, and HD95 in pixels where it was measured."""

    name: str
    patient: str
    kind: str
    hd95_px: float | None = None

    @property
    def fraction(self) -> float:
        """The true lesion's share of the slice."""
        return self.real / (self.tp + self.fp + self.fn + self.tn)

    @property
    def columns(self) -> tuple[float, ...]:
        """The slice's part of the sums, in the order of COLUMNS."""
        real, found = self.real > 0, self.found > 0
        both = self.hd95_px is not None
        shares = (self.dice or 0.0, real, self.hd95_px or 0.0, both, real and not self.tp, found and not real)
        return (self.tp, self.fp, self.fn, self.tn, *map(float, shares), float(not real))


def score_slice(
    found: Mask, truth: Mask, kind: str, patient: str = "", name: str = "", distances: bool = False
) -> SliceRow:
    """Return one slice's row; `distances`: with HD95, where both masks have a lesion."""
    pixels = count_confusion(found, truth)
    apart = measure_hd95(found, truth) if distances and pixels.found and pixels.real else None
    return SliceRow(**asdict(pixels), name=name, patient=patient, kind=kind, hd95_px=apart)


def to_table(rows: Sequence[SliceRow]) -> Table:
    """Return the rows' columns, (rows, COLUMNS)."""
    return np.array([row.columns for row in rows], np.float64).reshape(-1, len(COLUMNS))


def pool(sums: Table) -> dict[str, Values]:
    """Return {score: values (...)} from columns summed over slices, (..., COLUMNS).

    mean_iou: mean of the lesion's and the background's IoU over all pixels of all slices (Keras BinaryIoU).
    dice and overlooked (the share of lesions of which no pixel was found): over slices with a lesion. hd95_px: mean
    over slices where both masks have one. false_alarms: share of slices without a lesion where any was found.
    """
    tp, fp, fn, tn, dice, real, hd95, both, overlooked, alarm, free = np.moveaxis(sums, -1, 0)
    return {
        "mean_iou": find_mean_iou(tp, fp, fn, tn),
        "lesion_iou": find_iou(tp, fp, fn),
        "dice": divide(dice, real),
        "hd95_px": divide(hd95, both),
        "overlooked": divide(overlooked, real),
        "false_alarms": divide(alarm, free),
    }


class Scores:
    """Collects predicted and true masks one slice at a time."""

    def __init__(self, distances: bool = False) -> None:
        self.distances = distances
        self.rows: list[SliceRow] = []

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
            rows_of_kind = [row for row in self.rows if row.kind == kind]
            found[f"dice_{kind}"] = float(pool(to_table(rows_of_kind).sum(axis=0))["dice"])
        return found


def rename_scores(facts: Any) -> Any:
    """Return plain data from a file with the names of today for scores, and for validation scores, at every depth."""
    if isinstance(facts, Mapping):
        return {rename_score(name): rename_scores(value) for name, value in facts.items()}
    return [rename_scores(value) for value in facts] if isinstance(facts, list) else facts


def rename_score(name: str) -> str:
    """Return a score's name of today; any other name as it is."""
    prefix = "val_" if name.startswith("val_") else ""
    return prefix + OLD_NAMES.get(name.removeprefix(prefix), name.removeprefix(prefix))
