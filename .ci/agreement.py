"""How alike two segmentations of one image are, and whether that is alike enough."""

from typing import NamedTuple

import numpy as np


class Agreement(NamedTuple):
    """How alike two results are, or have to be: IoU of the masks; largest and mean difference in probability."""

    iou: float
    largest: float
    mean: float

    def __str__(self) -> str:
        return f"IoU {self.iou:.4f}, probability within {self.largest:.2g}, on average {self.mean:.2g}"


def agree(mask, other_mask, probability, other_probability):
    """Return the agreement of two results of one image; two empty masks agree."""
    union = (mask | other_mask).sum()
    differences = np.abs(np.float64(probability) - other_probability)
    return Agreement(
        float((mask & other_mask).sum() / union) if union else 1.0, float(differences.max()), float(differences.mean())
    )


def take_worst(agreements):
    """Return the worst of each figure."""
    ious, largest, means = zip(*agreements, strict=True)
    return Agreement(min(ious), max(largest), max(means))


def double(noise):
    """Return what a board may differ by where x86 differs from itself by `noise`."""
    return Agreement(1 - 2 * (1 - noise.iou), 2 * noise.largest, 2 * noise.mean)


def allows(bound, found):
    """Tell whether an agreement is at least as good as `bound`."""
    return found.iou >= bound.iou and found.largest <= bound.largest and found.mean <= bound.mean
