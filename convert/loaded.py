"""What every kind of model file is loaded into: one image in, one mask out, ready to be traced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from edge_runtime.errors import ModelError

Call = Callable[[Any], Any]


@dataclass
class Loaded:
    """A model ready to be traced: `call` takes and gives tensors; `root` owns the variables."""

    name: str
    kind: str  # "keras" | "h5" | "saved_model"
    call: Call
    root: Any
    shape: tuple[int, int, int]  # (H, W, C)
    dtype: str
    layers: list[Any] = field(default_factory=list)  # all Keras layers, nested ones too; none for a SavedModel
    weights: int = 0  # how many numbers the model has
    kernels: int = 0  # how many of them are in matrices and filters, which no folding can remove
    factor: float | None = None  # by which the graph's first step multiplies its input; None where it does not
    first: str = ""  # the graph's first operation, in words
    notes: list[str] = field(default_factory=list)


def count(shape: tuple[int, ...]) -> int:
    """Return the number of elements of an array of that shape."""
    total = 1
    for side in shape:
        total *= int(side)
    return total


def fix_shape(what: str, shape: tuple[int | None, ...], size: tuple[int, int] | None) -> tuple[int, int, int]:
    """Return (H, W, C) from a (batch, H, W, C) shape, its open sides filled in from `size`.

    Raises:
        ModelError: not an image with 1 or 3 channels, an open side and no size, or a size that contradicts a fixed one.
    """
    if len(shape) != 4 or shape[3] not in (1, 3):
        raise ModelError(what, f"its input has shape {shape}, not (batch, height, width, 1 or 3)")
    if shape[0] not in (None, 1):
        raise ModelError(what, f"its batch is fixed at {shape[0]}", "save it with an open batch or a batch of 1")
    sides = []
    for index, name in ((1, "height"), (2, "width")):
        asked, own = size[index - 1] if size else None, shape[index]
        if own is None and asked is None:
            raise ModelError(what, f"its input's {name} is open", "say --input-size HEIGHT WIDTH")
        if own is not None and asked is not None and own != asked:
            raise ModelError(what, f"its input's {name} is fixed at {own}, not {asked}", "leave --input-size out")
        sides.append(int(own if own is not None else asked or 0))
    return sides[0], sides[1], int(shape[3] or 0)
