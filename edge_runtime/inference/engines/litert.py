"""How is a model run by LiteRT on the CPU through XNNPACK, the default engine? Needs ai-edge-litert."""

from __future__ import annotations

from pathlib import Path

from ai_edge_litert.interpreter import Interpreter

from edge_runtime.errors import ModelError
from edge_runtime.system.versions import find_version

from .packed_weights import find_weights
from .tflite_interpreter import InterpreterEngine, make_interpreter


def load(path: Path, threads: int) -> InterpreterEngine:
    """Load a model, a large one with its weights mapped from the cache. Raises: ModelError if LiteRT refuses it."""
    release = find_version("ai-edge-litert") or "unknown"
    weights = find_weights(path, threads, release)
    engine = load_mapped(path, threads, release, weights) if weights else None
    return engine or load_plain(path, threads)


def load_plain(path: Path, threads: int) -> InterpreterEngine:
    """Load a model without the cache, for files that are used once. Raises: ModelError."""
    interpreter = make_interpreter(Interpreter, "litert", str(path), threads)
    release = find_version("ai-edge-litert") or "unknown"
    return InterpreterEngine("litert", release, threads, interpreter, str(path))


def load_mapped(path: Path, threads: int, release: str, weights: Path) -> InterpreterEngine | None:
    """Load a model on CompiledModel; None where that fails and the Interpreter is to be used."""
    try:
        from .compiled_model import CompiledEngine

        return CompiledEngine("litert", release, threads, str(path), str(weights))
    except (ImportError, AttributeError, LookupError, TypeError, ValueError, RuntimeError, OSError, ModelError):
        return None  # its API is new and fails in many ways: the Interpreter, or its error, decides
