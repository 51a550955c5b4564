"""Which values does a model expect at its input? Runs in the child process.

Evidence is arithmetic with constants (Rescaling, Normalization, an application's own preprocessing) that the input
reaches through operations that keep its values' range, on any road through the graph. Its numbers say which values it
is made for. Weights that were learned, such as a batch normalization's, say nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from convert.source.loaded_model import LoadedModel
from convert.source.process import ConversionRequest
from edge_runtime.contract.fields import Factor, IntensityRule

from .traced_graph import TracedGraph, find_layer, read_constant

Numbers = npt.NDArray[np.float64]  # one, or one for each channel
Span = tuple[float, float]
KEEPING = {"Identity", "StopGradient", "Cast", "Reshape", "Squeeze", "ExpandDims", "Transpose", "Tile", "BroadcastTo"}
KEEPING |= {"StridedSlice", "Slice", "Split", "SplitV", "Unpack", "GatherV2", "ReverseV2", "Pad", "PadV2", "MirrorPad"}
KEEPING |= {"ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic", "ResizeArea", "ScaleAndTranslate"}
KEEPING |= {"ImageProjectiveTransformV3", "MaxPool", "AvgPool", "MaxPool3D", "AvgPool3D", "Mean", "Max", "Min"}
KEEPING |= {"SpaceToDepth", "DepthToSpace", "SpaceToBatchND", "BatchToSpaceND", "ClipByValue", "Roll", "EnsureShape"}
LIMITING = {"Maximum", "Minimum", "Relu"}
BRANCHES = {"If", "StatelessIf"}
INTEGERS = (3, 9)  # int32 and int64. Source: tensorflow/core/framework/types.proto
JOINING = {"ConcatV2", "Pack"}
ARITHMETIC = {"Mul", "AddV2", "Add", "Sub", "RealDiv", "BiasAdd"}
ASIDE = {"Shape", "Size", "Rank", "Assert"}  # no road: they pass no values on
# Values that images have: as fractions, centred, of 8 bits, 12 bits and 16 bits.
SPANS: tuple[Span, ...] = ((0, 1), (-1, 1), (0, 255), (0, 4095), (0, 65535))
TARGETS: tuple[Span, ...] = ((0, 1), (-1, 1), (-0.5, 0.5), (0, 255))  # what preprocessing makes of them
PLAIN = 1e-3
TOLERANCE = 0.02  # of a span's width: 1 / 256 stands for 1 / 255
TOLD_TOLERANCE = 0.1  # the same for what the user says
# Values within a span have a standard deviation of at most half its width. Source: Popoviciu's inequality.
MIN_DEVIATION, MAX_DEVIATION = 0.01, 0.5
STANDARDIZED: tuple[Span, ...] = ((0, 1), (0, 255), (-1, 1))  # which span a mean and a deviation stand for
PIXELS = 255.0


@dataclass(frozen=True)
class Road:
    """The arithmetic on one road from the input: input * factor + offset, and the layers that compute it."""

    factor: Numbers = field(default_factory=lambda: np.ones(1))
    offset: Numbers = field(default_factory=lambda: np.zeros(1))
    where: tuple[str, ...] = ()
    span: Span | None = None  # the values that it is made for: of its longest part that fits some

    @property
    def key(self) -> tuple[bytes, bytes]:
        """What makes two roads the same."""
        return self.factor.tobytes(), self.offset.tobytes()

    @property
    def plain(self) -> bool:
        """Whether it says nothing: it leaves the input as it is, or adds a number that is no mean, as before a log."""
        return bool((np.abs(self.factor - 1) < PLAIN).all() and (self.span is None or not self.offset.any()))

    def __str__(self) -> str:
        return " and ".join(dict.fromkeys(self.where))


@dataclass(frozen=True)
class InputScaling:
    """How pixels become the model's input, where that comes from, and what contradicts it."""

    scale: Factor
    offset: Factor
    source: str  # one of the contract's SCALE_SOURCES
    why: str
    conflict: str = ""


def choose_scaling(request: ConversionRequest, loaded: LoadedModel, graph: TracedGraph) -> InputScaling:
    """Return the input's scale and offset: what the user says, what the graph proves, else 0…1 as most code trains.

    `conflict` is set where roads want different values, a constant fits no known ones, or the user says otherwise.
    """
    roads = find_roads(loaded, graph)
    proven, conflict = (0.0, PIXELS) if loaded.dtype == "uint8" else None, ""
    where = "its input, which is uint8," if proven else ""
    for road in roads:
        if road.span is None:
            continue
        if proven is not None and proven != road.span:
            conflict = f"{where} takes {format_span(proven)}, {road} takes {format_span(road.span)}"
        else:
            proven, where = road.span, where or str(road)
    unknown = next((road for road in roads if road.span is None), None)
    if is_told(request):
        told = find_told(request, proven)
        if proven is not None and not conflict and not agrees(told, request.intensity, proven):
            said = "z-scores" if request.intensity == "z-score" else describe_told(told)
            conflict = f"the contract's settings give it {said}, but {where} takes {format_span(proven)}"
        source = request.scale_from or "told"
        why = "as the contract file says" if source == "told" else "as the masks show"
        return InputScaling(told[0], told[1], source, why, conflict)
    if unknown is not None and not conflict:
        conflict = f"{unknown} computes {format_road(unknown)}, which fits no known range of values"
    if proven is None:
        return InputScaling(1 / PIXELS, 0.0, "assumed", "assumed: nothing in the model says, so 0…1", conflict)
    low, high = proven
    why = f"proved: {where} takes {format_span(proven)}"
    return InputScaling((high - low) / PIXELS, float(low), "graph", why, conflict)


