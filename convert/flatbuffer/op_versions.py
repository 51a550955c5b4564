"""Which version does each operation of a file need, and which is the newest that each runtime has?

A runtime looks up every operation by name and version before it loads a file. A version that is too high makes a file
unloadable; one that is too low lets an old runtime load what it then computes wrongly or rejects. So versions are not
guessed: each follows from the operation's types, shapes and options.

Sources: tensorflow/compiler/mlir/lite/tools/versioning/op_version.cc (TensorFlow 2.21) for the rules on float32, int8
and the types that go with them; int16, int4 and text are left out. The tables were measured: files with one operation
code each, versions 1 to 20, were loaded in tflite-runtime 2.14.0 and ai-edge-litert 2.3.0; a test repeats that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .edit import Model, Operator, find_code, kind_of, scales_of, shape_of, to_list, type_of, unpack, version_of

# The newest version of each operation in {name: (tflite-runtime 2.14, LiteRT 2.3)}; 0: the runtime has none.
# Operations that are not listed have version 1 in both.
NEWEST = {
    "ABS": (5, 5), "ADD": (5, 6), "ARG_MAX": (3, 3), "ARG_MIN": (3, 3), "AVERAGE_POOL_2D": (3, 3),
    "BATCH_MATMUL": (4, 4), "BATCH_TO_SPACE_ND": (4, 4), "BROADCAST_TO": (3, 4), "CAST": (5, 9),
    "CONCATENATION": (4, 7), "CONV_2D": (7, 8), "COS": (1, 2), "DEPTHWISE_CONV_2D": (7, 7), "DEPTH_TO_SPACE": (2, 2),
    "DEQUANTIZE": (5, 9), "DILATE": (0, 1), "DIV": (2, 2), "DYNAMIC_UPDATE_SLICE": (1, 6), "EMBEDDING_LOOKUP": (3, 5),
    "EQUAL": (4, 5), "EXP": (2, 2), "FAKE_QUANT": (2, 2), "FILL": (4, 5), "FLOOR_DIV": (3, 3), "FLOOR_MOD": (2, 2),
    "FULLY_CONNECTED": (10, 14), "GATHER": (6, 8), "GATHER_ND": (4, 6), "GELU": (2, 3), "GREATER": (2, 2),
    "GREATER_EQUAL": (3, 3), "L2_NORMALIZATION": (2, 2), "LEAKY_RELU": (2, 2), "LESS": (3, 3), "LESS_EQUAL": (2, 2),
    "LOG": (1, 2), "LOGISTIC": (3, 3), "LOG_SOFTMAX": (2, 2), "MAXIMUM": (4, 4), "MAX_POOL_2D": (3, 3), "MEAN": (3, 3),
    "MINIMUM": (4, 4), "MIRROR_PAD": (3, 3), "MUL": (7, 8), "NOT_EQUAL": (3, 4), "PACK": (4, 5), "PAD": (4, 6),
    "PADV2": (4, 6), "QUANTIZE": (3, 6), "RANGE": (2, 2), "REDUCE_MAX": (3, 3), "REDUCE_MIN": (3, 3),
    "REDUCE_PROD": (2, 2), "REDUCE_WINDOW": (0, 1), "RELU": (3, 3), "RELU6": (3, 3), "RESIZE_BILINEAR": (4, 4),
    "RESIZE_NEAREST_NEIGHBOR": (4, 4), "REVERSE_V2": (3, 4), "RSQRT": (2, 3), "SELECT": (4, 4), "SELECT_V2": (2, 2),
    "SIGN": (2, 2), "SIN": (1, 2), "SLICE": (6, 8), "SOFTMAX": (3, 4), "SPACE_TO_BATCH_ND": (4, 4),
    "SPACE_TO_DEPTH": (2, 2), "SPARSE_TO_DENSE": (3, 3), "SPLIT": (4, 5), "SPLIT_V": (2, 3), "SQRT": (1, 2),
    "SQUARED_DIFFERENCE": (2, 2), "SQUEEZE": (2, 2), "STABLEHLO_COMPOSITE": (0, 1), "STRIDED_SLICE": (8, 8),
    "SUB": (5, 5), "SUM": (2, 2), "TANH": (3, 3), "TILE": (3, 3), "TOPK_V2": (3, 3), "TRANSPOSE": (6, 9),
    "TRANSPOSE_CONV": (4, 5), "UNPACK": (4, 6), "WHERE": (2, 2),
}  # fmt: skip
RUNTIMES: dict[str, Mapping[str, int]] = {
    "tflite-runtime 2.14": {name: old for name, (old, _) in NEWEST.items()},
    "LiteRT 2.3": {name: new for name, (_, new) in NEWEST.items()},
}
OLD, NEW = RUNTIMES


@dataclass(frozen=True)
class OperatorSignature:
    """What the rules depend on: types and shapes of an operation's inputs and outputs ("" and () where left out)."""

    inputs: tuple[str, ...]  # types
    outputs: tuple[str, ...]  # types
    shapes: tuple[tuple[int, ...], ...]  # of the inputs
    options: Any
    scales: tuple[tuple[float, ...], ...]  # of the inputs, then of the outputs

    @property
    def first(self) -> str:
        """The type of the first input."""
        return self.inputs[0] if self.inputs else ""

    @property
    def rank(self) -> int:
        """The largest number of dimensions of an input."""
        return max((len(shape) for shape in self.shapes), default=0)

    @property
    def hybrid(self) -> bool:
        """Whether int8 weights are applied to float32 activations."""
        return self.first == "FLOAT32" and self.inputs[1:2] == ("INT8",) and self.outputs[:1] == ("FLOAT32",)

    @property
    def per_filter(self) -> bool:
        """Whether its weights have a scale for each filter."""
        return len(self.scales) > 1 and len(self.scales[1]) > 1

    @property
    def int8(self) -> bool:
        """Whether the first input is int8."""
        return self.first == "INT8"

    @property
    def dimensions(self) -> int:
        """The number of dimensions of the first input."""
        return len(self.shapes[0])

    @property
    def wide_broadcast(self) -> bool:
        """Whether two inputs of different shapes are broadcast beyond 4 dimensions."""
        return len(self.shapes) > 1 and self.shapes[0] != self.shapes[1] and self.rank > 4

    def has_option(self, *options: str) -> bool:
        """Return whether one of these options is set."""
        return any(getattr(self.options, option, False) for option in options)


