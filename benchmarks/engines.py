"""What a child process loads a model on: the device's own engines and, for comparison, other runtimes as they come.

Runs in the child, in whichever interpreter has the package: NumPy and that package are all it needs.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.engines import ENGINES, load_engine

Array = npt.NDArray[Any]
Infer = Callable[[Array], Array]  # (1, H, W, C) to (1, h, w, K) float32
# TensorFlow on the processor like all others, and without its words on what it could do elsewhere.
ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "KERAS_BACKEND": "tensorflow"}


@dataclass(frozen=True)
class Opened:
    """A model ready to run; `parameters` where the runtime knows them, `notes` on what it chose itself."""

    infer: Infer
    parameters: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kind:
    """A runtime: the modules whose import comes before a model is loaded, its packages, and how it loads one."""

    modules: tuple[str, ...]
    packages: tuple[str, ...]
    open: Callable[[Path, int, str], Opened]


def import_engine(name: str) -> dict[str, str]:
    """Import what an engine needs; return {package: version}. Raises: ImportError."""
    os.environ.update(ENVIRONMENT)
    for module in KINDS[name].modules:
        importlib.import_module(module)
    return {package: found for package in ("numpy", *KINDS[name].packages) if (found := read_version(package))}


def read_version(package: str) -> str:
    """Return a package's version; "" where it is not installed under that name."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def open_model(name: str, path: Path, threads: int, trust: str = "") -> Opened:
    """Load a model on an engine whose modules are imported; `trust` is a module with the model's own Keras layers."""
    return KINDS[name].open(path, threads, trust)


def open_on_device(name: str) -> Callable[[Path, int, str], Opened]:
    """Return how one of edge_runtime's engines loads a model."""
    return lambda path, threads, trust: Opened(load_engine(name, path, threads).infer)


def open_keras(path: Path, threads: int, trust: str) -> Opened:
    """Load a .keras, .h5 or SavedModel as a user of TensorFlow runs it: traced by tf.function, batch 1."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    call, parameters = read_saved_model(path) if path.is_dir() else read_keras(path, trust)
    traced = tf.function(call)

    def infer(tensor: Array) -> Array:
        return np.asarray(traced(tf.constant(tensor)).numpy(), np.float32)

    return Opened(infer, parameters)


def read_keras(path: Path, trust: str) -> tuple[Callable[[Any], Any], int]:
    """Return a Keras model as a function of one tensor, and the number of its parameters."""
    import tensorflow as tf

    model = load_keras(path, trust)
    structure = getattr(model, "_inputs_struct", None)  # a model built from a dict wants one back
    wrap = (lambda x: dict.fromkeys(structure, x)) if isinstance(structure, dict) else lambda x: x
    return lambda x: tf.nest.flatten(model(wrap(x), training=False))[0], int(model.count_params())


def load_keras(path: Path, trust: str) -> Any:
    """Return a Keras model, with the layers of the module `trust` under their own names."""
    import keras

    own = vars(importlib.import_module(trust)) if trust else {}
    with keras.saving.custom_object_scope({name: thing for name, thing in own.items() if callable(thing)}):
        return keras.saving.load_model(path, compile=False, safe_mode=True)


def read_saved_model(path: Path) -> tuple[Callable[[Any], Any], None]:
    """Return a SavedModel's signature as a function of one tensor."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    signature = loaded.signatures["serving_default"]
    name = next(iter(signature.structured_input_signature[1]))

    def call(x: Any, keep: Any = loaded) -> Any:  # the signature alone would let its variables be collected
        return next(iter(signature(**{name: x}).values()))

    return call, None


def open_openvino(path: Path, threads: int, trust: str) -> Opened:
    """Load a .tflite on OpenVINO's CPU plugin, in the precision that it chooses itself."""
    import openvino

    wishes = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(str(path), "CPU", wishes)
    request = compiled.create_infer_request()
    precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()

    def infer(tensor: Array) -> Array:
        return np.array(request.infer({0: tensor}, share_inputs=True)[0], np.float32)

    return Opened(infer, notes=(f"computes in {precision}, as OpenVINO chose",))


def open_onnxruntime(path: Path, threads: int, trust: str) -> Opened:
    """Load an .onnx on ONNX Runtime's CPU provider."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return Opened(lambda tensor: np.asarray(session.run(None, {name: tensor})[0], np.float32))


KINDS = {
    **{
        name: Kind((f"edge_runtime.engines.{module}",), (package,), open_on_device(name))
        for name, (module, package) in ENGINES.items()
    },
    "keras": Kind(("tensorflow", "keras"), ("tensorflow", "keras"), open_keras),
    "openvino": Kind(("openvino",), ("openvino",), open_openvino),
    "onnxruntime": Kind(("onnxruntime",), ("onnxruntime",), open_onnxruntime),
}