def is_told(request: ConversionRequest) -> bool:
    """Return whether the user says what the input's values are."""
    return any(given is not None for given in (request.scale, request.offset, request.intensity))


def find_told(request: ConversionRequest, proven: Span | None) -> tuple[Factor, Factor]:
    """Return the user's scale and offset; what is not said is as the graph proves, or as usual."""
    if request.intensity == "z-score":
        low, scale = 0.0, 1.0
    else:
        low, high = proven or (0.0, 1.0)
        scale = (high - low) / PIXELS
    offset = request.offset if request.offset is not None else 0.0 if request.scale is not None else low
    return request.scale if request.scale is not None else scale, offset


def agrees(told: tuple[Factor, Factor], intensity: IntensityRule | None, proven: Span) -> bool:
    """Return whether what the user says gives the model the values that its graph takes."""
    if intensity == "z-score":
        return False
    scale, offset = (np.asarray(one, np.float64) for one in told)
    ends, width = (offset, PIXELS * scale + offset), proven[1] - proven[0]
    return all(
        bool((np.abs(end - right) <= TOLD_TOLERANCE * width).all()) for end, right in zip(ends, proven, strict=True)
    )


def describe_told(told: tuple[Factor, Factor]) -> str:
    """Return the values that the user's scale and offset give."""
    scale, offset = (np.asarray(one, np.float64) for one in told)
    return f"values from {offset.min():.6g} to {(PIXELS * scale + offset).max():.6g}"


def find_span(factor: Numbers, offset: Numbers) -> Span | None:
    """Return the values that input * factor + offset is made for; None where it fits none."""
    for span in SPANS:
        ends = np.sort([factor * end + offset for end in span], axis=0)  # negative factors invert
        for target in TARGETS:
            width = target[1] - target[0]
            if target == (-0.5, 0.5) and span[0] < 0:
                continue  # half of -1…1 is no preprocessing that is in use
            if target == span and (factor > 0).all():
                continue  # nearly nothing, such as a small mean taken off: only an inversion keeps the values
            if all((np.abs(end - right) <= TOLERANCE * width).all() for end, right in zip(ends, target, strict=True)):
                return span
    if not factor.all() or not offset.any():
        return None
    mean, deviation = -offset / factor, 1 / np.abs(factor)
    only_mean = bool((factor == 1).all())
    for low, high in STANDARDIZED[:2] if only_mean else STANDARDIZED:
        width = high - low
        # Of a mean alone nothing says the deviation, but black images have no preprocessing.
        share = mean / width / 2 if only_mean else deviation / width
        within = (mean > low) & (mean < high) & (share >= MIN_DEVIATION) & (share <= MAX_DEVIATION)
        if within.all():
            return low, high
    return None


def find_roads(loaded: LoadedModel, graph: TracedGraph) -> list[Road]:
    """Return the different arithmetic on all roads from the input, each up to the first operation of another kind."""
    layers = {str(layer.name): type(layer).__name__ for layer in loaded.layers if not hasattr(layer, "layers")}
    at: dict[str, Road] = {graph.input.name: Road()}
    ends: dict[tuple[bytes, bytes], Road] = {}
    for operation in graph.input.graph.get_operations():  # each stands behind those that it uses
        roads = [at[one.name] for one in operation.inputs if one.name in at]
        if not roads or operation.type in ASIDE:
            continue
        road = advance(graph, operation, at, layers)
        if road is None:
            ends |= {one.key: one for one in roads if not one.plain and one.key not in ends}
        else:
            at |= {tensor.name: road for tensor in operation.outputs}
    return list(ends.values())


