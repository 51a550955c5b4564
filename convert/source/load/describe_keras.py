"""What does a loaded Keras model take and answer, and what is changed in it so that it can be traced?"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

from convert.source.loaded_model import LoadedModel, fix_shape, format_shape
from edge_runtime.errors import ModelError

from .volumes import rewrite_volumes

MAX_UNROLLED_STEPS = 64  # of a recurrent layer
SCOPE = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.-]*")


def describe_keras(path: Path, kind: str, model: Any, size: tuple[int, ...] | None) -> LoadedModel:
    """Return the loaded model after checking that it takes one image or volume."""
    layers = walk_layers(model)
    refuse_layers(path, layers)
    structure, shape, dtype = find_input(path, model)
    shape = fix_shape(str(path), shape, size)
    unroll_loops(layers)
    name, renamed = str(model.name), rename_layers(layers)
    notes = [f"rebuilt in float32 from {model.rebuilt_from}"] if getattr(model, "rebuilt_from", "") else []
    if len(shape) == 4:
        notes += rewrite_volumes(layers)

    def call(x: Any) -> list[Any]:
        return [leaf for _, leaf in flatten(model(wrap_input(structure, x), training=False))]

    return LoadedModel(
        name=name,
        kind=kind,
        call=call,
        root=model,
        shape=shape,
        dtype=dtype,
        outputs=tuple(renamed.get(own, own) for own in name_outputs(model, structure, shape, dtype)),
        layers=tuple(layers),
        weights=sum(prod(weight.shape) for weight in model.weights),
        notes=tuple(notes),
    )


def walk_layers(model: Any) -> list[Any]:
    """Return the model and all layers in it at any depth, each once."""
    return list(model._flatten_layers(include_self=True, recursive=True))


def refuse_layers(path: Path, layers: Sequence[Any]) -> None:
    """Raise ModelError for a layer that TFLite cannot express, which the converter would report in many lines."""
    for layer in layers:
        name = f"layer {layer.name!r} ({type(layer).__name__})"
        if getattr(layer, "data_format", "") == "channels_first":
            why = f"{name} is channels_first, (batch, channels, height, width), which TFLite has not"
            raise ModelError(str(path), why, "build it with channels_last, (batch, height, width, channels)")
        if getattr(layer, "quantization_mode", None):
            why = f"{name} is quantized already ({layer.quantization_mode})"
            raise ModelError(str(path), why, "save the model before model.quantize(...)")


def rename_layers(layers: Sequence[Any]) -> dict[str, str]:
    """Give layers names that are scopes of a graph, which knows no spaces; return {new name: old name}.

    Source: tensorflow/python/framework/ops.py, _VALID_SCOPE_NAME_REGEX; a node's name has no "\\" either.
    """
    renamed: dict[str, str] = {}
    taken = {str(layer.name) for layer in layers}
    for layer in layers:
        old = str(layer.name)
        if SCOPE.fullmatch(old):
            continue
        plain = to_scope(old).replace(":", "_")
        new = next(
            one for one in itertools.chain([plain], (f"{plain}_{i}" for i in itertools.count(1))) if one not in taken
        )
        layer.name = new
        renamed[new] = old
        taken.add(new)
        for variable in layer.variables:  # which were named after their layers
            found: Any = getattr(variable, "_value", None)
            if hasattr(found, "_handle_name"):
                found._handle_name = "/".join(to_scope(part) for part in found._handle_name.split("/"))
    return renamed


def to_scope(name: str) -> str:
    """Return a name as a scope of a graph."""
    return re.sub(r"[^A-Za-z0-9_.:-]", "_", name).lstrip("_-") or "layer"


def unroll_loops(layers: Sequence[Any]) -> None:
    """Make recurrent layers unroll their few steps: a loop is a subgraph, which no delegate supports.

    This is decided in the call, where the number of steps is known.
    """
    for layer in layers:
        if getattr(layer, "unroll", None) is not False or not hasattr(layer, "inner_loop"):
            continue

        def loop(*args: Any, layer: Any = layer, own: Any = layer.inner_loop, **kwargs: Any) -> Any:
            steps = (args[0] if args else kwargs["sequences"]).shape[1]
            layer.unroll = steps is not None and int(steps) <= MAX_UNROLLED_STEPS
            return own(*args, **kwargs)

        object.__setattr__(layer, "inner_loop", loop)


def find_input(path: Path, model: Any) -> tuple[Any, tuple[int | None, ...], str]:
    """Return the structure of a model's input, its shape (batch, ...) and its type.

    Raises:
        ModelError: it has several inputs, or was never built.
    """
    inputs = getattr(model, "inputs", None)
    if inputs and len(inputs) > 1:
        names = ", ".join(f"{tensor.name} {format_shape(tuple(tensor.shape))}" for tensor in inputs)
        raise ModelError(str(path), f"it has {len(inputs)} inputs ({names})", "save a model with one input, the image")
    if inputs:
        return getattr(model, "_inputs_struct", None), tuple(inputs[0].shape), str(inputs[0].dtype)
    # A subclassed model knows only the shape that it was built with.
    shapes = list((getattr(model, "_build_shapes_dict", None) or {}).values())
    if len(shapes) != 1 or not is_shape(shapes[0]):
        why = "its input's shape is unknown" if not shapes else f"it was built with {len(shapes)} inputs"
        raise ModelError(str(path), why, "call the model once on one image before saving it")
    return None, tuple(shapes[0]), "float32"


def is_shape(shape: Any) -> bool:
    """Return whether this is one tensor's shape."""
    return isinstance(shape, (list, tuple)) and all(side is None or isinstance(side, int) for side in shape)


def wrap_input(structure: Any, x: Any) -> Any:
    """Return x in the structure that the model was built with."""
    if isinstance(structure, dict):
        return dict.fromkeys(structure, x)
    return [x] if isinstance(structure, (list, tuple)) else x


def flatten(structure: Any, name: str = "") -> list[tuple[str, Any]]:
    """Return [(key, tensor)] of a model's outputs, however nested; the key is "" outside dictionaries."""
    if isinstance(structure, dict):
        return [found for key, inner in structure.items() for found in flatten(inner, str(key))]
    if isinstance(structure, (list, tuple)):
        return [found for inner in structure for found in flatten(inner, name)]
    return [(name, structure)]


def name_outputs(model: Any, inputs: Any, shape: tuple[int, ...], dtype: str) -> tuple[str, ...]:
    """Return the outputs' unique names: keys of a dictionary, else layers, else numbers."""
    import tensorflow as tf

    structure = getattr(model, "_outputs_struct", None)
    if structure is None:  # a subclassed model
        called = tf.function(lambda x: model(wrap_input(inputs, x), training=False))
        try:
            structure = called.get_concrete_function(tf.TensorSpec((1, *shape), dtype)).structured_outputs
        except Exception:  # whatever its layers raise: tracing the graph will say it, with the sizes that fit
            return ("output",)
    names: list[str] = []
    for index, (key, tensor) in enumerate(flatten(structure)):
        history = getattr(tensor, "_keras_history", None)
        name = key or (str(history.operation.name) if history else f"output_{index}")
        names.append(name if name not in names else f"{name}_{index}")
    return tuple(names)
