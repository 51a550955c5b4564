"""Segmentation scores summed over slices: BinaryIoU, tumour IoU, Dice by slice and by class, false alarms."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]  # (H, W)


class Scores:
    """Collects predicted and true masks one slice at a time."""

    def __init__(self) -> None:
        self.counts = np.zeros(4, np.int64)  # true positive, false positive, false negative, true negative pixels
        self.dice: dict[str, list[float]] = defaultdict(list)
        self.alarms: list[bool] = []

    def add(self, predicted: Mask, truth: Mask, kind: str) -> None:
        """Add one slice of class `kind`; both masks (H, W) bool."""
        hit = int(np.count_nonzero(predicted & truth))
        found, real = int(np.count_nonzero(predicted)), int(np.count_nonzero(truth))
        self.counts += (hit, found - hit, real - hit, truth.size - found - real + hit)
        if real:
            self.dice[kind].append(2 * hit / (found + real))
        else:
            self.alarms.append(found > 0)

    def summary(self) -> dict[str, float]:
        """Return the scores; a score without slices to take it from is NaN.

        binary_io_u: mean of the tumour's and the background's IoU over all pixels of all slices (Keras BinaryIoU).
        dice: mean over slices with tumour. false_alarms: share of slices without tumour where any was predicted.
        """
        hit, false, missed, rest = (int(count) for count in self.counts)
        tumour, background = divide(hit, hit + false + missed), divide(rest, rest + false + missed)
        every = [value for values in self.dice.values() for value in values]
        return {
            "binary_io_u": (tumour + background) / 2,
            "tumour_iou": tumour,
            "dice": divide(sum(every), len(every)),
            "false_alarms": divide(sum(self.alarms), len(self.alarms)),
            **{f"dice_{kind}": divide(sum(self.dice[kind]), len(self.dice[kind])) for kind in sorted(self.dice)},
        }


def divide(a: float, b: float) -> float:
    """Return a / b, NaN for b = 0."""
    return a / b if b else float("nan")
