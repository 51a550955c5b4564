"""LiteRT on a GPU, through WebGPU and Vulkan, in float32. Needs ai-edge-litert 2.3 and a Vulkan driver."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import EngineError
from ..versions import find_version
from .compiled import CompiledEngine

FIX = "install the GPU's Vulkan driver (Debian: apt install mesa-vulkan-drivers), or leave out --engine"


def load(path: Path, threads: int) -> CompiledEngine:
    """Load a model; threads are for what the GPU leaves to the CPU.

    Raises: EngineError where no GPU takes it; ModelError for a file that is no such model.
    """
    release = find_version("ai-edge-litert") or "unknown"
    try:
        with stdout_to_stderr():
            return CompiledEngine("gpu", release, threads, str(path), gpu=True)
    except (RuntimeError, ValueError, TypeError) as error:  # what LiteRT raises are places in its own source
        error.with_traceback(None)  # it would keep LiteRT's objects, which have words to say when they go
        raise EngineError("engine gpu", "there is no GPU here that takes the model", FIX) from None


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Send what C libraries print to stdout, where data belongs, to stderr: LiteRT laments missing OpenCL there."""
    try:
        stdout = os.dup(1)
    except OSError:  # there is none
        yield
        return
    if sys.stdout is not None:
        sys.stdout.flush()
    try:
        with suppress(OSError):
            os.dup2(2, 1)
        yield
    finally:
        ctypes.CDLL(None).fflush(None)
        os.dup2(stdout, 1)
        os.close(stdout)
