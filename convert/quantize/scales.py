"""Which scale and zero point does each int8 tensor get, and which of them do the kernels support?"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from convert.flatbuffer.edit import MIN_WEIGHT, Model, Operator, read_constant, to_list

from .activation_ranges import LEVELS, Range
from .integer_ops import CLAMPS, FIXED_SCALE, LAYERS, SHARED_SCALE, Node, choose_integer

PROBABILITY_SCALE = (1 / 256, -128)  # of numbers in [0, 1], as in int8 kernels
# XNNPACK supports an operation if the scales of its inputs, divided by its output's, lie within: [low, high).
RATIOS = {"ADD": (2**-10, 2**8), "SUB": (2**-10, 2**8), "MUL": (2**-16, 2**8), "LEAKY_RELU": (2**-8, 2**7)}
RATIOS |= {"RELU": (2**-8, 2**7), "RELU6": (2**-8, 2**7), "MEAN": (2**-8, 2**8), "SUM": (2**-8, 2**8)}
RATIOS |= dict.fromkeys(LAYERS, (2**-32, 2**8))
MAX_STRETCH = 4  # how much wider the range of a tensor with several users may become for a shared scale


@dataclass(frozen=True)
class QuantParams:
    """A tensor's quantization: x = (q - zero_point) * scale."""

    scale: float  # exactly a float32
    zero_point: int


def choose_parameters(
    model: Model, nodes: Sequence[Node], ranges: Mapping[int, Range], keep_float: Collection[str], integer_io: bool
) -> tuple[set[int], dict[int, QuantParams]]:
    """Return which operations compute on integers, and {tensor index: its quantization parameters}.

    An operation whose scales are too far apart for the kernels stays float, and all is chosen again without it.
    """
    kept = set(keep_float)
    while True:
        chosen = choose_integer(model, nodes, kept, integer_io)
        params = assign_params(model, nodes, chosen, ranges, integer_io)
        apart = [node for node in nodes if node.op_index in chosen and not is_supported(model, node, params)]
        if not apart:
            return chosen, params
        kept |= {name for node in apart for name in node.names}


def assign_params(
    model: Model, nodes: Sequence[Node], chosen: Collection[int], ranges: Mapping[int, Range], integer_io: bool
) -> dict[int, QuantParams]:
    """Return the parameters of every tensor that has a range; tensors that must share them do."""
    graph = model.subgraphs[0]
    sigmoids = [node for node in nodes if node.op_index in chosen and node.kind in FIXED_SCALE]
    fixed = {index: QuantParams(*FIXED_SCALE[node.kind]) for node in sigmoids for index in node.outputs}
    if integer_io:
        fixed |= {int(index): to_params(ranges[int(index)]) for index in graph.inputs}
    users: dict[int, int] = {}
    for node in nodes:
        for index in node.inputs:
            users[index] = users.get(index, 0) + 1
    groups = ScaleGroups(ranges, fixed)
    for node in nodes:
        if node.op_index in chosen and node.kind in SHARED_SCALE:
            join_tensors(model, groups, node, users)
    params = {index: groups.find_params(index) for index in ranges}
    graph_outputs = {int(index) for index in graph.outputs}
    for node in nodes:  # a probability that is computed in float and returned as int8
        if node.kind in ("LOGISTIC", "SOFTMAX"):
            params |= {index: QuantParams(*PROBABILITY_SCALE) for index in node.outputs if index in graph_outputs}
    return params


