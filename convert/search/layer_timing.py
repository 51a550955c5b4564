"""How fast is each layer alone, in float and in int8, and each transposed convolution in each form?"""

from __future__ import annotations

import time
from collections.abc import Mapping
from statistics import median
from typing import Any

import numpy as np

from convert.flatbuffer.edit import Model, find_operators, isolate, kind_of, shape_of, unpack
from convert.flatbuffer.upsampling import choose_forms
from convert.quantize.full_integer import quantize_integer
from convert.quantize.weights import HYBRID, WeightTensor, find_weights, plan_weights, quantize_weights
from edge_runtime.system.quiet import silence_stderr

from .race import rewrite_forms

Layer = Mapping[str, Any]  # one row of `time_layers`, as it is in the report

ALL_LAYERS_S = 30.0  # for all layers; those that are left after it are not timed
ONE_LAYER_S, LAYER_ROUNDS = 0.25, 15  # for all variants of one layer


def time_layers(graph: bytes, kind: str) -> list[Layer]:
    """Return name, op, operation, weights and milliseconds of each layer that can be quantized, run alone.

    The times are float_ms and int8_ms; of a transposed convolution also keep_ms, phases_ms and depth-to-space_ms,
    stored as `kind`. Layers of the same operation and shapes are timed once.
    """
    model = unpack(graph)
    weights = find_weights(model)
    rows: list[Layer] = []
    timed: dict[Any, dict[str, float]] = {}
    plan, end = plan_weights(graph, "int8"), time.monotonic() + ALL_LAYERS_S
    for op in find_operators(model, *HYBRID):
        weight = weights.get(int(op.inputs[1]))
        if weight is None or plan.get(weight.name) != "int8":
            continue
        key = (
            kind_of(model, op),
            weight.shape,
            shape_of(model, find_layer_input(model, op)),
            format_options(op.builtinOptions),
        )
        if key not in timed:
            if time.monotonic() > end:
                continue
            timed[key] = time_layer(isolate(model, op), weight, kind)
        name = model.subgraphs[0].tensors[op.outputs[0]].name.decode()
        row = {"name": weight.name, "op": name, "operation": weight.operation, "weights": weight.elements}
        rows.append(row | timed[key])
    return rows


def find_layer_input(model: Model, op: Any) -> int:
    """Return the tensor index of a layer's input."""
    return int(op.inputs[2] if kind_of(model, op) == "TRANSPOSE_CONV" else op.inputs[0])


def format_options(options: Any) -> str:
    """Return an operation's options as one comparable text."""
    return repr(sorted(vars(options).items())) if options is not None else ""


def time_layer(file: bytes, weight: WeightTensor, kind: str) -> dict[str, float]:
    """Return {variant: milliseconds} of a file with one layer: medians of interleaved runs."""
    files = {"float_ms": file, "int8_ms": quantize_layer(file, "integer" if kind == "integer" else "int8")}
    if weight.operation == "TRANSPOSE_CONV":
        for form in ("keep", "phases", "depth-to-space"):
            graph, _ = rewrite_forms(file, choose_forms(unpack(file), form, 0))
            files[f"{form}_ms"] = quantize_layer(graph, kind)
    runs = {what: open_interpreter(data) for what, data in files.items()}
    samples: dict[str, list[float]] = {what: [] for what in runs}
    end = time.monotonic() + ONE_LAYER_S
    while len(samples["int8_ms"]) < 5 or (time.monotonic() < end and len(samples["int8_ms"]) < LAYER_ROUNDS):
        for what, run in runs.items():
            started = time.perf_counter()
            run.invoke()
            samples[what].append((time.perf_counter() - started) * 1e3)
    return {what: round(median(times), 4) for what, times in samples.items()}


def quantize_layer(file: bytes, kind: str) -> bytes:
    """Return a file of one layer stored as `kind`; a full-integer one has int8 input and output, ranges from noise."""
    if kind != "integer":
        return quantize_weights(file, plan_weights(file, kind))
    model = unpack(file)
    noise = np.random.default_rng(0).normal(size=shape_of(model, int(model.subgraphs[0].inputs[0])))
    return quantize_integer(file, [noise.astype(np.float32)], io="int8")


def open_interpreter(flatbuffer: bytes) -> Any:
    """Return an interpreter of a file that has run once on noise."""
    from ai_edge_litert.interpreter import Interpreter

    with silence_stderr():
        interpreter = Interpreter(model_content=flatbuffer, num_threads=2)
        interpreter.allocate_tensors()
        rng = np.random.default_rng(0)
        for details in interpreter.get_input_details():
            noise = rng.normal(0, 40 if details["dtype"] is np.int8 else 1, details["shape"]).astype(details["dtype"])
            interpreter.set_tensor(details["index"], noise)
        interpreter.invoke()
    return interpreter
