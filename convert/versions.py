"""The version that each operation of a file needs, and the newest that each runtime has.

A runtime looks up every operation by name and version before it loads a file: stamped too high, a version makes a file
unloadable; too low, it lets an old runtime take what it then computes wrongly or refuses. Neither is for a converter to
guess: the version follows from the operation's types, shapes and options.

Sources: tensorflow/compiler/mlir/lite/tools/versioning/op_version.cc (TensorFlow 2.21) for the rules, for float32,
int8 and what surrounds them; int16, int4 and text are left out. The tables are what the runtimes answered: files with
one operation code each, versions 1 to 20, loaded in tflite-runtime 2.14.0 and ai-edge-litert 2.3.0; a test asks again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .surgery import Model, Operator, find_code, kind_of, listed, name_of, shape_of, unpack, version_of

# The newest version of each operation that a runtime has; {name: (tflite-runtime 2.14, LiteRT 2.3)}, 0: none at all.
# Operations that are not named have version 1 in both.
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
class Signature:
    """What a rule looks at: types and shapes of what an operation takes and makes ("" and () where left out)."""

    takes: tuple[str, ...]
    makes: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]  # of what it takes
    options: Any
    scales: tuple[tuple[float, ...], ...]  # of what it takes, then of what it makes

    @property
    def first(self) -> str:
        """The type of the first thing it takes."""
        return self.takes[0] if self.takes else ""

    @property
    def rank(self) -> int:
        """The largest number of dimensions of what it takes."""
        return max((len(shape) for shape in self.shapes), default=0)

    @property
    def hybrid(self) -> bool:
        """Whether int8 weights meet float32 numbers."""
        return self.first == "FLOAT32" and self.takes[1:2] == ("INT8",) and self.makes[:1] == ("FLOAT32",)

    @property
    def per_filter(self) -> bool:
        """Whether its weights have a scale for each filter."""
        return len(self.scales) > 1 and len(self.scales[1]) > 1

    def asks(self, option: str) -> bool:
        """Tell whether an option of that name is set."""
        return bool(getattr(self.options, option, False))


@dataclass(frozen=True)
class Misfit:
    """An operation that a runtime does not have in the version it needs or is stamped with."""

    operator: int  # its place in the main graph
    operation: str
    version: int
    newest: int
    runtime: str

    def __str__(self) -> str:
        has = f"has up to {self.newest}" if self.newest else "has none"
        return f"version {self.version}; {self.runtime} {has}"


def find_misfits(flatbuffer: bytes, runtime: str) -> tuple[Misfit, ...]:
    """Return the operations that a runtime refuses: stamped with, or in need of, a version it does not have."""
    model, found = unpack(flatbuffer), []
    for index, op in enumerate(model.subgraphs[0].operators):
        kind = kind_of(model, op)
        version = max(version_of(model, op), need_version(model, op))
        newest = RUNTIMES[runtime].get(kind, 1)
        if version > newest:
            found.append(Misfit(index, kind, version, newest, runtime))
    return tuple(found)


def stamp_versions(model: Model) -> None:
    """Give every operation of an unpacked file the version it needs, no higher and no lower; custom ones are left."""
    for graph in model.subgraphs:
        for op in graph.operators:
            kind = kind_of(model, op)
            if kind != "CUSTOM":
                op.opcodeIndex = find_code(model, kind, need_version(model, op))


def need_version(model: Model, op: Operator) -> int:
    """Return the lowest version of an operation whose kernels take its types, shapes and options."""
    kind = kind_of(model, op)
    rule = RULES.get(kind)
    return rule(read_signature(model, op)) if rule else 1


def read_signature(model: Model, op: Operator) -> Signature:
    """Return what the rules look at."""
    takes, makes = [int(place) for place in listed(op.inputs)], [int(place) for place in listed(op.outputs)]
    shapes = tuple(shape_of(model, place) if place >= 0 else () for place in takes)
    scales = tuple(scales_of(model, place) for place in (*takes, *makes))
    kinds = [type_of(model, place) for place in (*takes, *makes)]
    return Signature(tuple(kinds[: len(takes)]), tuple(kinds[len(takes) :]), shapes, op.builtinOptions, scales)


def type_of(model: Model, place: int) -> str:
    """Return a tensor's type; "" of an input left out."""
    return name_of("TensorType", model.subgraphs[0].tensors[place].type) if place >= 0 else ""


def scales_of(model: Model, place: int) -> tuple[float, ...]:
    """Return a tensor's quantization scales; none of a float one."""
    steps = model.subgraphs[0].tensors[place].quantization if place >= 0 else None
    return tuple(float(scale) for scale in listed(steps.scale)) if steps is not None else ()


Rule = Callable[[Signature], int]


def by_type(**versions: int) -> Rule:
    """Return a rule that goes by the type of the first thing an operation takes; 1 for all others."""
    return lambda at: versions.get(at.first, 1)