def advance(graph: TracedGraph, operation: Any, at: dict[str, Road], layers: dict[str, str]) -> Road | None:
    """Return the road behind an operation; None where it ends there."""
    if operation.type in KEEPING:
        data = operation.inputs[1 if operation.type == "Split" else 0]
        return at.get(data.name)
    if operation.type in BRANCHES:
        given = [one.name for one in operation.inputs if one.name in at]
        return at[given[0]] if len(given) == 1 and keeps_range(operation) else None
    if operation.type in LIMITING:
        others = [one for one in operation.inputs if one.name not in at]
        fixed = all(read_constant(graph, one) is not None for one in others)
        return at[next(one.name for one in operation.inputs if one.name in at)] if fixed else None
    if operation.type in JOINING:
        data = [one for one in operation.inputs if one.name in at or read_constant(graph, one) is None]
        return join_roads([at.get(one.name) for one in data])
    if operation.type not in ARITHMETIC or "batchnorm" in operation.name:  # the scope of tf.nn.batch_normalization
        return None
    tensor = next(one for one in operation.inputs if one.name in at)
    normalized = layers.get(find_layer(operation.name, layers)) == "Normalization"  # by the data's mean and variance
    if not normalized and any(is_learned(one) for one in operation.inputs if one is not tensor):
        return None
    pair = read_factor(graph, operation, tensor)
    if pair is None:
        return None
    road, (factor, offset) = at[tensor.name], pair
    try:
        factor, offset = road.factor * factor, road.offset * factor + offset
    except ValueError:  # constants for other numbers of channels
        return None
    span = find_span(factor, offset)
    if road.span not in (None, span):  # what follows preprocessing may be the net's own
        return Road(factor, offset, road.where, road.span)
    return Road(factor, offset, (*road.where, format_operation(operation, layers)), span)


def keeps_range(condition: Any) -> bool:
    """Return whether both branches of a condition move values and pad them with constants, and compute no others."""
    branches = [condition.get_attr(name).name for name in ("then_branch", "else_branch")]
    functions = condition.graph.as_graph_def().library.function
    for function in functions:
        fixed = set[str]()  # nodes whose values depend on no argument
        for node in function.node_def if function.signature.name in branches else ():
            values = node.input[1:] if node.op == "Fill" else node.input  # without the size
            if all(one.partition(":")[0].lstrip("^") in fixed for one in values):
                fixed.add(node.name)
            elif node.op not in KEEPING | JOINING and node.attr["T"].type not in INTEGERS:
                return False
    return True


def is_learned(tensor: Any) -> bool:
    """Return whether a constant is computed from a variable; freezing keeps the names of what read it."""
    todo, seen = [tensor.op], set[str]()
    while todo:
        operation = todo.pop()
        if operation.name in seen:
            continue
        seen.add(operation.name)
        if "ReadVariableOp" in (operation.type, operation.name.rpartition("/")[2].split("_")[0]):
            return True
        todo += [one.op for one in operation.inputs]
    return False


def join_roads(roads: Sequence[Road | None]) -> Road | None:
    """Return the road behind a concatenation: of one road with itself, or of channels that were computed apart."""
    known = [road for road in roads if road is not None]
    if len(known) < len(roads):
        return None
    if len({road.key for road in known}) == 1:
        return known[0]
    if any(road.plain for road in known) or len({road.span for road in known}) > 1:
        return None
    pairs = [np.broadcast_arrays(road.factor, road.offset) for road in known]
    factor, offset = (np.concatenate(sides) for sides in zip(*pairs, strict=True))
    return Road(factor, offset, tuple(name for road in known for name in road.where), known[0].span)


def read_factor(graph: TracedGraph, operation: Any, tensor: Any) -> tuple[Any, Any] | None:
    """Return (factor, offset) of one arithmetic operation on `tensor`; None where it has no small constant."""
    left, right = operation.inputs
    constant = read_constant(graph, right if left is tensor else left)
    if constant is None or constant.size > 64 or constant.dtype.kind not in "fiu":
        return None
    values = constant.astype(np.float64).reshape(-1)
    if operation.type == "Mul":
        return values, np.zeros(1)
    if operation.type == "RealDiv":
        return (1 / values, np.zeros(1)) if left is tensor and values.all() else None
    if operation.type == "Sub":
        return (np.ones(1), -values) if left is tensor else (-np.ones(1), values)
    return np.ones(1), values


def format_operation(operation: Any, layers: dict[str, str]) -> str:
    """Return the Keras layer of an operation, such as "Rescaling layer 'rescaling'", or the operation itself."""
    name = find_layer(operation.name, layers)
    own = operation.name.replace("StatefulPartitionedCall/", "")
    return f"{layers[name]} layer {name!r}" if name else f"{operation.type} {own!r}"


def format_span(span: Span) -> str:
    """Return a span as 0…255."""
    return f"{span[0]:g}…{span[1]:g}".replace("-", "−")


def format_road(road: Road) -> str:
    """Return a road's arithmetic: input * 0.5 + 3."""
    sides = [", ".join(f"{value:.6g}" for value in side[:4]) for side in (road.factor, road.offset)]
    if max(map(len, (road.factor, road.offset))) > 1:
        sides = [f"[{side}]" for side in sides]
    return f"input * {sides[0]} + {sides[1]}"
