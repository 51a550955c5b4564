"""Which form does each transposed convolution get in a recipe's file, and which layers stay float? Measured.

Quantizing a layer costs time (its input is quantized at run time, which grows with the input) and saves time (cheaper
multiplications, which grows with filters times taps and depends on the processor); a hybrid depthwise convolution runs
outside the delegate. No rule predicts which is larger on this processor, so each layer is timed alone: in float and
int8, a transposed convolution in each form too. Layers that are slower in int8 stay float as long as they save more of
the time than they add to the size. Then whole files, timed interleaved with the float32 one, decide.

On a busy machine the times do not give the same layout twice, but a file's bytes should be the same. So the layout is
kept, by model, options, versions and processor, in the user's cache, and written into the report, from which
`--choices` takes it on another machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from convert.flatbuffer.edit import unpack
from convert.flatbuffer.upsampling import MAX_ADDED_SHARE, choose_forms, find_transposed
from convert.quantize.full_integer import FullIntegerQuantizer
from convert.quantize.recipes import Recipe
from convert.quantize.weights import find_weights, plan_weights, quantize_weights

from .kept_choice import LayoutChoice
from .layer_timing import Layer, time_layers
from .race import Layout, LayoutRace, rewrite_forms

MAX_FP32_SHARE = 0.28  # of the float32 file: size of a file with some layers left float
MAX_FP32_SHARE_IF_SLOW = 0.35  # where no file within that is faster than float32
MIN_GAIN = 0.05  # of a layer's time: a smaller difference is noise


def choose_layout(
    graph: bytes, recipe: Recipe, upsample: str, target: str, tensor: Any, work: Path, kept: Sequence[str] | None,
    quantizer: FullIntegerQuantizer | None = None,
) -> LayoutChoice:  # fmt: skip
    """Return the fastest layout of a recipe within its size limit, measured in `work`.

    tensor: an input of the model. kept: the weights to leave float; None searches them. quantizer: makes full-integer
    files; their time does not depend on the ranges, so few calibration images are enough here.
    """
    forms = choose_forms(unpack(graph), "keep" if upsample == "auto" else upsample, 0)
    if target == "tflite-runtime" and upsample in ("auto", "keep"):  # it has no dynamic-range TRANSPOSE_CONV
        forms = dict.fromkeys(forms, "phases")
    search = kept is None and recipe.kind in ("int8", "integer")
    if not search and (upsample != "auto" or not forms):
        return LayoutChoice(forms, tuple(kept or ()), "asked for" if kept else "nothing to choose")
    layers = time_layers(graph, recipe.kind)
    if upsample == "auto":
        forms = forms | pick_forms(graph, layers, target)
    few = quantizer.with_few_images() if quantizer is not None else None
    race = LayoutRace(graph, recipe, target, tensor, work, few)
    layouts = [Layout("as planned", forms, tuple(kept or ()))]
    if search:
        rewritten, _ = rewrite_forms(graph, forms)
        layouts += [Layout(what, forms, names) for what, names in list_float_variants(rewritten, layers)]
    if target != "tflite-runtime" and upsample == "auto" and "keep" not in forms.values() and forms:
        layouts.append(Layout("upsampling kept", dict.fromkeys(forms, "keep"), ()))
    best = race.find_fastest(layouts)
    if search and race.find_best_ratio() >= 1:
        slow = pick_within_size(rewritten, find_slow(layers), lambda _: True, MAX_FP32_SHARE_IF_SLOW)
        what = f"all slow layers float, at most {MAX_FP32_SHARE_IF_SLOW:.0%}"
        best = race.find_fastest([best, Layout(what, forms, slow)])
    return LayoutChoice(best.forms, best.kept, "measured", tuple(race.table), tuple(layers))


def pick_forms(graph: bytes, layers: Sequence[Layer], target: str) -> dict[str, str]:
    """Return the fastest form of each transposed convolution, added zeros within MAX_ADDED_SHARE of the weights."""
    model = unpack(graph)
    left = MAX_ADDED_SHARE * sum(weight.elements for weight in find_weights(model).values())
    timed = {layer["op"]: layer for layer in layers if layer["operation"] == "TRANSPOSE_CONV"}
    forms: dict[str, str] = {}
    for one in sorted(find_transposed(model), key=lambda one: one.added_weights):
        able = [form for form in ("keep", "phases") if form == "phases" or target != "tflite-runtime"]
        if one.name not in timed:  # too small to be quantized, and too small to matter
            forms[one.name] = "phases" if target == "tflite-runtime" else "keep"
            continue
        able += ["depth-to-space"] if one.added_weights <= left else []
        forms[one.name] = min(able, key=lambda form: timed[one.name][f"{form}_ms"])
        left -= one.added_weights if forms[one.name] == "depth-to-space" else 0
    return forms


def list_float_variants(graph: bytes, layers: Sequence[Layer]) -> list[tuple[str, tuple[str, ...]]]:
    """Return [(description, weights left float)] of the files to time beside the one with none left float."""
    depthwise = [layer for layer in layers if layer["operation"] == "DEPTHWISE_CONV_2D"]
    worth = pick_within_size(graph, find_slow(layers), make_worth_test(graph, layers), MAX_FP32_SHARE)
    outside = pick_within_size(graph, depthwise, lambda _: True, MAX_FP32_SHARE)
    found: dict[tuple[str, ...], str] = {}
    found.setdefault(worth, "slow layers float")
    found.setdefault(outside, "depthwise float")
    found.setdefault(tuple(dict.fromkeys((*outside, *worth))), "both float")
    return [(what, names) for names, what in found.items() if names]


def find_slow(layers: Sequence[Layer]) -> list[Layer]:
    """Return the layers that are clearly slower in int8."""
    return [layer for layer in layers if layer["int8_ms"] - layer["float_ms"] > MIN_GAIN * layer["int8_ms"]]


def make_worth_test(graph: bytes, layers: Sequence[Layer]) -> Callable[[Layer], bool]:
    """Return the test whether a layer left float saves a larger share of the time than it adds to the file's size."""
    time_ms = sum(layer["int8_ms"] for layer in layers)
    size = len(quantize_weights(graph, plan_weights(graph, "int8")))
    return lambda layer: (layer["int8_ms"] - layer["float_ms"]) / time_ms > 3 * layer["weights"] / size


def pick_within_size(
    graph: bytes, layers: Sequence[Layer], test: Callable[[Layer], bool], share: float
) -> tuple[str, ...]:
    """Return the names of the layers that pass a test and gain most per byte, within a share of float32's size."""
    left = share * len(graph) - len(quantize_weights(graph, plan_weights(graph, "int8")))
    names = []
    for layer in sorted(layers, key=lambda x: (x["float_ms"] - x["int8_ms"]) / x["weights"]):
        if test(layer) and 3 * layer["weights"] <= left and layer["operation"] != "TRANSPOSE_CONV":  # 4 bytes for 1
            left -= 3 * layer["weights"]
            names.append(layer["name"])
    return tuple(names)
