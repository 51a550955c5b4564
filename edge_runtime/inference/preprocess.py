"""How does an image become the model's input tensor, in training, calibration, benchmarks and on the device alike?

The image is as it was read: 8 or 16 bit, grey or colour, any size. Training imports this file, so that the net's inputs
on the device are those it was trained on.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge_runtime.images.arrays import Image, full_scale

Tensor = npt.NDArray[Any]  # (1, H, W, C), float32 unless the contract says otherwise

# ITU-R BT.601 luma, as in OpenCV's and Pillow's conversions to grey.
LUMA = (0.299, 0.587, 0.114)


def to_grey(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return (H, W) from (H, W) or (H, W, 3): BT.601 luma."""
    if image.ndim == 2:
        return image
    return image @ np.array(LUMA, np.float32)


def resize_area(image: npt.NDArray[np.float32], height: int, width: int) -> npt.NDArray[np.float32]:
    """Stretch to (height, width): area means along an axis that shrinks, linear along one that grows.

    The axes are done one after the other because OpenCV's area mode averages only when both shrink.
    """
    for axis, side in ((0, height), (1, width)):
        if image.shape[axis] == side:
            continue
        how = cv2.INTER_AREA if image.shape[axis] > side else cv2.INTER_LINEAR
        size = (image.shape[1], side) if axis == 0 else (side, image.shape[0])  # cv2 wants (width, height)
        image = np.asarray(cv2.resize(image, size, interpolation=how), np.float32)
    return image


def to_tensor(
    image: Image,
    height: int,
    width: int,
    colour: str = "grey",
    scale: float = 1 / 255,
    offset: float = 0.0,
    dtype: str = "float32",
) -> Tensor:
    """Return the (1, height, width, C) tensor of an image, C = 1 for colour "grey" and 3 for "rgb".

    Pixels are brought to 0…255 by `full_scale`, stretched by `resize_area`, then `pixel * scale + offset`. An integer
    dtype ("uint8", "int8") is rounded to nearest even and clipped to its range.
    """
    pixels = to_pixels(image, height, width, colour, full_scale(image))
    return to_values(pixels, scale, offset, dtype)[None]


def to_volume(
    volume: Image,
    height: int,
    width: int,
    colour: str = "grey",
    scale: float = 1 / 255,
    offset: float = 0.0,
    dtype: str = "float32",
) -> Tensor:
    """Return the (1, D, height, width, C) tensor of a volume, (D, H, W) or (D, H, W, 3), each slice as an image.

    White is one value for all slices: a dark slice stays dark.
    """
    white = full_scale(volume)
    slices = [to_pixels(image, height, width, colour, white) for image in volume]
    return to_values(np.stack(slices), scale, offset, dtype)[None]


def to_pixels(image: Image, height: int, width: int, colour: str, white: float) -> npt.NDArray[np.float32]:
    """Return an image as (height, width, C) float32 in 0…255, where `white` is 255."""
    # float32 throughout: a second rounding to 8 bits after the resize would cost 16-bit images their depth.
    pixels = image.astype(np.float32)
    if colour == "grey":
        pixels = to_grey(pixels)
    pixels = resize_area(pixels, height, width)
    pixels = pixels * np.float32(255.0 / white)
    if colour == "rgb" and pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)  # (height, width, 3)
    return pixels.reshape(height, width, -1)


def to_values(pixels: npt.NDArray[np.float32], scale: float, offset: float, dtype: str) -> Tensor:
    """Return `pixel * scale + offset` in the model's input type."""
    values = pixels * np.float32(scale) + np.float32(offset)
    if dtype != "float32":
        info = np.iinfo(dtype)
        values = np.clip(np.rint(values), info.min, info.max)
    return values.astype(dtype)
