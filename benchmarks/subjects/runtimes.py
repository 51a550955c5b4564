"""How does a child process load a model on the device's engines and on other runtimes?

Runs in an interpreter that has the runtime's package; NumPy is all else that it needs.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.inference.engines.registry import ENGINES, load_engine
from edge_runtime.system.versions import find_version

Array = npt.NDArray[Any]
Infer = Callable[[Array], Array]  # (1, H, W, C) to (1, h, w, K) float32
# TensorFlow on the processor, like all others, and without its log.
ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "KERAS_BACKEND": "tensorflow"}


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run; its number of parameters if known, and notes on what the runtime chose."""

    infer: Infer
    parameters: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Runtime:
    """A runtime: the modules to import before a model is loaded, its packages, and how it loads a model."""

    modules: tuple[str, ...]
    packages: tuple[str, ...]
    load: Callable[[Path, int, str], LoadedModel]


def import_engine(name: str) -> dict[str, str]:
    """Import an engine's modules; return {package: version}. Raises: ImportError."""
    os.environ.update(ENVIRONMENT)
    for module in RUNTIMES[name].modules:
        importlib.import_module(module)
    return {package: found for package in ("numpy", *RUNTIMES[name].packages) if (found := find_version(package))}


def load_model(name: str, path: Path, threads: int, trust: str = "") -> LoadedModel:
    """Load a model on an imported engine; `trust` is a module with the model's own Keras layers."""
    return RUNTIMES[name].load(path, threads, trust)


def load_on_device(name: str) -> Callable[[Path, int, str], LoadedModel]:
    """Return the function by which one of edge_runtime's engines loads a model."""
    return lambda path, threads, trust: LoadedModel(load_engine(name, path, threads).infer)


def load_traced_keras(path: Path, threads: int, trust: str) -> LoadedModel:
    """Load a .keras, .h5 or SavedModel, traced by tf.function at batch 1."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    call, parameters = read_saved_model(path) if path.is_dir() else read_keras(path, trust)
    traced = tf.function(call)

    def infer(tensor: Array) -> Array:
        return np.asarray(traced(tf.constant(tensor)).numpy(), np.float32)

    return LoadedModel(infer, parameters)


def read_keras(path: Path, trust: str) -> tuple[Callable[[Any], Any], int]:
    """Return a Keras model as a function of one tensor, and the number of its parameters."""
    import tensorflow as tf

    model = load_keras(path, trust)
    structure = getattr(model, "_inputs_struct", None)  # a model built from a dict takes one
    wrap = (lambda x: dict.fromkeys(structure, x)) if isinstance(structure, dict) else lambda x: x
    return lambda x: tf.nest.flatten(model(wrap(x), training=False))[0], int(model.count_params())


def load_keras(path: Path, trust: str) -> Any:
    """Return a Keras model, loaded with the layers of the module `trust`."""
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

    def call(x: Any, keep: Any = loaded) -> Any:  # without it the variables would be collected
        return next(iter(signature(**{name: x}).values()))

    return call, None


def load_openvino(path: Path, threads: int, trust: str) -> LoadedModel:
    """Load a .tflite on OpenVINO's CPU plugin in its default precision."""
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    request = compiled.create_infer_request()
    precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()

    def infer(tensor: Array) -> Array:
        return np.array(request.infer({0: tensor}, share_inputs=True)[0], np.float32)

    return LoadedModel(infer, notes=(f"computes in {precision}, as OpenVINO chose",))


def load_onnxruntime(path: Path, threads: int, trust: str) -> LoadedModel:
    """Load an .onnx on ONNX Runtime's CPU provider."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return LoadedModel(lambda tensor: np.asarray(session.run(None, {name: tensor})[0], np.float32))


RUNTIMES = {
    **{
        name: Runtime((f"edge_runtime.inference.engines.{module}",), (package,), load_on_device(name))
        for name, (module, package) in ENGINES.items()
    },
    "keras": Runtime(("tensorflow", "keras"), ("tensorflow", "keras"), load_traced_keras),
    "openvino": Runtime(("openvino",), ("openvino",), load_openvino),
    "onnxruntime": Runtime(("onnxruntime",), ("onnxruntime",), load_onnxruntime),
}
