"""What is a loaded model, whatever file it came from? One image or volume in, all outputs out, ready to be traced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge_runtime.errors import ModelError

Call = Callable[[Any], Any]
CHANNELS = (1, 3)  # grey or colour: what an image file has


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to be traced."""

    name: str
    kind: str  # "keras" | "h5" | "saved_model"
    call: Call  # takes a tensor, returns the list of `outputs`
    root: Any  # owns the variables
    shape: tuple[int, ...]  # (H, W, C), or (D, H, W, C)
    dtype: str
    outputs: tuple[str, ...] = ("output",)  # their names, in the order in which `call` returns them
    layers: tuple[Any, ...] = ()  # all Keras layers, nested ones too; none for a SavedModel
    weights: int = 0  # how many numbers the model has
    notes: tuple[str, ...] = ()  # for the report
    keras2: bool = False  # its file is one of Keras 2


def fix_shape(what: str, shape: tuple[int | None, ...], size: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return (H, W, C) or (D, H, W, C) from a (batch, ...) shape, its open sides filled in from `size`.

    size: (H, W), or (D, H, W) for a model of volumes.
    Raises:
        ModelError: not an image or volume with 1 or 3 channels, an open side and no size, or a size that contradicts.
    """
    if len(shape) not in (4, 5):
        raise ModelError(what, f"its input has shape {format_shape(shape)}, not (batch, height, width, channels)")
    if shape[-1] not in CHANNELS:
        many = "an open number of" if shape[-1] is None else str(shape[-1])
        hint = "; is it (batch, channels, height, width)?" if shape[1] in (*CHANNELS, 4) else ""
        why = f"its input has shape {format_shape(shape)}, {many} channels{hint}"
        raise ModelError(what, why, "image files have 1 (grey) or 3 (colour): train it on one sequence, or on three")
    if shape[0] not in (None, 1):
        raise ModelError(what, f"its batch is fixed at {shape[0]}", "save it with an open batch or a batch of 1")
    names = ("depth", "height", "width")[-(len(shape) - 2) :]
    if size is not None and len(size) > len(names):
        raise ModelError(what, "it takes images, not volumes", "say --input-size HEIGHT WIDTH")
    asked: tuple[int | None, ...] = tuple(size or ())
    asked = (None,) * (len(names) - len(asked)) + asked  # (H, W) leaves the depth to the model
    sides = [fix_side(what, name, *pair) for name, *pair in zip(names, shape[1:-1], asked, strict=True)]
    return (*sides, int(shape[-1] or 0))


def fix_side(what: str, name: str, own: int | None, asked: int | None) -> int:
    """Return one side: the model's own, or the one asked for where that is open."""
    if own is None and asked is None:
        fix = f"say {'--depth DEPTH ' * (name == 'depth')}--input-size HEIGHT WIDTH"
        raise ModelError(what, f"its input's {name} is open", fix)
    if own is not None and asked is not None and own != asked:
        raise ModelError(what, f"its input's {name} is fixed at {own}, not {asked}", "leave --input-size out")
    return int(own if own is not None else asked or 0)


def format_shape(shape: tuple[int | None, ...]) -> str:
    """Return a shape as (batch, 64, 64, 3), with ? for an open side."""
    sides = ["batch" if shape[0] is None else str(shape[0]), *("?" if s is None else str(s) for s in shape[1:])]
    return f"({', '.join(sides)})"
