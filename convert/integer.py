"""Full-integer quantization: int8 weights per filter, int8 activations with ranges from calibration images.

    weights      s_w = max |w| / 127,           q = round(w / s_w)             one scale per filter, no zero point
    activations  s = (most - least) / 255,      q = round(x / s) + z           one scale and zero point per tensor
    bias         s_b = s_in * s_w,              q = round(b / s_b)             int32

Why our own, and neither TensorFlow's converter nor ai-edge-quantizer 0.10? Both were tried on a trained Res-UNet with
attention gates, transposed convolutions rewritten. TensorFlow's takes the extremes of all images: mean IoU 0.570 became
0.506. ai-edge-quantizer takes a moving average of each image's extremes: 0.572 where all calibration images show a
tumour, and no tumour found at all where nine in ten do not (`ranges` has both measured, and what is done instead). It
does not know LEAKY_RELU and DEPTH_TO_SPACE, so each of them stood between a DEQUANTIZE and a QUANTIZE; it stamps every
version 1, pins ai-edge-litert to one release, and brings scipy and a language-model builder. TensorFlow's would have to
run where this module does not need it, and can leave single operations float only by debugging options. What remains is
little: reading ranges is `ranges`, choosing operations is `domain`, and this file writes them down, the same bytes in
every process.

Source: Jacob et al. 2018 (CVPR), section 2; TensorFlow Lite 8-bit quantization specification (per-operator rules).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.contract import Calibration, Contract, InputSpec
from edge_runtime.errors import ModelError, UsageError

from .calibrate import Calibrated, Tensors
from .domain import CLAMPS, LAYERS, SAME, Node, read_nodes
from .quantize import WEIGHTS, plan_weights, quantize_weights, to_integers
from .ranges import Range, measure_ranges
from .steps import Step, constant_floats, constant_step, settle
from .surgery import (
    Model,
    Operator,
    add_constant,
    add_tensor,
    listed,
    make_operator,
    name_of,
    pack,
    read_constant,
    shape_of,
    unpack,
    value_of,
)
from .versions import stamp_versions

IO = ("float32", "int8")
SMALLEST_RATIO = 2**-30  # of a layer's scales: a filter of all but nothing gets a larger scale than its weights need
LARGEST_BIAS = 2**30  # as an integer: likewise
SKETCHED = 8  # images for a file that is only timed


def quantize_integer(
    flatbuffer: bytes,
    tensors: Iterable[npt.NDArray[Any]],
    keep_float: Collection[str] = (),
    io: str = "float32",
    *,
    bounds: Range | None = None,
    per_tensor_dense: bool = False,
) -> bytes:
    """Return a float32 file as a full-integer one, its activations' ranges measured on tensors (1, H, W, C) float32.

    keep_float: names of weights or of operations' results, or kinds of operations, to be computed in float. io: type of
    the file's input and outputs. bounds: what the input can be, of any image; default: as measured.
    per_tensor_dense: one scale for a whole FULLY_CONNECTED, all that runtimes up to 2.14 know.

    Raises:
        UsageError: an unknown io, or an int8 input for a model that eats no float32.
        ModelError: nothing in it can compute on integers, or calibration failed.
    """
    ranges = measure_ranges(flatbuffer, tensors)
    return store_integers(flatbuffer, ranges, keep_float, io, bounds=bounds, per_tensor_dense=per_tensor_dense)


def store_integers(
    flatbuffer: bytes,
    ranges: Mapping[str, Range],
    keep_float: Collection[str] = (),
    io: str = "float32",
    *,
    bounds: Range | None = None,
    per_tensor_dense: bool = False,
) -> bytes:
    """Return a float32 file as a full-integer one with these ranges, by tensors' names; else as `quantize_integer`."""
    model = unpack(flatbuffer)
    check_io(model, io)
    nodes, known = read_nodes(model), find_ranges(model, ranges, bounds)
    chosen, steps = settle(model, nodes, known, keep_float, io == "int8")
    if not any(node.kind in LAYERS for node in nodes if node.index in chosen):
        kinds = ", ".join(sorted({node.kind for node in nodes}))
        raise ModelError("recipe int8", f"no layer of it can compute on integers ({kinds})", "take --recipe drq")
    Rewriting(model, nodes, chosen, steps, per_tensor_dense).run(io == "int8")
    stamp_versions(model)
    return pack(model)


