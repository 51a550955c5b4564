"""How do a slice's stored values become the 8 or 16 bits of an image, as a contract's rule for series says?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.contract.fields import IntensityRule
from edge_runtime.images.arrays import Image

Values = npt.NDArray[Any]


BRIGHT_PERCENT = 99.0  # the percentile that is a slice's brightness: a hot pixel is none
AIR, FAINT = 0.05, 0.3  # of the series' brightness: below, a slice holds nothing, or little
# Source: the levels at which stretching a slice to full scale costs Dice, docs/hospital.md.


@dataclass(frozen=True)
class Stored:
    """A slice's values as they are stored, (H, W), and what they mean: value * slope + intercept."""

    values: Values
    valid: npt.NDArray[np.bool_] | None = None  # where there is an image; None: everywhere
    slope: float = 1.0
    intercept: float = 0.0
    inverted: bool = False  # MONOCHROME1: the least value is white


def to_image(stored: Stored, rule: IntensityRule) -> Image:
    """Return the image of a slice, (H, W) uint8, of "z-score" and "bit-depth" uint16.

    What is no image (padding, NaN) has the least value. "slice-min-max": the least value is 0, the greatest 255.
    "window" and "percentiles": the lower end is 0, the upper 255. "z-score" is left to the net's preprocessing, which
    a linear map does not change. A slice of one value is 0.
    """
    values = fill_padding(stored)
    if isinstance(rule, str):
        if rule == "bit-depth":
            return to_depth(stored, values)
        # Slope and intercept change nothing here but the sign; whole numbers stay exact without them.
        signed = -values if (stored.slope < 0) != stored.inverted else values
        low, high = float(signed.min()), float(signed.max())
        return stretch(signed, low, high, np.uint16 if rule == "z-score" else np.uint8)
    real = values * stored.slope + stored.intercept
    if "window" in rule:
        centre, width = rule["window"]
        low, high = centre - width / 2, centre + width / 2
    else:
        low, high = (float(end) for end in np.percentile(real, rule["percentiles"]))
    image = stretch(np.clip(real, low, high), low, high, np.uint8)
    return 255 - image if stored.inverted else image


def measure_brightness(stored: Stored) -> float:
    """Return the 99th percentile of a slice's real values, as far as it is above 0 (of signed values, the least)."""
    values = fill_padding(stored) * stored.slope + stored.intercept
    if stored.inverted:
        values = values.max() - values
    return float(np.percentile(values, BRIGHT_PERCENT) - min(0.0, float(values.min())))


def flag_brightness(stored: Stored, bright: float | None) -> tuple[str, ...]:
    """Return "air" or "faint" for a slice that is much darker than its series."""
    if not bright:
        return ()
    share = measure_brightness(stored) / bright
    return ("air",) if share < AIR else ("faint",) if share < FAINT else ()


def fill_padding(stored: Stored) -> npt.NDArray[np.float64]:
    """Return a slice's values with the least (of MONOCHROME1: the greatest) where there is no image."""
    values = stored.values.astype(np.float64)
    valid = np.isfinite(values) if stored.valid is None else stored.valid & np.isfinite(values)
    if valid.all():
        return values
    black = 0.0
    if valid.any():
        ends = float(values[valid].min()), float(values[valid].max())
        black = ends[(stored.slope < 0) != stored.inverted]
    return np.where(valid, values, black)


def to_depth(stored: Stored, values: npt.NDArray[np.float64]) -> Image:
    """Return real values as uint16: those below 0 are 0."""
    real = values * stored.slope + stored.intercept
    real = real.max() + real.min() - real if stored.inverted else real
    return np.clip(np.rint(real), 0, 65535).astype(np.uint16)


def stretch(values: npt.NDArray[np.float64], low: float, high: float, kind: type[np.unsignedinteger[Any]]) -> Image:
    """Return values from `low` to `high` as 0 to the greatest of an integer type."""
    if not high > low:
        return np.zeros(values.shape, kind)
    return np.rint((values - low) * (np.iinfo(kind).max / (high - low))).astype(kind)
