"""How a recipe is laid out in the file: which form each transposed convolution gets, which layers stay float. Measured.

Quantizing a layer costs (its input is quantized at run time, work that grows with the input) and pays (cheaper
multiplications, a gain that grows with filters times taps, and with what the processor has for it); a hybrid depthwise
convolution leaves the delegate altogether. No rule knows which wins on this processor, so each layer is timed alone: in
float and int8, a transposed convolution in each form too. Layers that lose by int8 stay float as long as they save more
of the time than they add to the size; then whole files, timed in turns with the float32 original, have the last word.

The clock's choice is not the same twice on a busy machine, but a file's bytes should be. So the choice is kept, by
model, options, versions and processor, in the user's cache, and written into the report, from which `--choices` takes
it on another machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from edge_runtime.cache import cache_folder, keep_text
from edge_runtime.contract import near_miss
from edge_runtime.engines.machine import read_cpu
from edge_runtime.errors import UsageError

from .integer import Integers, quantize_integer
from .quantize import HYBRID, Constant, find_weights, plan_weights, quantize_weights
from .recipes import Recipe
from .surgery import Model, find_operators, isolate, kind_of, pack, shape_of, unpack
from .upsample import BUDGET, choose_forms, find_transposed, rewrite_upsampling
from .verify import muffled, open_engine, time_models

Entry = tuple[str, Mapping[str, str], tuple[str, ...]]  # what, forms, weights left float
Layer = Mapping[str, Any]  # one row of `time_layers`

MOST_OF_FP32 = 0.28  # of the float32 file: what int8 weights may weigh with some layers float
MOST_IF_SLOW = 0.35  # where no file within that is faster than float32
LAYERS_S = 30.0  # longest that single layers are timed
LAYER_S, LAYER_ROUNDS = 0.25, 15  # for one layer in both types
GAIN = 0.05  # of a layer's time: a smaller gain is noise
BETTER = 0.98  # of another file's time: what a more complicated file must reach to be preferred


@dataclass(frozen=True)
class Choice:
    """How a file is laid out: each transposed convolution's form, the weights left float, and how that was found."""

    forms: Mapping[str, str] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    why: str = "nothing to choose"
    table: tuple[Mapping[str, Any], ...] = ()  # the files tried: what, bytes, ratio to float32
    layers: tuple[Mapping[str, Any], ...] = ()  # the layers timed alone: name, float_ms, int8_ms


def rewrite(original: bytes, forms: Mapping[str, str]) -> tuple[bytes, dict[str, int]]:
    """Return the float32 graph with its transposed convolutions in these forms, and the weights that added, by name."""
    model = unpack(original)
    added = rewrite_upsampling(model, forms)
    return (pack(model) if added else original), added


def store(graph: bytes, recipe: Recipe, kept: Sequence[str], target: str, integers: Integers | None = None) -> bytes:
    """Return a float32 graph with its weights stored as a recipe of weights says, but for those kept float."""
    if recipe.kind == "float32":
        return graph
    if recipe.kind == "integer":
        assert integers is not None
        return integers.store(graph, kept)
    plan = {name: kind for name, kind in plan_weights(graph, recipe.kind).items() if name not in kept}
    return quantize_weights(graph, plan, per_tensor_dense=target == "tflite-runtime")


