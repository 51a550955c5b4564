"""How a recipe is laid out in the file: which form each transposed convolution gets, which layers stay float. Measured.

Quantizing a layer costs (its input is quantized at run time, work that grows with the input) and pays (cheaper
multiplications, a gain that grows with filters times taps, and with what the processor has for it); a hybrid depthwise
convolution leaves the delegate altogether. No rule knows which wins on this processor, so each layer is timed alone in
both types, the layers that lose are left float as far as the size budget goes, and whole files have the last word:
timed in turns with the float32 original.

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

from edge_runtime.contract import near_miss
from edge_runtime.errors import UsageError
from edge_runtime.images import write_file

from .quantize import HYBRID, Constant, find_weights, plan_weights, quantize_weights
from .recipes import Recipe
from .surgery import Model, find_operators, isolate, kind_of, pack, shape_of, unpack
from .upsample import choose_forms, find_transposed, rewrite_upsampling
from .verify import muffled, open_engine, time_models

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


def store(graph: bytes, recipe: Recipe, kept: Sequence[str], target: str) -> bytes:
    """Return a float32 graph with its weights stored as a recipe of weights says, but for those kept float."""
    if recipe.kind == "float32":
        return graph
    plan = {name: kind for name, kind in plan_weights(graph, recipe.kind).items() if name not in kept}
    return quantize_weights(graph, plan, per_tensor_dense=target == "tflite-runtime")


def list_forms(original: bytes, upsample: str, target: str) -> dict[str, dict[str, str]]:
    """Return {name: forms} of what is worth trying: one entry, but for "auto"."""
    model = unpack(original)
    if not find_transposed(model):
        return {"as it is": {}}
    weights = sum(weight.elements for weight in find_weights(model).values())
    if upsample != "auto" and not (upsample == "keep" and target == "tflite-runtime"):
        return {upsample: choose_forms(model, upsample, weights)}
    within = choose_forms(model, "auto", weights)
    mixed = {name: "phases" if form == "keep" else form for name, form in within.items()}
    if target == "tflite-runtime":  # which has no dynamic-range TRANSPOSE_CONV
        return {"rewritten": mixed}
    tried = {"rewritten": mixed, "rewritten within 3 %": within, "kept": dict.fromkeys(within, "keep")}
    return {name: forms for i, (name, forms) in enumerate(tried.items()) if forms not in list(tried.values())[:i]}


def choose_layout(
    original: bytes, recipe: Recipe, upsample: str, target: str, tensor: Any, work: Path, kept: Sequence[str] | None
) -> Choice:
    """Return the fastest layout of a recipe of weights within its size budget, measured in `work`.

    tensor: an input of the model. kept: weights to leave float in any case, and no others; None searches.
    """
    forms = list_forms(original, upsample, target)
    search = kept is None and recipe.kind == "int8"
    if len(forms) == 1 and not search:
        return Choice(next(iter(forms.values())), tuple(kept or ()), "asked for" if kept else "nothing to choose")
    race = Race(original, recipe, target, tensor, work)
    best = race.fastest([(name, one, tuple(kept or ())) for name, one in forms.items()])
    if not search:
        return Choice(best[1], best[2], "measured", tuple(race.table))
    graph, _ = rewrite(original, best[1])
    layers = time_layers(graph, work)
    best = race.fastest([best, *((what, best[1], names) for what, names in vary(graph, layers, len(original)))])
    return Choice(best[1], best[2], "measured", tuple(race.table), tuple(layers))


def vary(graph: bytes, layers: Sequence[Mapping[str, Any]], fp32_bytes: int) -> list[tuple[str, tuple[str, ...]]]:
    """Return [(what, weights left float)] worth timing as whole files, each within a size budget."""
    found: list[tuple[str, tuple[str, ...]]] = []
    for most in (MOST_OF_FP32, MOST_IF_SLOW):
        slow = spend(
            graph, [x for x in layers if x["int8_ms"] - x["float_ms"] > GAIN * x["int8_ms"]], most * fp32_bytes
        )
        deep = spend(graph, [x for x in layers if x["operation"] == "DEPTHWISE_CONV_2D"], most * fp32_bytes)
        both = tuple(dict.fromkeys((*deep, *slow)))
        for what, names in (("slow layers float", slow), ("depthwise float", deep), ("both float", both)):
            if names and names not in [other for _, other in found]:
                found.append((f"{what}, {most:.0%}", names))
    return found


def spend(graph: bytes, layers: Sequence[Mapping[str, Any]], budget: float) -> tuple[str, ...]:
    """Return the names of the layers that gain most for their bytes, as many as a file of `budget` bytes can hold."""
    plan = plan_weights(graph, "int8")
    left = budget - len(quantize_weights(graph, plan))
    names = []
    for layer in sorted(layers, key=lambda x: (x["float_ms"] - x["int8_ms"]) / x["weights"]):
        if 3 * layer["weights"] <= left:  # four bytes for one
            left -= 3 * layer["weights"]
            names.append(layer["name"])
    return tuple(names)


class Race:
    """Files of one recipe, timed in turns with the float32 original; `table` keeps every one."""

    def __init__(self, original: bytes, recipe: Recipe, target: str, tensor: Any, work: Path) -> None:
        self.original, self.recipe, self.target, self.tensor, self.work = original, recipe, target, tensor, work
        self.table: list[dict[str, Any]] = []

    def fastest(self, entries: Sequence[tuple[str, Mapping[str, str], tuple[str, ...]]]) -> tuple[Any, Any, Any]:
        """Return the entry (what, forms, kept) whose file is fastest; an earlier one unless a later is clearly so."""
        engines = {"fp32": open_engine(self.work / "fp32.tflite")}
        sizes = []
        for i, (_, forms, kept) in enumerate(entries):
            path = self.work / f"race{i}.tflite"
            path.write_bytes(store(rewrite(self.original, forms)[0], self.recipe, kept, self.target))
            sizes.append(path.stat().st_size)
            engines[str(i)] = open_engine(path)
        times = time_models(engines, self.tensor, rounds=choose_rounds(engines["fp32"], self.tensor, len(engines)))
        ratios = [pair(times[str(i)], times["fp32"]) for i in range(len(entries))]
        for (what, _, kept), size, ratio in zip(entries, sizes, ratios, strict=True):
            self.table.append({"what": what, "bytes": size, "kept": len(kept), "ratio": round(ratio, 4)})
        fits = [i for i, size in enumerate(sizes) if size <= MOST_OF_FP32 * len(self.original)] or [0]
        if min(ratios[i] for i in fits) >= 1:
            fits = list(range(len(entries)))
        best = fits[0]
        for i in fits[1:]:
            best = i if ratios[i] < BETTER * ratios[best] else best
        return entries[best]


def pair(times: Sequence[float], others: Sequence[float]) -> float:
    """Return the median of the ratios of times measured in the same rounds."""
    return median(a / b for a, b in zip(times, others, strict=True))


def choose_rounds(engine: Any, tensor: Any, engines: int, seconds: float = 6.0) -> int:
    """Return how many rounds of that many engines fit into some seconds: 7 to 60."""
    started = time.perf_counter()
    for _ in range(3):
        with muffled():
            engine.infer(tensor)
    each = (time.perf_counter() - started) / 3
    return int(min(60, max(7, seconds / (each * engines))))


def time_layers(graph: bytes, work: Path) -> list[dict[str, Any]]:
    """Return name, operation, weights and milliseconds in float and int8 of each layer that can be quantized, alone.

    Layers of the same operation and shapes are timed once.
    """
    model = unpack(graph)
    weights, rows = find_weights(model), []
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
            seen[key] = time_layer(isolate(model, op), weight)
        rows.append({"name": weight.name, "operation": weight.operation, "weights": weight.elements, **seen[key]})
    return rows


def layer_input(model: Model, op: Any) -> int:
    """Return the place of what a layer computes on."""
    return int(op.inputs[2] if kind_of(model, op) == "TRANSPOSE_CONV" else op.inputs[0])


def vars_of(options: Any) -> str:
    """Return an operation's options as one comparable text."""
    return repr(sorted(vars(options).items())) if options is not None else ""


