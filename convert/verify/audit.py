"""What is in a converted file, and what must not be? Each finding has a name that `--allow` takes.

That a converter ended without an error does not mean that its file is good: files without weights, with open shapes or
with weights left float load and run without an error. So the file is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convert.flatbuffer.op_costs import OperationCost, sum_costs
from convert.flatbuffer.op_versions import find_unsupported, runtime_of
from convert.flatbuffer.read import Graph, Operation, read_graph
from convert.quantize.recipes import Recipe
from convert.quantize.weights import MIN_ELEMENTS, WEIGHTS, is_channel_factor
from convert.source.process import SourceFacts
from convert.source.trace.traced_graph import find_layer
from edge_runtime.contract.findings import INPUT_SCALE
from edge_runtime.system.quiet import silence_stderr

from .drawn_images import DrawnImageCheck
from .weight_proof import Proof, find_unproven, prove_weights

VARIABLE_OPS = {"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE"}
WEIGHT_INPUT = {kind: slot for kind, (slot, _) in WEIGHTS.items()}
KEPT, ONE_TAP = "the layout leaves it float", "a factor for each channel"
OVERHEAD_BYTES = 100_000  # of names, shapes and small tensors, in a file of any size
OPERATION_BYTES = 500  # the same for each operation: 200 that were rewritten took 138 kB more than before
# How far outputs may be from Keras': with float weights, with 16-bit ones; on average, with quantized ones.
FLOAT_DIFFERENCE, HALF_DIFFERENCE, QUANTIZED_MEAN_DIFFERENCE = 1e-3, 2e-2, 0.1
CLASS_DIFFERENCE = 0.5  # how far a class's probability may be from Keras' after quantization


@dataclass(frozen=True)
class Finding:
    """One thing that must not be in a file: its name in FINDINGS, and where it is."""

    name: str
    where: str


@dataclass(frozen=True)
class StoredWeights:
    """One weight tensor: where it is, how many numbers, and its type in the file."""

    layer: str
    operation: str
    elements: int
    dtype: str
    scales: int
    reason: str = ""  # why it stayed float, where it did


@dataclass(frozen=True)
class Audit:
    """What is in a converted file."""

    size_bytes: int
    fp32_bytes: int
    operations: dict[str, int]
    versions: dict[str, int]
    weights: tuple[StoredWeights, ...]
    partitions: int | None  # under XNNPACK; None where the runtime has no such delegate
    outside: tuple[str, ...]  # operations outside XNNPACK's partitions, with their layers
    costs: tuple[OperationCost, ...]
    findings: tuple[Finding, ...] = field(default=())
    proofs: tuple[Proof, ...] = field(default=())  # of the weights, where there was a float32 graph to compare with

    @property
    def quantized(self) -> int:
        """How many weight tensors are int8."""
        return sum(weight.dtype == "INT8" for weight in self.weights)


def audit_model(
    model: Path, fp32_bytes: int, facts: SourceFacts, recipe: Recipe, target: str, kept: Collection[str] = (),
    fp32_graph: bytes | None = None, added_weights: int = 0,
) -> Audit:  # fmt: skip
    """Return what is in the file, with all findings that its bytes show.

    fp32_bytes: size of the static float32 file. kept: weights that the layout leaves float. fp32_graph: the same graph
    in float32, with which the weights are compared. added_weights: zeros that the rewrite of upsampling added.
    """
    flatbuffer, layers = model.read_bytes(), facts.layers
    graph, size = read_graph(flatbuffer), len(flatbuffer)
    weights = tuple(read_weights(graph, layers, kept))
    partitions, outside = count_partitions(read_partitions(model), graph, layers)
    findings = [
        *([Finding(INPUT_SCALE, facts.scale_conflict)] if facts.scale_conflict else []),
        *find_operations(graph, layers, target),
        *find_float(weights, recipe),
        *find_size(size, fp32_bytes, facts.kernels, added_weights, recipe, len(graph.operations)),
    ]
    whole = ("FULLY_CONNECTED",) if target == "tflite-runtime" else ()
    proofs = () if fp32_graph is None else prove_weights(flatbuffer, fp32_graph, whole, dict.fromkeys(kept, KEPT))
    known = {finding.name for finding in findings}
    others = (*find_versions(flatbuffer, graph, layers, target), *find_arithmetic(proofs))
    findings += [finding for finding in others if finding.name not in known]
    versions = {op.name: max(o.version for o in graph.operations if o.name == op.name) for op in graph.operations}
    histogram = dict(Counter(op.name for op in graph.operations).most_common())
    costs = sum_costs(graph)
    return Audit(size, fp32_bytes, histogram, versions, weights, partitions, outside, costs, tuple(findings), proofs)


def name_layer(graph: Graph, op: Operation, layers: Collection[str]) -> str:
    """Return the Keras layer that an operation comes from, as far as its output's name shows; "" otherwise.

    The name of a fused operation's output joins those of its operations with semicolons, that with the weights last.
    """
    text = graph.tensors[op.outputs[0]].name if op.outputs else ""
    found = (find_layer(path.rpartition("/")[0], layers) for path in reversed(text.split(";")))
    return next(filter(None, found), "")


def format_operation(graph: Graph, op: Operation, layers: Collection[str]) -> str:
    """Return an operation's name and the layer that it comes from."""
    layer = name_layer(graph, op, layers)
    if layer:
        return f"{op.name} of layer {layer!r}"
    return f"{op.name} at {graph.tensors[op.outputs[0]].name[:80]!r}" if op.outputs else op.name


