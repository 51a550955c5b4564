"""Is what a caller gave to `Session.segment` an image, or a volume; and if not, what is to be done with it?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.errors import ImageError
from edge_runtime.images.arrays import Image

READ_AS = (np.uint8, np.uint16)
PIXELS = "(H, W) or (H, W, 3) RGB, uint8 or uint16"


def take_image(given: Image | str | Path, depth: int | None) -> Image:
    """Return an image, read where its path is given; for a model of volumes of `depth` slices, such a volume.

    Raises: ImageError for an array that `read_image` would not return: its values would be read on a wrong scale.
    """
    if isinstance(given, (str, Path)):
        if depth is not None:
            wanted = f"give an array ({depth}, H, W), or ({depth}, H, W, 3), uint8 or uint16"
            raise ImageError(str(given), f"it is one image, this model takes volumes of {depth} slices", wanted)
        from edge_runtime.images.read import read_image

        return read_image(given)
    if not isinstance(given, np.ndarray):
        raise ImageError("image", f"it is of type {name_type(given)}", advise_object(given))
    if depth is None:
        check_image(given)
    else:
        check_volume(given, depth)
    return given


def name_type(given: object) -> str:
    """Return the name of a value's type, with its package."""
    kind = type(given)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def advise_object(given: object) -> str:
    """Return what makes an image of a value that is no array."""
    if isinstance(given, (bytes, bytearray, memoryview)):
        return f"give the file's path, or an array: {PIXELS}"
    if hasattr(given, "__array__"):  # Pillow, PyTorch, TensorFlow
        return f"give numpy.asarray(image), which has to be {PIXELS}"
    return f"give a path, or an array: {PIXELS}"


def check_image(image: Image) -> None:
    """Refuse an array that is no image."""
    shaped = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if not shaped or image.size == 0 or image.dtype not in READ_AS:
        raise ImageError("image", f"{image.dtype} of shape {image.shape}", advise_array(image, shaped))


def advise_array(image: Image, shaped: bool) -> str:
    """Return what makes an image of an array, where that can be told. shaped: its shape is right."""
    shape, advice = image.shape, f"give {PIXELS}"
    if image.size == 0:
        return f"{advice}; it has no pixels"
    if not shaped:
        if image.ndim in (3, 4) and shape[0] == 1:
            return f"{advice}: image[0]"
        if image.ndim == 3 and shape[2] in (1, 4):
            return f"{advice}: image[:, :, {0 if shape[2] == 1 else ':3'}]"
        if image.ndim == 3 and shape[0] == 3:
            return f"{advice}: numpy.moveaxis(image, 0, 2)"
        return advice
    if image.dtype == bool:
        return f"{advice}: image.astype(numpy.uint8) * 255"
    if np.issubdtype(image.dtype, np.floating) and image.min() >= 0 and image.max() <= 1:
        return f"{advice}: numpy.rint(image * 255).astype(numpy.uint8), as its values are 0 to 1"
    return f"{advice}: image.astype(numpy.uint16), if its values are 0 to 65535"


def check_volume(volume: Image, depth: int) -> None:
    """Refuse an array that is no volume of so many slices."""
    shaped = volume.ndim == 3 or (volume.ndim == 4 and volume.shape[3] == 3)
    if not shaped or volume.size == 0 or volume.dtype not in READ_AS:
        found = f"{volume.dtype} of shape {volume.shape}"
        raise ImageError("volume", found, f"this model takes ({depth}, H, W), or ({depth}, H, W, 3), uint8 or uint16")
    if volume.shape[0] != depth:
        why = f"it has {volume.shape[0]} slices, this model takes {depth}"
        raise ImageError("volume", why, "take as many in their order, or pad it with slices of zeros")


def check_sides(image: Any, sides: tuple[int, ...]) -> None:
    """Refuse an image of another size than a result's."""
    found = image.shape[: len(sides)]
    if found != sides:
        sizes = " × ".join(map(str, found)), " × ".join(map(str, sides))
        raise ImageError("image", f"it is {sizes[0]}, the result is {sizes[1]}", "give the image that was segmented")