def time_layer(single: bytes, weight: Constant) -> dict[str, float]:
    """Return {float_ms, int8_ms}, medians of runs in turns, of a file with one layer."""
    from ai_edge_litert.interpreter import Interpreter

    runs: dict[str, Any] = {}
    samples: dict[str, list[float]] = {"float_ms": [], "int8_ms": []}
    for what, data in (("float_ms", single), ("int8_ms", quantize_weights(single, {weight.name: "int8"}))):
        with muffled():
            runs[what] = Interpreter(model_content=data, num_threads=2)
            runs[what].allocate_tensors()
            details = runs[what].get_input_details()[0]
            rng = np.random.default_rng(0)
            runs[what].set_tensor(details["index"], rng.normal(size=details["shape"]).astype(np.float32))
            runs[what].invoke()
    end = time.monotonic() + LAYER_S
    while len(samples["int8_ms"]) < 5 or (time.monotonic() < end and len(samples["int8_ms"]) < LAYER_ROUNDS):
        for what, run in runs.items():
            start = time.perf_counter()
            run.invoke()
            samples[what].append((time.perf_counter() - start) * 1e3)
    return {what: round(median(times), 4) for what, times in samples.items()}


def find_cache() -> Path:
    """Return the folder of kept choices."""
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(base) / "edge-seg" / "choices"


def cache_key(facts: Mapping[str, Any]) -> str:
    """Return a name for what a choice depends on: everything in `facts`, and this processor."""
    facts = {**facts, "processor": read_processor(), "cpus": os.cpu_count()}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def read_processor() -> str:
    """Return the processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def keep_choice(key: str, choose: Callable[[], Choice], again: bool = False) -> Choice:
    """Return the choice kept under a key, or make one and keep it; a cache that cannot be written is no error."""
    path = find_cache() / f"{key}.json"
    if not again:
        try:
            return replace(to_choice(json.loads(path.read_text())), why="measured in an earlier conversion here")
        except (OSError, ValueError, KeyError, TypeError):
            pass
    choice = choose()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, json.dumps(asdict(choice)).encode())
    except Exception:  # a full disk, no home: the next conversion measures again
        pass
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
