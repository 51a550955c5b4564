"""Does a model expect its input in 0...255 or in 0...1? Runs in the child process.

Rescaling, Normalization and arithmetic at the graph's start mean that the model has its own preprocessing. Factor and
offset show how large the values are that it expects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from convert.source.loaded_model import LoadedModel

from .traced_graph import TracedGraph, find_layer, read_constant

RAW_FACTOR = 1 / 16  # a graph that begins with this factor or a smaller one expects 0...255, not 0...1
RAW_OFFSET = 4.0  # so does one that begins with this offset or a larger one, in units of its input
PASSING = ("Identity", "Cast", "ReverseV2", "StridedSlice", "GatherV2")  # change type or order of channels
ARITHMETIC = ("Mul", "AddV2", "Sub", "RealDiv", "BiasAdd")


@dataclass(frozen=True)
class InputArithmetic:
    """The arithmetic at a graph's start, input * factor + offset: the largest of both over the channels."""

    factor: float
    offset: float
    where: str  # the layers or operations, "" for none

    @property
    def raw(self) -> bool:
        """Whether it is meant for values up to 255."""
        return self.factor <= RAW_FACTOR or self.offset >= RAW_OFFSET * self.factor


def choose_scale(loaded: LoadedModel, graph: TracedGraph) -> tuple[float, float, str]:
    """Return scale and offset of the input, and why, so that the model's own preprocessing is not done twice."""
    if loaded.dtype == "uint8":
        return 1.0, 0.0, "the model eats 0...255 (uint8)"
    layers = {str(layer.name): type(layer).__name__ for layer in loaded.layers if not hasattr(layer, "layers")}
    first = read_arithmetic(graph, layers)
    if first.where and first.raw:
        return 1.0, 0.0, f"the model scales 0...255 itself ({first.where})"
    if first.where:
        return 1 / 255, 0.0, f"the model's own {first.where} takes 0...1"
    return 1 / 255, 0.0, "no scaling found in the model, so 0...1"


def read_arithmetic(graph: TracedGraph, layers: dict[str, str]) -> InputArithmetic:
    """Return the arithmetic with constants at the graph's start, up to the first operation of another kind."""
    factor, offset, tensor = np.ones(1), np.zeros(1), graph.input
    where: list[str] = []
    while True:
        users = [operation for operation in tensor.consumers() if operation.type != "Shape"]
        operation = join_channels(users) or (users[0] if len(users) == 1 else None)
        if operation is None or operation.type not in (*PASSING, *ARITHMETIC, "Pack", "ConcatV2"):
            break
        if operation.type in ARITHMETIC:
            pair = read_factor(graph, operation, tensor)
            if pair is None:
                break
            factor, offset = factor * pair[0], offset * pair[0] + pair[1]
            where.append(format_operation(operation, layers))
        elif operation.type in PASSING and operation.inputs[0] is not tensor:
            break
        tensor = operation.outputs[0]
    words = " and ".join(dict.fromkeys(where))
    return InputArithmetic(float(np.abs(factor).max()), float(np.abs(offset).max()), words)


def join_channels(users: Sequence[Any]) -> Any:
    """Return the operation that joins slices of one tensor again, as in a change from RGB to BGR; else None."""
    joins = [after for user in users for after in user.outputs[0].consumers() if user.type in ("StridedSlice", "Split")]
    same = len(users) > 1 and len(joins) == len(users) and len({join.name for join in joins}) == 1
    return joins[0] if same and joins[0].type in ("Pack", "ConcatV2") else None


def read_factor(graph: TracedGraph, operation: Any, tensor: Any) -> tuple[Any, Any] | None:
    """Return (factor, offset) of one arithmetic operation on `tensor`; None where it has no small constant."""
    left, right = operation.inputs
    constant = read_constant(graph, right if left is tensor else left)
    if constant is None or constant.size > 64 or constant.dtype.kind not in "fiu":
        return None
    values = constant.astype(np.float64).reshape(-1)
    if operation.type == "Mul":
        return values, 0.0
    if operation.type == "RealDiv":
        return (1 / values, 0.0) if left is tensor and values.all() else None
    if operation.type == "Sub":
        return (1.0, -values) if left is tensor else (-1.0, values)
    return 1.0, values


def format_operation(operation: Any, layers: dict[str, str]) -> str:
    """Return the Keras layer of an operation, such as "Rescaling layer 'rescaling'", or the operation itself."""
    name = find_layer(operation.name, layers)
    return f"{layers[name]} layer {name!r}" if name else f"{operation.type} {operation.name!r}"
