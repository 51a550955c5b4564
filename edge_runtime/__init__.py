"""Runs a stamped segmentation model on images: `Session.load("m.tflite").segment(image)`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .contract import Contract as Contract
    from .errors import EdgeSegError as EdgeSegError
    from .session import Result as Result
    from .session import Session as Session

__all__ = ["Contract", "EdgeSegError", "Result", "Session"]
_HOMES = {"Contract": "contract", "EdgeSegError": "errors", "Result": "session", "Session": "session"}


def __getattr__(name: str) -> Any:
    # Imported at use: `edge-seg --help` must not wait for NumPy and OpenCV.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
