"""Which of several layouts of one recipe gives the fastest file? Files are timed interleaved with the float32 one."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from convert.flatbuffer.edit import pack, unpack
from convert.flatbuffer.run import open_engine, run_model, time_models
from convert.flatbuffer.upsampling import rewrite_upsampling
from convert.quantize.full_integer import FullIntegerQuantizer
from convert.quantize.recipes import Recipe
from convert.quantize.weights import plan_weights, quantize_weights

CLEARLY_FASTER = 0.98  # of another file's time: needed to prefer a more complicated file


@dataclass(frozen=True)
class Layout:
    """One layout of a file: each transposed convolution's form, and the weights left float."""

    description: str
    forms: Mapping[str, str]
    kept: tuple[str, ...]


def rewrite_forms(graph: bytes, forms: Mapping[str, str]) -> tuple[bytes, dict[str, int]]:
    """Return the float32 graph with its transposed convolutions in these forms, and {name: weights added}."""
    model = unpack(graph)
    added = rewrite_upsampling(model, forms)
    return (pack(model) if added else graph), added


def quantize_graph(
    graph: bytes, recipe: Recipe, kept: Sequence[str], target: str, quantizer: FullIntegerQuantizer | None = None
) -> bytes:
    """Return a float32 graph stored as a recipe says, without the weights that are kept float."""
    if recipe.kind == "float32":
        return graph
    if recipe.kind == "integer":
        assert quantizer is not None
        return quantizer.quantize(graph, kept)
    plan = {name: kind for name, kind in plan_weights(graph, recipe.kind).items() if name not in kept}
    return quantize_weights(graph, plan, per_tensor_dense=target == "tflite-runtime")


class LayoutRace:
    """Files of one recipe, timed interleaved with the float32 file; `table` holds every one."""

    def __init__(
        self, graph: bytes, recipe: Recipe, target: str, tensor: Any, work: Path,
        quantizer: FullIntegerQuantizer | None = None,
    ) -> None:  # fmt: skip
        self.graph, self.recipe, self.target, self.tensor, self.work = graph, recipe, target, tensor, work
        self.quantizer = quantizer
        self.table: list[dict[str, Any]] = []

    def find_best_ratio(self) -> float:
        """Return the smallest ratio of a file's time to the float32 file's so far."""
        return min(float(row["ratio"]) for row in self.table)

    def find_fastest(self, layouts: Sequence[Layout]) -> Layout:
        """Return the layout whose file is fastest; an earlier one unless a later one is clearly faster."""
        engines = {"fp32": open_engine(self.work / "fp32.tflite")}
        sizes = []
        for i, layout in enumerate(layouts):
            path, graph = self.work / f"race{i}.tflite", rewrite_forms(self.graph, layout.forms)[0]
            path.write_bytes(quantize_graph(graph, self.recipe, layout.kept, self.target, self.quantizer))
            sizes.append(path.stat().st_size)
            engines[str(i)] = open_engine(path)
        times = time_models(engines, self.tensor, rounds=choose_rounds(engines["fp32"], self.tensor, len(engines)))
        ratios = [median_ratio(times[str(i)], times["fp32"]) for i in range(len(layouts))]
        for layout, size, ratio in zip(layouts, sizes, ratios, strict=True):
            row = {"what": layout.description, "bytes": size, "kept": len(layout.kept), "ratio": round(ratio, 4)}
            self.table.append(row)
        best = 0
        for i in range(1, len(layouts)):
            best = i if ratios[i] < CLEARLY_FASTER * ratios[best] else best
        return layouts[best]


def median_ratio(times: Sequence[float], others: Sequence[float]) -> float:
    """Return the median of the ratios of times measured in the same rounds."""
    return median(a / b for a, b in zip(times, others, strict=True))


def choose_rounds(engine: Any, tensor: Any, engines: int, seconds: float = 8.0) -> int:
    """Return how many rounds of that many engines take about the given seconds: 7 to 60."""
    started = time.perf_counter()
    for _ in range(3):
        run_model(engine, tensor)
    each = (time.perf_counter() - started) / 3
    return int(min(60, max(7, seconds / (each * engines))))
