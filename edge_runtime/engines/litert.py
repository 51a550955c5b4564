"""LiteRT on the CPU through XNNPACK: the default engine. Needs ai-edge-litert."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from ai_edge_litert.interpreter import Interpreter

from .interpreter import InterpreterEngine, make_interpreter


def load(path: Path, threads: int) -> InterpreterEngine:
    """Load a model. Raises: ModelError if LiteRT refuses it."""
    interpreter = make_interpreter(Interpreter, "litert", str(path), threads)
    return InterpreterEngine("litert", version("ai-edge-litert"), threads, interpreter, str(path))
