"""The weight recipes: which constants of a float32 flatbuffer are stored as what, one tensor at a time.

"int8" is dynamic-range quantization: symmetric, one scale per filter,

    s = max |w| / 127,   q = round(w / s)   in [-127, 127]

with activations float in the file and quantized by the kernel at run time. "weight-only" stores the same integers, and
a DEQUANTIZE makes floats of them when the model is loaded; "float16" likewise. A plan names each tensor, so any layer
can be left out. Source of the equations: Jacob et al. 2018 (CVPR), section 2, with a zero point of 0; the paper's
14 and 15.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .surgery import (
    Model,
    Operator,
    add_constant,
    add_tensor,
    find_code,
    find_operators,
    kind_of,
    listed,
    make_operator,
    pack,
    read_constant,
    unpack,
    value_of,
    version_of,
)

KINDS = ("int8", "weight-only", "float16", "float32")
# Where the operation's weights are among its inputs, and which dimension of them counts the filters.
WEIGHTS = {
    "CONV_2D": (1, 0),
    "DEPTHWISE_CONV_2D": (1, 3),
    "TRANSPOSE_CONV": (1, 0),
    "FULLY_CONNECTED": (1, 0),
    "CONV_3D": (1, 4),
    "CONV_3D_TRANSPOSE": (1, 3),
}
# Operation versions that take int8 weights beside float32 activations: per filter, and with one scale for all.
# Source: tensorflow/lite/tools/versioning/op_version.cc.
HYBRID = {"CONV_2D": (5, 2), "DEPTHWISE_CONV_2D": (6, 4), "TRANSPOSE_CONV": (2, 2), "FULLY_CONNECTED": (12, 9)}
DEQUANTIZE = {"int8": 5, "float16": 3}
SMALL = 1024  # weights: below, a tensor is not worth a kernel that has to quantize its input (TensorFlow's rule too)


@dataclass(frozen=True)
class Constant:
    """A weight tensor of a float32 graph, and the first operation that takes it."""

    name: str
    operation: str
    shape: tuple[int, ...]
    axis: int  # which counts the filters
    sole: bool  # only operations of its own kind take it, as their weights

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return int(np.prod(self.shape))


def list_weights(flatbuffer: bytes) -> tuple[Constant, ...]:
    """Return the float32 weight tensors of a flatbuffer's convolutions and dense layers, in the graph's order."""
    return tuple(find_weights(unpack(flatbuffer)).values())


def find_weights(model: Model) -> dict[int, Constant]:
    """Return {tensor's place: weights}."""
    users: dict[int, set[tuple[str, int]]] = {}
    for op in model.subgraphs[0].operators:
        for slot, place in enumerate(op.inputs):
            users.setdefault(int(place), set()).add((kind_of(model, op), slot))
    found: dict[int, Constant] = {}
    for op in find_operators(model, *WEIGHTS):
        kind = kind_of(model, op)
        slot, axis = WEIGHTS[kind]
        place = int(op.inputs[slot])
        values = read_constant(model, place)
        if place in found or values is None or values.dtype != np.float32:
            continue
        name = model.subgraphs[0].tensors[place].name.decode()
        found[place] = Constant(name, kind, values.shape, axis, users[place] == {(kind, slot)})
    return found


def plan_weights(flatbuffer: bytes, kind: str) -> dict[str, str]:
    """Return {weight tensor: kind} for all weights that a recipe of that kind touches: the large ones."""
    return {
        weight.name: ("weight-only" if kind == "int8" and weight.operation not in HYBRID else kind)
        for weight in list_weights(flatbuffer)
        if weight.sole and weight.elements >= SMALL and not one_tap(weight.operation, weight.shape)
    }


def one_tap(operation: str, shape: tuple[int, ...]) -> bool:
    """Tell whether weights are a mere factor for each channel: a hybrid kernel could only lose by them."""
    return operation == "DEPTHWISE_CONV_2D" and shape[1:3] == (1, 1)


def quantize_weights(flatbuffer: bytes, plan: Mapping[str, str], per_tensor_dense: bool = False) -> bytes:
    """Return the flatbuffer with its weights stored as planned; tensors that the plan does not name stay float32.

    plan: {tensor's name: one of KINDS}. per_tensor_dense: one scale for a whole FULLY_CONNECTED, all that runtimes up
    to 2.14 know.
    """
    model = unpack(flatbuffer)
    for place, weight in find_weights(model).items():
        kind = plan.get(weight.name, "float32")
        if kind == "int8":
            whole = per_tensor_dense and weight.operation == "FULLY_CONNECTED"
            make_hybrid(model, place, weight, whole)
        elif kind in ("weight-only", "float16"):
            unpack_at_load(model, place, weight, "int8" if kind == "weight-only" else "float16")
    return pack(model)


def make_hybrid(model: Model, place: int, weight: Constant, whole: bool) -> None:
    """Store weights as int8 and let their operations quantize what they are given."""
    store_integers(model, place, weight.axis, whole)
    for op in find_users(model, place):
        version = max(version_of(model, op), HYBRID[weight.operation][whole])
        op.opcodeIndex = find_code(model, weight.operation, version)
        if weight.operation == "FULLY_CONNECTED":
            op.builtinOptions.asymmetricQuantizeInputs = True


def unpack_at_load(model: Model, place: int, weight: Constant, kind: str) -> None:
    """Store weights small, and have a DEQUANTIZE make floats of them for the operations that take them."""
    graph, users = model.subgraphs[0], find_users(model, place)
    widened = add_tensor(model, f"{weight.name}/float32", weight.shape)
    if kind == "int8":
        store_integers(model, place, weight.axis, False)
    else:
        values = read_constant(model, place)
        assert values is not None
        place = add_constant(model, weight.name, np.clip(values, -65504, 65504).astype(np.float16))
    for op in users:
        op.inputs = np.array([widened if i == WEIGHTS[weight.operation][0] else p for i, p in enumerate(op.inputs)])
    at = min(i for i, op in enumerate(graph.operators) if any(op is user for user in users))
    graph.operators.insert(at, make_operator(model, "DEQUANTIZE", [place], [widened], version=DEQUANTIZE[kind]))


def find_users(model: Model, place: int) -> list[Operator]:
    """Return the operations that take a tensor."""
    return [op for op in model.subgraphs[0].operators if place in listed(op.inputs)]


def store_integers(model: Model, place: int, axis: int, whole: bool) -> None:
    """Replace a float32 constant by its int8 form, in its own place."""
    from ai_edge_litert import schema_py_generated as schema

    values = read_constant(model, place)
    assert values is not None
    integers, scales = to_integers(values, None if whole else axis)
    tensor = model.subgraphs[0].tensors[place]
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(integers.tobytes(), np.uint8)
    model.buffers.append(buffer)  # a new one: constants of equal bytes share theirs
    tensor.buffer, tensor.type = len(model.buffers) - 1, value_of("TensorType", "INT8")
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale = scales
    tensor.quantization.zeroPoint = np.zeros(len(scales), np.int64)
    tensor.quantization.quantizedDimension = 0 if whole else axis


def to_integers(values: npt.NDArray[Any], axis: int | None) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Return int8 integers in [-127, 127] and their scales: one for each slice along `axis`, or one in all."""
    others = tuple(i for i in range(values.ndim) if i != axis)
    most = np.abs(values.astype(np.float64)).max(axis=others, keepdims=True)
    scales = (np.where(most > 0, most, 127.0) / 127.0).astype(np.float32)  # all zeros: any scale does
    integers = np.clip(np.rint(values / scales.astype(np.float64)), -127, 127).astype(np.int8)
    return integers, scales.reshape(-1)
