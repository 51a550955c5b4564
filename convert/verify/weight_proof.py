"""Do a file's integers follow from the float32 weights by the equations? Proven one weight tensor at a time.

    s = max |w| / 127        one for each filter, zero point 0                    (the paper's equation 14)
    q = round(w / s)         in [-127, 127], so that |w - q s| <= s / 2           (equation 15)

It shares no code with the quantizers: it reads both files, pairs tensors by name, and computes. One exception is
allowed, and only where the file shows the reason: in a full-integer layer, a filter of tiny weights needs a larger
scale, because its int32 bias or its fixed-point multiplier would leave their range (2**30, 2**-30).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from convert.flatbuffer.edit import (
    Model,
    Operator,
    kind_of,
    name_tensor,
    read_constant,
    scales_of,
    to_list,
    type_of,
    unpack,
)
from convert.flatbuffer.read import read_graph

# Which inputs of an operation are its weights and its bias, and which dimension of the weights is that of the filters.
WEIGHT_SLOTS = {
    "CONV_2D": (1, 2, 0),
    "DEPTHWISE_CONV_2D": (1, 2, 3),
    "TRANSPOSE_CONV": (1, 3, 0),
    "FULLY_CONNECTED": (1, 2, 0),
    "CONV_3D": (1, 2, 4),
    "CONV_3D_TRANSPOSE": (1, 3, 3),
}
SUFFIXES = ("/int8", "/float16")  # of a quantized tensor beside the float32 one
MAX_INTEGER = 127
SAME = 1e-6  # relative: how close a float32 scale is to the exact one
LIMIT = 2.0**30


@dataclass(frozen=True)
class Proof:
    """The result for one weight tensor. `why`: what does not hold, or why it stayed float; "" where all holds."""

    name: str
    operation: str
    shape: tuple[int, ...]
    dtype: str  # "int8" | "float16" | "float32"
    scales: int  # how many
    least: int  # of the integers
    most: int
    largest_error: float | None  # |w - q s| as a share of s; None where there is nothing to compare
    holds: bool
    why: str = ""


@dataclass(frozen=True)
class WeightUse:
    """A weight tensor of a quantized file, and an operation that multiplies by it."""

    op: Operator
    kind: str
    index: int  # of the tensor


def prove_weights(
    quantized: bytes, fp32_graph: bytes, whole: Collection[str] = (), reasons: Mapping[str, str] | None = None
) -> tuple[Proof, ...]:
    """Return the result for every weight tensor of `quantized`, compared with the float32 file of the same graph.

    whole: operations whose weights may have one scale for all filters. reasons: {name: why a tensor stayed float}.

    Raises:
        ModelError: one of them is no TFLite file.
    """
    for flatbuffer in (quantized, fp32_graph):
        read_graph(flatbuffer)
    model, floats = unpack(quantized), read_floats(unpack(fp32_graph))
    return tuple(prove(model, use, floats, whole, reasons or {}) for use in find_weight_uses(model))


def read_floats(model: Model) -> dict[str, npt.NDArray[Any]]:
    """Return {name: values} of a file's float32 constants."""
    constants = ((i, read_constant(model, i)) for i in range(len(model.subgraphs[0].tensors)))
    return {name_tensor(model, i): v for i, v in constants if v is not None and v.dtype == np.float32}


def find_weight_uses(model: Model) -> list[WeightUse]:
    """Return the constant weights of the file's layers, each once; those of a layer after a DEQUANTIZE too."""
    dequantized = {
        int(op.outputs[0]): int(op.inputs[0])
        for op in model.subgraphs[0].operators
        if kind_of(model, op) == "DEQUANTIZE"
    }
    found: dict[int, WeightUse] = {}
    for op in model.subgraphs[0].operators:
        kind = kind_of(model, op)
        if kind not in WEIGHT_SLOTS:
            continue
        index = int(op.inputs[WEIGHT_SLOTS[kind][0]])
        index = dequantized.get(index, index)
        if index not in found and read_constant(model, index) is not None:
            found[index] = WeightUse(op, kind, index)
    return list(found.values())


def prove(
    model: Model,
    use: WeightUse,
    floats: Mapping[str, npt.NDArray[Any]],
    whole: Collection[str],
    reasons: Mapping[str, str],
) -> Proof:
    """Return the result for one weight tensor."""
    stored = read_constant(model, use.index)
    assert stored is not None
    name, dtype = name_tensor(model, use.index), type_of(model, use.index).lower()
    weights, scales = floats.get(name, floats.get(strip_suffix(name))), len(scales_of(model, use.index))
    if weights is None or weights.shape != stored.shape:
        why = "the float32 file has no tensor of that name and shape"
        return Proof(name, use.kind, stored.shape, dtype, scales, 0, 0, None, False, why)
    if dtype != "int8":
        return prove_float(name, use, stored, weights, dtype, reasons)
    quantization = model.subgraphs[0].tensors[use.index].quantization
    step = shape_scales(quantization, stored.ndim)
    error = float((np.abs(weights.astype(np.float64) - stored.astype(np.float64) * step) / step).max())
    why = find_fault(model, use, stored, weights, quantization, error, use.kind in whole)
    low, high = int(stored.min()), int(stored.max())
    return Proof(name, use.kind, stored.shape, dtype, scales, low, high, error, not why, why)


