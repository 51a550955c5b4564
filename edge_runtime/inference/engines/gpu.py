"""How is a model run on a GPU? By LiteRT through WebGPU and Vulkan, in float32, from ai-edge-litert 2.3 on."""

from __future__ import annotations

from pathlib import Path

from edge_runtime.errors import EngineError
from edge_runtime.system.quiet import redirect_stdout
from edge_runtime.system.versions import find_version

from .compiled_model import CompiledEngine

FIX = "install the GPU's Vulkan driver (Debian: apt install mesa-vulkan-drivers), or leave out --engine"


def load(path: Path, threads: int) -> CompiledEngine:
    """Load a model; threads are for the part that the GPU does not run.

    Raises: EngineError where no GPU takes it; ModelError for a file that is no such model.
    """
    release = find_version("ai-edge-litert") or "unknown"
    try:
        with redirect_stdout():
            return CompiledEngine("gpu", release, threads, str(path), gpu=True)
    except (RuntimeError, ValueError, TypeError) as error:  # its text is a line number of LiteRT's source
        error.with_traceback(None)  # it would keep LiteRT's objects, whose destructors print
        raise EngineError("engine gpu", "there is no GPU here that takes the model", FIX) from None
