"""How is a .tflite file run and timed in this process, on the engine that the device uses?"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.inference.engines.registry import Engine
from edge_runtime.system.quiet import silence_stderr

Array = npt.NDArray[np.float32]


def open_engine(model: Path, threads: int = 2) -> Engine:
    """Return a file loaded on the LiteRT engine of edge_runtime, so that what is compared is what the device runs.

    Without its cache of packed weights: the files here are temporary.

    Raises:
        ModelError: LiteRT refuses the file.
    """
    from edge_runtime.inference.engines.litert import load_plain

    with silence_stderr():
        return load_plain(model, threads)


def run_model(engine: Engine, tensor: npt.NDArray[Any]) -> Array:
    """Return the engine's output (1, h, w, K) for one input (1, H, W, C)."""
    with silence_stderr():
        return engine.infer(tensor)


def time_models(
    models: dict[str, Engine], tensor: npt.NDArray[Any] | Mapping[str, npt.NDArray[Any]], rounds: int = 7
) -> dict[str, list[float]]:
    """Return milliseconds per inference of each engine, interleaved, so that other load affects all engines alike.

    tensor: the input of all engines, or {engine's name: its input}.
    """
    samples: dict[str, list[float]] = {name: [] for name in models}
    given = {name: tensor[name] if isinstance(tensor, Mapping) else tensor for name in models}
    for name, engine in models.items():
        run_model(engine, given[name])
    for _ in range(rounds):
        for name, engine in models.items():
            start = time.perf_counter()
            run_model(engine, given[name])
            samples[name].append(round((time.perf_counter() - start) * 1e3, 3))
    return samples
