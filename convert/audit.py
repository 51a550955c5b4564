"""What is in a converted file, and what must not be: each finding has a name that `--allow` takes.

A converter's success says little: files without weights, with shapes left open or with weights left float load and
run without complaint. So the file itself is read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .arithmetic import Proof, find_unproven, prove_weights
from .costs import Cost, sum_costs
from .flatbuffer import Graph, Operation, read_graph
from .quantize import SMALL, WEIGHTS, one_tap
from .recipes import Recipe
from .verify import Checks, muffled
from .versions import find_misfits, runtime_of

FINDINGS = {
    "variables": "weights left outside the file (VAR_HANDLE, READ_VARIABLE): it would answer NaN",
    "dynamic-shape": "a shape known only at run time: no delegate takes it, and quantized kernels crawl",
    "custom-op": "an operation that plain TFLite runtimes do not have",
    "control-flow": "more than one subgraph",
    "size": "a file size that does not fit the number of weights",
    "float-weights": "quantization was asked for and a large weight tensor is still float",
    "not-finite": "an output that is no finite number",
    "not-probability": "an output outside [0, 1]",
    "unfaithful": "outputs far from the original model's",
    "runtime-2.14": "an operation that tflite-runtime 2.14 does not take",
    "runtime-version": "an operation in a version that LiteRT 2.3 does not have",
    "arithmetic": "weights that are not what the equations make of the float32 file's",
    "slower": "the result is not faster than the model's own static float32 file",
}
VARIABLE_OPS = {"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE"}
WEIGHT_INPUT = {kind: slot for kind, (slot, _) in WEIGHTS.items()}
KEPT, ONE_TAP = "the layout leaves it float", "a factor for each channel"
OVERHEAD_BYTES = 100_000  # of names, shapes and small tensors, in a file of any size
OPERATION_BYTES = 500  # the same for each operation: 200 that were written anew took 138 kB more than the original
# Most that outputs may differ from Keras': of float weights, of 16-bit ones; on average, of quantized ones.
FLOAT_DIFFERENCE, HALF_DIFFERENCE, QUANTIZED_MEAN_DIFFERENCE = 1e-3, 2e-2, 0.1
CLASS_DIFFERENCE = 0.5  # most that a class's probability may move by quantization: beyond, it is another class


@dataclass(frozen=True)
class Finding:
    """One thing that must not be in a file, by its name in FINDINGS, and where it is."""

    name: str
    where: str


@dataclass(frozen=True)
class Weights:
    """One weight tensor: where it is, how many numbers, and its type in the file."""

    layer: str
    operation: str
    elements: int
    dtype: str
    scales: int
    reason: str = ""  # why it stayed float, where it did


@dataclass(frozen=True)
class Audit:
    """What a converted file holds."""

    size_bytes: int
    fp32_bytes: int
    operations: dict[str, int]
    versions: dict[str, int]
    weights: tuple[Weights, ...]
    partitions: int | None  # under XNNPACK; None where the runtime has no such delegate
    outside: tuple[str, ...]  # operations that XNNPACK leaves to the interpreter, with their layers
    costs: tuple[Cost, ...]
    findings: tuple[Finding, ...] = field(default=())
    proofs: tuple[Proof, ...] = field(default=())  # of the weights, where there was a float32 graph to hold them to

    @property
    def quantized(self) -> int:
        """How many weight tensors are int8."""
        return sum(weight.dtype == "INT8" for weight in self.weights)


def audit_model(
    model: Path, fp32: int, facts: dict[str, Any], recipe: Recipe, target: str, kept: Collection[str] = (),
    original: bytes | None = None,
) -> Audit:  # fmt: skip
    """Return what the file holds, with all findings that its bytes alone can show.

    fp32 is the size of the float32 original in bytes; facts come from the worker; kept are the weights that the layout
    leaves float; original is the same graph in float32, by which the arithmetic of the weights is proven.
    """
    flatbuffer, layers = model.read_bytes(), facts["layers"]
    graph, size = read_graph(flatbuffer), len(flatbuffer)
    weights = tuple(read_weights(graph, layers, kept))
    partitions, outside = count_partitions(read_pieces(model), graph, layers)
    findings = [
        *find_operations(graph, layers, target),
        *find_float(weights, recipe),
        *find_size(size, fp32, facts, recipe, len(graph.operations)),
    ]
    whole = ("FULLY_CONNECTED",) if target == "tflite-runtime" else ()
    proofs = () if original is None else prove_weights(flatbuffer, original, whole, dict.fromkeys(kept, KEPT))
    known = {finding.name for finding in findings}
    others = (*find_versions(flatbuffer, graph, layers, target), *find_arithmetic(proofs))
    findings += [finding for finding in others if finding.name not in known]
    versions = {op.name: max(o.version for o in graph.operations if o.name == op.name) for op in graph.operations}
    histogram = dict(Counter(op.name for op in graph.operations).most_common())
    costs = sum_costs(graph)
    return Audit(size, fp32, histogram, versions, weights, partitions, outside, costs, tuple(findings), proofs)


def name_layer(graph: Graph, op: Operation, layers: Collection[str]) -> str:
    """Return the Keras layer that an operation stems from, as far as its output's name tells; "" otherwise.

    ExportArchive traces layer 'up' under the scope 'model_1/up_1'; a fused operation joins its parts' names with
    semicolons, the one that has the weights last.
    """
    text = graph.tensors[op.outputs[0]].name if op.outputs else ""
    for path in reversed(text.split(";")):
        for segment in reversed(path.split("/")[:-1]):
            for name in (re.sub(r"_\d+$", "", segment), segment):
                if name in layers:
                    return name
    return ""


def describe(graph: Graph, op: Operation, layers: Collection[str]) -> str:
    """Return an operation in words: its name and the layer it stems from."""
    layer = name_layer(graph, op, layers)
    if layer:
        return f"{op.name} of layer {layer!r}"
    return f"{op.name} at {graph.tensors[op.outputs[0]].name[:80]!r}" if op.outputs else op.name


def find_operations(graph: Graph, layers: Collection[str], target: str) -> list[Finding]:
    """Return the findings about operations and shapes, the first place of each kind."""
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
            found.setdefault(kind, describe(graph, op, layers))
    return [Finding(name, where) for name, where in found.items()]


def refuses_2_14(graph: Graph, op: Operation) -> bool:
    """Tell whether tflite-runtime 2.14 refuses an operation in a version that it has: a hybrid TRANSPOSE_CONV."""
    hybrid = op.name == "TRANSPOSE_CONV" and graph.tensors[op.inputs[1]].dtype == "INT8"
    return hybrid and graph.tensors[op.inputs[2]].dtype == "FLOAT32"


def find_versions(flatbuffer: bytes, graph: Graph, layers: Collection[str], target: str) -> list[Finding]:
    """Return a finding where an operation needs, or is stamped with, a version that the target's runtime lacks."""
    misfits = find_misfits(flatbuffer, runtime_of(target))
    if not misfits:
        return []
    where = describe(graph, graph.operations[misfits[0].operator], layers)
    more = f", and {len(misfits) - 1} more" if len(misfits) > 1 else ""
    name = "runtime-2.14" if target == "tflite-runtime" else "runtime-version"
    return [Finding(name, f"{where}, {misfits[0]}{more}")]


