"""How do image files become arrays, and arrays image files?"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_runtime.images.read import read_image as read_image

__all__ = ["read_image"]
_MODULES = {"read_image": "edge_runtime.images.read"}


def __getattr__(name: str) -> Any:
    # Imported at use: the import of a limit need not wait for OpenCV.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