def strip_suffix(name: str) -> str:
    """Return a tensor's name without the suffix that the quantizer added."""
    return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)


def prove_float(
    name: str,
    use: WeightUse,
    stored: npt.NDArray[Any],
    weights: npt.NDArray[Any],
    dtype: str,
    reasons: Mapping[str, str],
) -> Proof:
    """Return the result for weights that are no integers: they must be the float32 ones, rounded to their type."""
    exact = np.clip(weights, -65504, 65504).astype(stored.dtype) if dtype == "float16" else weights
    holds = bool(np.array_equal(stored, exact))
    why = reasons.get(strip_suffix(name), "") if holds else "its numbers are not those of the float32 file"
    return Proof(name, use.kind, stored.shape, dtype, 0, 0, 0, 0.0, holds, why)


def shape_scales(quantization: Any, dimensions: int) -> npt.NDArray[np.float64]:
    """Return the scales, shaped to multiply the integers."""
    scales = np.asarray(quantization.scale, np.float64)
    sides = [1] * dimensions
    if len(scales) > 1:
        sides[int(quantization.quantizedDimension)] = -1
    return scales.reshape(sides)


def find_fault(
    model: Model, use: WeightUse, stored: npt.NDArray[Any], weights: npt.NDArray[Any], quantization: Any, error: float,
    whole: bool,
) -> str:  # fmt: skip
    """Return the first thing that does not hold; "" where all does."""
    axis = WEIGHT_SLOTS[use.kind][2]
    filters, scales = stored.shape[axis], np.asarray(quantization.scale, np.float64)
    if len(scales) != filters and not (whole and len(scales) == 1):
        return f"{len(scales)} scales for {filters} filters"
    if len(scales) > 1 and int(quantization.quantizedDimension) != axis:
        return f"its scales are along dimension {int(quantization.quantizedDimension)}, its filters along {axis}"
    if any(int(zero) for zero in to_list(quantization.zeroPoint)):
        return "a zero point that is not 0"
    if stored.min() < -MAX_INTEGER:
        return f"an integer of {int(stored.min())}, below -{MAX_INTEGER}"
    others = tuple(i for i in range(stored.ndim) if i != axis)
    largest = np.abs(weights.astype(np.float64)).max(axis=others if len(scales) > 1 else None).reshape(-1)
    wrong = find_wrong_scale(scales, largest, find_excused(model, use, len(scales)))
    if wrong is not None:
        exact = largest[wrong] / MAX_INTEGER
        return f"filter {wrong}: scale {scales[wrong]:.6g}, but max |w| / {MAX_INTEGER} is {exact:.6g}"
    if not error <= 0.5 * (1 + 1e-4):  # not <=: NaN is wrong
        return f"an integer {error:.3g} steps from its weight"
    return ""


def find_wrong_scale(scales: npt.NDArray[Any], largest: npt.NDArray[Any], excused: npt.NDArray[np.bool_]) -> int | None:
    """Return the first filter whose scale is not max |w| / 127; where all weights are 0, any scale is right."""
    exact = largest / MAX_INTEGER
    right = np.abs(scales - exact) <= SAME * exact
    right |= (largest == 0) & (scales > 0)
    right |= excused & (scales > exact)
    return None if right.all() else int(np.flatnonzero(~right)[0])


def find_excused(model: Model, use: WeightUse, scales: int) -> npt.NDArray[np.bool_]:
    """Return for each scale whether the file shows that a smaller one is impossible in full-integer arithmetic."""
    excused = np.zeros(scales, bool)
    for op in model.subgraphs[0].operators:
        kind = kind_of(model, op)
        if kind not in WEIGHT_SLOTS or int(op.inputs[WEIGHT_SLOTS[kind][0]]) != use.index:
            continue
        input_scales = scales_of(model, int(op.inputs[2 if kind == "TRANSPOSE_CONV" else 0]))
        output_scales = scales_of(model, int(op.outputs[0]))
        if not input_scales or not output_scales:
            continue
        own = np.asarray(scales_of(model, use.index), np.float64)
        excused |= own * input_scales[0] / output_scales[0] * LIMIT <= 1 + 1e-3
        slot = WEIGHT_SLOTS[kind][1]
        bias = read_constant(model, int(op.inputs[slot])) if len(op.inputs) > slot else None
        if bias is not None:
            near = np.abs(bias.astype(np.float64)) >= LIMIT * (1 - 1e-3)
            excused |= near if len(near) == scales else near.any()
    return excused


def find_unproven(proofs: Sequence[Proof]) -> str:
    """Return which weights do not hold, the first and how many more; "" where all do."""
    wrong = [proof for proof in proofs if not proof.holds]
    if not wrong:
        return ""
    more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    return f"{wrong[0].operation} weights {wrong[0].name[-80:]!r}: {wrong[0].why}{more}"
