"""Which inference engines are there, and which of them is installed? One file each, imported at use."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from edge_runtime.errors import EngineError, UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# In the order in which "auto" tries them; name: (module here, or anywhere if it has a dot; package to install).
ENGINES = {
    "litert": ("litert", "ai-edge-litert"),
    "tflite-runtime": ("tflite_runtime", "tflite-runtime"),
    "openvino": ("openvino", "openvino"),
    "gpu": ("gpu", "ai-edge-litert"),
}
ACCELERATED = ("gpu",)  # used only after a measurement: a driver may crash, or compute something else


class Engine(Protocol):
    """A model loaded on an engine: shapes and dtypes of its input and of the mask, its first output, and `infer`."""

    name: str
    version: str
    threads: int
    input_shape: tuple[int, ...]
    input_dtype: str
    output_shape: tuple[int, ...]
    output_dtype: str
    class_shape: tuple[int, ...] | None  # of the second output, the classes; None where there is none

    def infer(self, tensor: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return the mask (1, h, w, K) or (1, D, h, w, K), dequantized to float32; the caller owns it."""
        ...

    def infer_both(self, tensor: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return the mask and the classes (1, N) of a model that has a second output."""
        ...


def load_engine(name: str, path: Path, threads: int | None = None) -> Engine:
    """Load a model on the engine of that name; "auto" is the first one for the CPU that is installed.

    Raises: EngineError if the engine is not installed or refuses the model; UsageError for an unknown name.
    """
    threads = count_cores() if threads is None else threads
    if name != "auto":
        return load_named(name, path, threads)
    return load_named(find_first_engine(), path, threads)


def find_first_engine() -> str:
    """Return the first engine for the CPU that is installed. Raises: EngineError if none is."""
    for name in ENGINES:
        if name not in ACCELERATED and is_installed(name):
            return name
    raise EngineError("engine auto", "no engine is installed", "pip install ai-edge-litert")


def load_named(name: str, path: Path, threads: int) -> Engine:
    """Load a model on one engine."""
    if name not in ENGINES:
        raise UsageError(f"engine {name}", f"there are {', '.join(ENGINES)}", "or leave it to auto")
    package = ENGINES[name][1]
    try:
        engine: Engine = import_engine(name).load(path, threads)
    except ImportError as error:
        raise EngineError(f"engine {name}", f"it needs {package} ({error})", f"pip install {package}") from None
    return engine


def import_engine(name: str) -> ModuleType:
    """Import an engine's module. Raises: ImportError, whatever its package raises when it is imported."""
    module = ENGINES[name][0]
    try:
        return import_module(module if "." in module else f"{__package__}.{module}")
    except ImportError:
        raise
    except Exception as error:  # a package that is installed and broken
        raise ImportError(f"{type(error).__name__}: {error}") from error


def is_installed(name: str) -> bool:
    """Tell whether an engine's package imports here."""
    try:
        import_engine(name)
    except ImportError:
        return False
    return True


def count_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
