"""Runs a stamped segmentation model on images: `Session.load("m.tflite").segment("slice.png")`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_runtime.contract.fields import Contract as Contract
    from edge_runtime.errors import EdgeSegError as EdgeSegError
    from edge_runtime.inference.result import Result as Result
    from edge_runtime.inference.session import Session as Session

    __version__: str  # the installed one, "source" in a checkout that is not installed

__all__ = ["Contract", "EdgeSegError", "Result", "Session", "__version__"]
_MODULES = {
    "Contract": "edge_runtime.contract.fields",
    "EdgeSegError": "edge_runtime.errors",
    "Result": "edge_runtime.inference.result",
    "Session": "edge_runtime.inference.session",
}


def __getattr__(name: str) -> Any:
    # Imported at use: `edge-seg --help` must not wait for NumPy and OpenCV.
    if name == "__version__":
        from edge_runtime.system.versions import find_own_version

        return find_own_version()
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
