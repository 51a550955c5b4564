"""LiteRT on the CPU through XNNPACK: the default engine. Needs ai-edge-litert."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from pathlib import Path

from ai_edge_litert.interpreter import Interpreter

from ..errors import ModelError
from ..versions import find_version
from .interpreter import InterpreterEngine, make_interpreter
from .weights import find_weights


def load(path: Path, threads: int) -> InterpreterEngine:
    """Load a model, a large one with its weights mapped from the cache. Raises: ModelError if LiteRT refuses it."""
    release = find_version("ai-edge-litert") or "unknown"
    weights = find_weights(path, threads, release)
    engine = load_mapped(path, threads, release, weights) if weights else None
    return engine or load_plain(path, threads)


def keep_heap_small() -> None:
    """Have the C library give large blocks back at once (glibc's mallopt): images that come and go leave no holes.

    Worth 6 MB beside a large model, and no time that could be measured. Source: mallopt(3), the two thresholds.
    """
    with suppress(AttributeError, OSError):  # another C library
        for option in (-1, -3):
            ctypes.CDLL(None).mallopt(option, 128 * 1024)


def load_plain(path: Path, threads: int) -> InterpreterEngine:
    """Load a model and leave nothing in the cache: for files that are tried once. Raises: ModelError."""
    interpreter = make_interpreter(Interpreter, "litert", str(path), threads)
    release = find_version("ai-edge-litert") or "unknown"
    return InterpreterEngine("litert", release, threads, interpreter, str(path))


def load_mapped(path: Path, threads: int, release: str, weights: Path) -> InterpreterEngine | None:
    """Load a model on CompiledModel; None where this LiteRT or this model does not allow it: the Interpreter will."""
    try:
        from .compiled import CompiledEngine

        keep_heap_small()
        return CompiledEngine("litert", release, threads, str(path), str(weights))
    except (ImportError, AttributeError, LookupError, TypeError, ValueError, RuntimeError, OSError, ModelError):
        return None  # its API is young and says no in many ways: the Interpreter, or its error, counts