def find_arithmetic(proofs: Sequence[Proof]) -> list[Finding]:
    """Return a finding where a weight tensor is not what the equations make of the float32 one."""
    wrong = find_unproven(proofs)
    return [Finding("arithmetic", wrong)] if wrong else []


def read_weights(graph: Graph, layers: Collection[str], kept: Collection[str]) -> list[Weights]:
    """Return the weight tensors of the operations that have some, in the graph's order."""
    found, seen = [], set()
    widened = {op.outputs[0]: op.inputs[0] for op in graph.operations if op.name == "DEQUANTIZE"}
    for op in graph.operations:
        place = op.inputs[WEIGHT_INPUT[op.name]] if op.name in WEIGHT_INPUT else -1
        place = widened.get(place, place)
        if place < 0 or place in seen or not graph.tensors[place].constant_bytes:
            continue
        seen.add(place)
        tensor = graph.tensors[place]
        reason = ""
        if tensor.dtype == "FLOAT32":
            reason = f"fewer than {SMALL} weights" if tensor.elements < SMALL else "the converter left it"
            reason = KEPT if tensor.name in kept else reason
            reason = ONE_TAP if one_tap(op.name, tensor.shape) else reason
        found.append(
            Weights(name_layer(graph, op, layers), op.name, tensor.elements, tensor.dtype, tensor.scales, reason)
        )
    return found


