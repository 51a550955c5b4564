"""How does a trained Keras model become one stamped .tflite file, audited and compared with its source?"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convert.conversion import Conversion as Conversion
    from convert.conversion import convert_model as convert_model

__all__ = ["Conversion", "convert_model"]
_MODULES = {"Conversion": "convert.conversion", "convert_model": "convert.conversion"}


def __getattr__(name: str) -> Any:
    # Imported at use: the child process imports parts of this package before TensorFlow's settings are made.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