def choose_layout(
    graph: bytes, recipe: Recipe, upsample: str, target: str, tensor: Any, work: Path, kept: Sequence[str] | None,
    integers: Integers | None = None,
) -> Choice:  # fmt: skip
    """Return the fastest layout of a recipe of weights within its size budget, measured in `work`.

    tensor: an input of the model. kept: weights to leave float in any case, and no others; None searches. integers: how
    full-integer files are made; their time does not depend on the ranges, so a sketch of these will do.
    """
    forms = choose_forms(unpack(graph), "keep" if upsample == "auto" else upsample, 0)
    if target == "tflite-runtime" and upsample in ("auto", "keep"):  # it has no dynamic-range TRANSPOSE_CONV
        forms = dict.fromkeys(forms, "phases")
    search = kept is None and recipe.kind in ("int8", "integer")
    if not search and (upsample != "auto" or not forms):
        return Choice(forms, tuple(kept or ()), "asked for" if kept else "nothing to choose")
    layers = time_layers(graph, recipe.kind)
    if upsample == "auto":
        forms = forms | pick_forms(graph, layers, target)
    race = Race(graph, recipe, target, tensor, work, integers.sketch() if integers is not None else None)
    entries: list[Entry] = [("as planned", forms, tuple(kept or ()))]
    if search:
        rewritten, _ = rewrite(graph, forms)
        entries += [(what, forms, names) for what, names in vary(rewritten, layers)]
    if target != "tflite-runtime" and upsample == "auto" and "keep" not in forms.values() and forms:
        entries.append(("upsampling kept", dict.fromkeys(forms, "keep"), ()))
    best = race.fastest(entries)
    if search and race.best_ratio() >= 1:
        slow = spend(rewritten, find_slow(layers), lambda _: True, MOST_IF_SLOW)
        best = race.fastest([best, (f"all slow layers float, at most {MOST_IF_SLOW:.0%}", forms, slow)])
    return Choice(best[1], best[2], "measured", tuple(race.table), tuple(layers))


def pick_forms(graph: bytes, layers: Sequence[Layer], target: str) -> dict[str, str]:
    """Return the fastest form of each transposed convolution, zero taps within their budget of the weights."""
    model = unpack(graph)
    left = BUDGET * sum(weight.elements for weight in find_weights(model).values())
    timed = {layer["op"]: layer for layer in layers if layer["operation"] == "TRANSPOSE_CONV"}
    forms: dict[str, str] = {}
    for one in sorted(find_transposed(model), key=lambda one: one.extra):
        able = [form for form in ("keep", "phases") if form == "phases" or target != "tflite-runtime"]
        if one.name not in timed:  # too small to be quantized: as cheap as it gets
            forms[one.name] = "phases" if target == "tflite-runtime" else "keep"
            continue
        able += ["depth-to-space"] if one.extra <= left else []
        forms[one.name] = min(able, key=lambda form: timed[one.name][f"{form}_ms"])
        left -= one.extra if forms[one.name] == "depth-to-space" else 0
    return forms


def vary(graph: bytes, layers: Sequence[Layer]) -> list[tuple[str, tuple[str, ...]]]:
    """Return [(what, weights left float)] worth timing as whole files beside the one with none."""
    deep = [layer for layer in layers if layer["operation"] == "DEPTHWISE_CONV_2D"]
    worth = spend(graph, find_slow(layers), worth_it(graph, layers), MOST_OF_FP32)
    tried = {
        "slow layers float": worth,
        "depthwise float": spend(graph, deep, lambda _: True, MOST_OF_FP32),
        "both float": tuple(dict.fromkeys((*spend(graph, deep, lambda _: True, MOST_OF_FP32), *worth))),
    }
    found: dict[tuple[str, ...], str] = {}
    for what, names in tried.items():
        found.setdefault(names, what)
    return [(what, names) for names, what in found.items() if names]


def find_slow(layers: Sequence[Layer]) -> list[Layer]:
    """Return the layers that are clearly slower in int8."""
    return [layer for layer in layers if layer["int8_ms"] - layer["float_ms"] > GAIN * layer["int8_ms"]]


def worth_it(graph: bytes, layers: Sequence[Layer]) -> Callable[[Layer], bool]:
    """Return the test whether a layer left float saves more of the time than it adds to the file, as shares of both."""
    time_ms = sum(layer["int8_ms"] for layer in layers)
    size = len(quantize_weights(graph, plan_weights(graph, "int8")))
    return lambda layer: (layer["int8_ms"] - layer["float_ms"]) / time_ms > 3 * layer["weights"] / size


def spend(graph: bytes, layers: Sequence[Layer], test: Callable[[Layer], bool], share: float) -> tuple[str, ...]:
    """Return the names of the layers that pass a test and gain most for their bytes, within a share of float32's."""
    left = share * len(graph) - len(quantize_weights(graph, plan_weights(graph, "int8")))
    names = []
    for layer in sorted(layers, key=lambda x: (x["float_ms"] - x["int8_ms"]) / x["weights"]):
        if test(layer) and 3 * layer["weights"] <= left and layer["operation"] != "TRANSPOSE_CONV":  # 4 bytes for 1
            left -= 3 * layer["weights"]
            names.append(layer["name"])
    return tuple(names)