@dataclass(frozen=True)
class UnsupportedVersion:
    """An operation that a runtime does not have in the version that it needs or is written with."""

    operator: int  # its index in the main graph
    operation: str
    version: int
    newest: int
    runtime: str

    def __str__(self) -> str:
        has = f"has up to {self.newest}" if self.newest else "has none"
        return f"version {self.version}; {self.runtime} {has}"


def find_unsupported(flatbuffer: bytes, runtime: str) -> tuple[UnsupportedVersion, ...]:
    """Return the operations that are written with, or need, a version that a runtime does not have."""
    model, found = unpack(flatbuffer), []
    for index, op in enumerate(model.subgraphs[0].operators):
        kind = kind_of(model, op)
        version = max(version_of(model, op), find_required_version(model, op))
        newest = RUNTIMES[runtime].get(kind, 1)
        if version > newest:
            found.append(UnsupportedVersion(index, kind, version, newest, runtime))
    return tuple(found)


def set_versions(model: Model) -> None:
    """Give every operation of an unpacked file exactly the version that it needs; custom ones stay as they are."""
    for graph in model.subgraphs:
        for op in graph.operators:
            kind = kind_of(model, op)
            if kind != "CUSTOM":
                op.opcodeIndex = find_code(model, kind, find_required_version(model, op))


def find_required_version(model: Model, op: Operator) -> int:
    """Return the lowest version of an operation whose kernels take its types, shapes and options."""
    kind = kind_of(model, op)
    rule = RULES.get(kind)
    return rule(read_signature(model, op)) if rule else 1


def read_signature(model: Model, op: Operator) -> OperatorSignature:
    """Return what the rules depend on."""
    inputs, outputs = [int(index) for index in to_list(op.inputs)], [int(index) for index in to_list(op.outputs)]
    return OperatorSignature(
        inputs=tuple(type_of(model, index) if index >= 0 else "" for index in inputs),
        outputs=tuple(type_of(model, index) for index in outputs),
        shapes=tuple(shape_of(model, index) if index >= 0 else () for index in inputs),
        options=op.builtinOptions,
        scales=tuple(scales_of(model, index) for index in (*inputs, *outputs)),
    )


