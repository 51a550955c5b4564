"""Which operations of a float32 graph compute on integers?

Layers with weights do, as far as int8 kernels exist (3-D convolutions have none). Of the others, those that LiteRT's
XNNPACK delegate computes in int8, and those that only move numbers. Measured between two convolutions at 56 x 56 x 64,
time with the operation in float over time in int8: RELU6 0.25 (1 as the clamping QUANTIZE that this package writes),
hard swish 0.37, squared difference 0.35, softmax 0.66, average pooling 0.73, GELU 0.89, whose int8 kernels lie outside
the delegate and are slow, so they stay float; sigmoid, tanh, ELU, LeakyReLU and products 0.99 to 1.07, sums 1.1, and
operations that move numbers (concatenation, padding, shuffles, resizing, maxima) 1.05 to 1.2.

An operation without weights computes on integers where a user of its output does, and where that converts fewer numbers
between the types than computing in float would. So the arithmetic of a normalization is not split into int8 and float
parts, and the last sigmoid keeps its float precision.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from convert.flatbuffer.edit import Model, kind_of, name_tensor, read_constant, shape_of, to_list, type_of

# Where a layer's input, weights and bias are among its inputs.
LAYERS = {
    "CONV_2D": (0, 1, 2),
    "DEPTHWISE_CONV_2D": (0, 1, 2),
    "FULLY_CONNECTED": (0, 1, 2),
    "TRANSPOSE_CONV": (2, 1, 3),
}
# Operations whose output has a scale of its own.
OWN_SCALE = {"ADD", "SUB", "MUL", "MEAN", "SUM", "LEAKY_RELU", "ELU", "RELU", "RELU6"}
# Those of them that a QUANTIZE computes by clamping to the output's range: the upper bound.
CLAMPS = {"RELU": float("inf"), "RELU6": 6.0}
# Operations that move or select numbers: output and inputs must have the same scale.
SHARED_SCALE = {"CONCATENATION", "PAD", "MIRROR_PAD", "MAX_POOL_2D", "REDUCE_MAX", "RESHAPE", "SQUEEZE", "EXPAND_DIMS"}
SHARED_SCALE |= {"TRANSPOSE", "DEPTH_TO_SPACE", "SPACE_TO_DEPTH", "SLICE", "STRIDED_SLICE", "SPLIT", "TILE", "GATHER"}
SHARED_SCALE |= {"RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"}
# Operations whose kernels require this (scale, zero point) of their output.
FIXED_SCALE = {"LOGISTIC": (1 / 256, -128), "TANH": (1 / 128, 0)}
KINDS = {*LAYERS, *OWN_SCALE, *SHARED_SCALE, *FIXED_SCALE}


@dataclass(frozen=True)
class Node:
    """One operation of a graph."""

    op_index: int
    kind: str
    names: frozenset[str]  # of its weights and of its outputs: by any of them keep_float may name it
    inputs: tuple[int, ...]  # indices of the computed tensors, without constants
    outputs: tuple[int, ...]
    supported: bool  # it could compute on integers


def read_nodes(model: Model) -> tuple[Node, ...]:
    """Return the main graph's operations, in order."""
    return tuple(read_node(model, index) for index in range(len(model.subgraphs[0].operators)))


def read_node(model: Model, op_index: int) -> Node:
    """Return one operation."""
    op, tensors = model.subgraphs[0].operators[op_index], model.subgraphs[0].tensors
    kind, inputs = kind_of(model, op), [int(index) for index in to_list(op.inputs)]
    computed = [index for index in inputs if index >= 0 and read_constant(model, index) is None]
    outputs = tuple(int(index) for index in to_list(op.outputs))
    floats = all(type_of(model, index) == "FLOAT32" for index in (*computed, *outputs))
    static = all(-1 not in to_list(tensors[index].shapeSignature) for index in (*computed, *outputs))
    supported = kind in KINDS and floats and static and bool(computed) and bool(outputs)
    named = list(outputs)
    if kind in LAYERS:
        supported = supported and computed == [inputs[LAYERS[kind][0]]] and has_constants(model, kind, inputs)
        named.append(inputs[LAYERS[kind][1]])
    names = frozenset(name_tensor(model, index) for index in named)
    return Node(op_index, kind, names, tuple(dict.fromkeys(computed)), outputs, supported)


def has_constants(model: Model, kind: str, inputs: Sequence[int]) -> bool:
    """Return whether a layer's weights are float32 constants, and its bias, if it has one, is constant too."""
    _, weights, slot = LAYERS[kind]
    bias = inputs[slot] if len(inputs) > slot else -1
    values = read_constant(model, inputs[weights])
    return values is not None and values.dtype == np.float32 and (bias < 0 or read_constant(model, bias) is not None)


def choose_integer(model: Model, nodes: Sequence[Node], keep_float: Collection[str], integer_io: bool) -> set[int]:
    """Return the indices of the operations that compute on integers.

    keep_float: names of weights or results, or kinds of operations. integer_io: the graph's own input and output are
    integers.
    """
    chosen = {node.op_index for node in nodes if node.supported and not {*node.names, node.kind} & set(keep_float)}
    maker = {index: node.op_index for node in nodes for index in node.outputs}
    users: dict[int, list[int]] = {}
    for node in nodes:
        for index in node.inputs:
            users.setdefault(index, []).append(node.op_index)
    outputs = {int(index) for index in model.subgraphs[0].outputs} if integer_io else set()

    def stays(node: Node) -> bool:
        return node.kind in LAYERS or saves_conversions(model, node, chosen, maker, users, outputs, integer_io)

    while left := {node.op_index for node in nodes if node.op_index in chosen and not stays(node)}:
        chosen -= left
    return chosen


def saves_conversions(
    model: Model, node: Node, chosen: Collection[int], maker: Mapping[int, int], users: Mapping[int, list[int]],
    integer_outputs: Collection[int], integer_io: bool,
) -> bool:  # fmt: skip
    """Return whether an operation without weights has integer users, and integers need fewer conversions than floats.

    Computed on integers, its float inputs and the outputs that have float users are converted; in float, the others.
    Where both are equal, only an operation that moves numbers gains by integers: it moves a quarter of the bytes.
    """
    in_integers = in_float = 0
    wanted = False
    for index in node.inputs:
        numbers = prod(shape_of(model, index))
        integer = maker[index] in chosen if index in maker else integer_io
        in_integers, in_float = (in_integers, in_float + numbers) if integer else (in_integers + numbers, in_float)
    graph_outputs = {int(index) for index in model.subgraphs[0].outputs}
    for index in node.outputs:
        numbers, own = prod(shape_of(model, index)), users.get(index, ())
        integers = index in integer_outputs or any(user in chosen for user in own)
        floats = (index in graph_outputs and index not in integer_outputs) or any(user not in chosen for user in own)
        in_float, in_integers = in_float + numbers * integers, in_integers + numbers * floats
        wanted |= integers
    return wanted and (in_integers < in_float or (in_integers == in_float and node.kind in SHARED_SCALE))
