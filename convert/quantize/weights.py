"""How are the weights of a float32 flatbuffer stored, one tensor at a time?

"int8" is dynamic-range quantization: symmetric, one scale per filter,

    s = max |w| / 127,   q = round(w / s)   in [-127, 127]

with activations float in the file and quantized by the kernel at run time. "weight-only" stores the same integers, and
a DEQUANTIZE converts them to floats when the model is loaded; "float16" likewise. A plan names each tensor, so any
layer can be left out. Source of the equations: Jacob et al. 2018 (CVPR), section 2, with a zero point of 0; the paper's
equations 14 and 15.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from convert.flatbuffer.edit import (
    MIN_WEIGHT,
    Model,
    add_constant,
    add_tensor,
    find_code,
    find_operators,
    find_users,
    kind_of,
    make_operator,
    name_tensor,
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
# Operation versions that support int8 weights with float32 activations: per filter, and with one scale for all.
# Source: tensorflow/lite/tools/versioning/op_version.cc.
HYBRID = {"CONV_2D": (5, 2), "DEPTHWISE_CONV_2D": (6, 4), "TRANSPOSE_CONV": (2, 2), "FULLY_CONNECTED": (12, 9)}
DEQUANTIZE = {"int8": 5, "float16": 3}
MIN_ELEMENTS = 1024  # of a quantized tensor: for fewer, quantizing the input costs more (TensorFlow's rule too)


@dataclass(frozen=True)
class WeightTensor:
    """A weight tensor of a float32 graph, and the first operation that takes it."""

    name: str
    operation: str
    shape: tuple[int, ...]
    axis: int  # the dimension of the filters
    exclusive: bool  # all its users are operations of this kind that take it as their weights

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return int(np.prod(self.shape))


def list_weights(flatbuffer: bytes) -> tuple[WeightTensor, ...]:
    """Return the float32 weight tensors of a flatbuffer's convolutions and dense layers, in the graph's order."""
    return tuple(find_weights(unpack(flatbuffer)).values())


def find_weights(model: Model) -> dict[int, WeightTensor]:
    """Return {tensor index: weights}."""
    users: dict[int, set[tuple[str, int]]] = {}
    for op in model.subgraphs[0].operators:
        for slot, index in enumerate(op.inputs):
            users.setdefault(int(index), set()).add((kind_of(model, op), slot))
    found: dict[int, WeightTensor] = {}
    for op in find_operators(model, *WEIGHTS):
        kind = kind_of(model, op)
        slot, axis = WEIGHTS[kind]
        index = int(op.inputs[slot])
        values = read_constant(model, index)
        if index in found or values is None or values.dtype != np.float32:
            continue
        found[index] = WeightTensor(name_tensor(model, index), kind, values.shape, axis, users[index] == {(kind, slot)})
    return found


def plan_weights(flatbuffer: bytes, kind: str) -> dict[str, str]:
    """Return {weight tensor's name: kind} for the weights that a recipe of that kind changes: the large ones."""
    return {
        weight.name: ("weight-only" if kind == "int8" and weight.operation not in HYBRID else kind)
        for weight in list_weights(flatbuffer)
        if weight.exclusive
        and weight.elements >= MIN_ELEMENTS
        and not is_channel_factor(weight.operation, weight.shape)
    }


def is_channel_factor(operation: str, shape: tuple[int, ...]) -> bool:
    """Return whether weights are one factor per channel, for which a hybrid kernel is slower than a float one."""
    return operation == "DEPTHWISE_CONV_2D" and shape[1:3] == (1, 1)


def quantize_weights(flatbuffer: bytes, plan: Mapping[str, str], per_tensor_dense: bool = False) -> bytes:
    """Return the flatbuffer with its weights stored as planned; tensors that the plan does not name stay float32.

    plan: {tensor's name: one of KINDS}. per_tensor_dense: one scale for a whole FULLY_CONNECTED, all that runtimes up
    to 2.14 support.
    """
    model = unpack(flatbuffer)
    for index, weight in find_weights(model).items():
        kind = plan.get(weight.name, "float32")
        if kind == "int8":
            whole = per_tensor_dense and weight.operation == "FULLY_CONNECTED"
            quantize_hybrid(model, index, weight, whole)
        elif kind in ("weight-only", "float16"):
            dequantize_at_load(model, index, weight, "int8" if kind == "weight-only" else "float16")
    return pack(model)


def quantize_hybrid(model: Model, index: int, weight: WeightTensor, whole: bool) -> None:
    """Store weights as int8 and have their operations quantize their inputs."""
    store_int8(model, index, weight.axis, whole)
    for op in find_users(model, index):
        version = max(version_of(model, op), HYBRID[weight.operation][whole])
        op.opcodeIndex = find_code(model, weight.operation, version)
        if weight.operation == "FULLY_CONNECTED":
            op.builtinOptions.asymmetricQuantizeInputs = True


def dequantize_at_load(model: Model, index: int, weight: WeightTensor, kind: str) -> None:
    """Store weights as int8 or float16, and add a DEQUANTIZE to float32 for the operations that take them."""
    graph, users = model.subgraphs[0], find_users(model, index)
    dequantized = add_tensor(model, f"{weight.name}/float32", weight.shape)
    if kind == "int8":
        store_int8(model, index, weight.axis, False)
    else:
        values = read_constant(model, index)
        assert values is not None
        index = add_constant(model, weight.name, np.clip(values, -65504, 65504).astype(np.float16))
    for op in users:
        op.inputs = np.array([dequantized if i == WEIGHTS[weight.operation][0] else p for i, p in enumerate(op.inputs)])
    first = min(i for i, op in enumerate(graph.operators) if any(op is user for user in users))
    graph.operators.insert(first, make_operator(model, "DEQUANTIZE", [index], [dequantized], version=DEQUANTIZE[kind]))


def store_int8(model: Model, index: int, axis: int, whole: bool) -> None:
    """Replace a float32 constant by its int8 form."""
    from ai_edge_litert import schema_py_generated as schema

    values = read_constant(model, index)
    assert values is not None
    integers, scales = to_integers(values, None if whole else axis)
    tensor = model.subgraphs[0].tensors[index]
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(integers.tobytes(), np.uint8)
    model.buffers.append(buffer)  # a new one: constants of equal bytes share theirs
    tensor.buffer, tensor.type = len(model.buffers) - 1, value_of("TensorType", "INT8")
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale = scales
    tensor.quantization.zeroPoint = np.zeros(len(scales), np.int64)
    tensor.quantization.quantizedDimension = 0 if whole else axis


def to_integers(values: npt.NDArray[Any], axis: int | None) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Return int8 integers in [-127, 127] and their scales: one for each slice along `axis`, or one in all.

    Slices of zeros, or of weights that count as zeros (MIN_WEIGHT), have the largest scale of the others: any is right.
    """
    others = tuple(i for i in range(values.ndim) if i != axis)
    largest = np.abs(values.astype(np.float64)).max(axis=others, keepdims=True)
    usual = largest.max() if largest.max() >= MIN_WEIGHT else 127.0
    scales = (np.where(largest >= MIN_WEIGHT, largest, usual) / 127.0).astype(np.float32)
    integers = np.clip(np.rint(values / scales.astype(np.float64)), -127, 127).astype(np.int8)
    integers = np.where(largest >= MIN_WEIGHT, integers, np.int8(0))
    return integers, scales.reshape(-1)
