"""How is a .tflite flatbuffer changed? Unpacked into the schema's objects, edited by plain functions, packed again.

Editing the file instead of the Keras model needs one implementation for nested models, custom layers and SavedModels
(which have no layers any more): here they are all the same few operations. And TensorFlow's converter, which is slow
and needs much memory, runs once.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .read import names_of

Model = Any  # ai_edge_litert.schema_py_generated.ModelT; the generated classes are not typed
Operator = Any
ALIGNMENT = 16  # of constants: the schema's force_align, which the generated Python code ignores
# A weight, or a range of values, below this is zero. Times an input's scale it would be no normal float32 (2**-126 and
# more, IEEE 754): processors compute with others up to a hundred times slower, and some kernels take them for zeros.
MIN_WEIGHT = 2.0**-100
NUMPY = {"FLOAT32": np.float32, "FLOAT16": np.float16, "INT32": np.int32, "INT8": np.int8, "INT64": np.int64}


def unpack(flatbuffer: bytes) -> Model:
    """Return the model in a flatbuffer as objects that can be changed."""
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(bytearray(flatbuffer), 0)


def pack(model: Model) -> bytes:
    """Return the flatbuffer of a model, without the tensors, constants and operation codes that nothing uses."""
    import flatbuffers

    prune(model)
    for buffer in model.buffers:
        buffer.Pack = lambda builder, buffer=buffer: pack_buffer(builder, buffer)
    builder = flatbuffers.Builder(1024 + sum(len(b.data) for b in model.buffers if b.data is not None))
    builder.Finish(model.Pack(builder), b"TFL3")
    for buffer in model.buffers:
        del buffer.Pack
    return bytes(builder.Output())


def pack_buffer(builder: Any, buffer: Any) -> int:
    """Write one constant, aligned; return its offset."""
    from ai_edge_litert import schema_py_generated as schema

    vector = None
    if buffer.data is not None and len(buffer.data):
        data = bytes(buffer.data)
        builder.StartVector(1, len(data), ALIGNMENT)
        builder.head -= len(data)
        builder.Bytes[builder.head : builder.head + len(data)] = data
        vector = builder.EndVector()
    schema.BufferStart(builder)
    if vector is not None:
        schema.BufferAddData(builder, vector)
    return int(schema.BufferEnd(builder))


def prune(model: Model) -> None:
    """Drop the tensors, buffers and operation codes that nothing refers to, keeping the order of the others."""
    for graph in model.subgraphs:
        used = {int(i) for op in graph.operators for i in (*op.inputs, *op.outputs, *to_list(op.intermediates))}
        used |= {int(i) for i in (*graph.inputs, *graph.outputs)}
        new = renumber(used)
        graph.tensors = [graph.tensors[i] for i in new if i >= 0]
        for op in graph.operators:
            op.inputs, op.outputs = renumber_all(op.inputs, new), renumber_all(op.outputs, new)
            op.intermediates = renumber_all(op.intermediates, new) if op.intermediates is not None else None
        graph.inputs, graph.outputs = renumber_all(graph.inputs, new), renumber_all(graph.outputs, new)
        for signature in to_list(model.signatureDefs):
            if model.subgraphs[signature.subgraphIndex] is graph:
                for item in (*to_list(signature.inputs), *to_list(signature.outputs)):
                    item.tensorIndex = new[int(item.tensorIndex)]
    tensors = [tensor for graph in model.subgraphs for tensor in graph.tensors]
    metadata = to_list(model.metadata)
    new = renumber({0, *(t.buffer for t in tensors), *(m.buffer for m in metadata)})
    model.buffers = [model.buffers[i] for i in new if i >= 0]
    for item in (*tensors, *metadata):
        item.buffer = new[item.buffer]
    operators = [op for graph in model.subgraphs for op in graph.operators]
    new = renumber({op.opcodeIndex for op in operators})
    model.operatorCodes = [model.operatorCodes[i] for i in new if i >= 0]
    for op in operators:
        op.opcodeIndex = new[op.opcodeIndex]


def to_list(items: Any) -> list[Any]:
    """Return a flatbuffer's optional vector as a list."""
    return [] if items is None else list(items)


def renumber(used: set[int]) -> dict[int, int]:
    """Return {old index: new index} of the used indices, in order; -1, an input left out, stays."""
    return {-1: -1} | {old: new for new, old in enumerate(sorted(used - {-1}))}


def renumber_all(indices: Any, new: dict[int, int]) -> npt.NDArray[np.int32]:
    """Return the new indices."""
    return np.array([new[int(i)] for i in to_list(indices)], np.int32)


def name_apart(flatbuffer: bytes) -> bytes:
    """Return a flatbuffer in which every tensor's name is unique."""
    model, seen = unpack(flatbuffer), set()
    for i, tensor in enumerate(model.subgraphs[0].tensors):
        name = name_tensor(model, i)
        if not name or name in seen:
            name = f"{name}#{i}"
            tensor.name = name.encode()
        seen.add(name)
    return pack(model)


def name_of(enumeration: str, value: int) -> str:
    """Return the name of a value of one of the schema's enumerations, such as 'CONV_2D' of BuiltinOperator."""
    from ai_edge_litert import schema_py_generated as schema

    return names_of(getattr(schema, enumeration))[value]


def value_of(enumeration: str, name: str) -> int:
    """Return the value of a name of one of the schema's enumerations."""
    from ai_edge_litert import schema_py_generated as schema

    return int(getattr(getattr(schema, enumeration), name))


