"""How does an image become the model's input tensor, in training, calibration, benchmarks and on the device alike?

The image is as it was read: 8 or 16 bit, grey or colour, any size. Training imports this file, so that the net's inputs
on the device are those it was trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge_runtime.contract.fields import Factor, InputSpec, IntensityRule
from edge_runtime.images.arrays import Image, full_scale

Tensor = npt.NDArray[Any]  # (1, H, W, C), float32 unless the contract says otherwise

# ITU-R BT.601 luma, as in OpenCV's and Pillow's conversions to grey.
LUMA = (0.299, 0.587, 0.114)


def to_grey(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return (H, W) from (H, W) or (H, W, 3): BT.601 luma."""
    if image.ndim == 2:
        return image
    return image @ np.array(LUMA, np.float32)


def resize_area(
    image: npt.NDArray[np.float32], height: int, width: int, whole: bool = False
) -> npt.NDArray[np.float32]:
    """Stretch to (height, width): area means along an axis that shrinks, linear along one that grows.

    The axes are done one after the other because OpenCV's area mode averages only when both shrink. whole: all values
    are whole numbers below 65536, so that a mean of 4 to 256 of them is exact whichever way: one step is ten times as
    fast.
    """
    if whole and any(image.shape[:2] == (height << k, width << k) for k in range(1, 5)):
        return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.float32)
    for axis, side in ((0, height), (1, width)):
        if image.shape[axis] == side:
            continue
        how = cv2.INTER_AREA if image.shape[axis] > side else cv2.INTER_LINEAR
        size = (image.shape[1], side) if axis == 0 else (side, image.shape[0])  # cv2 wants (width, height)
        image = np.asarray(cv2.resize(image, size, interpolation=how), np.float32)
    return image


@dataclass(frozen=True)
class Levels:
    """How stored values become pixels: (value - low) * factor, perhaps clipped to 0…255."""

    low: float
    factor: float
    clip: bool = False


def to_model_input(image: Image, spec: InputSpec) -> Tensor:
    """Return the input tensor of an image, or of a volume where the model takes volumes, as its contract says."""
    prepare = to_tensor if spec.depth is None else to_volume
    return prepare(image, *spec.size, spec.colour, spec.scale, spec.offset, spec.dtype, intensity=spec.intensity.images)


def to_tensor(
    image: Image,
    height: int,
    width: int,
    colour: str = "grey",
    scale: Factor = 1 / 255,
    offset: Factor = 0.0,
    dtype: str = "float32",
    intensity: IntensityRule = "bit-depth",
) -> Tensor:
    """Return the (1, height, width, C) tensor of an image, C = 1 for colour "grey" and 3 for "rgb".

    Stored values become pixels by `find_levels`, which are stretched by `resize_area`, then `pixel * scale + offset`.
    An integer dtype ("uint8", "int8") is rounded to nearest even and clipped to its range.
    """
    pixels = to_pixels(image, height, width, colour, find_levels([image], colour, intensity))
    return to_values(pixels, scale, offset, dtype)[None]


def to_volume(
    volume: Image,
    height: int,
    width: int,
    colour: str = "grey",
    scale: Factor = 1 / 255,
    offset: Factor = 0.0,
    dtype: str = "float32",
    intensity: IntensityRule = "bit-depth",
) -> Tensor:
    """Return the (1, D, height, width, C) tensor of a volume, (D, H, W) or (D, H, W, 3), each slice as an image.

    All slices have the same levels, so that a dark slice stays dark; with "slice-min-max" each has its own.
    """
    whole = None if intensity == "slice-min-max" else find_levels(volume, colour, intensity)
    slices = [
        to_pixels(image, height, width, colour, whole or find_levels([image], colour, intensity)) for image in volume
    ]
    return to_values(np.stack(slices), scale, offset, dtype)[None]


def find_levels(slices: Sequence[Image] | Image, colour: str, intensity: IntensityRule) -> Levels:
    """Return the levels of slices, each (H, W) or (H, W, 3), as a contract's `intensity` says.

    "bit-depth": `full_scale` is 255. "slice-min-max": the least value is 0, the greatest 255. "z-score": mean 0 and
    standard deviation 1. {"percentiles": (p, q)} and {"window": (centre, width)}, in stored values: the lower end is 0,
    the upper 255, values beyond are clipped. Values are all channels', of a colour image for a grey model its luma.
    Where all values are the same, "slice-min-max", "z-score" and percentiles make them 0.
    """
    if intensity == "bit-depth":
        return Levels(0.0, 255.0 / max(map(full_scale, slices)))
    if isinstance(intensity, str) or "percentiles" in intensity:
        values = np.stack([to_channels(image, colour) for image in slices])
        if intensity == "z-score":
            return Levels(float(values.mean(dtype=np.float64)), invert(float(values.std(dtype=np.float64))))
        if isinstance(intensity, str):
            low, high = float(values.min()), float(values.max())
            return Levels(low, 255.0 * invert(high - low))
        low, high = (float(end) for end in np.percentile(values, intensity["percentiles"]))
        return Levels(low, 255.0 * invert(high - low), clip=True)
    centre, width = intensity["window"]
    return Levels(centre - width / 2, 255.0 / width, clip=True)


def invert(value: float) -> float:
    """Return 1 / value; 0 for 0."""
    return 1 / value if value else 0.0


def to_channels(image: Image, colour: str) -> npt.NDArray[np.float32]:
    """Return stored values as float32: (H, W) for a grey model, (H, W) or (H, W, 3) for one of colour."""
    # float32 throughout: a second rounding to 8 bits after the resize would cost 16-bit images their depth.
    values = image.astype(np.float32)
    return to_grey(values) if colour == "grey" else values


def to_pixels(image: Image, height: int, width: int, colour: str, levels: Levels) -> npt.NDArray[np.float32]:
    """Return an image as (height, width, C) float32 pixels, in 0…255 unless they are z-scores."""
    pixels = to_channels(image, colour)
    if levels.clip:  # before the resize, which would spread a bright value over its neighbours
        pixels = np.clip(pixels, levels.low, levels.low + 255.0 / levels.factor if levels.factor else levels.low)
    whole = not levels.clip and not (colour == "grey" and image.ndim == 3)  # a luma is no whole number
    pixels = resize_area(pixels, height, width, whole)
    if levels.low:
        pixels = pixels - np.float32(levels.low)
    pixels = pixels * np.float32(levels.factor)
    if colour == "rgb" and pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)  # (height, width, 3)
    return pixels.reshape(height, width, -1)


def to_values(pixels: npt.NDArray[np.float32], scale: Factor, offset: Factor, dtype: str) -> Tensor:
    """Return `pixel * scale + offset` in the model's input type; scale and offset may be one number a channel."""
    values = pixels * np.asarray(scale, np.float32) + np.asarray(offset, np.float32)
    if dtype != "float32":
        info = np.iinfo(dtype)
        values = np.clip(np.rint(values), info.min, info.max)
    return values.astype(dtype)
