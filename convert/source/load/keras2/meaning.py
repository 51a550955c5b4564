"""What do the same words mean in Keras 2 and in Keras 3, where they differ?

Found by running every layer, activation and argument in both (tests/convert/source/test_keras2_meaning.py): what is not
listed here computes the same.

| in the file | Keras 2 | Keras 3 | here |
| --- | --- | --- | --- |
| hard_sigmoid, the default of ConvLSTM | clip(0.2 x + 0.5, 0, 1) | relu6(x + 3) / 6 | Keras 2's function instead |
| RandomCrop, in inference | resizes to its size, cropped to the same ratio | crops or does nothing | a Resizing layer |
| axis of several axes, or none, in an .h5 | these axes | dropped: the default | kept: config.evade_loader |
| Resizing by gaussian or mitchellcubic | as named | not known | refused |
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_runtime.errors import ModelError

UNKNOWN_RESIZING = ("gaussian", "mitchellcubic")


def is_keras2(path: Path, kind: str, config: dict[str, Any], modern: dict[str, Any]) -> bool:
    """Return whether Keras 2 wrote a .keras or .h5 file: by its version or, where none is there, by its config."""
    version = read_version(path, kind)
    return version.startswith(("1.", "2.")) if version else config != modern


def read_version(path: Path, kind: str) -> str:
    """Return the version of Keras that a .keras or .h5 file names, "" for none."""
    if kind == "keras":
        with zipfile.ZipFile(path) as archive:
            if "metadata.json" not in archive.namelist():
                return ""
            metadata = json.loads(archive.read("metadata.json"))
            return str(metadata.get("keras_version", "")) if isinstance(metadata, dict) else ""
    import h5py  # type: ignore[import-untyped,unused-ignore]

    with h5py.File(path, "r", locking=False) as file:
        version = file.attrs.get("keras_version", "")
        return version.decode() if isinstance(version, bytes) else str(version)


def keep_meaning(path: Path, node: Any) -> Any:
    """Return a modern config with layers that meant something else in Keras 2 replaced by what they meant.

    Raises:
        ModelError: Keras 3 has nothing that computes the same.
    """
    if isinstance(node, list):
        return [keep_meaning(path, inner) for inner in node]
    if not isinstance(node, dict):
        return node
    node = {key: keep_meaning(path, value) for key, value in node.items()}
    config = node.get("config")
    if not isinstance(config, dict):
        return node
    if node.get("class_name") == "Resizing" and config.get("interpolation") in UNKNOWN_RESIZING:
        why = f"layer {config.get('name')!r} resizes by {config['interpolation']!r}, which Keras 3 does not know"
        raise ModelError(str(path), why, "resize by 'bilinear', 'bicubic', 'lanczos3' or 'lanczos5'")
    if node.get("class_name") == "RandomCrop":
        kept = {key: config[key] for key in ("name", "dtype", "height", "width") if key in config}
        return {**node, "class_name": "Resizing", "config": {**kept, "crop_to_aspect_ratio": True}}
    return node


def restore_functions(layers: Sequence[Any]) -> list[str]:
    """Replace Keras 3's hard_sigmoid by Keras 2's in loaded layers; return a note where there was one.

    Wherever the function came from: an argument, a default, a cell in a layer, or a custom layer's own.
    """
    import keras

    found = []
    for layer in layers:
        for name, value in list(vars(layer).items()):
            if value is keras.activations.hard_sigmoid:
                object.__setattr__(layer, name, hard_sigmoid)
                found.append(str(layer.name))
    return [f"hard_sigmoid is Keras 2's, clip(0.2 x + 0.5, 0, 1): {', '.join(dict.fromkeys(found))}"] if found else []


def hard_sigmoid(x: Any) -> Any:
    """Return clip(0.2 x + 0.5, 0, 1). Source: tf_keras.activations.hard_sigmoid."""
    import tensorflow as tf

    return tf.clip_by_value(0.2 * x + 0.5, 0.0, 1.0)
