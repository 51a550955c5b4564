"""Which convolutions a dynamic-range file should leave float: those where int8 costs more than it saves.

A dynamic-range convolution quantizes its input at run time, work that grows with the input, to make its
multiplications cheaper, a gain that grows with filters times kernel taps. On processors without int8 dot products a
convolution of few filters over a large image loses by it. Those have few weights, so leaving them float costs little.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

LIMITS = (150, 300, 600)  # filters * taps below which a convolution is left float, tried in this order
MOST_OF_FP32 = 0.28  # of the float file's size: what a dynamic-range file may weigh with some layers float


def float_variants(flatbuffer: bytes, fp32_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Yield (limit, flatbuffer) with ever more convolutions computed in float, within the size budget.

    Their weights are the int8 ones times their scales: the file answers as before, but for the input's rounding.
    """
    size = len(flatbuffer)
    for limit in LIMITS:
        variant = leave_float(flatbuffer, limit)
        if variant is None or len(variant) == size:
            continue
        size = len(variant)
        if size > MOST_OF_FP32 * fp32_bytes:
            return
        yield limit, variant


def leave_float(flatbuffer: bytes, limit: int) -> bytes | None:
    """Return the file with the int8 weights of cheap convolutions as float32; None if it has no such convolution."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    names = {schema.BuiltinOperator.CONV_2D: "CONV_2D", schema.BuiltinOperator.DEPTHWISE_CONV_2D: "DEPTHWISE_CONV_2D"}
    model = schema.ModelT.InitFromPackedBuf(bytearray(flatbuffer), 0)
    graph, changed = model.subgraphs[0], False
    for operator in graph.operators:
        name = names.get(model.operatorCodes[operator.opcodeIndex].builtinCode, "")
        weights = graph.tensors[operator.inputs[1]] if name else None
        if weights is None or weights.type != schema.TensorType.INT8:
            continue
        if not is_cheap(name, tuple(weights.shape), limit):
            continue
        buffer = model.buffers[weights.buffer]
        integers = np.frombuffer(bytes(buffer.data), np.int8).reshape(weights.shape)
        buffer.data = np.frombuffer(to_float(integers, weights.quantization).tobytes(), np.uint8)
        weights.type, weights.quantization, changed = schema.TensorType.FLOAT32, None, True
    if not changed:
        return None
    builder = flatbuffers.Builder(len(flatbuffer))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def is_cheap(operation: str, shape: tuple[int, ...], limit: int) -> bool:
    """Tell whether a convolution multiplies each number of its input fewer than `limit` times."""
    filters, height, width, _ = shape  # of a CONV_2D; (1, height, width, channels) of a DEPTHWISE_CONV_2D
    return operation in ("CONV_2D", "DEPTHWISE_CONV_2D") and filters * height * width < limit


def to_float(integers: npt.NDArray[np.int8], quantization: Any) -> npt.NDArray[np.float32]:
    """Return int8 weights times their scales, one for each slice along the quantized dimension."""
    scales = np.asarray(quantization.scale, np.float32)
    along = [1] * integers.ndim
    along[quantization.quantizedDimension] = -1
    return np.asarray(integers * scales.reshape(along if scales.size > 1 else [1] * integers.ndim), np.float32)
