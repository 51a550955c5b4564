"""How does a Keras model that is in memory become a file that can be converted like any other?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from convert.source.work_folder import FULL, open_work_folder
from edge_runtime.errors import ModelError, UsageError

SUFFIXES = {"keras": ".keras", "tf_keras": ".h5"}  # by the package of the model's class


@contextmanager
def open_model_file(model: str | Path | Any) -> Iterator[Path]:
    """Yield the path of a model: its own, or of a temporary file that a live Keras model was saved to.

    The model itself is not changed. Raises: UsageError if it is neither; ModelError if Keras cannot save it.
    """
    if isinstance(model, (str, Path)):
        yield Path(model)
        return
    suffix = find_suffix(model)
    with open_work_folder() as folder:
        path = folder / f"{name_model(model)}{suffix}"
        try:
            model.save(path, **({} if suffix == ".keras" else {"include_optimizer": False}))
        except Exception as error:  # whatever Keras, or a layer's own get_config, raises
            if isinstance(error, OSError) and error.errno in FULL:
                raise
            why = f"Keras cannot save it ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
            raise ModelError(f"model {name_model(model)}", why, "give each custom layer a get_config") from error
        yield path


def find_suffix(model: Any) -> str:
    """Return the suffix that a live model is saved with. Raises: UsageError if it is none of Keras 3 or tf-keras."""
    packages = [kind.__module__.split(".")[0] for kind in type(model).__mro__ if kind.__name__ == "Model"]
    for package in packages:
        if package in SUFFIXES and callable(getattr(model, "save", None)):
            return SUFFIXES[package]
    why = f"it is of type {type(model).__module__}.{type(model).__qualname__}"
    raise UsageError("model", why, "give a Keras model, or the path of a .keras or .h5 file or a SavedModel folder")


def name_model(model: Any) -> str:
    """Return a live model's name as a file's stem."""
    return re.sub(r"[^\w.-]+", "-", str(model.name)).strip(".-") or "model"
