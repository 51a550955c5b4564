"""Why can a model not be traced at a size, and which sizes does it take? Runs in the child process.

Some sizes are tried, by tracing: not all layers check shapes when they are called symbolically.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

from convert.source.load.keras_model import find_line
from convert.source.loaded_model import LoadedModel, format_shape
from edge_runtime.errors import EdgeSegError, ModelError

STEPS = (2, 4, 8, 16, 32, 64)  # of sizes to try: each level of an encoder halves them
SHOWN_SHAPES = 4


def explain_trace(what: str, loaded: LoadedModel, error: Exception) -> EdgeSegError:
    """Return the error for a model that cannot be traced: the layer, the shapes that it got, and which sizes fit."""
    if isinstance(error, EdgeSegError):
        return error
    if loaded.kind == "saved_model":
        return ModelError(what, f"it cannot be traced at {format_size(loaded.shape)} ({find_line(error)})")
    own = try_shape(loaded, loaded.shape, autograph=False) or error
    why = f"{describe_place(own)}{find_line(own)}"
    if not (sides := find_open_sides(loaded)):
        return ModelError(what, f"it cannot be traced ({why})")
    found = find_step(loaded, sides)
    why = f"it does not take an input of {format_size(loaded.shape)} ({why})"
    if found is None:
        return ModelError(what, why, "say another --input-size")
    step, nearest = found
    return ModelError(what, why, f"sizes that are multiples of {step} fit: say {format_option(nearest)}")


def format_size(shape: Sequence[int]) -> str:
    """Return the sides of (H, W, C) or (D, H, W, C) as 65 x 50."""
    return " x ".join(str(side) for side in shape[:-1])


def format_option(shape: Sequence[int]) -> str:
    """Return the options that ask for a shape's size."""
    *depth, height, width, _ = shape
    return f"{f'--depth {depth[0]} ' if depth else ''}--input-size {height} {width}"


def find_open_sides(loaded: LoadedModel) -> tuple[int, ...]:
    """Return which sides of (H, W, C) or (D, H, W, C) the model leaves open; none where that is not known."""
    inputs = getattr(loaded.root, "inputs", None)
    shape = tuple(inputs[0].shape)[1:-1] if inputs else ()
    return tuple(i for i, side in enumerate(shape) if side is None)


def try_shape(loaded: LoadedModel, shape: Sequence[int], autograph: bool = True) -> Exception | None:
    """Return what tracing the model at this shape raises; None if it works.

    Without `autograph`, an error keeps its traceback through the layers.
    """
    import keras
    import tensorflow as tf

    filtered = keras.config.is_traceback_filtering_enabled()
    keras.config.disable_traceback_filtering()
    try:
        spec = tf.TensorSpec((1, *shape), loaded.dtype)
        tf.function(loaded.call, autograph=autograph).get_concrete_function(spec)
    except Exception as error:  # layers raise any kind
        return error
    finally:
        if filtered:
            keras.config.enable_traceback_filtering()
    return None


def find_step(loaded: LoadedModel, sides: Sequence[int]) -> tuple[int, tuple[int, ...]] | None:
    """Return the smallest step whose multiples next to the size all fit, and the nearest of these; None for none."""
    for step in STEPS:
        near = list(list_multiples(loaded.shape, sides, step))
        if all(try_shape(loaded, shape) is None for shape in near):
            return step, min(near, key=lambda shape: measure_distance(shape, loaded.shape))
    return None


def list_multiples(shape: Sequence[int], sides: Sequence[int], step: int) -> Iterator[tuple[int, ...]]:
    """Yield shapes with the open sides at the multiples of a step below and above."""
    below = {side: max(shape[side] // step, 1) * step for side in sides}
    for ends in product(*((below[side], below[side] + step) for side in sides)):
        changed = dict(zip(sides, ends, strict=True))
        yield tuple(changed.get(i, own) for i, own in enumerate(shape))


def measure_distance(shape: Sequence[int], other: Sequence[int]) -> int:
    """Return by how many pixels the sides of two shapes differ."""
    return sum(abs(a - b) for a, b in zip(shape, other, strict=True))


def describe_place(error: Exception) -> str:
    """Return the innermost layer in an error's traceback and the shapes that it got: "layer 'up' (Add) got ...: "."""
    import keras

    found, trace = "", error.__traceback__
    while trace is not None:
        local = trace.tb_frame.f_locals
        layer = local.get("self")
        if isinstance(layer, keras.Operation) and not isinstance(layer, keras.Model):
            given = [local[key] for key in ("args", "inputs", "input_shape", "x", "kwargs") if key in local]
            shapes = " and ".join(format_shape(one) for one in list_shapes(given)[:SHOWN_SHAPES])
            if shapes or not found.startswith(f"layer {layer.name!r}"):
                found = f"layer {layer.name!r} ({type(layer).__name__}){f' got {shapes}' if shapes else ''}: "
        trace = trace.tb_next
    return found


def list_shapes(value: Any) -> list[tuple[Any, ...]]:
    """Return the shapes of the tensors in arguments, each once."""
    if isinstance(value, (list, tuple)) and value and all(one is None or isinstance(one, int) for one in value):
        return [tuple(value)] if len(value) > 1 else []
    inner = list(value.values()) if isinstance(value, dict) else value
    if isinstance(inner, (list, tuple)):
        return list(dict.fromkeys(shape for one in inner for shape in list_shapes(one)))
    shape = getattr(inner, "shape", None)
    return [tuple(shape)] if shape is not None and len(shape) else []
