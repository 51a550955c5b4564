"""A model file → something that can be called and traced; runs in the child process, after the archive was read.

Whatever the format, what comes out is one function from (1, H, W, C) to (1, h, w, K) with float32 arithmetic.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_runtime.errors import ModelError, UsageError

from .archive import CODE, PLAIN, Part, find_kind, first_line, read_parts, refuse_unsafe, unknown_part
from .loaded import Loaded, count, fix_shape
from .saved_graph import load_graph

HALF = ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16")


def load_model(path: Path, work: Path, size: tuple[int, int] | None = None, trust: str = "") -> Loaded:
    """Return the model at `path`, after refusing what could run code; `work` is a folder for a suffix that fits.

    Raises:
        ModelError: not a model, damaged, or not one image in and one mask out.
        UnsafeModelError: it could run code; nothing of it was executed.
    """
    kind = find_kind(path)
    if kind == "saved_model":
        return load_graph(path, size)
    parts = read_parts(path, kind)
    trusted = {} if not trust else read_trusted(trust)
    refuse_unsafe(path, parts, trust, trusted)
    check_legacy(path, parts, trusted)
    source = work / f"source.{kind}"  # Keras judges by the suffix, find_kind by the content
    source.symlink_to(path.resolve())
    with quiet_scope(trusted):
        model = to_float32(load_keras(path, source), path)
    return describe_keras(path, kind, model, size)


def read_trusted(module: str) -> dict[str, Any]:
    """Import the module that the user vouches for and return its classes and functions by name."""
    try:
        found = importlib.import_module(module)
    except Exception as error:  # whatever the module does on import is the user's to mend
        raise UsageError(f"--trust-custom {module}", f"it cannot be imported ({first_line(error)})") from error
    return {name: thing for name, thing in vars(found).items() if callable(thing) and not name.startswith("__")}


@contextmanager
def quiet_scope(trusted: dict[str, Any]) -> Iterator[None]:
    """Let Keras find the trusted classes, under their own names."""
    import keras

    own = {name: thing for name, thing in trusted.items() if not getattr(thing, "__module__", "").startswith("keras")}
    with keras.saving.custom_object_scope(own):
        yield


def check_legacy(path: Path, parts: list[Part], trusted: dict[str, Any]) -> None:
    """Name the unknown class of a file that gives no modules (HDF5), before Keras fails over it in many lines."""
    import keras

    rooms = (
        keras.layers,
        keras.models,
        keras.initializers,
        keras.regularizers,
        keras.constraints,
        keras.dtype_policies,
    )
    known = {name for room in rooms for name in dir(room)} | PLAIN | set(CODE) | {"Functional", "Model", "Sequential"}
    for part in parts:
        if part.module is None and not part.function and part.name not in known and part.short not in trusted:
            if part.name == "TFOpLambda" or hasattr(keras.ops, snake(part.name)):
                why = f"layer {part.layer!r} is the operation {part.name!r}, which an .h5 file cannot bring back"
                raise ModelError(str(path), why, "save the model as .keras")
            raise unknown_part(path, part)


def snake(name: str) -> str:
    """Return 'expand_dims' for 'ExpandDims'."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def load_keras(path: Path, source: Path) -> Any:
    """Return the Keras model, its errors as one line."""
    import keras

    try:
        return keras.saving.load_model(source, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises whatever its layers raise; the file is at fault, not this program
        raise ModelError(str(path), f"Keras cannot load it ({first_line(error)})", "save the model again") from error


def to_float32(model: Any, path: Path) -> Any:
    """Return the model under the float32 policy, with the same weights: bfloat16 graphs do not convert."""
    import keras
    import numpy as np

    if not any(is_half(layer) for layer in walk_layers(model)):
        return model
    try:
        rebuilt = keras.saving.deserialize_keras_object(widen(keras.saving.serialize_keras_object(model)))
        rebuilt.set_weights([np.asarray(weight).astype(np.float32) for weight in model.get_weights()])
    except Exception as error:
        raise ModelError(str(path), f"it cannot be rebuilt in float32 ({first_line(error)})") from error
    rebuilt.widened = True
    return rebuilt


def is_half(layer: Any) -> bool:
    """Tell whether a layer computes or keeps its weights in 16 bits."""
    policy = getattr(layer, "dtype_policy", None)
    return getattr(policy, "compute_dtype", "") in HALF or getattr(policy, "variable_dtype", "") in HALF


def widen(config: Any) -> Any:
    """Return a serialized model with every 16-bit type and policy replaced by float32."""
    if isinstance(config, dict):
        if config.get("class_name") in ("DTypePolicy", "FloatDTypePolicy"):
            return {**config, "config": {**config["config"], "name": "float32"}}
        return {k: "float32" if k == "dtype" and is_half_name(v) else widen(v) for k, v in config.items()}
    return [widen(item) for item in config] if isinstance(config, (list, tuple)) else config


def is_half_name(value: Any) -> bool:
    """Tell whether a config value names a 16-bit type."""
    return isinstance(value, str) and value in HALF


def walk_layers(model: Any) -> list[Any]:
    """Return the model and all layers in it, each once, however deep."""
    return list(model._flatten_layers(include_self=True, recursive=True))


def describe_keras(path: Path, kind: str, model: Any, size: tuple[int, int] | None) -> Loaded:
    """Return the loaded model after checking that it takes one image and gives one mask."""
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    if not inputs or not outputs:
        raise ModelError(str(path), "its input's shape is unknown", "build the model before saving it")
    for what, tensors in (("input", inputs), ("output", outputs)):
        if len(tensors) != 1:
            names = ", ".join(tensor.name for tensor in tensors)
            raise ModelError(str(path), f"it has {len(tensors)} {what}s ({names})", f"save a model with one {what}")
    dtype = str(inputs[0].dtype)
    weights = [tuple(weight.shape) for weight in model.weights]
    factor, first = read_first(model)

    structure = getattr(model, "_inputs_struct", None)  # a model built from a dict or list wants one back

    def call(x: Any) -> Any:
        y = model(wrap_input(structure, x), training=False)
        while isinstance(y, (list, tuple, dict)):  # one output in a list or dict
            y = next(iter(y.values())) if isinstance(y, dict) else y[0]
        return y

    return Loaded(
        name=str(model.name),
        kind=kind,
        call=call,
        root=model,
        shape=fix_shape(str(path), tuple(inputs[0].shape), size),
        dtype=dtype,
        layers=walk_layers(model),
        weights=sum(map(count, weights)),
        kernels=sum(count(shape) for shape in weights if len(shape) >= 2),
        factor=factor,
        first=first,
        notes=["rebuilt in float32 from a 16-bit policy"] if getattr(model, "widened", False) else [],
    )


def wrap_input(structure: Any, x: Any) -> Any:
    """Return x in the structure that the model was built with."""
    if isinstance(structure, dict):
        return dict.fromkeys(structure, x)
    return [x] if isinstance(structure, (list, tuple)) else x


def read_first(model: Any) -> tuple[float | None, str]:
    """Return the factor that the model's first layer applies to its input (None if none), and what layer that is.

    Rescaling and Normalization inside a model mean that it eats raw values; how large, the factor tells.
    """
    import numpy as np

    layer = find_first(model)
    kind, name = type(layer).__name__, str(getattr(layer, "name", ""))
    if kind == "Rescaling":
        return float(np.max(np.abs(layer.scale))), f"Rescaling layer {name!r}"
    if kind == "Normalization":
        return float(
            1 / np.sqrt(max(float(np.max(np.asarray(layer.variance))), 1e-12))
        ), f"Normalization layer {name!r}"
    return read_arithmetic(layer, kind), f"{kind} {name!r}"


def read_arithmetic(operation: Any, kind: str) -> float | None:
    """Return the factor of a first step such as `image / 127.5`; None where it is no product with one number."""
    if kind not in ("TrueDivide", "Divide", "Multiply"):
        return None
    numbers = [value for value in operation._inbound_nodes[0].arguments.args if isinstance(value, (int, float))]
    if len(numbers) != 1 or not numbers[0]:
        return None
    return abs(numbers[0]) if kind == "Multiply" else 1 / abs(numbers[0])


def find_first(model: Any) -> Any:
    """Return the first layer or operation that sees the model's input, looking into nested models."""
    graph = getattr(model, "_functional", None) or model
    start = graph.inputs[0]
    for operation in getattr(graph, "operations", graph.layers):
        if type(operation).__name__ == "InputLayer":
            continue
        if any(tensor is start for node in operation._inbound_nodes for tensor in node.input_tensors):
            return find_first(operation) if getattr(operation, "inputs", None) else operation
    return None
