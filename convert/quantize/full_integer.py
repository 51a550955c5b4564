"""How is a full-integer file written: int8 weights per filter, int8 activations with ranges from calibration images?

    weights      s_w = max |w| / 127,           q = round(w / s_w)             one scale per filter, no zero point
    activations  s = (high - low) / 255,        q = round(x / s) + z           one scale and zero point per tensor
    bias         s_b = s_in * s_w,              q = round(b / s_b)             int32

Why not TensorFlow's converter or ai-edge-quantizer 0.10? Both were tried on a trained Res-UNet with attention gates,
transposed convolutions rewritten. TensorFlow's takes the extremes of all images: mean IoU 0.570 became 0.506.
ai-edge-quantizer takes a moving average of each image's extremes: 0.572 where all calibration images show a tumour, and
no tumour found at all where nine in ten do not (`activation_ranges` has the measurements and its own rule). It does not
support LEAKY_RELU and DEPTH_TO_SPACE, so each of them stood between a DEQUANTIZE and a QUANTIZE; it writes version 1
for every operation, pins ai-edge-litert to one release, and needs scipy and a language-model builder. TensorFlow's
would have to run in the parent process, and can leave single operations float only by debugging options. What remains
is little: `activation_ranges` measures, `integer_ops` chooses the operations, and this file writes them, the same bytes
in every process.

Source: Jacob et al. 2018 (CVPR), section 2; TensorFlow Lite 8-bit quantization specification (per-operator rules).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from convert.flatbuffer.edit import (
    Model,
    Operator,
    add_constant,
    add_tensor,
    make_operator,
    name_tensor,
    pack,
    read_constant,
    shape_of,
    to_list,
    type_of,
    unpack,
    value_of,
)
from convert.flatbuffer.op_versions import set_versions
from edge_runtime.contract.fields import Calibration, Contract, Factor, InputSpec
from edge_runtime.errors import ModelError, UsageError

from .activation_ranges import Range, measure_ranges
from .calibration_images import CalibrationSet, CalibrationTensors
from .integer_ops import CLAMPS, LAYERS, SHARED_SCALE, Node, read_nodes
from .scales import QuantParams, choose_parameters, find_constant_inputs, find_constant_params
from .weights import WEIGHTS, plan_weights, quantize_weights, to_integers

IO = ("float32", "int8")
MIN_SCALE_RATIO = 2**-30  # of a layer's scales: a filter of tiny weights gets a larger scale than these need
MAX_BIAS = 2**30  # as an integer: a filter whose bias exceeds it gets a larger scale too
TIMING_IMAGES = 8  # images for a file that is only timed


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
    the file's input and outputs. bounds: range of the input over all images; default: as measured.
    per_tensor_dense: one scale for a whole FULLY_CONNECTED, all that runtimes up to 2.14 support.

    Raises:
        UsageError: an unknown io, or an int8 input for a model whose input is not float32.
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
    """Return a float32 file as a full-integer one with these {tensor's name: range}; else as `quantize_integer`."""
    model = unpack(flatbuffer)
    check_io(model, io)
    nodes, known = read_nodes(model), find_ranges(model, ranges, bounds)
    chosen, params = choose_parameters(model, nodes, known, keep_float, io == "int8")
    if not any(node.kind in LAYERS for node in nodes if node.op_index in chosen):
        kinds = ", ".join(sorted({node.kind for node in nodes}))
        raise ModelError("recipe int8", f"no layer of it can compute on integers ({kinds})", "take --recipe drq")
    IntegerGraphWriter(model, nodes, chosen, params, per_tensor_dense).run(io == "int8")
    set_versions(model)
    return pack(model)


class FullIntegerQuantizer:
    """Makes the full-integer files of one conversion; ranges are measured once for each graph."""

    def __init__(
        self, calibration: CalibrationSet, spec: InputSpec, io: str = "float32", per_tensor_dense: bool = False
    ) -> None:
        """`spec`: of the float32 model. io and per_tensor_dense: as in `quantize_integer`."""
        self.calibration, self.spec, self.io, self.per_tensor_dense = calibration, spec, io, per_tensor_dense
        self._ranges: dict[str, dict[str, Range]] = {}

    def quantize(self, graph: bytes, kept: Collection[str] = ()) -> bytes:
        """Return a float32 graph as a full-integer file, without the layers whose weights or results `kept` names.

        Large weights of layers that have no int8 kernels are stored as int8 and computed in float32.
        """
        key = hashlib.sha256(graph).hexdigest()
        if key not in self._ranges:
            self._ranges[key] = measure_ranges(graph, CalibrationTensors(self.calibration.images, self.spec))
        bounds = find_input_bounds(self.spec) if self.spec.dtype == "float32" else None
        result = store_integers(
            graph, self._ranges[key], kept, self.io, bounds=bounds, per_tensor_dense=self.per_tensor_dense
        )
        plan = {name: kind for name, kind in plan_weights(result, "weight-only").items() if name not in kept}
        return quantize_weights(result, plan) if plan else result

    def with_float_io(self) -> FullIntegerQuantizer:
        """Return the same with float32 input and output, on the same ranges."""
        other = FullIntegerQuantizer(self.calibration, self.spec, "float32", self.per_tensor_dense)
        other._ranges = self._ranges
        return other

    def with_few_images(self) -> FullIntegerQuantizer:
        """Return the same on a few images and with float32 input: for files that are only timed."""
        step = -(-len(self.calibration.images) // TIMING_IMAGES)
        few = replace(self.calibration, images=self.calibration.images[::step])
        return FullIntegerQuantizer(few, self.spec, "float32", self.per_tensor_dense)


def adapt_contract(contract: Contract, flatbuffer: bytes, calibration: Calibration) -> Contract:
    """Return a float32 model's contract as that of its full-integer file."""
    dtype, scale, offset = read_input_scaling(flatbuffer, contract.input.scale, contract.input.offset)
    model = unpack(flatbuffer)
    output_dtype = type_of(model, int(model.subgraphs[0].outputs[0])).lower()
    return replace(
        contract,
        input=replace(contract.input, dtype=dtype, scale=scale, offset=offset),
        output=replace(contract.output, dtype=output_dtype),
        calibration=calibration,
    )


def to_model_input(flatbuffer: bytes, tensor: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a float32 model's input in the input type of a file made of it."""
    graph = unpack(flatbuffer).subgraphs[0]
    entry = graph.tensors[int(graph.inputs[0])]
    if entry.type != value_of("TensorType", "INT8") or tensor.dtype == np.int8:
        return tensor
    integers = np.rint(tensor / entry.quantization.scale[0]) + entry.quantization.zeroPoint[0]
    return np.asarray(np.clip(integers, -128, 127), np.int8)


def read_input_scaling(flatbuffer: bytes, scale: Factor, offset: Factor) -> tuple[str, Factor, Factor]:
    """Return type, scale and offset of a file's input that stand for `pixel * scale + offset` of its float32 graph.

    Of an int8 input these are the float32 ones in units of its quantization step; to_tensor rounds and clips.
    """
    model = unpack(flatbuffer)
    entry = int(model.subgraphs[0].inputs[0])
    dtype = type_of(model, entry).lower()
    if dtype != "int8":
        return dtype, scale, offset
    quantization = model.subgraphs[0].tensors[entry].quantization
    step = np.float32(quantization.scale[0])
    scales = np.asarray(scale, np.float32) / step
    offsets = np.asarray(offset, np.float64) / float(step) + int(quantization.zeroPoint[0])
    return dtype, to_factor(scales), to_factor(offsets)


def to_factor(values: npt.NDArray[Any]) -> Factor:
    """Return an array as the contract has it: a number, or one for each channel."""
    return tuple(map(float, values)) if values.ndim else float(values)


def find_input_bounds(spec: InputSpec) -> Range | None:
    """Return the range of `pixel * scale + offset` for pixels in 0...255; None for z-scores, which have no ends."""
    if spec.intensity.images == "z-score":
        return None
    low = np.asarray(spec.offset, np.float64)
    high = low + 255 * np.asarray(spec.scale, np.float64)
    return Range(float(min(low.min(), high.min())), float(max(low.max(), high.max())))


def check_io(model: Model, io: str) -> None:
    """Raise UsageError for an unknown type of input and output, or one that the model cannot have."""
    if io not in IO:
        raise UsageError(f"io {io!r}", f"it is not one of {', '.join(IO)}")
    graph = model.subgraphs[0]
    kinds = {graph.tensors[int(index)].type for index in (*graph.inputs, *graph.outputs)}
    if io == "int8" and kinds != {value_of("TensorType", "FLOAT32")}:
        raise UsageError("io int8", "the model's own input or output is no float32", "leave it at float32")


def find_ranges(model: Model, ranges: Mapping[str, Range], bounds: Range | None) -> dict[int, Range]:
    """Return {tensor index: range}; the inputs' ranges are `bounds`, if given."""
    graph = model.subgraphs[0]
    found = {i: ranges[name] for i in range(len(graph.tensors)) if (name := name_tensor(model, i)) in ranges}
    return found | ({int(index): bounds for index in graph.inputs} if bounds is not None else {})


@dataclass
class IntegerGraphWriter:
    """Rewrites a float32 graph to integers: the operations written so far, and the forms in which tensors exist."""

    model: Model
    nodes: Sequence[Node]
    chosen: Collection[int]
    params: Mapping[int, QuantParams]
    per_tensor_dense: bool
    operators: list[Operator] = field(default_factory=list)
    integer_params: dict[int, QuantParams] = field(default_factory=dict)  # of tensors that became int8
    # {(tensor, parameters; None: float32): the tensor that holds the same values in that form}
    forms: dict[tuple[int, QuantParams | None], int] = field(default_factory=dict)
    weights: dict[int, int] = field(default_factory=dict)  # {float32 weights: the int8 tensor}

    def run(self, integer_io: bool) -> None:
        """Write all operations, and the file's inputs and outputs."""
        graph = self.model.subgraphs[0]
        if integer_io:
            for index in graph.inputs:
                self.mark_integer(int(index))
        for node in self.nodes:
            op = graph.operators[node.op_index]
            if node.op_index in self.chosen:
                self.write_integer(node, op)
            else:
                op.inputs = np.array([self.as_float(int(index)) for index in to_list(op.inputs)], np.int32)
                self.operators.append(op)
        old = [int(index) for index in graph.outputs]
        new = [self.as_integer(i, self.params[i]) if integer_io else self.as_float(i) for i in old]
        graph.operators, graph.outputs = self.operators, np.array(new, np.int32)
        for signature in to_list(self.model.signatureDefs):
            for item in to_list(signature.outputs):
                item.tensorIndex = dict(zip(old, new, strict=True))[int(item.tensorIndex)]

    def write_integer(self, node: Node, op: Operator) -> None:
        """Write an operation that computes on integers."""
        inputs = [int(index) for index in to_list(op.inputs)]
        shared = self.params[node.outputs[0]] if node.kind in SHARED_SCALE else None
        for slot, index in enumerate(inputs):
            if index in node.inputs:
                inputs[slot] = self.as_integer(index, shared or self.params[index])
        if node.kind in LAYERS:
            self.write_layer(node, inputs)
        else:
            for index in find_constant_inputs(self.model, op):
                params = shared or find_constant_params(self.model, index)
                inputs = [self.quantize_constant(index, params) if other == index else other for other in inputs]
        op.inputs = np.array(inputs, np.int32)
        for index in node.outputs:
            self.mark_integer(index)
        clamp = make_operator(self.model, "QUANTIZE", inputs, node.outputs) if node.kind in CLAMPS else None
        self.operators.append(clamp or op)

    def write_layer(self, node: Node, inputs: list[int]) -> None:
        """Replace a layer's weights and bias among its inputs by the int8 and int32 ones."""
        _, slot, last = LAYERS[node.kind]
        weights = inputs[slot]
        inputs[slot] = self.quantize_layer_weights(weights)
        if len(inputs) > last and inputs[last] >= 0:
            scales = np.asarray(self.quantization(inputs[slot]).scale, np.float64) * self.params[node.inputs[0]].scale
            values = read_constant(self.model, inputs[last])
            assert values is not None
            name = f"{name_tensor(self.model, node.outputs[0])}/bias"
            inputs[last] = add_constant(self.model, name, np.rint(values / scales).astype(np.int32))
            self.set_params(inputs[last], scales.astype(np.float32), np.zeros(len(scales)), 0)

    def quantize_layer_weights(self, index: int) -> int:
        """Return the int8 tensor of float32 weights, made for all layers that share them."""
        if index not in self.weights:
            users = [n for n in self.nodes if n.op_index in self.chosen and self.find_weights(n) == index]
            values = read_constant(self.model, index)
            assert values is not None
            kind = users[0].kind
            axis = None if self.per_tensor_dense and kind == "FULLY_CONNECTED" else WEIGHTS[kind][1]
            _, scales = to_integers(values, axis)
            for node in users:
                scales = np.maximum(scales, self.find_min_scales(node)).astype(np.float32)
            sides = [-1 if i == axis else 1 for i in range(values.ndim)]
            integers = np.rint(values / scales.astype(np.float64).reshape(sides if axis is not None else 1))
            operators = self.model.subgraphs[0].operators
            shared = sum(index in to_list(op.inputs) for op in operators) > len(users)
            name = name_tensor(self.model, index) + ("/int8" if shared else "")  # the float32 tensor keeps its name
            result = add_constant(self.model, name, np.clip(integers, -127, 127).astype(np.int8))
            self.set_params(result, scales, np.zeros(len(scales)), axis or 0)
            self.weights[index] = result
        return self.weights[index]

    def find_weights(self, node: Node) -> int:
        """Return the tensor index of a layer's weights; -1 of another operation."""
        op = self.model.subgraphs[0].operators[node.op_index]
        return int(op.inputs[LAYERS[node.kind][1]]) if node.kind in LAYERS else -1

    def find_min_scales(self, node: Node) -> npt.NDArray[np.float64]:
        """Return the smallest scales, per filter or for all, with which a layer's bias and sums stay in range."""
        op, last = self.model.subgraphs[0].operators[node.op_index], LAYERS[node.kind][2]
        input_scale, output_scale = self.params[node.inputs[0]].scale, self.params[node.outputs[0]].scale
        bias = read_constant(self.model, int(op.inputs[last])) if len(op.inputs) > last else None
        needed = np.abs(np.zeros(1) if bias is None else bias.astype(np.float64)) / (input_scale * MAX_BIAS)
        whole = self.per_tensor_dense and node.kind == "FULLY_CONNECTED"
        return np.maximum(needed.max(keepdims=True) if whole else needed, MIN_SCALE_RATIO * output_scale / input_scale)

    def as_integer(self, index: int, params: QuantParams) -> int:
        """Return the tensor's int8 form with these parameters, written by a QUANTIZE where it does not exist."""
        if self.integer_params.get(index) == params:
            return index
        if (index, params) not in self.forms:
            suffix = "requantized" if index in self.integer_params else "int8"
            result = self.add_form(index, suffix, "INT8", "QUANTIZE")
            self.set_params(result, [params.scale], [params.zero_point], 0)
            self.forms[index, params] = result
        return self.forms[index, params]

    def as_float(self, index: int) -> int:
        """Return the tensor's float32 form, written by a DEQUANTIZE where it does not exist."""
        if index not in self.integer_params:
            return index
        if (index, None) not in self.forms:
            self.forms[index, None] = self.add_form(index, "float32", "FLOAT32", "DEQUANTIZE")
        return self.forms[index, None]

    def add_form(self, index: int, suffix: str, kind: str, operation: str) -> int:
        """Add a tensor and the operation that converts another to it; return its index."""
        count = sum(1 for other, _ in self.forms if other == index)
        name = f"{name_tensor(self.model, index)}/{suffix}" + (f"{count}" if count else "")
        result = add_tensor(self.model, name, shape_of(self.model, index), kind)
        self.operators.append(make_operator(self.model, operation, [index], [result]))
        return result

    def mark_integer(self, index: int) -> None:
        """Make a computed tensor an int8 one."""
        params = self.params[index]
        self.model.subgraphs[0].tensors[index].type = value_of("TensorType", "INT8")
        self.set_params(index, [params.scale], [params.zero_point], 0)
        self.integer_params[index] = params

    def quantize_constant(self, index: int, params: QuantParams) -> int:
        """Return the int8 form of a constant other than weights and biases."""
        if (index, params) not in self.forms:
            values = read_constant(self.model, index)
            assert values is not None
            integers = np.clip(np.rint(values / params.scale) + params.zero_point, -128, 127).astype(np.int8)
            result = add_constant(self.model, f"{name_tensor(self.model, index)}/int8", integers)
            self.set_params(result, [params.scale], [params.zero_point], 0)
            self.forms[index, params] = result
        return self.forms[index, params]

    def quantization(self, index: int) -> Any:
        """Return a tensor's scales and zero points."""
        return self.model.subgraphs[0].tensors[index].quantization

    def set_params(self, index: int, scales: Any, zeros: Any, axis: int) -> None:
        """Set a tensor's scales and zero points."""
        from ai_edge_litert import schema_py_generated as schema

        params = schema.QuantizationParametersT()
        params.scale, params.zeroPoint = np.asarray(scales, np.float32), np.asarray(zeros, np.int64)
        params.quantizedDimension = axis
        self.model.subgraphs[0].tensors[index].quantization = params
