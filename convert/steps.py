"""The steps in which int8 stands for the numbers of each tensor, and what kernels ask of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from .domain import CLAMPS, LAYERS, PINNED, SAME, Node, choose_integer
from .ranges import STEPS, Range
from .surgery import Model, Operator, listed, read_constant

PROBABILITY = (1 / 256, -128)  # the steps of what lies in [0, 1], as int8 kernels have them
# XNNPACK takes an operation if the scales of what it takes, over its result's, lie within: [least, most).
RATIOS = {"ADD": (2**-10, 2**8), "SUB": (2**-10, 2**8), "MUL": (2**-16, 2**8), "LEAKY_RELU": (2**-8, 2**7)}
RATIOS |= {"RELU": (2**-8, 2**7), "RELU6": (2**-8, 2**7), "MEAN": (2**-8, 2**8), "SUM": (2**-8, 2**8)}
RATIOS |= dict.fromkeys(LAYERS, (2**-32, 2**8))
SHARED = 4  # a tensor that something else takes too is not stretched further than this for a concatenation


@dataclass(frozen=True)
class Step:
    """How integers stand for numbers: x = (q - zero) * scale."""

    scale: float  # exactly a float32
    zero: int


def settle(
    model: Model, nodes: Sequence[Node], ranges: Mapping[int, Range], keep_float: Collection[str], integer_io: bool
) -> tuple[set[int], dict[int, Step]]:
    """Return which operations compute on integers, and the steps of their tensors.

    An operation whose scales are too far apart for the kernels goes back to float, and all is settled anew.
    """
    kept = set(keep_float)
    while True:
        chosen = choose_integer(model, nodes, kept, integer_io)
        steps = assign_steps(model, nodes, chosen, ranges, integer_io)
        apart = [node for node in nodes if node.index in chosen and not fits(model, node, steps)]
        if not apart:
            return chosen, steps
        kept |= {name for node in apart for name in node.names}


def assign_steps(
    model: Model, nodes: Sequence[Node], chosen: Collection[int], ranges: Mapping[int, Range], integer_io: bool
) -> dict[int, Step]:
    """Return the steps of every tensor that has a range; tensors that must share them do."""
    graph = model.subgraphs[0]
    given = {int(place) for place in graph.inputs}
    sigmoids = [node for node in nodes if node.index in chosen and node.kind in PINNED]
    pinned = {place: Step(*PINNED[node.kind]) for node in sigmoids for place in node.makes}
    if integer_io:
        pinned |= {place: to_step(ranges[place]) for place in given}
    users: dict[int, int] = {}
    for node in nodes:
        for place in node.takes:
            users[place] = users.get(place, 0) + 1
    groups = Groups(ranges, pinned)
    for node in nodes:
        if node.index in chosen and node.kind in SAME:
            join_tensors(model, groups, node, users)
    steps = {place: groups.step(place) for place in ranges}
    for node in nodes:  # a probability that is computed in float, and given as int8
        if node.kind in ("LOGISTIC", "SOFTMAX"):
            steps |= {place: Step(*PROBABILITY) for place in node.makes if place in {int(p) for p in graph.outputs}}
    return steps


@dataclass
class Groups:
    """Tensors that share their steps: of each group one stands for all, and knows the range and the pinned steps."""

    ranges: Mapping[int, Range]
    pinned: dict[int, Step]
    leader: dict[int, int] = field(default_factory=dict)
    joint: dict[int, Range] = field(default_factory=dict)

    def lead(self, place: int) -> int:
        """Return the tensor that stands for the group of one."""
        while self.leader.get(place, place) != place:
            place = self.leader[place]
        return place

    def range(self, place: int) -> Range:
        """Return the range of a tensor's group."""
        return self.joint.get(self.lead(place), self.ranges[self.lead(place)])

    def widen(self, place: int, other: Range) -> None:
        """Make a group's range hold another."""
        self.joint[self.lead(place)] = self.range(place).join(other)

    def join(self, one: int, other: int) -> None:
        """Make one group of two."""
        a, b = self.lead(one), self.lead(other)
        if a == b:
            return
        self.widen(a, self.range(b))
        self.leader[b] = a
        if b in self.pinned:
            self.pinned[a] = self.pinned[b]

    def step(self, place: int) -> Step:
        """Return the steps of a tensor."""
        leader = self.lead(place)
        return self.pinned[leader] if leader in self.pinned else to_step(self.range(leader))


def join_tensors(model: Model, groups: Groups, node: Node, users: Mapping[int, int]) -> None:
    """Join what an operation takes with what it makes, where that costs no tensor much of its precision."""
    made = node.makes[0]
    for place in node.makes[1:]:
        groups.join(made, place)
    alone = len(node.takes) == 1
    for place in node.takes:
        free = groups.lead(place) not in groups.pinned
        near = users[place] == 1 or groups.range(made).width <= SHARED * groups.range(place).width
        if alone or (free and near):
            groups.join(made, place)
    for place in listed(model.subgraphs[0].operators[node.index].inputs):
        values = read_constant(model, int(place))
        if values is not None and values.dtype == np.float32:
            groups.widen(made, Range(float(values.min()), float(values.max())))


def to_step(reach: Range) -> Step:
    """Return the steps of a range: 255 of them, with zero on one."""
    least, most = min(reach.least, 0.0), max(reach.most, 0.0)
    scale = float(np.float32((most - least) / STEPS)) or 1.0  # all zeros: any scale does
    return Step(scale, int(np.clip(np.rint(-128 - least / scale), -128, 127)))


def fits(model: Model, node: Node, steps: Mapping[int, Step]) -> bool:
    """Tell whether the kernels take an operation with these steps."""
    if node.kind not in RATIOS:
        return True
    op, made = model.subgraphs[0].operators[node.index], steps[node.makes[0]].scale
    if node.kind in CLAMPS and not clamps(node, steps):
        return False
    scales = [steps[place].scale for place in node.takes]
    if node.kind in LAYERS:
        weights = read_constant(model, int(op.inputs[LAYERS[node.kind][1]]))
        assert weights is not None
        scales = [scales[0] * float(np.abs(weights).max()) / 127]
    elif node.kind in ("ADD", "SUB", "MUL"):
        scales += [constant_step(model, place).scale for place in constant_floats(model, op)]
        scales = [scales[0] * scales[-1]] if node.kind == "MUL" else scales  # x * x takes one tensor
    elif node.kind == "LEAKY_RELU":
        scales.append(scales[0] * abs(op.builtinOptions.alpha))
    least, most = RATIOS[node.kind]
    return all((least <= scale / made or node.kind in LAYERS) and scale / made < most for scale in scales)


def clamps(node: Node, steps: Mapping[int, Step]) -> bool:
    """Tell whether the integers of a ReLU's result end where the ReLU does: a QUANTIZE to them is the ReLU."""
    step = steps[node.makes[0]]
    return step.zero == -128 and 255 * step.scale <= CLAMPS[node.kind] * (1 + 1e-6)


def constant_floats(model: Model, op: Operator) -> list[int]:
    """Return the float32 constants that an operation takes."""
    places = [int(place) for place in listed(op.inputs)]
    found = [(place, read_constant(model, place)) for place in places]
    return [place for place, values in found if values is not None and values.dtype == np.float32]


def constant_step(model: Model, place: int) -> Step:
    """Return the steps of a constant that is no weight: its own extremes."""
    values = read_constant(model, place)
    assert values is not None
    return to_step(Range(float(values.min()), float(values.max())))