def of_convolution(at: Signature) -> int:
    """CONV_2D: hybrid, int8, groups."""
    if at.shapes[0][-1:] != at.shapes[1][-1:]:
        return 6
    if at.hybrid:
        return 5 if at.per_filter else 2
    return 3 if at.first == "INT8" else 1


def of_depthwise(at: Signature) -> int:
    """DEPTHWISE_CONV_2D: hybrid, int8, dilation."""
    if at.hybrid:
        return 6 if at.per_filter else 4
    if at.first == "INT8":
        return 3
    return 2 if at.options.dilationHFactor != 1 or at.options.dilationWFactor != 1 else 1


def of_dense(at: Signature) -> int:
    """FULLY_CONNECTED: hybrid with a scale for each filter, no bias, kept dimensions, int8, hybrid."""
    if at.hybrid and at.per_filter:
        return 12
    if len(at.takes) == 2:
        return 6
    if at.asks("keepNumDims"):
        return 5
    if at.hybrid:
        return 9 if at.asks("asymmetricQuantizeInputs") else 3
    return 4 if at.first == "INT8" else 1


def of_transposed(at: Signature) -> int:
    """TRANSPOSE_CONV: fused activation, bias, int8 weights."""
    if at.asks("fusedActivationFunction"):
        return 4
    if len(at.takes) == 4 and at.takes[3]:
        return 3
    return 2 if at.takes[1] == "INT8" else 1


def of_product(at: Signature) -> int:
    """MUL: 64-bit integers; products coarser than the result's scale; int8."""
    if at.first == "INT64":
        return 5
    if all(len(scales) == 1 for scales in at.scales):
        one, other, made = (np.float32(scales[0]) for scales in at.scales)
        if made and one * other / made >= 1:
            return 3
    return 2 if at.first == "INT8" else 1


def of_sum(at: Signature) -> int:
    """ADD: 64-bit integers, int8."""
    return {"INT64": 4, "INT8": 2}.get(at.first, 1)


def of_difference(at: Signature) -> int:
    """SUB: 64-bit integers, broadcast beyond 4 dimensions, int8."""
    if at.first == "INT64":
        return 4
    return 3 if stretches(at) and at.rank > 4 else (2 if at.first == "INT8" else 1)


def of_quotient(at: Signature) -> int:
    """DIV: broadcast beyond 4 dimensions."""
    return 2 if stretches(at) and at.rank > 4 else 1


def of_extreme(at: Signature) -> int:
    """MAXIMUM and MINIMUM: broadcast beyond 4 dimensions, int8."""
    return 3 if stretches(at) and at.rank > 4 else (2 if at.first == "INT8" else 1)


def stretches(at: Signature) -> bool:
    """Tell whether the two things an operation takes differ in shape."""
    return len(at.shapes) > 1 and at.shapes[0] != at.shapes[1]


def of_transposition(at: Signature) -> int:
    """TRANSPOSE: more than 6, 5 or 4 dimensions, truth values, int8."""
    sides = len(at.shapes[0])
    return 8 if sides > 6 else 6 if sides > 5 else 4 if sides > 4 else {"BOOL": 3, "INT8": 2}.get(at.first, 1)


def of_slice(at: Signature) -> int:
    """SLICE: more than 4 dimensions, int8."""
    return 5 if len(at.shapes[0]) > 4 else (2 if at.first == "INT8" else 1)


def of_strided_slice(at: Signature) -> int:
    """STRIDED_SLICE: offsets, new axes, more than 4 dimensions, truth values, int8."""
    if at.asks("offset"):
        return 8
    if at.asks("ellipsisMask") or at.asks("newAxisMask"):
        return 6
    return 4 if len(at.shapes[0]) > 4 else {"BOOL": 3, "INT8": 2}.get(at.first, 1)


def of_split(at: Signature) -> int:
    """SPLIT: the type of its second input; the first is the axis."""
    return {"INT32": 3, "INT8": 2}.get(at.takes[1], 1)


def of_padding(at: Signature) -> int:
    """PAD and PADV2: truth values, more than 4 dimensions, int8."""
    return 5 if at.first == "BOOL" else 4 if len(at.shapes[0]) > 4 else 2 if at.first == "INT8" else 1


def of_bilinear(at: Signature) -> int:
    """RESIZE_BILINEAR: pixel centres at one half, int8."""
    return 3 if at.asks("halfPixelCenters") else (2 if at.first == "INT8" else 1)


def of_nearest(at: Signature) -> int:
    """RESIZE_NEAREST_NEIGHBOR: pixel centres at one half, aligned corners, int8."""
    return 3 if at.asks("halfPixelCenters") or at.asks("alignCorners") else (2 if at.first == "INT8" else 1)


def of_blocks(at: Signature) -> int:
    """SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND: other than 4 dimensions, int8."""
    return 3 if len(at.shapes[0]) != 4 else (2 if at.first == "INT8" else 1)


