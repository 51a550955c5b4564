"""How well masks agree with the truth over many images: IoU, mean IoU, Dice, area error, false alarms.

All follow from counts of pixels, which are summed over images before they are divided: large images count for more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .bootstrap import Values, Weights, find_interval, resample

Mask = npt.NDArray[np.bool_]  # (H, W)
Numbers = npt.NDArray[np.float64]
Counts = npt.NDArray[np.float64]  # (N, K, 3) pixels: shared, the truth's, the answer's; NaN where there is no answer

MAX_UNDEFINED = 0.05  # of the draws: where more have no value, there is no interval
LOWER_IS_BETTER = ("area_error", "false_alarms")


@dataclass(frozen=True)
class Confusion:
    """The pixels of one mask against the truth: true and false positive, false and true negative."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def found(self) -> int:
        """Pixels of the mask."""
        return self.tp + self.fp

    @property
    def real(self) -> int:
        """Pixels of the truth."""
        return self.tp + self.fn

    @property
    def iou(self) -> float | None:
        """Intersection over union; None where neither has a lesion."""
        return to_score(find_iou(self.tp, self.fp, self.fn))

    @property
    def dice(self) -> float | None:
        """2 · tp / (found + real); None without a true lesion."""
        return to_score(find_dice(self.tp, self.fp, self.fn)) if self.real else None

    @property
    def area_error(self) -> float | None:
        """How much larger or smaller the lesion was found, as a share of the true one; None without a true one."""
        return abs(self.found - self.real) / self.real if self.real else None


def count_confusion(found: Mask, truth: Mask) -> Confusion:
    """Return the pixels of a mask against the truth."""
    tp = int(np.count_nonzero(found & truth))
    area, real = int(np.count_nonzero(found)), int(np.count_nonzero(truth))
    return Confusion(tp, area - tp, real - tp, truth.size - area - real + tp)


def find_iou(tp: Any, fp: Any, fn: Any) -> Numbers:
    """Return intersection over union of counts of any one shape; NaN where the union is empty."""
    return divide(tp, tp + fp + fn)


def find_mean_iou(tp: Any, fp: Any, fn: Any, tn: Any) -> Numbers:
    """Return the mean of the lesion's and the background's IoU. Source: keras.metrics.BinaryIoU."""
    return np.asarray((find_iou(tp, fp, fn) + find_iou(tn, fn, fp)) / 2)


def find_dice(tp: Any, fp: Any, fn: Any) -> Numbers:
    """Return Dice of counts of any one shape; NaN where both masks are empty."""
    return divide(2 * tp, 2 * tp + fp + fn)


def divide(a: Any, b: Any) -> Numbers:
    """Return a / b, NaN where b is 0."""
    return np.asarray(np.divide(a, b, out=np.full(np.shape(b), np.nan), where=np.asarray(b) != 0))


def to_score(value: Any) -> float | None:
    """Return a number; None where it is not defined."""
    return float(value) if np.isfinite(value) else None


def count_pixels(truth: npt.NDArray[Any], answer: npt.NDArray[Any] | None, labels: int) -> Counts:
    """Return (K, 3) counts of two label images (H, W) with values below K; without an answer, NaN but for the truth."""
    real = np.bincount(truth.ravel(), minlength=labels).astype(np.float64)
    if answer is None:
        return np.stack([np.full(labels, np.nan), real, np.full(labels, np.nan)], axis=1)
    pairs = np.bincount(truth.ravel() * np.intp(labels) + answer.ravel(), minlength=labels * labels)
    table = pairs.reshape(labels, labels)  # [true label, answered label]
    return np.stack([table.diagonal(), real, table.sum(axis=0)], axis=1).astype(np.float64)


def find_scores(counts: Counts, names: Sequence[str], weights: Weights | None = None) -> dict[str, Values]:
    """Return each score's values (B,), one per row of weights (B, N); every image once without weights.

    mean_iou: over the labels that the truth has anywhere, with two of them Keras' BinaryIoU. iou_NAME: of one label.
    dice: mean over images of the labels' mean, background left out, for labels that the image's truth has.
    area_error: mean over images with a lesion of |answered - true lesion pixels| / true ones. false_alarms: share of
    the images without lesion that got one. A score that has nothing to be taken from is NaN.
    """
    weights = np.ones((1, len(counts))) if weights is None else weights
    iou = find_label_iou(np.tensordot(weights, counts, 1))  # (B, K)
    occurs = counts[:, :, 1].sum(axis=0) > 0  # (K,)
    mean = iou[:, occurs].mean(axis=1) if occurs.sum() > 1 else np.full(len(weights), np.nan)
    real, answered = counts[:, 1:, 1].sum(axis=1), counts[:, 1:, 2].sum(axis=1)  # (N,) lesion pixels of any label
    alarm = np.where(np.isnan(answered), np.nan, answered > 0)
    return {
        "mean_iou": mean,
        **{f"iou_{name}": iou[:, k] for k, name in enumerate(names)},
        "dice": average(find_image_dice(counts), real > 0, weights),
        "area_error": average(divide(np.abs(answered - real), real), real > 0, weights),
        "false_alarms": average(alarm, real == 0, weights),
    }


def find_label_iou(pooled: Counts) -> Numbers:
    """Return IoU (B, K) from pooled counts (B, K, 3); NaN for a label that the truth has not."""
    shared, real, answered = np.moveaxis(pooled, -1, 0)
    return np.where(real > 0, find_iou(shared, answered - shared, real - shared), np.nan)


def find_image_dice(counts: Counts) -> Values:
    """Return each image's Dice (N,): mean over the lesion labels that its truth has; NaN where it has none."""
    shared, real, answered = np.moveaxis(counts[:, 1:], -1, 0)  # (N, K - 1)
    dice = np.where(real > 0, find_dice(shared, answered - shared, real - shared), 0)
    return divide(dice.sum(axis=1), (real > 0).sum(axis=1))


def average(values: Values, among: npt.NDArray[np.bool_], weights: Weights) -> Values:
    """Return the weighted means (B,) of the values (N,) that are `among`; NaN among them stays NaN."""
    return divide(weights @ np.where(among, values, 0), weights @ among.astype(np.float64))


def find_drops(
    before: Counts, after: Counts, names: Sequence[str], weights: Weights | None = None
) -> dict[str, Values]:
    """Return how much worse `after` scores than `before` on the same images (or draws); below 0 it is better."""
    first, second = find_scores(before, names, weights), find_scores(after, names, weights)
    return {name: (first[name] - second[name]) * (-1 if name in LOWER_IS_BETTER else 1) for name in first}


def find_intervals(before: Counts, after: Counts, names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Return each drop's 95 % interval, both models on the same draws of images.

    A draw without a value (it has no image of a label) is left out; (NaN, NaN) where more than MAX_UNDEFINED are.
    """
    drawn = resample(len(before), lambda weights: find_drops(before, after, names, weights))
    return {name: find_interval(values, MAX_UNDEFINED) for name, values in drawn.items()}
