"""Model output to probability, mask and measurements, at the image's own size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from .errors import ModelError
from .preprocess import resize_area

Probability = npt.NDArray[np.float32]  # (H, W) in [0, 1]: of any lesion
Labels = npt.NDArray[np.uint8]  # (H, W): 0 background, 1…K-1 the contract's labels
SLACK = 0.01  # how far quantization may push a sigmoid or softmax out of [0, 1]


@dataclass(frozen=True)
class Measurements:
    """What is counted in one mask; `flags` names what a reader should look at."""

    lesion_pixels: int
    lesion_fraction: float
    components: int
    max_probability: float
    flags: tuple[str, ...]
    label_pixels: tuple[int, ...]  # of labels 1…K-1


def to_probability(output: npt.NDArray[Any], height: int, width: int) -> npt.NDArray[np.float32]:
    """Return the model's (1, h, w, K) output as (height, width, K) float32 in [0, 1].

    Stretched as the image was: linear where it grows, area means where it shrinks.
    Raises: ModelError if a value is not finite or not a probability; neither may pass as "no lesion".
    """
    values = np.asarray(output, np.float32)[0]  # (h, w, K)
    if not np.isfinite(values).all():
        raise ModelError("model output", "it holds values that are not finite", "convert the model again, audited")
    if values.min() < -SLACK or values.max() > 1 + SLACK:
        span = f"{values.min():.3g} to {values.max():.3g}"
        raise ModelError("model output", f"{span} are no probabilities", "check the contract's activation")
    values = np.clip(values, 0, 1)
    channels = [resize_area(np.ascontiguousarray(values[:, :, k]), height, width) for k in range(values.shape[2])]
    return np.stack(channels, axis=2) if len(channels) > 1 else channels[0][:, :, None]


def to_labels(probability: npt.NDArray[np.float32], threshold: float) -> tuple[Labels, Probability]:
    """Return labels (H, W) and the lesion's probability (H, W) from (H, W, K).

    One channel (sigmoid): label 1 where probability >= threshold. Several (softmax): the most probable label, and
    one minus the background's probability.
    """
    if probability.shape[2] == 1:
        lesion = probability[:, :, 0]
        return (lesion >= np.float32(threshold)).astype(np.uint8), lesion
    return probability.argmax(axis=2).astype(np.uint8), 1 - probability[:, :, 0]


def measure(labels: Labels, probability: Probability, count: int) -> Measurements:
    """Count lesion pixels, their share of the image, 8-connected components and pixels of each of `count` labels."""
    lesion = labels > 0
    pixels = int(np.count_nonzero(lesion))
    components = int(cv2.connectedComponents(lesion.astype(np.uint8), connectivity=8)[0]) - 1
    edge = np.concatenate([lesion[0], lesion[-1], lesion[:, 0], lesion[:, -1]])
    flags = [name for name, met in (("empty", pixels == 0), ("border", bool(edge.any()))) if met]
    return Measurements(
        lesion_pixels=pixels,
        lesion_fraction=pixels / lesion.size,
        components=components,
        max_probability=float(probability.max()),
        flags=tuple(flags),
        label_pixels=tuple(int(np.count_nonzero(labels == k)) for k in range(1, count)),
    )
