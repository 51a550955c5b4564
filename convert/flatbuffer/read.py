"""Which operations and tensors are in a .tflite flatbuffer? Read from the bytes, without a runtime."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from edge_runtime.errors import ModelError


@dataclass(frozen=True)
class Tensor:
    """One tensor; `constant_bytes` is 0 for a computed tensor, `scales` counts its quantization scales."""

    name: str
    shape: tuple[int, ...]
    dtype: str  # "FLOAT32", "INT8" ...
    dynamic: bool
    scales: int
    constant_bytes: int

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)


@dataclass(frozen=True)
class Operation:
    """One operation; `inputs` and `outputs` are tensor indices, -1 for an input left out."""

    name: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """The main subgraph, and how many there are."""

    operations: tuple[Operation, ...]
    tensors: tuple[Tensor, ...]
    subgraphs: int


def read_graph(flatbuffer: bytes) -> Graph:
    """Return the operations and tensors of a .tflite file's main subgraph.

    Raises:
        ModelError: the bytes are no TFLite model.
    """
    from ai_edge_litert import schema_py_generated as schema

    try:
        model = schema.Model.GetRootAs(flatbuffer, 0)
        graph = model.Subgraphs(0)
        codes = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
        operations = [graph.Operators(i) for i in range(graph.OperatorsLength())]
        builtin = names_of(schema.BuiltinOperator)
        types = names_of(schema.TensorType)
        return Graph(
            operations=tuple(read_operation(codes[op.OpcodeIndex()], op, builtin) for op in operations),
            tensors=tuple(read_tensor(model, graph.Tensors(i), types) for i in range(graph.TensorsLength())),
            subgraphs=model.SubgraphsLength(),
        )
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise ModelError("the converted model", f"it is not a TFLite model ({error})") from error


def names_of(enumeration: Any) -> dict[int, str]:
    """Return {value: name} of one of the schema's enumerations."""
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


def read_operation(code: Any, op: Any, builtin: dict[int, str]) -> Operation:
    """Return one operation; the name is CUSTOM:name for a custom one, CUSTOM:Flex... for a select-TF one."""
    # Files for old runtimes keep codes up to 127 in a separate field; the larger of the two counts.
    name = builtin[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
    if name == "CUSTOM":
        name = f"CUSTOM:{(code.CustomCode() or b'?').decode(errors='replace')}"
    inputs = tuple(int(op.Inputs(i)) for i in range(op.InputsLength()))
    return Operation(name, code.Version(), inputs, tuple(int(op.Outputs(i)) for i in range(op.OutputsLength())))


def read_tensor(model: Any, tensor: Any, types: dict[int, str]) -> Tensor:
    """Return one tensor."""
    signature = [int(tensor.ShapeSignature(i)) for i in range(tensor.ShapeSignatureLength())]
    quantization = tensor.Quantization()
    buffer = model.Buffers(tensor.Buffer())
    return Tensor(
        name=(tensor.Name() or b"").decode(errors="replace"),
        shape=tuple(int(tensor.Shape(i)) for i in range(tensor.ShapeLength())),
        dtype=types[tensor.Type()],
        dynamic=-1 in signature,
        scales=quantization.ScaleLength() if quantization else 0,
        constant_bytes=buffer.DataLength() if buffer else 0,
    )
