"""How is a model run by tflite-runtime, for boards without LiteRT? Its last release is for Python 3.11 and NumPy 1."""

from __future__ import annotations

from pathlib import Path

from tflite_runtime.interpreter import Interpreter

from edge_runtime.system.versions import find_version

from .tflite_interpreter import InterpreterEngine, make_interpreter


def load(path: Path, threads: int) -> InterpreterEngine:
    """Load a model. Raises: ModelError if tflite-runtime refuses it."""
    interpreter = make_interpreter(Interpreter, "tflite-runtime", str(path), threads)
    return InterpreterEngine(
        "tflite-runtime", find_version("tflite-runtime") or "unknown", threads, interpreter, str(path)
    )
