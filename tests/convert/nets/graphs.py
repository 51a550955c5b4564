"""Float32 flatbuffers of a few operations, made without TensorFlow, for tests of rewrites."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from convert.flatbuffer.edit import add_constant, add_tensor, make_operator, pack, shape_of, unpack
from edge_runtime.system.quiet import silence_stderr

Array = npt.NDArray[Any]


class Drawing:
    """A graph under construction: each method adds an operation and returns what it makes."""

    def __init__(self, shape: Sequence[int], seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.model = schema.ModelT()
        self.model.version, self.model.buffers = 3, [schema.BufferT()]
        self.model.operatorCodes, graph = [], schema.SubGraphT()
        graph.tensors, graph.operators, self.model.subgraphs = [], [], [graph]
        self.graph = graph
        self.image = add_tensor(self.model, "image", shape)
        graph.inputs = np.array([self.image], np.int32)

    def constant(self, values: Any, name: str = "") -> int:
        """Add a constant; lists of int become int32."""
        array = np.asarray(values)
        array = array.astype(np.int32 if array.dtype.kind == "i" else np.float32)
        return add_constant(self.model, name or f"constant{len(self.graph.tensors)}", array)

    def apply(self, kind: str, inputs: Sequence[int], shape: Sequence[int], name: str = "", **options: Any) -> int:
        """Add an operation of any kind; options are those of its own schema class."""
        out = add_tensor(self.model, name or f"{kind.lower()}{len(self.graph.operators)}", shape)
        self.graph.operators.append(make_operator(self.model, kind, inputs, [out], make_options(kind, options)))
        return out

    def convolve(self, x: int, filters: int, size: int = 1, relu: bool = False, name: str = "", **options: Any) -> int:
        """Add a CONV_2D of random weights, stride 1, same size out."""
        _, height, width, channels = shape_of(self.model, x)
        name = name or f"conv{len(self.graph.operators)}"
        kernel = self.rng.normal(size=(filters, size, size, channels)) / np.sqrt(size * size * channels)
        weights = self.constant(kernel, f"{name}/kernel")
        bias = self.constant(self.rng.normal(size=filters) * 0.2, f"{name}/bias")
        given = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1, **options}
        given["fusedActivationFunction"] = int(relu)
        return self.apply("CONV_2D", [x, weights, bias], (1, height, width, filters), name, **given)

    def finish(self, *outputs: int) -> bytes:
        """Return the file."""
        self.graph.outputs = np.array(outputs, np.int32)
        return pack(self.model)


def make_options(kind: str, options: dict[str, Any]) -> Any:
    """Return an operation's options; None where its kind has none."""
    names = {"LEAKY_RELU": "LeakyRelu", "MEAN": "Reducer", "AVERAGE_POOL_2D": "Pool2D", "MAX_POOL_2D": "Pool2D"}
    names |= {"CONV_2D": "Conv2D", "DEPTHWISE_CONV_2D": "DepthwiseConv2D", "CONV_3D": "Conv3D"}
    names |= {
        "LOGISTIC": "",
        "TANH": "",
        "RELU": "",
        "RELU6": "",
        "REDUCE_MAX": "Reducer",
        "SUM": "Reducer",
        "ELU": "",
        "PRELU": "",
    }
    names |= {"MAXIMUM": "MaximumMinimum", "MINIMUM": "MaximumMinimum", "BATCH_MATMUL": "BatchMatMul"}
    name = names.get(kind, kind.title().replace("_", ""))
    if not name:
        return None
    made = getattr(schema, f"{name}OptionsT")()
    for key, value in options.items():
        assert hasattr(made, key), (kind, key)
        setattr(made, key, value)
    return made


def run(flatbuffer: bytes, x: Array) -> Array:
    """Return the first output, dequantized, for a float32 input, quantized if the file wants it so."""
    interpreter = open_file(flatbuffer)
    given, made = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    with silence_stderr():
        interpreter.set_tensor(given["index"], to_given(x, given))
        interpreter.invoke()
    values, (scale, zero) = interpreter.get_tensor(made["index"]), made["quantization"]
    return (values.astype(np.float32) - zero) * np.float32(scale) if scale else values


def to_given(x: Array, given: Any) -> Array:
    """Return a float32 input as an interpreter's input wants it."""
    scale, zero = given["quantization"]
    if not scale:
        return x.astype(given["dtype"])
    info = np.iinfo(given["dtype"])
    return np.clip(np.rint(x / scale + zero), info.min, info.max).astype(given["dtype"])


def open_file(flatbuffer: bytes) -> Interpreter:
    """Return an interpreter with its tensors allocated."""
    with silence_stderr():
        interpreter = Interpreter(model_content=flatbuffer, num_threads=1)
        interpreter.allocate_tensors()
    return interpreter


def kinds_of(flatbuffer: bytes) -> list[str]:
    """Return the operations' names with the type of what they make, such as "CONV_2D int8"."""
    from convert.flatbuffer.edit import kind_of, name_of

    model = unpack(flatbuffer)
    graph = model.subgraphs[0]
    types = [name_of("TensorType", graph.tensors[int(op.outputs[0])].type).lower() for op in graph.operators]
    return [f"{kind_of(model, op)} {kind}" for op, kind in zip(graph.operators, types, strict=True)]


def count_pieces(flatbuffer: bytes) -> int:
    """Return how many pieces XNNPACK takes the file in."""
    return sum(op["op_name"] == "DELEGATE" for op in open_file(flatbuffer)._get_ops_details())