class Integers:
    """How the full-integer files of one conversion are made: on which images, with what input and output.

    Ranges are measured once for each graph: every file of a drill-down is made of the same ones.
    """

    def __init__(self, calibrated: Calibrated, spec: InputSpec, io: str = "float32", whole_dense: bool = False) -> None:
        """`spec`: of the float32 model. whole_dense: see per_tensor_dense of `quantize_integer`."""
        self.calibrated, self.spec, self.io, self.whole_dense = calibrated, spec, io, whole_dense
        self._ranges: dict[str, dict[str, Range]] = {}

    def store(self, graph: bytes, kept: Collection[str] = ()) -> bytes:
        """Return a float32 graph as a full-integer file, but for layers whose weights or results are named in `kept`.

        Large weights of layers that have no int8 kernels are stored as int8 and computed in float32.
        """
        key = hashlib.sha256(graph).hexdigest()
        if key not in self._ranges:
            self._ranges[key] = measure_ranges(graph, Tensors(self.calibrated.samples, self.spec))
        scale, offset = self.spec.scale, self.spec.offset
        bounds = bounds_of(scale, offset) if self.spec.dtype == "float32" else None
        result = store_integers(
            graph, self._ranges[key], kept, self.io, bounds=bounds, per_tensor_dense=self.whole_dense
        )
        plan = {name: kind for name, kind in plan_weights(result, "weight-only").items() if name not in kept}
        return quantize_weights(result, plan) if plan else result

    def floating(self) -> Integers:
        """Return the same with float32 input and output, on the same ranges."""
        twin = Integers(self.calibrated, self.spec, "float32", self.whole_dense)
        twin._ranges = self._ranges
        return twin

    def sketch(self) -> Integers:
        """Return the same on a few images and with float32 input: for files that are only timed."""
        step = -(-len(self.calibrated.samples) // SKETCHED)
        few = replace(self.calibrated, samples=self.calibrated.samples[::step])
        return Integers(few, self.spec, "float32", self.whole_dense)


def fit_contract(contract: Contract, flatbuffer: bytes, calibration: Calibration) -> Contract:
    """Return a float32 model's contract as that of its full-integer file."""
    dtype, scale, offset = fit_input(flatbuffer, contract.input.scale, contract.input.offset)
    graph = unpack(flatbuffer).subgraphs[0]
    given = name_of("TensorType", graph.tensors[int(graph.outputs[0])].type).lower()
    return replace(
        contract,
        input=replace(contract.input, dtype=dtype, scale=scale, offset=offset),
        output=replace(contract.output, dtype=given),
        calibration=calibration,
    )


def feed(flatbuffer: bytes, tensor: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return what a float32 model eats as its file's own input type wants it."""
    graph = unpack(flatbuffer).subgraphs[0]
    given = graph.tensors[int(graph.inputs[0])]
    if given.type != value_of("TensorType", "INT8") or tensor.dtype == np.int8:
        return tensor
    integers = np.rint(tensor / given.quantization.scale[0]) + given.quantization.zeroPoint[0]
    return np.asarray(np.clip(integers, -128, 127), np.int8)


def fit_input(flatbuffer: bytes, scale: float, offset: float) -> tuple[str, float, float]:
    """Return type, scale and offset with which a file eats what `pixel * scale + offset` was to its float32 original.

    Of an int8 input these are the float32 ones counted in its own steps; to_tensor rounds and clips.
    """
    graph = unpack(flatbuffer).subgraphs[0]
    given = graph.tensors[int(graph.inputs[0])]
    kind = name_of("TensorType", given.type).lower()
    if kind != "int8":
        return kind, scale, offset
    step = np.float32(given.quantization.scale[0])
    return kind, float(np.float32(scale) / step), float(offset / float(step) + int(given.quantization.zeroPoint[0]))


def bounds_of(scale: float, offset: float) -> Range:
    """Return what the input of a model can be whose images are `pixel * scale + offset`, pixels in 0...255."""
    return Range(min(offset, offset + 255 * scale), max(offset, offset + 255 * scale))


def check_io(model: Model, io: str) -> None:
    """Refuse a type of input and output that is none, or that the model's input cannot have."""
    if io not in IO:
        raise UsageError(f"io {io!r}", f"it is not one of {', '.join(IO)}")
    graph = model.subgraphs[0]
    kinds = {graph.tensors[int(place)].type for place in (*graph.inputs, *graph.outputs)}
    if io == "int8" and kinds != {value_of("TensorType", "FLOAT32")}:
        raise UsageError("io int8", "the model's own input or output is no float32", "leave it at float32")


def find_ranges(model: Model, ranges: Mapping[str, Range], bounds: Range | None) -> dict[int, Range]:
    """Return the ranges by tensors' places; the inputs' are `bounds`, if given."""
    graph = model.subgraphs[0]
    found = {i: ranges[name] for i, t in enumerate(graph.tensors) if (name := (t.name or b"").decode()) in ranges}
    return found | ({int(place): bounds for place in graph.inputs} if bounds is not None else {})


@dataclass
class Rewriting:
    """A graph on its way to integers: the operations written so far, and in which forms each tensor exists."""

    model: Model
    nodes: Sequence[Node]
    chosen: Collection[int]
    steps: Mapping[int, Step]
    per_tensor_dense: bool
    written: list[Operator] = field(default_factory=list)
    integers: dict[int, Step] = field(default_factory=dict)  # tensors that are int8 themselves
    forms: dict[tuple[int, Step | None], int] = field(default_factory=dict)  # (tensor, steps; None: float32): its twin
    weights: dict[int, int] = field(default_factory=dict)  # float32 weights: their int8 twin

    def run(self, integer_io: bool) -> None:
        """Write all operations, and the file's inputs and outputs."""
        graph = self.model.subgraphs[0]
        if integer_io:
            for place in graph.inputs:
                self.become_integers(int(place))
        for node in self.nodes:
            op = graph.operators[node.index]
            if node.index in self.chosen:
                self.write_integer(node, op)
            else:
                op.inputs = np.array([self.as_float(int(place)) for place in listed(op.inputs)], np.int32)
                self.written.append(op)
        outputs = [int(place) for place in graph.outputs]
        ended = [self.as_integer(p, self.steps[p]) if integer_io else self.as_float(p) for p in outputs]
        graph.operators, graph.outputs = self.written, np.array(ended, np.int32)
        for signature in listed(self.model.signatureDefs):
            for item in listed(signature.outputs):
                item.tensorIndex = dict(zip(outputs, ended, strict=True))[int(item.tensorIndex)]

    def write_integer(self, node: Node, op: Operator) -> None:
        """Write an operation that computes on integers."""
        inputs = [int(place) for place in listed(op.inputs)]
        for slot, place in enumerate(inputs):
            if place in node.takes:
                step = self.steps[node.makes[0]] if node.kind in SAME else self.steps[place]
                inputs[slot] = self.as_integer(place, step)
        if node.kind in LAYERS:
            self.write_layer(node, inputs)
        else:
            for place in constant_floats(self.model, op):
                step = self.steps[node.makes[0]] if node.kind in SAME else constant_step(self.model, place)
                inputs = [self.constant_integer(place, step) if other == place else other for other in inputs]
        op.inputs = np.array(inputs, np.int32)
        for place in node.makes:
            self.become_integers(place)
        clamp = make_operator(self.model, "QUANTIZE", inputs, node.makes) if node.kind in CLAMPS else None
        self.written.append(clamp or op)

    def write_layer(self, node: Node, inputs: list[int]) -> None:
        """Put a layer's int8 weights and int32 bias among its inputs."""
        _, slot, last = LAYERS[node.kind]
        weights = inputs[slot]
        inputs[slot] = self.integer_weights(weights)
        if len(inputs) > last and inputs[last] >= 0:
            scales = np.asarray(self.quantization(inputs[slot]).scale, np.float64) * self.steps[node.takes[0]].scale
            values = read_constant(self.model, inputs[last])
            assert values is not None
            name = f"{self.name(node.makes[0])}/bias"
            inputs[last] = add_constant(self.model, name, np.rint(values / scales).astype(np.int32))
            self.set_steps(inputs[last], scales.astype(np.float32), np.zeros(len(scales)), 0)

    def integer_weights(self, place: int) -> int:
        """Return the int8 twin of a weight tensor, made for all the layers that share it."""
        if place not in self.weights:
            users = [n for n in self.nodes if n.index in self.chosen and self.weights_of(n) == place]
            values = read_constant(self.model, place)
            assert values is not None
            kind = users[0].kind
            axis = None if self.per_tensor_dense and kind == "FULLY_CONNECTED" else WEIGHTS[kind][1]
            _, scales = to_integers(values, axis)
            for node in users:
                scales = np.maximum(scales, self.least_scales(node)).astype(np.float32)
            sides = [-1 if i == axis else 1 for i in range(values.ndim)]
            integers = np.rint(values / scales.astype(np.float64).reshape(sides if axis is not None else 1))
            operators = self.model.subgraphs[0].operators
            shared = sum(place in listed(op.inputs) for op in operators) > len(users)
            name = self.name(place) + ("/int8" if shared else "")  # a float32 form of the old name stays
            twin = add_constant(self.model, name, np.clip(integers, -127, 127).astype(np.int8))
            self.set_steps(twin, scales, np.zeros(len(scales)), axis or 0)
            self.weights[place] = twin
        return self.weights[place]

    def weights_of(self, node: Node) -> int:
        """Return the place of a layer's weights; -1 of another operation."""
        op = self.model.subgraphs[0].operators[node.index]
        return int(op.inputs[LAYERS[node.kind][1]]) if node.kind in LAYERS else -1

    def least_scales(self, node: Node) -> npt.NDArray[np.float64]:
        """Return the smallest scales, per filter or for all, with which a layer's bias and sums stay in range."""
        op, last = self.model.subgraphs[0].operators[node.index], LAYERS[node.kind][2]
        given, made = self.steps[node.takes[0]].scale, self.steps[node.makes[0]].scale
        bias = read_constant(self.model, int(op.inputs[last])) if len(op.inputs) > last else None
        reach = np.abs(np.zeros(1) if bias is None else bias.astype(np.float64)) / (given * LARGEST_BIAS)
        whole = self.per_tensor_dense and node.kind == "FULLY_CONNECTED"
        return np.maximum(reach.max(keepdims=True) if whole else reach, SMALLEST_RATIO * made / given)

    def as_integer(self, place: int, step: Step) -> int:
        """Return the tensor's int8 form with these steps, written by a QUANTIZE where it does not exist."""
        if self.integers.get(place) == step:
            return place
        if (place, step) not in self.forms:
            suffix = "requantized" if place in self.integers else "int8"
            twin = self.add_form(place, suffix, "INT8", "QUANTIZE")
            self.set_steps(twin, [step.scale], [step.zero], 0)
            self.forms[place, step] = twin
        return self.forms[place, step]

    def as_float(self, place: int) -> int:
        """Return the tensor's float32 form, written by a DEQUANTIZE where it does not exist."""
        if place not in self.integers:
            return place
        if (place, None) not in self.forms:
            self.forms[place, None] = self.add_form(place, "float32", "FLOAT32", "DEQUANTIZE")
        return self.forms[place, None]

    def add_form(self, place: int, suffix: str, kind: str, operation: str) -> int:
        """Add a tensor and the operation that makes it of another; return its place."""
        count = sum(1 for other, _ in self.forms if other == place)
        name = f"{self.name(place)}/{suffix}" + (f"{count}" if count else "")
        twin = add_tensor(self.model, name, shape_of(self.model, place), kind)
        self.written.append(make_operator(self.model, operation, [place], [twin]))
        return twin

    def become_integers(self, place: int) -> None:
        """Make a computed tensor an int8 one."""
        step = self.steps[place]
        self.model.subgraphs[0].tensors[place].type = value_of("TensorType", "INT8")
        self.set_steps(place, [step.scale], [step.zero], 0)
        self.integers[place] = step

    def constant_integer(self, place: int, step: Step) -> int:
        """Return the int8 form of a constant that is no weight."""
        if (place, step) not in self.forms:
            values = read_constant(self.model, place)
            assert values is not None
            integers = np.clip(np.rint(values / step.scale) + step.zero, -128, 127).astype(np.int8)
            twin = add_constant(self.model, f"{self.name(place)}/int8", integers)
            self.set_steps(twin, [step.scale], [step.zero], 0)
            self.forms[place, step] = twin
        return self.forms[place, step]

    def name(self, place: int) -> str:
        """Return a tensor's name."""
        return str((self.model.subgraphs[0].tensors[place].name or b"").decode(errors="replace"))

    def quantization(self, place: int) -> Any:
        """Return a tensor's scales and zero points."""
        return self.model.subgraphs[0].tensors[place].quantization

    def set_steps(self, place: int, scales: Any, zeros: Any, axis: int) -> None:
        """Write down a tensor's scales and zero points."""
        from ai_edge_litert import schema_py_generated as schema

        steps = schema.QuantizationParametersT()
        steps.scale, steps.zeroPoint = np.asarray(scales, np.float32), np.asarray(zeros, np.int64)
        steps.quantizedDimension = axis
        self.model.subgraphs[0].tensors[place].quantization = steps