class Race:
    """Files of one recipe, timed in turns with the float32 original; `table` keeps every one."""

    def __init__(
        self, graph: bytes, recipe: Recipe, target: str, tensor: Any, work: Path, integers: Integers | None = None
    ) -> None:
        self.graph, self.recipe, self.target, self.tensor, self.work = graph, recipe, target, tensor, work
        self.integers = integers
        self.table: list[dict[str, Any]] = []

    def best_ratio(self) -> float:
        """Return the smallest ratio of a file to the float32 original so far."""
        return min(float(row["ratio"]) for row in self.table)

    def fastest(self, entries: Sequence[Entry]) -> Entry:
        """Return the entry (what, forms, kept) whose file is fastest; an earlier one unless a later is clearly so."""
        engines = {"fp32": open_engine(self.work / "fp32.tflite")}
        sizes = []
        for i, (_, forms, kept) in enumerate(entries):
            path = self.work / f"race{i}.tflite"
            path.write_bytes(store(rewrite(self.graph, forms)[0], self.recipe, kept, self.target, self.integers))
            sizes.append(path.stat().st_size)
            engines[str(i)] = open_engine(path)
        times = time_models(engines, self.tensor, rounds=choose_rounds(engines["fp32"], self.tensor, len(engines)))
        ratios = [pair(times[str(i)], times["fp32"]) for i in range(len(entries))]
        for (what, _, kept), size, ratio in zip(entries, sizes, ratios, strict=True):
            self.table.append({"what": what, "bytes": size, "kept": len(kept), "ratio": round(ratio, 4)})
        best = 0
        for i in range(1, len(entries)):
            best = i if ratios[i] < BETTER * ratios[best] else best
        return entries[best]


def pair(times: Sequence[float], others: Sequence[float]) -> float:
    """Return the median of the ratios of times measured in the same rounds."""
    return median(a / b for a, b in zip(times, others, strict=True))


def choose_rounds(engine: Any, tensor: Any, engines: int, seconds: float = 8.0) -> int:
    """Return how many rounds of that many engines fit into some seconds: 7 to 60."""
    started = time.perf_counter()
    for _ in range(3):
        with muffled():
            engine.infer(tensor)
    each = (time.perf_counter() - started) / 3
    return int(min(60, max(7, seconds / (each * engines))))


def time_layers(graph: bytes, kind: str) -> list[Layer]:
    """Return name, operation, weights and milliseconds of each layer that can be quantized, alone.

    float_ms and int8_ms; of a transposed convolution also keep_ms, phases_ms and depth-to-space_ms, stored as `kind`.
    Layers of the same operation and shapes are timed once.
    """
    model = unpack(graph)
    weights = find_weights(model)
    rows: list[Layer] = []
    seen: dict[Any, dict[str, float]] = {}
    plan, end = plan_weights(graph, "int8"), time.monotonic() + LAYERS_S
    for op in find_operators(model, *HYBRID):
        weight = weights.get(int(op.inputs[1]))
        if weight is None or plan.get(weight.name) != "int8":
            continue
        key = (kind_of(model, op), weight.shape, shape_of(model, layer_input(model, op)), vars_of(op.builtinOptions))
        if key not in seen:
            if time.monotonic() > end:
                continue
            seen[key] = time_layer(isolate(model, op), weight, kind)
        name = model.subgraphs[0].tensors[op.outputs[0]].name.decode()
        row = {"name": weight.name, "op": name, "operation": weight.operation, "weights": weight.elements}
        rows.append(row | seen[key])
    return rows


def layer_input(model: Model, op: Any) -> int:
    """Return the place of what a layer computes on."""
    return int(op.inputs[2] if kind_of(model, op) == "TRANSPOSE_CONV" else op.inputs[0])


def vars_of(options: Any) -> str:
    """Return an operation's options as one comparable text."""
    return repr(sorted(vars(options).items())) if options is not None else ""


