"""Which operations of a float32 graph compute on integers, and what their tensors have in common.

Layers with weights do, as far as int8 kernels exist (3-D convolutions have none). Of the others, those that LiteRT's
XNNPACK delegate computes in int8, and those that only move numbers. Measured between two convolutions at 56 x 56 x 64,
time with a float island over time in int8: RELU6 0.25 (as the clamping QUANTIZE that it is written as here, 1), hard
swish 0.37, squared difference 0.35, softmax 0.66, average pooling 0.73, GELU 0.89, whose int8 kernels lie outside the
delegate and are slow, so they stay float; sigmoid, tanh, ELU, LeakyReLU and products 0.99 to 1.07, sums 1.1, and what
moves numbers (concatenation, padding, shuffles, resizing, maxima) 1.05 to 1.2.

An operation without weights computes on integers where something that takes its result does, and where that converts
fewer numbers from one to the other than computing in float would. So the arithmetic of a normalization is not torn
apart by a few steps in int8, and the last sigmoid keeps its float precision.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .surgery import Model, kind_of, listed, name_of, read_constant, shape_of

# Where a layer finds its input, weights and bias among what it takes.
LAYERS = {
    "CONV_2D": (0, 1, 2),
    "DEPTHWISE_CONV_2D": (0, 1, 2),
    "FULLY_CONNECTED": (0, 1, 2),
    "TRANSPOSE_CONV": (2, 1, 3),
}
# Operations whose result has steps of its own.
OWN = {"ADD", "SUB", "MUL", "MEAN", "SUM", "LEAKY_RELU", "ELU", "RELU", "RELU6"}
# Of those, what integers that end where the result ends do by themselves.
CLAMPS = {"RELU": float("inf"), "RELU6": 6.0}
# Operations that move numbers or pick from them: result and inputs must have the same steps.
SAME = {"CONCATENATION", "PAD", "MIRROR_PAD", "MAX_POOL_2D", "REDUCE_MAX", "RESHAPE", "SQUEEZE", "EXPAND_DIMS"}
SAME |= {"TRANSPOSE", "DEPTH_TO_SPACE", "SPACE_TO_DEPTH", "SLICE", "STRIDED_SLICE", "SPLIT", "TILE", "GATHER"}
SAME |= {"RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"}
# Operations whose kernels want certain steps of their result: (scale, zero point).
PINNED = {"LOGISTIC": (1 / 256, -128), "TANH": (1 / 128, 0)}
KINDS = {*LAYERS, *OWN, *SAME, *PINNED}


@dataclass(frozen=True)
class Node:
    """One operation: its place in the graph, the computed float32 tensors that it takes, and what it makes."""

    index: int
    kind: str
    names: frozenset[str]  # of its weights and of its results: what keep_float may call it by
    takes: tuple[int, ...]
    makes: tuple[int, ...]
    able: bool


def read_nodes(model: Model) -> tuple[Node, ...]:
    """Return the main graph's operations, in order."""
    return tuple(read_node(model, index) for index in range(len(model.subgraphs[0].operators)))


def read_node(model: Model, index: int) -> Node:
    """Return one operation; `able`: it could compute on integers."""
    op, tensors = model.subgraphs[0].operators[index], model.subgraphs[0].tensors
    kind, inputs = kind_of(model, op), [int(place) for place in listed(op.inputs)]
    computed = [place for place in inputs if place >= 0 and read_constant(model, place) is None]
    makes = tuple(int(place) for place in listed(op.outputs))
    floats = all(name_of("TensorType", tensors[place].type) == "FLOAT32" for place in (*computed, *makes))
    static = all(-1 not in listed(tensors[place].shapeSignature) for place in (*computed, *makes))
    able = kind in KINDS and floats and static and bool(computed) and bool(makes)
    named = list(makes)
    if kind in LAYERS:
        able = able and computed == [inputs[LAYERS[kind][0]]] and has_constants(model, kind, inputs)
        named.append(inputs[LAYERS[kind][1]])
    names = frozenset((tensors[place].name or b"").decode(errors="replace") for place in named)
    return Node(index, kind, names, tuple(dict.fromkeys(computed)), makes, able)


def has_constants(model: Model, kind: str, inputs: Sequence[int]) -> bool:
    """Tell whether a layer's weights are constant numbers, and its bias too, if it has one."""
    _, weights, bias = LAYERS[kind]
    given = inputs[bias] if len(inputs) > bias else -1
    values = read_constant(model, inputs[weights])
    if values is None or values.dtype != np.float32:
        return False
    return given < 0 or read_constant(model, given) is not None


def choose_integer(model: Model, nodes: Sequence[Node], keep_float: Collection[str], integer_io: bool) -> set[int]:
    """Return the indices of the operations that compute on integers.

    keep_float: names of weights or results, or kinds of operations. integer_io: the graph's own input and output are
    integers.
    """
    chosen = {node.index for node in nodes if node.able and not {*node.names, node.kind} & set(keep_float)}
    maker = {place: node.index for node in nodes for place in node.makes}
    takers: dict[int, list[int]] = {}
    for node in nodes:
        for place in node.takes:
            takers.setdefault(place, []).append(node.index)
    outputs = {int(place) for place in model.subgraphs[0].outputs} if integer_io else set()

    def stays(node: Node) -> bool:
        return node.kind in LAYERS or pays(model, node, chosen, maker, takers, outputs, integer_io)

    while left := {node.index for node in nodes if node.index in chosen and not stays(node)}:
        chosen -= left
    return chosen


def pays(
    model: Model, node: Node, chosen: Collection[int], maker: Mapping[int, int], takers: Mapping[int, list[int]],
    outputs: Collection[int], integer_io: bool,
) -> bool:  # fmt: skip
    """Tell whether an operation without weights is wanted in integers, and converts fewer numbers there than in float.

    In integers, what comes as floats is converted, and what is wanted as floats; in float, the others. Where both are
    as many, only what moves numbers is better off in integers, of which there are four times fewer bytes.
    """
    in_integers = in_float = 0
    wanted = False
    for place in node.takes:
        numbers = count(shape_of(model, place))
        comes = maker[place] in chosen if place in maker else integer_io
        in_integers, in_float = (in_integers, in_float + numbers) if comes else (in_integers + numbers, in_float)
    for place in node.makes:
        numbers, users = count(shape_of(model, place)), takers.get(place, ())
        integers = place in outputs or any(user in chosen for user in users)
        floats = (place in given_out(model) and place not in outputs) or any(user not in chosen for user in users)
        in_float, in_integers = in_float + numbers * integers, in_integers + numbers * floats
        wanted |= integers
    return wanted and (in_integers < in_float or (in_integers == in_float and node.kind in SAME))


def given_out(model: Model) -> set[int]:
    """Return the places of what the graph gives."""
    return {int(place) for place in model.subgraphs[0].outputs}


def count(shape: Sequence[int]) -> int:
    """Return how many numbers a tensor holds."""
    total = 1
    for side in shape:
        total *= side
    return total