Rule = Callable[[OperatorSignature], int]


def version_by_type(**versions: int) -> Rule:
    """Return a rule that depends on the type of the first input alone; 1 for types that are not given."""
    return lambda op: versions.get(op.first, 1)


def version_of_convolution(op: OperatorSignature) -> int:
    """CONV_2D: hybrid, int8, groups."""
    if op.shapes[0][-1:] != op.shapes[1][-1:]:
        return 6
    if op.hybrid:
        return 5 if op.per_filter else 2
    return 3 if op.int8 else 1


def version_of_depthwise(op: OperatorSignature) -> int:
    """DEPTHWISE_CONV_2D: hybrid, int8, dilation."""
    if op.hybrid:
        return 6 if op.per_filter else 4
    if op.int8:
        return 3
    return 2 if op.options.dilationHFactor != 1 or op.options.dilationWFactor != 1 else 1


def version_of_dense(op: OperatorSignature) -> int:
    """FULLY_CONNECTED: hybrid with a scale for each filter, no bias, kept dimensions, int8, hybrid."""
    if op.hybrid and op.per_filter:
        return 12
    if len(op.inputs) == 2:
        return 6
    if op.has_option("keepNumDims"):
        return 5
    if op.hybrid:
        return 9 if op.has_option("asymmetricQuantizeInputs") else 3
    return 4 if op.int8 else 1


def version_of_transposed(op: OperatorSignature) -> int:
    """TRANSPOSE_CONV: fused activation, bias, int8 weights."""
    if op.has_option("fusedActivationFunction"):
        return 4
    if len(op.inputs) == 4 and op.inputs[3]:
        return 3
    return 2 if op.inputs[1] == "INT8" else 1


def version_of_product(op: OperatorSignature) -> int:
    """MUL: 64-bit integers; a product of scales above the result's scale; int8."""
    if op.first == "INT64":
        return 5
    if all(len(scales) == 1 for scales in op.scales):
        one, other, made = (np.float32(scales[0]) for scales in op.scales)
        if made and one * other / made >= 1:
            return 3
    return 2 if op.int8 else 1


def version_of_transposition(op: OperatorSignature) -> int:
    """TRANSPOSE: more than 6, 5 or 4 dimensions, truth values, int8."""
    sides = op.dimensions
    return 8 if sides > 6 else 6 if sides > 5 else 4 if sides > 4 else {"BOOL": 3, "INT8": 2}.get(op.first, 1)


def version_of_strided_slice(op: OperatorSignature) -> int:
    """STRIDED_SLICE: offsets, new axes, more than 4 dimensions, truth values, int8."""
    if op.has_option("offset"):
        return 8
    if op.has_option("ellipsisMask") or op.has_option("newAxisMask"):
        return 6
    return 4 if op.dimensions > 4 else {"BOOL": 3, "INT8": 2}.get(op.first, 1)


def version_of_dequantize(op: OperatorSignature) -> int:
    """DEQUANTIZE: 16-bit floats, int8 with one scale or several."""
    if op.int8:
        return 5 if len(op.scales[0]) > 1 else 2
    return 3 if op.first == "FLOAT16" else 1


def version_of_matrices(op: OperatorSignature) -> int:
    """BATCH_MATMUL: int8, hybrid with a zero point."""
    if op.int8:
        return 2
    return 4 if op.hybrid and op.has_option("asymmetricQuantizeInputs") else 1


def version_of_cast(op: OperatorSignature) -> int:
    """CAST: 64- and 16-bit floats, 16-bit, 8-bit and unsigned 32-bit integers, as input or output."""
    ends = {op.first, op.outputs[0]}
    known = ((5, {"FLOAT64", "FLOAT16"}), (4, {"UINT16"}), (3, {"INT8"}), (2, {"UINT32"}))
    return next((version for version, kinds in known if ends & kinds), 1)


