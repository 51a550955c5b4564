"""The proof that a file's integers are what the equations make of the float32 weights, one weight tensor at a time.

    s = max |w| / 127        one for each filter, zero point 0                    (the paper's equation 14)
    q = round(w / s)         in [-127, 127], so that |w - q s| <= s / 2           (equation 15)

It shares no code with what writes the files: it reads both, pairs tensors by name, and computes. One exception is
allowed, and only where the file shows the reason: in a full-integer layer, a filter of all but nothing needs a larger
scale, or its int32 bias or its fixed-point multiplier would leave their range (2**30, 2**-30).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .flatbuffer import read_graph
from .surgery import Model, Operator, kind_of, listed, name_of, read_constant, unpack

# Where an operation has its weights and its bias, and which dimension of the weights counts the filters.
PLACES = {
    "CONV_2D": (1, 2, 0),
    "DEPTHWISE_CONV_2D": (1, 2, 3),
    "TRANSPOSE_CONV": (1, 3, 0),
    "FULLY_CONNECTED": (1, 2, 0),
    "CONV_3D": (1, 2, 4),
    "CONV_3D_TRANSPOSE": (1, 3, 3),
}
SUFFIXES = ("/int8", "/float16")  # of a tensor that stands beside the float32 one it was made of
MOST = 127
SAME = 1e-6  # relative: how close a float32 scale is to the exact one
LIMIT = 2.0**30


@dataclass(frozen=True)
class Proof:
    """What was found of one weight tensor. `why`: what does not hold, or why it stayed float; "" where all holds."""

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
class Used:
    """A weight tensor of a quantized file: the operation that multiplies by it, and its place in the graph."""

    op: Operator
    kind: str
    place: int


def prove_weights(
    quantized: bytes, original: bytes, whole: Collection[str] = (), reasons: Mapping[str, str] | None = None
) -> tuple[Proof, ...]:
    """Return what holds of every weight tensor of `quantized`, next to the float32 file of the same graph.

    whole: operations whose weights may have one scale for all filters. reasons: why a tensor, by name, stayed float.

    Raises:
        ModelError: one of them is no TFLite file.
    """
    for flatbuffer in (quantized, original):
        read_graph(flatbuffer)
    model, floats = unpack(quantized), read_floats(unpack(original))
    return tuple(prove(model, used, floats, whole, reasons or {}) for used in find_used(model))


def read_floats(model: Model) -> dict[str, npt.NDArray[Any]]:
    """Return the float32 constants of a file by name."""
    found = {}
    for place, tensor in enumerate(model.subgraphs[0].tensors):
        values = read_constant(model, place)
        if values is not None and values.dtype == np.float32:
            found[(tensor.name or b"").decode(errors="replace")] = values
    return found


def find_used(model: Model) -> list[Used]:
    """Return the constant weights of the file's layers, each once; a DEQUANTIZE in between is looked through."""
    widened = {
        int(op.outputs[0]): int(op.inputs[0])
        for op in model.subgraphs[0].operators
        if kind_of(model, op) == "DEQUANTIZE"
    }
    found: dict[int, Used] = {}
    for op in model.subgraphs[0].operators:
        kind = kind_of(model, op)
        if kind not in PLACES:
            continue
        place = int(op.inputs[PLACES[kind][0]])
        place = widened.get(place, place)
        if place not in found and read_constant(model, place) is not None:
            found[place] = Used(op, kind, place)
    return list(found.values())


def prove(
    model: Model, used: Used, floats: Mapping[str, npt.NDArray[Any]], whole: Collection[str], reasons: Mapping[str, str]
) -> Proof:
    """Return what holds of one weight tensor."""
    tensor, stored = model.subgraphs[0].tensors[used.place], read_constant(model, used.place)
    assert stored is not None
    name = (tensor.name or b"").decode(errors="replace")
    weights = floats.get(name, floats.get(strip(name)))
    scales = [] if tensor.quantization is None else listed(tensor.quantization.scale)
    dtype = name_of("TensorType", tensor.type).lower()
    if weights is None or weights.shape != stored.shape:
        why = "the float32 file has no tensor of that name and shape"
        return Proof(name, used.kind, stored.shape, dtype, len(scales), 0, 0, None, False, why)
    if dtype != "int8":
        return prove_float(name, used, stored, weights, dtype, reasons)
    step = spread(tensor.quantization, stored.ndim)
    error = np.abs(weights.astype(np.float64) - stored.astype(np.float64) * step) / step
    why = judge(model, used, stored, weights, tensor.quantization, float(error.max()), used.kind in whole)
    return Proof(
        name, used.kind, stored.shape, dtype, len(scales), int(stored.min()), int(stored.max()), float(error.max()),
        not why, why,
    )  # fmt: skip