@dataclass
class ScaleGroups:
    """Tensors that share a scale: each group has a leader, under which its range and fixed parameters are kept."""

    ranges: Mapping[int, Range]
    fixed: dict[int, QuantParams]
    leader: dict[int, int] = field(default_factory=dict)
    joint: dict[int, Range] = field(default_factory=dict)

    def find_leader(self, index: int) -> int:
        """Return the leader of a tensor's group."""
        while self.leader.get(index, index) != index:
            index = self.leader[index]
        return index

    def range(self, index: int) -> Range:
        """Return the range of a tensor's group."""
        return self.joint.get(self.find_leader(index), self.ranges[self.find_leader(index)])

    def widen(self, index: int, other: Range) -> None:
        """Extend a group's range to hold another."""
        self.joint[self.find_leader(index)] = self.range(index).join(other)

    def join(self, one: int, other: int) -> None:
        """Merge two groups."""
        a, b = self.find_leader(one), self.find_leader(other)
        if a == b:
            return
        self.widen(a, self.range(b))
        self.leader[b] = a
        if b in self.fixed:
            self.fixed[a] = self.fixed[b]

    def find_params(self, index: int) -> QuantParams:
        """Return the parameters of a tensor."""
        leader = self.find_leader(index)
        return self.fixed[leader] if leader in self.fixed else to_params(self.range(leader))


def join_tensors(model: Model, groups: ScaleGroups, node: Node, users: Mapping[int, int]) -> None:
    """Give an operation's inputs and outputs one scale, where that costs no tensor much of its precision."""
    output = node.outputs[0]
    for index in node.outputs[1:]:
        groups.join(output, index)
    alone = len(node.inputs) == 1
    for index in node.inputs:
        free = groups.find_leader(index) not in groups.fixed
        near = users[index] == 1 or groups.range(output).width <= MAX_STRETCH * groups.range(index).width
        if alone or (free and near):
            groups.join(output, index)
    for index in find_constant_inputs(model, model.subgraphs[0].operators[node.op_index]):
        groups.widen(output, find_extremes(model, index))


def to_params(span: Range) -> QuantParams:
    """Return the parameters of a range: 255 steps, zero exactly representable."""
    low, high = min(span.low, 0.0), max(span.high, 0.0)
    # All zeros, or what counts as zeros: any scale is right.
    scale = float(np.float32((high - low) / LEVELS)) if high - low >= MIN_WEIGHT else 1.0
    return QuantParams(scale, int(np.clip(np.rint(-128 - low / scale), -128, 127)))


def is_supported(model: Model, node: Node, params: Mapping[int, QuantParams]) -> bool:
    """Return whether the kernels support an operation with these parameters."""
    if node.kind not in RATIOS:
        return True
    op, output = model.subgraphs[0].operators[node.op_index], params[node.outputs[0]].scale
    if node.kind in CLAMPS and not clamps(node, params):
        return False
    scales = [params[index].scale for index in node.inputs]
    if node.kind in LAYERS:
        weights = read_constant(model, int(op.inputs[LAYERS[node.kind][1]]))
        assert weights is not None
        scales = [scales[0] * float(np.abs(weights).max()) / 127]
    elif node.kind in ("ADD", "SUB", "MUL"):
        scales += [find_constant_params(model, index).scale for index in find_constant_inputs(model, op)]
        scales = [scales[0] * scales[-1]] if node.kind == "MUL" else scales  # x * x has one input
    elif node.kind == "LEAKY_RELU":
        scales.append(scales[0] * abs(op.builtinOptions.alpha))
    low, high = RATIOS[node.kind]
    return all((low <= scale / output or node.kind in LAYERS) and scale / output < high for scale in scales)


def clamps(node: Node, params: Mapping[int, QuantParams]) -> bool:
    """Return whether the int8 range of a ReLU's output ends where the ReLU clamps, so that QUANTIZE is the ReLU."""
    own = params[node.outputs[0]]
    return own.zero_point == -128 and 255 * own.scale <= CLAMPS[node.kind] * (1 + 1e-6)


def find_constant_inputs(model: Model, op: Operator) -> list[int]:
    """Return the tensor indices of an operation's float32 constants."""
    found = [(int(index), read_constant(model, int(index))) for index in to_list(op.inputs)]
    return [index for index, values in found if values is not None and values.dtype == np.float32]


def find_constant_params(model: Model, index: int) -> QuantParams:
    """Return the parameters of a constant other than weights: those of its extremes."""
    return to_params(find_extremes(model, index))


def find_extremes(model: Model, index: int) -> Range:
    """Return the range of a constant."""
    values = read_constant(model, index)
    assert values is not None
    return Range(float(values.min()), float(values.max()))
