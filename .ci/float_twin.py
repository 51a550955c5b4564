"""Make a float32 twin of a .tflite file whose weights are int8: the same net, but nothing in it is rounded to 8 bits.

float_twin.py MODEL.tflite TWIN.tflite: a dynamic-range model computes with the scale and the rounding of each
activation, where the last bit of a float decides over a whole step; its twin tells that apart from real differences.
"""

import sys
from dataclasses import replace
from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge_runtime.contract.tail import read_contract, split_tail, stamp_contract


def make_twin(model: Path, twin: Path) -> None:
    """Write the float32 twin of a stamped dynamic-range model, stamped with the same contract."""
    graph = schema.ModelT.InitFromPackedBuf(split_tail(model.read_bytes())[0], 0)
    for subgraph in graph.subgraphs:
        for tensor in subgraph.tensors:
            if tensor.type == schema.TensorType.INT8:
                buffer = graph.buffers[tensor.buffer]
                buffer.data = to_float(np.asarray(buffer.data, np.uint8), tensor).view(np.uint8)
                tensor.type, tensor.quantization = schema.TensorType.FLOAT32, None
    builder = flatbuffers.Builder()
    builder.Finish(graph.Pack(builder), b"TFL3")
    twin.write_bytes(stamp_contract(bytes(builder.Output()), replace(read_contract(model), recipe="fp32")))


def to_float(data, tensor):
    """Return the float32 values, flat, of a constant int8 tensor's bytes: one scale, or one for each channel."""
    scales = np.asarray(tensor.quantization.scale, np.float32)
    assert data.size and not np.any(tensor.quantization.zeroPoint), f"{tensor.name} is no symmetric int8 constant"
    along = np.ones(len(tensor.shape), int)
    along[tensor.quantization.quantizedDimension] = scales.size
    return (data.view(np.int8).reshape(tensor.shape) * scales.reshape(along)).ravel()


if __name__ == "__main__":
    make_twin(Path(sys.argv[1]), Path(sys.argv[2]))
