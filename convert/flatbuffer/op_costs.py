"""What does each kind of operation cost in multiply-adds and in bytes of constants?"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from .read import Graph, Operation


@dataclass(frozen=True)
class OperationCost:
    """One kind of operation in a file: how many there are, their multiply-adds, and the bytes of their constants."""

    operation: str
    count: int
    macs: int
    constant_bytes: int


def sum_costs(graph: Graph) -> tuple[OperationCost, ...]:
    """Return the cost of each kind of operation, the most expensive first."""
    kinds: dict[str, list[Operation]] = {}
    for op in graph.operations:
        kinds.setdefault(op.name, []).append(op)
    costs = [
        OperationCost(
            name, len(ops), sum(count_macs(graph, op) for op in ops), sum(count_bytes(graph, op) for op in ops)
        )
        for name, ops in kinds.items()
    ]
    return tuple(sorted(costs, key=lambda cost: (-cost.macs, -cost.constant_bytes, cost.operation)))


def count_macs(graph: Graph, op: Operation) -> int:
    """Return the multiply-adds of an operation that has weights or multiplies matrices; 0 of the others."""
    shapes = [graph.tensors[i].shape if i >= 0 else () for i in op.inputs]
    made = prod(graph.tensors[op.outputs[0]].shape) if op.outputs else 0
    if op.name in ("CONV_2D", "FULLY_CONNECTED"):
        return made * prod(shapes[1][1:])  # (filters, ...): taps and channels for each number of the output
    if op.name == "DEPTHWISE_CONV_2D":
        return made * shapes[1][1] * shapes[1][2]
    if op.name == "TRANSPOSE_CONV":
        return prod(shapes[2]) * prod(shapes[1][:3])  # each number of the input meets every tap and filter
    if op.name == "CONV_3D":
        return made * prod(shapes[1][:4])
    if op.name == "CONV_3D_TRANSPOSE":
        return prod(shapes[2]) * prod(shapes[1][:4])
    if op.name == "BATCH_MATMUL":
        return made * shapes[0][-1]
    return 0


def count_bytes(graph: Graph, op: Operation) -> int:
    """Return the bytes of an operation's constants."""
    return sum(graph.tensors[i].constant_bytes for i in op.inputs if i >= 0)
