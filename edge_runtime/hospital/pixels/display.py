"""How are pixels brought into display orientation, and exactly back?"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .slice_source import Turn

Array = npt.NDArray[Any]  # (H, W) or (H, W, C)


def to_display(pixels: Array, turn: Turn) -> Array:
    """Return pixels in display orientation: transposed, then flipped."""
    transpose, flip_rows, flip_columns = turn
    pixels = pixels.swapaxes(0, 1) if transpose else pixels
    pixels = pixels[::-1] if flip_rows else pixels
    return np.ascontiguousarray(pixels[:, ::-1] if flip_columns else pixels)


def from_display(pixels: Array, turn: Turn) -> Array:
    """Return what `to_display` was given."""
    transpose, flip_rows, flip_columns = turn
    pixels = pixels[::-1] if flip_rows else pixels
    pixels = pixels[:, ::-1] if flip_columns else pixels
    return np.ascontiguousarray(pixels.swapaxes(0, 1) if transpose else pixels)