def kind_of(model: Model, op: Operator) -> str:
    """Return an operation's name, such as 'CONV_2D'; 'CUSTOM' for all that are none of the builtin ones."""
    code = model.operatorCodes[op.opcodeIndex]
    return name_of("BuiltinOperator", max(code.builtinCode, code.deprecatedBuiltinCode))


def version_of(model: Model, op: Operator) -> int:
    """Return an operation's version."""
    return int(model.operatorCodes[op.opcodeIndex].version)


def find_operators(model: Model, *kinds: str) -> Iterator[Operator]:
    """Yield the main graph's operations of these kinds, in order."""
    yield from [op for op in model.subgraphs[0].operators if kind_of(model, op) in kinds]


def find_users(model: Model, index: int) -> list[Operator]:
    """Return the main graph's operations that take a tensor."""
    return [op for op in model.subgraphs[0].operators if index in to_list(op.inputs)]


def read_constant(model: Model, index: int) -> npt.NDArray[Any] | None:
    """Return a constant tensor's values; None where the tensor is computed, left out, or of an unusual type."""
    if index < 0:
        return None
    tensor = model.subgraphs[0].tensors[index]
    data, kind = model.buffers[tensor.buffer].data, type_of(model, index)
    if data is None or len(data) == 0 or kind not in NUMPY:
        return None
    return np.frombuffer(bytes(data), NUMPY[kind]).reshape([int(side) for side in to_list(tensor.shape)])


def shape_of(model: Model, index: int) -> tuple[int, ...]:
    """Return a tensor's shape."""
    return tuple(int(side) for side in to_list(model.subgraphs[0].tensors[index].shape))


def type_of(model: Model, index: int) -> str:
    """Return a tensor's type, such as "FLOAT32"."""
    return name_of("TensorType", model.subgraphs[0].tensors[index].type)


def scales_of(model: Model, index: int) -> tuple[float, ...]:
    """Return a tensor's quantization scales; none of a float one, or of an input left out."""
    quantization = model.subgraphs[0].tensors[index].quantization if index >= 0 else None
    return tuple(float(scale) for scale in to_list(quantization.scale)) if quantization is not None else ()


def name_tensor(model: Model, index: int) -> str:
    """Return a tensor's name."""
    return str((model.subgraphs[0].tensors[index].name or b"").decode(errors="replace"))


def find_tensor(model: Model, name: str) -> int | None:
    """Return the index of the main graph's tensor of that name; None where there is none."""
    return next((i for i, t in enumerate(model.subgraphs[0].tensors) if t.name == name.encode()), None)


def add_tensor(model: Model, name: str, shape: Sequence[int], kind: str = "FLOAT32", buffer: int = 0) -> int:
    """Add a tensor to the main graph; return its index. Buffer 0 is the empty one of all computed tensors."""
    from ai_edge_litert import schema_py_generated as schema

    tensor = schema.TensorT()
    tensor.name, tensor.shape = name.encode(), np.array(shape, np.int32)
    tensor.type, tensor.buffer, tensor.hasRank = value_of("TensorType", kind), buffer, True
    model.subgraphs[0].tensors.append(tensor)
    return len(model.subgraphs[0].tensors) - 1


def add_constant(model: Model, name: str, values: npt.NDArray[Any]) -> int:
    """Add a constant tensor; return its index."""
    from ai_edge_litert import schema_py_generated as schema

    kind = next(kind for kind, dtype in NUMPY.items() if values.dtype == dtype)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
    model.buffers.append(buffer)
    return add_tensor(model, name, values.shape, kind, len(model.buffers) - 1)


def make_operator(
    model: Model, kind: str, inputs: Sequence[int], outputs: Sequence[int], options: Any = None, version: int = 1
) -> Operator:
    """Return a new operation, not yet in the graph. options: the schema's object, such as Conv2DOptionsT."""
    from ai_edge_litert import schema_py_generated as schema

    op = schema.OperatorT()
    op.opcodeIndex = find_code(model, kind, version)
    op.inputs, op.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
    if options is not None:
        op.builtinOptionsType = value_of("BuiltinOptions", type(options).__name__.removesuffix("T"))
        op.builtinOptions = options
    return op


def find_code(model: Model, kind: str, version: int) -> int:
    """Return the index of an operation code, which is added where the model does not have it."""
    from ai_edge_litert import schema_py_generated as schema

    value = value_of("BuiltinOperator", kind)
    for index, code in enumerate(model.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == value and code.version == version:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = value, min(value, 127), version
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def replace_operator(model: Model, old: Operator, new: Sequence[Operator]) -> None:
    """Replace one operation by others."""
    operators = model.subgraphs[0].operators
    at = next(i for i, op in enumerate(operators) if op is old)
    operators[at : at + 1] = new


def isolate(model: Model, op: Operator) -> bytes:
    """Return a file of one operation with its constants; its computed inputs are the file's inputs."""
    from ai_edge_litert import schema_py_generated as schema

    alone = schema.ModelT()
    alone.version, alone.buffers = model.version, model.buffers
    alone.operatorCodes, alone.metadata, alone.signatureDefs = list(model.operatorCodes), None, None
    graph = schema.SubGraphT()
    graph.tensors = [copy.copy(tensor) for tensor in model.subgraphs[0].tensors]  # packing renumbers their buffers
    graph.operators = [copy.copy(op)]
    graph.inputs = [i for i in op.inputs if i >= 0 and read_constant(model, int(i)) is None]
    graph.outputs, alone.subgraphs = op.outputs, [graph]
    return pack(alone)
