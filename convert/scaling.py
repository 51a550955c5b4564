"""What a model does to its input first, and so whether it eats 0...255 or 0...1; runs in the child process.

Rescaling, Normalization and arithmetic at the graph's start mean that the model has its own preprocessing: how large
the values are that it expects, the factor and the offset tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .graph import Graph, find_layer, read_constant
from .loaded import Loaded

RAW_FACTOR = 1 / 16  # a graph that begins by shrinking its input this much eats 0...255, not 0...1
RAW_OFFSET = 4.0  # so does one that takes off this much or more, in units of its input
PASSING = ("Identity", "Cast", "ReverseV2", "StridedSlice", "GatherV2")  # order of channels, type: no arithmetic
ARITHMETIC = ("Mul", "AddV2", "Sub", "RealDiv", "BiasAdd")


@dataclass(frozen=True)
class First:
    """The arithmetic at a graph's start, input * factor + offset, the greatest over the channels; and where it is."""

    factor: float
    offset: float
    where: str  # the layers or operations, "" for none

    @property
    def raw(self) -> bool:
        """Whether it only makes sense for values up to 255."""
        return self.factor <= RAW_FACTOR or self.offset >= RAW_OFFSET * self.factor


def choose_scale(loaded: Loaded, graph: Graph) -> tuple[float, float, str]:
    """Return scale and offset of the input, and why: the model's own preprocessing is not to be done twice."""
    if loaded.dtype == "uint8":
        return 1.0, 0.0, "the model eats 0...255 (uint8)"
    layers = {str(layer.name): type(layer).__name__ for layer in loaded.layers if not hasattr(layer, "layers")}
    first = read_first(graph, layers)
    if first.where and first.raw:
        return 1.0, 0.0, f"the model scales 0...255 itself ({first.where})"
    if first.where:
        return 1 / 255, 0.0, f"the model's own {first.where} takes 0...1"
    return 1 / 255, 0.0, "no scaling found in the model, so 0...1"


def read_first(graph: Graph, layers: dict[str, str]) -> First:
    """Return what the graph does to its input as long as that is arithmetic with constants, and alone."""
    factor, offset, tensor = np.ones(1), np.zeros(1), graph.input
    where: list[str] = []
    while True:
        users = [operation for operation in tensor.consumers() if operation.type != "Shape"]
        operation = join_channels(users) or (users[0] if len(users) == 1 else None)
        if operation is None or operation.type not in (*PASSING, *ARITHMETIC, "Pack", "ConcatV2"):
            break
        if operation.type in ARITHMETIC:
            step = read_step(graph, operation, tensor)
            if step is None:
                break
            factor, offset = factor * step[0], offset * step[0] + step[1]
            where.append(name_place(operation, layers))
        elif operation.type in PASSING and operation.inputs[0] is not tensor:
            break
        tensor = operation.outputs[0]
    words = " and ".join(dict.fromkeys(where))
    return First(float(np.abs(factor).max()), float(np.abs(offset).max()), words)


def join_channels(users: Sequence[Any]) -> Any:
    """Return the operation that joins slices of one tensor again, as a change from RGB to BGR does; else None."""
    joins = [after for user in users for after in user.outputs[0].consumers() if user.type in ("StridedSlice", "Split")]
    same = len(users) > 1 and len(joins) == len(users) and len({join.name for join in joins}) == 1
    return joins[0] if same and joins[0].type in ("Pack", "ConcatV2") else None


def read_step(graph: Graph, operation: Any, tensor: Any) -> tuple[Any, Any] | None:
    """Return (factor, offset) of one arithmetic operation on `tensor`; None where it is none with small constants."""
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


def name_place(operation: Any, layers: dict[str, str]) -> str:
    """Return the Keras layer of an operation, such as "Rescaling layer 'rescaling'", or the operation itself."""
    name = find_layer(operation.name, layers)
    return f"{layers[name]} layer {name!r}" if name else f"{operation.type} {operation.name!r}"
