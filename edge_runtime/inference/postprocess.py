"""How does the model's output become probability, mask and measurements at the image's own size?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge_runtime.errors import ModelError
from edge_runtime.images.arrays import Labels

from .preprocess import resize_area

Probability = npt.NDArray[np.float32]  # (H, W) or (D, H, W) in [0, 1]: of any lesion
SLACK = 0.01  # how far quantization may push a sigmoid or softmax out of [0, 1]


@dataclass(frozen=True)
class Lead:
    """Where a lesion leads the background most, or comes closest to it: both probabilities at that pixel."""

    label: float  # of the most probable lesion
    background: float


@dataclass(frozen=True)
class Measurements:
    """The measurements of one mask, and the flags that need no limits."""

    lesion_pixels: int
    lesion_fraction: float
    components: int
    max_probability: float
    flags: tuple[str, ...]
    label_pixels: tuple[int, ...]  # of labels 1, 2 ...
    lead: Lead | None = None  # where the largest class decides, and no threshold


def to_probability(output: npt.NDArray[Any], height: int, width: int) -> npt.NDArray[np.float32]:
    """Return the model's (1, h, w, K) output as (height, width, K) float32 in [0, 1]; a volume's slice by slice.

    Stretched as the image was: linear where it grows, area means where it shrinks.
    Raises: ModelError if a value is not finite or not a probability; neither may pass as "no lesion".
    """
    values = check_probability(output)[0]  # (h, w, K) or (D, h, w, K)
    if values.ndim == 4:
        return np.stack([stretch(part, height, width) for part in values])
    return stretch(values, height, width)


def check_probability(output: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return an output clipped to [0, 1]. Raises: ModelError if a value is not finite or not a probability."""
    values = np.asarray(output, np.float32)
    if not np.isfinite(values).all():
        raise ModelError("model output", "it holds values that are not finite", "convert the model again, audited")
    if values.min() < -SLACK or values.max() > 1 + SLACK:
        span = f"{values.min():.3g} to {values.max():.3g}"
        raise ModelError("model output", f"{span} are no probabilities", "check the contract's activation")
    return np.clip(values, 0, 1)


def stretch(values: npt.NDArray[np.float32], height: int, width: int) -> npt.NDArray[np.float32]:
    """Return (h, w, K) at (height, width, K)."""
    channels = [resize_area(np.ascontiguousarray(values[:, :, k]), height, width) for k in range(values.shape[2])]
    return np.stack(channels, axis=2) if len(channels) > 1 else channels[0][:, :, None]


def to_labels(
    probability: npt.NDArray[np.float32], threshold: float, activation: str = "softmax"
) -> tuple[Labels, Probability]:
    """Return labels (..., H, W) and the lesion's probability (..., H, W) from (..., H, W, K).

    One channel: label 1 where probability >= threshold. Several of a softmax: the most probable label, and one minus
    the background's probability. Several of a sigmoid: the last label that reaches the threshold (regions are listed
    from the whole to its core, so that the core is seen), and the greatest probability.
    """
    if probability.shape[-1] == 1:
        lesion = probability[..., 0]
        return (lesion >= np.float32(threshold)).astype(np.uint8), lesion
    if activation == "softmax":
        return probability.argmax(axis=-1).astype(np.uint8), 1 - probability[..., 0]
    reached = probability >= np.float32(threshold)
    values = np.arange(1, probability.shape[-1] + 1, dtype=np.uint8)
    return np.max(reached * values, axis=-1), probability.max(axis=-1)


def find_lead(probability: npt.NDArray[np.float32]) -> Lead:
    """Return what decides whether a softmax's mask (..., K) is empty: it is unless a lesion exceeds the background."""
    label, background = probability[..., 1:].max(axis=-1), probability[..., 0]
    index = int((label - background).argmax())
    return Lead(float(label.flat[index]), float(background.flat[index]))


def to_class(output: npt.NDArray[Any], labels: Sequence[str]) -> tuple[str, float]:
    """Return the most probable class and its probability from (1, N); a single sigmoid is that of the second label.

    Raises: ModelError if a value is not finite or not a probability.
    """
    values = check_probability(output)[0]
    values = np.array([1 - values[0], values[0]]) if len(values) == 1 else values
    best = int(values.argmax())
    return labels[best], float(values[best])


def measure_mask(labels: Labels, probability: Probability, count: int, lead: Lead | None = None) -> Measurements:
    """Count lesion pixels, their share of the image, 8-connected components and pixels of each of `count` labels.

    lead: of a softmax, from `find_lead`.
    """
    left, top, width, height = cv2.boundingRect(labels)
    part = np.ascontiguousarray(labels[top : top + height, left : left + width])  # all that is not background
    pixels = int(np.count_nonzero(part))
    reaches = (left == 0, top == 0, left + width == labels.shape[1], top + height == labels.shape[0])
    flags = [name for name, met in (("empty", pixels == 0), ("border", pixels > 0 and any(reaches))) if met]
    return Measurements(
        lesion_pixels=pixels,
        lesion_fraction=pixels / labels.size,
        components=int(cv2.connectedComponents(part, connectivity=8)[0]) - 1 if pixels else 0,
        max_probability=float(probability.max()),
        flags=tuple(flags),
        label_pixels=tuple(int(np.count_nonzero(part == k)) for k in range(1, count)),
        lead=lead,
    )