def time_layer(single: bytes, weight: Constant, kind: str) -> dict[str, float]:
    """Return milliseconds, medians of runs in turns, of the variants of a file with one layer."""
    files = {"float_ms": single, "int8_ms": shrink(single, "integer" if kind == "integer" else "int8")}
    if weight.operation == "TRANSPOSE_CONV":
        for form in ("keep", "phases", "depth-to-space"):
            graph, _ = rewrite(single, choose_forms(unpack(single), form, 0))
            files[f"{form}_ms"] = shrink(graph, kind)
    runs = {what: start(data) for what, data in files.items()}
    samples: dict[str, list[float]] = {what: [] for what in runs}
    end = time.monotonic() + LAYER_S
    while len(samples["int8_ms"]) < 5 or (time.monotonic() < end and len(samples["int8_ms"]) < LAYER_ROUNDS):
        for what, run in runs.items():
            started = time.perf_counter()
            run.invoke()
            samples[what].append((time.perf_counter() - started) * 1e3)
    return {what: round(median(times), 4) for what, times in samples.items()}


def shrink(single: bytes, kind: str) -> bytes:
    """Return a file of one layer stored as `kind`; a full-integer one takes and gives int8, with ranges of noise."""
    if kind != "integer":
        return quantize_weights(single, plan_weights(single, kind))
    model = unpack(single)
    noise = np.random.default_rng(0).normal(size=shape_of(model, int(model.subgraphs[0].inputs[0])))
    return quantize_integer(single, [noise.astype(np.float32)], io="int8")


def start(flatbuffer: bytes) -> Any:
    """Return an interpreter of a file, its input noise, that has run once."""
    from ai_edge_litert.interpreter import Interpreter

    with muffled():
        interpreter = Interpreter(model_content=flatbuffer, num_threads=2)
        interpreter.allocate_tensors()
        rng = np.random.default_rng(0)
        for details in interpreter.get_input_details():
            noise = rng.normal(0, 40 if details["dtype"] is np.int8 else 1, details["shape"]).astype(details["dtype"])
            interpreter.set_tensor(details["index"], noise)
        interpreter.invoke()
    return interpreter


def cache_key(facts: Mapping[str, Any]) -> str:
    """Return a name for what a choice depends on: everything in `facts`, and this processor."""
    facts = {**facts, "processor": read_cpu().get("model name", platform.machine()), "cpus": os.cpu_count()}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def keep_choice(key: str, choose: Callable[[], Choice], again: bool = False) -> Choice:
    """Return the choice kept under a key, or make one and keep it; a cache that cannot be written is no error."""
    try:
        path = cache_folder("choices") / f"{key}.json"
    except OSError:  # no home, or a disk that is read-only
        return choose()
    if not again:
        try:
            return replace(to_choice(json.loads(path.read_text())), why="measured in an earlier conversion here")
        except (OSError, ValueError, KeyError, TypeError):
            pass
    choice = choose()
    keep_text(path, json.dumps(asdict(choice)))
    return choice


def to_choice(data: Mapping[str, Any]) -> Choice:
    """Return the choice in plain data."""
    return Choice(
        dict(data["forms"]), tuple(data["kept"]), str(data["why"]), tuple(data["table"]), tuple(data["layers"])
    )


def read_choice(report: Path, recipe: str) -> Choice:
    """Return the choice written down in a conversion's report.

    Raises:
        UsageError: unreadable, no report, or of another recipe.
    """
    try:
        data = json.loads(report.read_text(encoding="utf-8"))
        choice = to_choice(data["choice"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = f"it is no conversion's report ({getattr(error, 'strerror', None) or type(error).__name__})"
        raise UsageError(f"--choices {report}", why, "give the .json beside a converted file") from error
    if data["recipe"] != recipe:
        raise UsageError(f"--choices {report}", f"its recipe is {data['recipe']}, not {recipe}")
    return replace(choice, why=f"as {report.name} says")


def check_choice(choice: Choice, original: bytes) -> None:
    """Refuse a choice that names layers this model does not have."""
    model = unpack(original)
    known = [one.name for one in find_transposed(model)]
    for name in choice.forms:
        if name not in known:
            raise UsageError("--choices", f"this model has no transposed convolution {name!r}", near_miss(name, known))