def of_dequantize(at: Signature) -> int:
    """DEQUANTIZE: 16-bit floats, int8 with one scale or several."""
    if at.first == "INT8":
        return 5 if len(at.scales[0]) > 1 else 2
    return 3 if at.first == "FLOAT16" else 1


def of_quantize(at: Signature) -> int:
    """QUANTIZE: several scales."""
    return 3 if len(at.scales[-1]) > 1 else 1


def of_matrices(at: Signature) -> int:
    """BATCH_MATMUL: int8, hybrid with a zero point."""
    if at.first == "INT8":
        return 2
    return 4 if at.hybrid and at.asks("asymmetricQuantizeInputs") else 1


def of_gather(at: Signature) -> int:
    """GATHER: batch dimensions, truth values, int8."""
    return 5 if at.asks("batchDims") else {"BOOL": 3, "INT8": 2}.get(at.first, 1)


def of_cast(at: Signature) -> int:
    """CAST: 64- and 16-bit floats, 16-bit, 8-bit and unsigned 32-bit integers, on either side."""
    ends = {at.first, at.makes[0]}
    known = ((5, {"FLOAT64", "FLOAT16"}), (4, {"UINT16"}), (3, {"INT8"}), (2, {"UINT32"}))
    return next((version for version, kinds in known if ends & kinds), 1)


def of_choice(at: Signature) -> int:
    """SELECT: 5 dimensions, int8."""
    return 3 if at.rank == 5 else (2 if at.first == "INT8" else 1)


RULES: dict[str, Rule] = {
    "CONV_2D": of_convolution,
    "DEPTHWISE_CONV_2D": of_depthwise,
    "FULLY_CONNECTED": of_dense,
    "TRANSPOSE_CONV": of_transposed,
    "MUL": of_product,
    "ADD": of_sum,
    "SUB": of_difference,
    "DIV": of_quotient,
    "MAXIMUM": of_extreme,
    "MINIMUM": of_extreme,
    "TRANSPOSE": of_transposition,
    "SLICE": of_slice,
    "STRIDED_SLICE": of_strided_slice,
    "SPLIT": of_split,
    "PAD": of_padding,
    "PADV2": of_padding,
    "RESIZE_BILINEAR": of_bilinear,
    "RESIZE_NEAREST_NEIGHBOR": of_nearest,
    "SPACE_TO_BATCH_ND": of_blocks,
    "BATCH_TO_SPACE_ND": of_blocks,
    "DEQUANTIZE": of_dequantize,
    "QUANTIZE": of_quantize,
    "BATCH_MATMUL": of_matrices,
    "GATHER": of_gather,
    "CAST": of_cast,
    "SELECT": of_choice,
    "ABS": by_type(INT32=5, INT8=2, UINT8=2),
    "RELU": by_type(INT8=2, UINT8=2),
    "GELU": by_type(INT8=2, UINT8=2),
    "UNPACK": by_type(INT8=2, UINT8=2, BOOL=3),
    "TILE": by_type(INT8=3),
    "REVERSE_V2": by_type(INT8=3, BOOL=2),
    "FLOOR_DIV": by_type(INT8=3, FLOAT32=2),
    "RANGE": by_type(INT64=2),
    "SIGN": by_type(INT32=2),
    "BROADCAST_TO": lambda at: 3 if at.first == "INT8" else 2,
    "WHERE": lambda at: 1 if at.first == "BOOL" else 2,
    "FILL": lambda at: {"FLOAT16": 4, "INT8": 3, "BOOL": 2}.get(at.takes[1] if len(at.takes) > 1 else "", 1),
    "ARG_MAX": by_type(BOOL=3, INT8=2),
    "ARG_MIN": by_type(BOOL=3, INT8=2),
    "L2_NORMALIZATION": lambda at: 2 if at.makes[0] == "INT8" else 1,
}
EIGHT_BIT = (
    "MAX_POOL_2D", "AVERAGE_POOL_2D", "TANH", "LOGISTIC", "CONCATENATION", "SOFTMAX", "MEAN", "MIRROR_PAD",
    "REDUCE_MAX", "REDUCE_MIN", "RELU6", "RSQRT", "SPACE_TO_DEPTH", "DEPTH_TO_SPACE", "SPLIT_V", "SUM", "LOG_SOFTMAX",
    "GREATER", "LESS_EQUAL", "LESS", "GREATER_EQUAL", "EQUAL", "NOT_EQUAL", "SQUARED_DIFFERENCE", "EXP", "LOG",
    "REDUCE_PROD", "SQRT", "PACK", "FLOOR_MOD", "TOPK_V2",
)  # fmt: skip
RULES |= dict.fromkeys(EIGHT_BIT, by_type(INT8=2))


def runtime_of(target: str) -> str:
    """Return the runtime, one of RUNTIMES, of a conversion's target."""
    return OLD if target == "tflite-runtime" else NEW
