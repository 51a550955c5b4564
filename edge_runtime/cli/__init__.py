"""Which command line does `edge-seg` take, and what does it print?"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_runtime.cli.__main__ import main as main

__all__ = ["main"]
_MODULES = {"main": "edge_runtime.cli.__main__"}


def __getattr__(name: str) -> Any:
    # Imported at use: `python -m edge_runtime.cli` runs that module itself.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