def strip(name: str) -> str:
    """Return a tensor's name without what the quantizer put behind it."""
    return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)


def prove_float(
    name: str, used: Used, stored: npt.NDArray[Any], weights: npt.NDArray[Any], dtype: str, reasons: Mapping[str, str]
) -> Proof:
    """Return what holds of weights that are no integers: they are the original's, rounded to their type at most."""
    exact = np.clip(weights, -65504, 65504).astype(stored.dtype) if dtype == "float16" else weights
    holds = bool(np.array_equal(stored, exact))
    why = reasons.get(strip(name), "") if holds else "its numbers are not those of the float32 file"
    return Proof(name, used.kind, stored.shape, dtype, 0, 0, 0, 0.0, holds, why)


def spread(quantization: Any, dimensions: int) -> npt.NDArray[np.float64]:
    """Return the scales, shaped to multiply the integers."""
    scales = np.asarray(quantization.scale, np.float64)
    sides = [1] * dimensions
    if len(scales) > 1:
        sides[int(quantization.quantizedDimension)] = -1
    return scales.reshape(sides)


def judge(
    model: Model, used: Used, stored: npt.NDArray[Any], weights: npt.NDArray[Any], quantization: Any, error: float,
    whole: bool,
) -> str:  # fmt: skip
    """Return the first thing that does not hold; "" where all does."""
    axis = PLACES[used.kind][2]
    filters, scales = stored.shape[axis], np.asarray(quantization.scale, np.float64)
    if len(scales) != filters and not (whole and len(scales) == 1):
        return f"{len(scales)} scales for {filters} filters"
    if len(scales) > 1 and int(quantization.quantizedDimension) != axis:
        return f"its scales are along dimension {int(quantization.quantizedDimension)}, its filters along {axis}"
    if any(int(zero) for zero in listed(quantization.zeroPoint)):
        return "a zero point that is not 0"
    if stored.min() < -MOST:
        return f"an integer of {int(stored.min())}, below -{MOST}"
    others = tuple(i for i in range(stored.ndim) if i != axis)
    largest = np.abs(weights.astype(np.float64)).max(axis=others if len(scales) > 1 else None).reshape(-1)
    wrong = find_wrong_scale(scales, largest, excuse(model, used, len(scales)))
    if wrong is not None:
        return f"filter {wrong}: scale {scales[wrong]:.6g}, but max |w| / {MOST} is {largest[wrong] / MOST:.6g}"
    if not error <= 0.5 * (1 + 1e-4):  # not <=: NaN is wrong
        return f"an integer {error:.3g} steps from its weight"
    return ""


def find_wrong_scale(scales: npt.NDArray[Any], largest: npt.NDArray[Any], excused: npt.NDArray[np.bool_]) -> int | None:
    """Return the first filter whose scale is not max |w| / 127; where all weights are 0 any will do."""
    exact = largest / MOST
    right = np.abs(scales - exact) <= SAME * exact
    right |= (largest == 0) & (scales > 0)
    right |= excused & (scales > exact)
    return None if right.all() else int(np.flatnonzero(~right)[0])


def excuse(model: Model, used: Used, scales: int) -> npt.NDArray[np.bool_]:
    """Return for each scale whether the file shows that a smaller one would not do in full-integer arithmetic."""
    graph = model.subgraphs[0]
    excused = np.zeros(scales, bool)
    for op in graph.operators:
        kind = kind_of(model, op)
        if kind not in PLACES or int(op.inputs[PLACES[kind][0]]) != used.place:
            continue
        given = graph.tensors[int(op.inputs[2 if kind == "TRANSPOSE_CONV" else 0])].quantization
        made = graph.tensors[int(op.outputs[0])].quantization
        if given is None or made is None or not listed(given.scale) or not listed(made.scale):
            continue
        own = np.asarray(graph.tensors[used.place].quantization.scale, np.float64)
        excused |= own * given.scale[0] / made.scale[0] * LIMIT <= 1 + 1e-3
        slot = PLACES[kind][1]
        bias = read_constant(model, int(op.inputs[slot])) if len(op.inputs) > slot else None
        if bias is not None:
            near = np.abs(bias.astype(np.float64)) >= LIMIT * (1 - 1e-3)
            excused |= near if len(near) == scales else near.any()
    return excused


def find_unproven(proofs: Sequence[Proof]) -> str:
    """Return in words which weights do not hold, the first and how many more; "" where all do."""
    wrong = [proof for proof in proofs if not proof.holds]
    if not wrong:
        return ""
    more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    return f"{wrong[0].operation} weights {wrong[0].name[-80:]!r}: {wrong[0].why}{more}"
