"""LiteRT on a GPU, through WebGPU and Vulkan, in float32. Needs ai-edge-litert 2.3 and a Vulkan driver."""

from __future__ import annotations

from pathlib import Path

from ..errors import EngineError
from ..versions import find_version
from .compiled import CompiledEngine

FIX = "install the GPU's Vulkan driver (Debian: apt install mesa-vulkan-drivers), or leave out --engine"


def load(path: Path, threads: int) -> CompiledEngine:
    """Load a model; threads are for what the GPU leaves to the CPU.

    Raises: EngineError where no GPU takes it; ModelError for a file that is no such model.
    """
    try:
        return CompiledEngine("gpu", find_version("ai-edge-litert") or "unknown", threads, str(path), gpu=True)
    except (RuntimeError, ValueError, TypeError):  # what LiteRT raises are places in its own source
        raise EngineError("engine gpu", "there is no GPU here that takes the model", FIX) from None
