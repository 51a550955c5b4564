"""A .tflite flatbuffer to be changed: unpacked into the schema's objects, edited by plain functions, packed again.

Changing the file rather than the Keras model makes one path of many: nested models, custom layers and SavedModels,
whose layers are gone, are all the same few operations here; and TensorFlow's converter, slow and hungry, runs once.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .flatbuffer import names_of

Model = Any  # ai_edge_litert.schema_py_generated.ModelT; its classes have no types of their own
Operator = Any
ALIGNMENT = 16  # of constants, as the schema's force_align asks; the generated Python code does not heed it
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
    """Write one constant, aligned; return its place."""
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
        used = {int(i) for op in graph.operators for i in (*op.inputs, *op.outputs, *listed(op.intermediates))}
        used |= {int(i) for i in (*graph.inputs, *graph.outputs)}
        place = renumber(used)
        graph.tensors = [graph.tensors[i] for i in place if i >= 0]
        for op in graph.operators:
            op.inputs, op.outputs = moved(op.inputs, place), moved(op.outputs, place)
            op.intermediates = moved(op.intermediates, place) if op.intermediates is not None else None
        graph.inputs, graph.outputs = moved(graph.inputs, place), moved(graph.outputs, place)
        for signature in listed(model.signatureDefs):
            if model.subgraphs[signature.subgraphIndex] is graph:
                for item in (*listed(signature.inputs), *listed(signature.outputs)):
                    item.tensorIndex = place[int(item.tensorIndex)]
    tensors = [tensor for graph in model.subgraphs for tensor in graph.tensors]
    metadata = listed(model.metadata)
    place = renumber({0, *(t.buffer for t in tensors), *(m.buffer for m in metadata)})
    model.buffers = [model.buffers[i] for i in place if i >= 0]
    for item in (*tensors, *metadata):
        item.buffer = place[item.buffer]
    operators = [op for graph in model.subgraphs for op in graph.operators]
    place = renumber({op.opcodeIndex for op in operators})
    model.operatorCodes = [model.operatorCodes[i] for i in place if i >= 0]
    for op in operators:
        op.opcodeIndex = place[op.opcodeIndex]


def listed(items: Any) -> list[Any]:
    """Return a flatbuffer's optional vector as a list."""
    return [] if items is None else list(items)


def renumber(used: set[int]) -> dict[int, int]:
    """Return {old place: new place} of the used places, in order; -1, an input left out, stays."""
    return {-1: -1} | {old: new for new, old in enumerate(sorted(used - {-1}))}


def moved(places: Any, place: dict[int, int]) -> npt.NDArray[np.int32]:
    """Return places renumbered."""
    return np.array([place[int(i)] for i in listed(places)], np.int32)


def name_apart(flatbuffer: bytes) -> bytes:
    """Return a flatbuffer in which no two tensors have the same name, so that a name says which one is meant."""
    model, seen = unpack(flatbuffer), set()
    for i, tensor in enumerate(model.subgraphs[0].tensors):
        name = (tensor.name or b"").decode(errors="replace")
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


def read_constant(model: Model, place: int) -> npt.NDArray[Any] | None:
    """Return a constant tensor's values; None where the tensor is computed, left out, or of an unusual type."""
    if place < 0:
        return None
    tensor = model.subgraphs[0].tensors[place]
    data, kind = model.buffers[tensor.buffer].data, name_of("TensorType", tensor.type)
    if data is None or len(data) == 0 or kind not in NUMPY:
        return None
    return np.frombuffer(bytes(data), NUMPY[kind]).reshape([int(side) for side in listed(tensor.shape)])


def shape_of(model: Model, place: int) -> tuple[int, ...]:
    """Return a tensor's shape."""
    return tuple(int(side) for side in listed(model.subgraphs[0].tensors[place].shape))


def find_tensor(model: Model, name: str) -> int | None:
    """Return the place of the main graph's tensor of that name; None where there is none."""
    return next((i for i, t in enumerate(model.subgraphs[0].tensors) if t.name == name.encode()), None)


def add_tensor(model: Model, name: str, shape: Sequence[int], kind: str = "FLOAT32", buffer: int = 0) -> int:
    """Add a tensor to the main graph; return its place. Buffer 0 is the empty one of all computed tensors."""
    from ai_edge_litert import schema_py_generated as schema

    tensor = schema.TensorT()
    tensor.name, tensor.shape = name.encode(), np.array(shape, np.int32)
    tensor.type, tensor.buffer, tensor.hasRank = value_of("TensorType", kind), buffer, True
    model.subgraphs[0].tensors.append(tensor)
    return len(model.subgraphs[0].tensors) - 1


def add_constant(model: Model, name: str, values: npt.NDArray[Any]) -> int:
    """Add a constant tensor; return its place."""
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
    """Return the place of an operation code, adding it where the model has none such."""
    from ai_edge_litert import schema_py_generated as schema

    value = value_of("BuiltinOperator", kind)
    for place, code in enumerate(model.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == value and code.version == version:
            return place
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = value, min(value, 127), version
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def replace_operator(model: Model, old: Operator, new: Sequence[Operator]) -> None:
    """Put operations into the place of one."""
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