def find_operations(graph: Graph, layers: Collection[str], target: str) -> list[Finding]:
    """Return the findings on operations and shapes, with the first operation of each kind."""
    found: dict[str, str] = {}
    if graph.subgraphs > 1 and not any(op.name in VARIABLE_OPS for op in graph.operations):
        found["control-flow"] = f"{graph.subgraphs} subgraphs"
    for op in graph.operations:
        kinds = {
            "variables": op.name in VARIABLE_OPS,
            "custom-op": op.name.startswith("CUSTOM:"),
            "dynamic-shape": op.name == "SHAPE" or any(graph.tensors[i].dynamic for i in op.outputs),
            "runtime-2.14": target == "tflite-runtime" and refuses_2_14(graph, op),
        }
        for kind in (kind for kind, there in kinds.items() if there):
            found.setdefault(kind, format_operation(graph, op, layers))
    return [Finding(name, where) for name, where in found.items()]


def refuses_2_14(graph: Graph, op: Operation) -> bool:
    """Return whether tflite-runtime 2.14 refuses an operation whose version it has: a hybrid TRANSPOSE_CONV."""
    hybrid = op.name == "TRANSPOSE_CONV" and graph.tensors[op.inputs[1]].dtype == "INT8"
    return hybrid and graph.tensors[op.inputs[2]].dtype == "FLOAT32"


def find_versions(flatbuffer: bytes, graph: Graph, layers: Collection[str], target: str) -> list[Finding]:
    """Return a finding where an operation needs, or is written with, a version that the target's runtime lacks."""
    misfits = find_unsupported(flatbuffer, runtime_of(target))
    if not misfits:
        return []
    where = format_operation(graph, graph.operations[misfits[0].operator], layers)
    more = f", and {len(misfits) - 1} more" if len(misfits) > 1 else ""
    name = "runtime-2.14" if target == "tflite-runtime" else "runtime-version"
    return [Finding(name, f"{where}, {misfits[0]}{more}")]


def find_arithmetic(proofs: Sequence[Proof]) -> list[Finding]:
    """Return a finding where a weight tensor does not follow from the float32 one by the equations."""
    wrong = find_unproven(proofs)
    return [Finding("arithmetic", wrong)] if wrong else []


def read_weights(graph: Graph, layers: Collection[str], kept: Collection[str]) -> list[StoredWeights]:
    """Return the weight tensors of the operations that have some, in the graph's order."""
    found, seen = [], set()
    dequantized = {op.outputs[0]: op.inputs[0] for op in graph.operations if op.name == "DEQUANTIZE"}
    for op in graph.operations:
        index = op.inputs[WEIGHT_INPUT[op.name]] if op.name in WEIGHT_INPUT else -1
        index = dequantized.get(index, index)
        if index < 0 or index in seen or not graph.tensors[index].constant_bytes:
            continue
        seen.add(index)
        tensor = graph.tensors[index]
        reason = ""
        if tensor.dtype == "FLOAT32":
            reason = f"fewer than {MIN_ELEMENTS} weights" if tensor.elements < MIN_ELEMENTS else "the converter left it"
            reason = KEPT if tensor.name in kept else reason
            reason = ONE_TAP if is_channel_factor(op.name, tensor.shape) else reason
        found.append(
            StoredWeights(name_layer(graph, op, layers), op.name, tensor.elements, tensor.dtype, tensor.scales, reason)
        )
    return found