RULES: dict[str, Rule] = {
    "CONV_2D": version_of_convolution,
    "DEPTHWISE_CONV_2D": version_of_depthwise,
    "FULLY_CONNECTED": version_of_dense,
    "TRANSPOSE_CONV": version_of_transposed,
    "MUL": version_of_product,
    "ADD": version_by_type(INT64=4, INT8=2),
    "SUB": lambda op: 4 if op.first == "INT64" else 3 if op.wide_broadcast else 2 if op.int8 else 1,
    "DIV": lambda op: 2 if op.wide_broadcast else 1,
    "MAXIMUM": lambda op: 3 if op.wide_broadcast else 2 if op.int8 else 1,
    "MINIMUM": lambda op: 3 if op.wide_broadcast else 2 if op.int8 else 1,
    "TRANSPOSE": version_of_transposition,
    "SLICE": lambda op: 5 if op.dimensions > 4 else 2 if op.int8 else 1,
    "STRIDED_SLICE": version_of_strided_slice,
    "SPLIT": lambda op: {"INT32": 3, "INT8": 2}.get(op.inputs[1], 1),  # the first input is the axis
    "PAD": lambda op: 5 if op.first == "BOOL" else 4 if op.dimensions > 4 else 2 if op.int8 else 1,
    "PADV2": lambda op: 5 if op.first == "BOOL" else 4 if op.dimensions > 4 else 2 if op.int8 else 1,
    "RESIZE_BILINEAR": lambda op: 3 if op.has_option("halfPixelCenters") else 2 if op.int8 else 1,
    "RESIZE_NEAREST_NEIGHBOR": lambda op: (
        3 if op.has_option("halfPixelCenters", "alignCorners") else 2 if op.int8 else 1
    ),
    "SPACE_TO_BATCH_ND": lambda op: 3 if op.dimensions != 4 else 2 if op.int8 else 1,
    "BATCH_TO_SPACE_ND": lambda op: 3 if op.dimensions != 4 else 2 if op.int8 else 1,
    "DEQUANTIZE": version_of_dequantize,
    "QUANTIZE": lambda op: 3 if len(op.scales[-1]) > 1 else 1,
    "BATCH_MATMUL": version_of_matrices,
    "GATHER": lambda op: 5 if op.has_option("batchDims") else {"BOOL": 3, "INT8": 2}.get(op.first, 1),
    "CAST": version_of_cast,
    "SELECT": lambda op: 3 if op.rank == 5 else 2 if op.int8 else 1,
    "ABS": version_by_type(INT32=5, INT8=2, UINT8=2),
    "RELU": version_by_type(INT8=2, UINT8=2),
    "GELU": version_by_type(INT8=2, UINT8=2),
    "UNPACK": version_by_type(INT8=2, UINT8=2, BOOL=3),
    "TILE": version_by_type(INT8=3),
    "REVERSE_V2": version_by_type(INT8=3, BOOL=2),
    "FLOOR_DIV": version_by_type(INT8=3, FLOAT32=2),
    "RANGE": version_by_type(INT64=2),
    "SIGN": version_by_type(INT32=2),
    "BROADCAST_TO": lambda op: 3 if op.int8 else 2,
    "WHERE": lambda op: 1 if op.first == "BOOL" else 2,
    "FILL": lambda op: {"FLOAT16": 4, "INT8": 3, "BOOL": 2}.get(op.inputs[1] if len(op.inputs) > 1 else "", 1),
    "ARG_MAX": version_by_type(BOOL=3, INT8=2),
    "ARG_MIN": version_by_type(BOOL=3, INT8=2),
    "L2_NORMALIZATION": lambda op: 2 if op.outputs[0] == "INT8" else 1,
}
EIGHT_BIT = (
    "MAX_POOL_2D", "AVERAGE_POOL_2D", "TANH", "LOGISTIC", "CONCATENATION", "SOFTMAX", "MEAN", "MIRROR_PAD",
    "REDUCE_MAX", "REDUCE_MIN", "RELU6", "RSQRT", "SPACE_TO_DEPTH", "DEPTH_TO_SPACE", "SPLIT_V", "SUM", "LOG_SOFTMAX",
    "GREATER", "LESS_EQUAL", "LESS", "GREATER_EQUAL", "EQUAL", "NOT_EQUAL", "SQUARED_DIFFERENCE", "EXP", "LOG",
    "REDUCE_PROD", "SQRT", "PACK", "FLOOR_MOD", "TOPK_V2",
)  # fmt: skip
RULES |= dict.fromkeys(EIGHT_BIT, version_by_type(INT8=2))


def runtime_of(target: str) -> str:
    """Return the runtime, one of RUNTIMES, of a conversion's target."""
    return OLD if target == "tflite-runtime" else NEW
