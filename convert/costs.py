"""What each kind of operation costs: multiplications and the bytes of its weights."""

from __future__ import annotations

from dataclasses import dataclass

from .flatbuffer import Graph, Operation


@dataclass(frozen=True)
class Cost:
    """One kind of operation in a file: how many there are, their multiply-adds, and the bytes of their constants."""

    operation: str
    count: int
    macs: int
    constant_bytes: int


def sum_costs(graph: Graph) -> tuple[Cost, ...]:
    """Return the cost of each kind of operation, the most expensive first."""
    kinds: dict[str, list[Operation]] = {}
    for op in graph.operations:
        kinds.setdefault(op.name, []).append(op)
    costs = [
        Cost(name, len(ops), sum(count_macs(graph, op) for op in ops), sum(count_bytes(graph, op) for op in ops))
        for name, ops in kinds.items()
    ]
    return tuple(sorted(costs, key=lambda cost: (-cost.macs, -cost.constant_bytes, cost.operation)))


def count_macs(graph: Graph, op: Operation) -> int:
    """Return the multiply-adds of an operation: of those that have weights, or multiply matrices; 0 of the others."""
    shapes = [graph.tensors[i].shape if i >= 0 else () for i in op.inputs]
    made = product(graph.tensors[op.outputs[0]].shape) if op.outputs else 0
    if op.name in ("CONV_2D", "FULLY_CONNECTED"):
        return made * product(shapes[1][1:])  # (filters, ...): taps and channels for each number made
    if op.name == "DEPTHWISE_CONV_2D":
        return made * shapes[1][1] * shapes[1][2]
    if op.name == "TRANSPOSE_CONV":
        return product(shapes[2]) * product(shapes[1][:3])  # each number of the input meets every tap and filter
    if op.name == "CONV_3D":
        return made * product(shapes[1][:4])
    if op.name == "CONV_3D_TRANSPOSE":
        return product(shapes[2]) * product(shapes[1][:4])
    if op.name == "BATCH_MATMUL":
        return made * shapes[0][-1]
    return 0


def count_bytes(graph: Graph, op: Operation) -> int:
    """Return the bytes of an operation's constants."""
    return sum(graph.tensors[i].constant_bytes for i in op.inputs if i >= 0)


def product(sides: tuple[int, ...]) -> int:
    """Return the product of the sides; 1 of none."""
    total = 1
    for side in sides:
        total *= side
    return total