def find_float(weights: Sequence[StoredWeights], recipe: Recipe) -> list[Finding]:
    """Return a finding where smaller weights were asked for and a large tensor has another type."""
    if recipe.weights == "float32":
        return []
    large = [weight for weight in weights if weight.elements >= MIN_ELEMENTS and weight.dtype != recipe.weights.upper()]
    large = [weight for weight in large if weight.reason not in (KEPT, ONE_TAP)]
    if not large:
        return []
    largest = max(large, key=lambda weight: weight.elements)
    where = f"{largest.operation} of layer {largest.layer!r} ({largest.elements} weights, {largest.dtype})"
    return [Finding("float-weights", where + (f" and {len(large) - 1} more" if len(large) > 1 else ""))]


def find_size(
    size: int, fp32_bytes: int, kernels: int, added_weights: int, recipe: Recipe, operations: int
) -> list[Finding]:
    """Return a finding where a file is too small for its weights, or too large for its recipe."""
    each = {"float32": 4, "float16": 2}.get(recipe.weights, 1)
    if size < 0.9 * each * kernels:
        return [Finding("size", f"{size} bytes for {kernels} weights: some are missing")]
    if fp32_bytes < 0.9 * 4 * kernels:
        return [Finding("size", f"the float32 original has {fp32_bytes} bytes for {kernels} weights: some are missing")]
    limit = recipe.max_size_ratio * (fp32_bytes + 4 * added_weights) + OVERHEAD_BYTES + OPERATION_BYTES * operations
    if size > limit:
        return [Finding("size", f"{size} bytes, where {recipe.name} should have at most {limit:.0f}")]
    return []


def find_differences(checks: DrawnImageCheck, recipe: Recipe) -> list[Finding]:
    """Return the findings on a file's outputs."""
    if not checks.finite:
        return [Finding("not-finite", f"on one of {checks.images} drawn images")]
    found = []
    if not checks.probability:
        found.append(Finding("not-probability", f"on one of {checks.images} drawn images"))
    if recipe.weights in ("float32", "float16"):
        limit = FLOAT_DIFFERENCE if recipe.weights == "float32" else HALF_DIFFERENCE
        far = not checks.largest_difference <= limit  # not <=: true for NaN too
        where = f"largest difference {checks.largest_difference:.2g}, above {limit:g}"
    else:
        far = not checks.mean_difference <= QUANTIZED_MEAN_DIFFERENCE
        where = f"mean difference {checks.mean_difference:.2g}, above {QUANTIZED_MEAN_DIFFERENCE:g}"
    off, limit = checks.class_difference, FLOAT_DIFFERENCE if recipe.weights == "float32" else CLASS_DIFFERENCE
    if off is not None and not off <= limit:
        found.append(Finding("unfaithful", f"the classes' largest difference {off:.2g}, above {limit:g}"))
    return [*found, *([Finding("unfaithful", where)] if far else [])]


def read_partitions(model: Path) -> list[dict[str, Any]] | None:
    """Return the delegate's partitions of a file, each with the tensor indices of its inputs and outputs.

    None where LiteRT cannot load the file (which the comparison then reports) or does not list them.
    """
    from ai_edge_litert.interpreter import Interpreter

    try:
        with silence_stderr():
            interpreter = Interpreter(str(model), num_threads=1)
            interpreter.allocate_tensors()
        return [op for op in interpreter._get_ops_details() if op["op_name"] == "DELEGATE"]
    except (RuntimeError, ValueError, AttributeError):  # _get_ops_details is not public: it may go
        return None


def count_partitions(
    partitions: list[dict[str, Any]] | None, graph: Graph, layers: Collection[str]
) -> tuple[int | None, tuple[str, ...]]:
    """Return the number of XNNPACK's partitions, and the operations outside of them.

    A partition holds the operations between its inputs and its outputs.
    """
    if partitions is None:
        return None, ()
    maker = {tensor: i for i, op in enumerate(graph.operations) for tensor in op.outputs}
    inside: set[int] = set()
    for partition in partitions:
        inputs, todo = {int(i) for i in partition["inputs"]}, [int(i) for i in partition["outputs"]]
        while todo:
            index = maker.get(todo.pop())
            if index is None or index in inside:
                continue
            inside.add(index)
            todo.extend(tensor for tensor in graph.operations[index].inputs if tensor not in inputs)
    outside = [op for i, op in enumerate(graph.operations) if i not in inside]
    return len(partitions), tuple(format_operation(graph, op, layers) for op in outside)
