"""What do the first and last operations of a model's traced graph show? Runs in the child process."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from convert.source.loaded_model import Call, LoadedModel

CALLS = {"PartitionedCall", "StatefulPartitionedCall"}
FOLDED: dict[str, Callable[..., Any]] = {
    "Sqrt": np.sqrt,
    "Rsqrt": lambda x: 1 / np.sqrt(x),
    "Neg": np.negative,
    "Reciprocal": np.reciprocal,
}
FOLDED |= {"Maximum": np.maximum, "Minimum": np.minimum, "AddV2": np.add, "Sub": np.subtract, "Mul": np.multiply}
FOLDED |= {"RealDiv": np.divide, "Square": np.square}
# Ops whose result holds the values of their first input, or bounds them.
MOVING = {"Identity", "StopGradient", "Reshape", "Squeeze", "ExpandDims", "ResizeNearestNeighbor", "ResizeBilinear"}
MOVING |= {"DepthToSpace", "Transpose", "StridedSlice", "Slice", "Cast", "Tile", "Mean", "Max", "Min", "MaxPool"}
MOVING |= {"AvgPool", "MaxPool3D", "AvgPool3D", "BroadcastTo", "GatherV2", "ReadVariableOp", "MirrorPad", "SplitV"}
Range = tuple[float, float]


@dataclass(frozen=True)
class TracedGraph:
    """The flat graph of a model's call."""

    input: Any  # symbolic, like the outputs
    outputs: Sequence[Any]
    captured: dict[str, Any]  # {placeholder's name: the constant or variable that it stands for}
    run: Call  # returns the outputs for a tensor, as `LoadedModel.call` does, but compiled


def trace_graph(loaded: LoadedModel) -> TracedGraph:
    """Return the graph of a model at batch 1 and its static shape."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    spec = tf.TensorSpec((1, *loaded.shape), loaded.dtype)
    concrete = tf.function(loaded.call, input_signature=[spec]).get_concrete_function()
    if any(skip_moving(tensor).type in CALLS for tensor in concrete.outputs):
        # A SavedModel's signature is a call of a call of a function; freezing flattens it.
        concrete = convert_variables_to_constants_v2(concrete)
    variables = {id(variable.handle): variable for variable in concrete.graph.variables}
    captured = {inner.name: variables.get(id(outer), outer) for outer, inner in concrete.graph.captures}
    return TracedGraph(concrete.inputs[0], concrete.outputs, captured, concrete)


def skip_moving(tensor: Any) -> Any:
    """Return the operation that computed a tensor's values, without those after it that only move them."""
    operation = tensor.op
    while operation.type in MOVING | {"Split"}:
        operation = operation.inputs[1 if operation.type == "Split" else 0].op
    return operation


def walk_back(graph: TracedGraph, indices: Iterable[int]) -> Iterator[Any]:
    """Yield the operations that some outputs depend on, each once."""
    seen: set[str] = set()
    todo = [graph.outputs[index].op for index in indices]
    while todo:
        operation = todo.pop()
        if operation.name not in seen:
            seen.add(operation.name)
            todo += [tensor.op for tensor in operation.inputs]
            yield operation


def count_kernels(graph: TracedGraph, indices: Iterable[int]) -> int:
    """Return how many numbers are in the matrices and filters that some outputs depend on; folding keeps them all."""
    total = 0
    for operation in walk_back(graph, indices):
        if operation.type in ("Const", "Placeholder") and operation.outputs[0] is not graph.input:
            values = read_constant(graph, operation.outputs[0])
            # Filters of one repeated number are folded, such as a new layer's scale of ones.
            if values is not None and values.ndim >= 2 and values.dtype.kind == "f" and np.ptp(values) > 0:
                total += values.size
    return total


def find_layer(scope: str, layers: Collection[str]) -> str:
    """Return the innermost Keras layer that a scope such as 'net_1/up_1/conv' names, "" for none.

    Tracing numbers scopes: the layer 'up' may be there as 'up_1'.
    """
    for segment in reversed(scope.split("/")):
        for name in (re.sub(r"_\d+$", "", segment), segment):
            if name in layers:
                return name
    return ""


def read_constant(graph: TracedGraph, tensor: Any) -> npt.NDArray[Any] | None:
    """Return the value of a tensor that does not depend on the input; None where it does, or the kind is not known."""
    operation = tensor.op
    if operation.type == "Const":
        import tensorflow as tf

        return np.asarray(tf.get_static_value(tensor))
    if operation.type == "Placeholder":
        outer: Any = graph.captured.get(tensor.name)
        return np.asarray(outer) if hasattr(outer, "numpy") and outer.dtype.name != "resource" else None
    if operation.type in ("Identity", "ReadVariableOp", "Squeeze", "Reshape", "ExpandDims", "Cast"):
        return read_constant(graph, operation.inputs[0])
    if operation.type not in FOLDED:
        return None
    values = [read_constant(graph, one) for one in operation.inputs]
    return None if any(value is None for value in values) else np.asarray(FOLDED[operation.type](*values))


def find_range(graph: TracedGraph, tensor: Any, depth: int = 0) -> Range:
    """Return bounds of a tensor's values for any input; infinite where nothing is known."""
    operation, kind = tensor.op, tensor.op.type
    if kind in ("Sigmoid", "Softmax"):
        return 0.0, 1.0
    if kind == "Tanh":
        return -1.0, 1.0
    constant = read_constant(graph, tensor)
    if constant is not None and constant.size and constant.dtype.kind in "fiu":
        return float(constant.min()), float(constant.max())
    if depth > 30:
        return -math.inf, math.inf
    data = [one for one in operation.inputs if one.dtype.is_floating]
    ranges = [find_range(graph, one, depth + 1) for one in data]
    if kind in MOVING | {"Split", "Unpack"} and ranges:
        return ranges[0]
    if kind in ("Pad", "PadV2", "ConcatV2", "Pack") and ranges:
        ranges += [(0.0, 0.0)] * (kind == "Pad")
        return min(low for low, _ in ranges), max(high for _, high in ranges)
    return combine(kind, ranges)


def combine(kind: str, ranges: Sequence[Range]) -> Range:
    """Return the bounds of an arithmetic operation's result from those of its inputs."""
    lows, highs = [low for low, _ in ranges], [high for _, high in ranges]
    if kind in ("Relu", "Relu6") and ranges:
        return max(lows[0], 0.0), min(max(highs[0], 0.0), 6.0 if kind == "Relu6" else math.inf)
    if kind == "ClipByValue" and len(ranges) == 3:
        return max(lows[0], lows[1]), min(highs[0], highs[2])
    if kind in ("AddV2", "Add", "AddN"):
        return sum(lows), sum(highs)
    if kind == "Sub":
        return lows[0] - highs[1], highs[0] - lows[1]
    if kind in ("Maximum", "Minimum"):
        choose = max if kind == "Maximum" else min
        return choose(lows), choose(highs)
    if kind == "RealDiv" and lows[1] > 0:
        return combine("Mul", [ranges[0], (1 / highs[1], 1 / lows[1])])
    if kind == "Mul":
        corners = [0.0 if 0 in (a, b) else a * b for a in ranges[0] for b in ranges[1]]
        return min(corners), max(corners)
    return -math.inf, math.inf
