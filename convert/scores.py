"""How well masks agree with the truth over many images, and how sure a difference between two models is.

All follows from three numbers per image and label: how many pixels the truth and the answer share, how many the truth
has, how many the answer has. They are summed over images before dividing, so large images count for more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.float64]  # (N, K, 3) pixels: shared, the truth's, the answer's; NaN where there is no answer
Values = npt.NDArray[np.float64]  # (B,) one value per resample
Weights = npt.NDArray[np.float64]  # (B, N) how often each image counts in each resample

SEED, RESAMPLES, BLOCK = 20250607, 2000, 250
LEVEL = 0.95
MOST_UNDEFINED = 0.05  # of the resamples: where more have no value, there is no interval
LOWER_IS_BETTER = ("area_error", "false_alarms")


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
    iou = find_iou(np.tensordot(weights, counts, 1))  # (B, K)
    occurs = counts[:, :, 1].sum(axis=0) > 0  # (K,)
    mean = iou[:, occurs].mean(axis=1) if occurs.sum() > 1 else np.full(len(weights), np.nan)
    real, answered = counts[:, 1:, 1].sum(axis=1), counts[:, 1:, 2].sum(axis=1)  # (N,) lesion pixels of any label
    alarm = np.where(np.isnan(answered), np.nan, answered > 0)
    return {
        "mean_iou": mean,
        **{f"iou_{name}": iou[:, k] for k, name in enumerate(names)},
        "dice": average(find_dice(counts), real > 0, weights),
        "area_error": average(divide(np.abs(answered - real), real), real > 0, weights),
        "false_alarms": average(alarm, real == 0, weights),
    }


def find_iou(pooled: Counts) -> npt.NDArray[np.float64]:
    """Return IoU (B, K) from pooled counts (B, K, 3); NaN for a label that the truth has not."""
    shared, real, answered = np.moveaxis(pooled, -1, 0)
    iou = divide(shared, real + answered - shared)
    iou[real == 0] = np.nan
    return iou


def find_dice(counts: Counts) -> npt.NDArray[np.float64]:
    """Return each image's Dice (N,): mean over the lesion labels that its truth has; NaN where it has none."""
    shared, real, answered = np.moveaxis(counts[:, 1:], -1, 0)  # (N, K - 1)
    dice = np.where(real > 0, divide(2 * shared, real + answered), 0)
    return divide(dice.sum(axis=1), (real > 0).sum(axis=1).astype(np.float64))


def average(values: npt.NDArray[np.float64], among: npt.NDArray[np.bool_], weights: Weights) -> Values:
    """Return the weighted means (B,) of the values (N,) that are `among`; NaN among them stays NaN."""
    return divide(weights @ np.where(among, values, 0), weights @ among.astype(np.float64))


def divide(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return a / b, NaN where b is 0."""
    out = np.full(b.shape, np.nan)
    np.divide(a, b, out=out, where=b != 0)
    return out


def find_drops(
    keras: Counts, result: Counts, names: Sequence[str], weights: Weights | None = None
) -> dict[str, Values]:
    """Return how much worse `result` scores than `keras` on the same images (or resamples); below 0 it is better."""
    before, after = find_scores(keras, names, weights), find_scores(result, names, weights)
    return {name: (before[name] - after[name]) * (-1 if name in LOWER_IS_BETTER else 1) for name in before}


def find_intervals(keras: Counts, result: Counts, names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Return each drop's 95 % interval: a paired bootstrap over images, percentiles of 2000 resamples, seeded.

    Paired: both models see the same resample, so what images differ in cancels out. A resample without value (it has
    no image of a label) is left out; where more than MOST_UNDEFINED are, the interval is (NaN, NaN).
    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3.
    """
    blocks = [find_drops(keras, result, names, weights) for weights in draw_weights(len(keras))]
    return {name: find_percentiles(np.concatenate([block[name] for block in blocks])) for name in blocks[0]}


def draw_weights(images: int) -> Iterator[Weights]:
    """Yield RESAMPLES rows (B, N) of how often each image is drawn, BLOCK at a time: memory stays flat."""
    rng = np.random.default_rng(SEED)
    for _ in range(RESAMPLES // BLOCK):
        yield rng.multinomial(images, np.full(images, 1 / images), BLOCK).astype(np.float64)


def find_percentiles(values: Values) -> tuple[float, float]:
    """Return the bounds between which LEVEL of the values lie; NaN where too many have none."""
    defined = values[~np.isnan(values)]
    if len(defined) < (1 - MOST_UNDEFINED) * len(values):
        return float("nan"), float("nan")
    low, high = np.percentile(defined, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)