def find_float(weights: Sequence[Weights], recipe: Recipe) -> list[Finding]:
    """Return a finding where smaller weights were asked for and a large tensor has another type."""
    if recipe.weights == "float32":
        return []
    large = [weight for weight in weights if weight.elements >= SMALL and weight.dtype != recipe.weights.upper()]
    large = [weight for weight in large if weight.reason not in (KEPT, ONE_TAP)]
    if not large:
        return []
    worst = max(large, key=lambda weight: weight.elements)
    where = f"{worst.operation} of layer {worst.layer!r} ({worst.elements} weights, {worst.dtype})"
    return [Finding("float-weights", where + (f" and {len(large) - 1} more" if len(large) > 1 else ""))]


def find_size(size: int, fp32: int, facts: dict[str, Any], recipe: Recipe, operations: int) -> list[Finding]:
    """Return a finding where a file is too small for its weights, or too large for its recipe."""
    kernels, extra = int(facts["kernels"]), sum(facts["rewritten"].values())
    each = {"float32": 4, "float16": 2}.get(recipe.weights, 1)
    if size < 0.9 * each * kernels:
        return [Finding("size", f"{size} bytes for {kernels} weights: some are missing")]
    if fp32 < 0.9 * 4 * kernels:
        return [Finding("size", f"the float32 original has {fp32} bytes for {kernels} weights: some are missing")]
    most = recipe.most_of_fp32 * (fp32 + 4 * extra) + OVERHEAD_BYTES + OPERATION_BYTES * operations
    if size > most:
        return [Finding("size", f"{size} bytes, where {recipe.name} should have at most {most:.0f}")]
    return []


def find_differences(checks: Checks, recipe: Recipe) -> list[Finding]:
    """Return the findings about a file's outputs."""
    if not checks.finite:
        return [Finding("not-finite", f"on one of {checks.images} drawn images")]
    found = []
    if not checks.probability:
        found.append(Finding("not-probability", f"on one of {checks.images} drawn images"))
    if recipe.weights in ("float32", "float16"):
        most = FLOAT_DIFFERENCE if recipe.weights == "float32" else HALF_DIFFERENCE
        far = not checks.largest_difference <= most  # not <=: NaN is far
        where = f"largest difference {checks.largest_difference:.2g}, above {most:g}"
    else:
        far = not checks.mean_difference <= QUANTIZED_MEAN_DIFFERENCE
        where = f"mean difference {checks.mean_difference:.2g}, above {QUANTIZED_MEAN_DIFFERENCE:g}"
    off, most = checks.class_difference, FLOAT_DIFFERENCE if recipe.weights == "float32" else CLASS_DIFFERENCE
    if off is not None and not off <= most:
        found.append(Finding("unfaithful", f"the classes' largest difference {off:.2g}, above {most:g}"))
    return [*found, *([Finding("unfaithful", where)] if far else [])]


def read_pieces(model: Path) -> list[dict[str, Any]] | None:
    """Return the delegate's pieces of a file, each with the places of its inputs and outputs.

    None where LiteRT refuses the file (which `verify` then reports) or does not tell.
    """
    from ai_edge_litert.interpreter import Interpreter

    try:
        with muffled():
            interpreter = Interpreter(str(model), num_threads=1)
            interpreter.allocate_tensors()
        return [op for op in interpreter._get_ops_details() if op["op_name"] == "DELEGATE"]
    except (RuntimeError, ValueError, AttributeError):  # _get_ops_details is not public: it may go
        return None


def count_partitions(
    pieces: list[dict[str, Any]] | None, graph: Graph, layers: Collection[str]
) -> tuple[int | None, tuple[str, ...]]:
    """Return how many pieces XNNPACK takes the graph in, and the operations it leaves out.

    A piece holds all that lies between its inputs and its outputs.
    """
    if pieces is None:
        return None, ()
    maker = {place: i for i, op in enumerate(graph.operations) for place in op.outputs}
    taken: set[int] = set()
    for piece in pieces:
        stop, todo = {int(i) for i in piece["inputs"]}, [int(i) for i in piece["outputs"]]
        while todo:
            index = maker.get(todo.pop())
            if index is None or index in taken:
                continue
            taken.add(index)
            todo.extend(place for place in graph.operations[index].inputs if place not in stop)
    left = [op for i, op in enumerate(graph.operations) if i not in taken]
    return len(pieces), tuple(describe(graph, op, layers) for op in left)
