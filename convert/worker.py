"""What the child process does: inspect, load, trace and convert one model; the parent never imports TensorFlow.

It reads `request.json` in its folder and leaves `fp32.tflite`, the static float32 file that everything else is made of,
`checks.npz` and `result.json` there.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edge_runtime.errors import EdgeSegError, ModelError

from .freeze import append_activation, convert_graph, export_graph, find_activation
from .load import load_model
from .loaded import Loaded
from .verify import draw_images, pack

FACTOR_OF_RAW = 1 / 16  # a graph that begins by shrinking its input this much eats 0...255, not 0...1


def main(folder: str) -> int:
    """Do what the request asks; return 0 once `result.json` says how it went, a refused model included."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")  # conversion needs none, and it must not depend on one
    os.environ["KERAS_BACKEND"] = "tensorflow"
    work = Path(folder)
    try:
        result = convert_here(work, json.loads((work / "request.json").read_text()))
    except EdgeSegError as error:
        result = {"error": {"kind": type(error).__name__, "what": error.what, "why": error.why, "fix": error.fix}}
    (work / "result.json").write_text(json.dumps(result))
    return 0


def convert_here(work: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of the conversion after writing its files."""
    for package in ("tensorflow", "keras", "h5py"):
        if find_spec(package) is None:
            raise ModelError(
                "conversion", f"it needs {package}, which is not installed", "pip install 'edge-seg[convert]'"
            )
    path, size = Path(request["model"]), request["input_size"]
    loaded = load_model(path, work, (size[0], size[1]) if size else None, request["trust"])
    if loaded.dtype not in ("float32", "uint8"):
        raise ModelError(str(path), f"its input is {loaded.dtype}, not float32 or uint8")
    facts = read_facts(str(path), loaded, request)
    call = append_activation(loaded.call, facts["activation"]) if facts["appended"] else loaded.call
    write_reference(work, loaded, call, facts)
    export_graph(loaded, call, work / "static")
    (work / "fp32.tflite").write_bytes(convert_graph(str(path), work / "static"))
    return facts


def read_facts(what: str, loaded: Loaded, request: dict[str, Any]) -> dict[str, Any]:
    """Return what the parent needs to know of the model: shapes, activation, input scale, names, versions."""
    import keras
    import tensorflow as tf

    found, told, shape = find_activation(loaded)
    if len(shape) != 4 or shape[0] != 1 or None in shape:
        raise ModelError(what, f"its output has shape {shape}, not (1, height, width, classes)")
    activation, appended = choose_activation(what, found, told, shape[3], request["activation"])
    scale, offset, why = choose_scale(loaded)
    return {
        "name": loaded.name,
        "kind": loaded.kind,
        "input_shape": [1, *loaded.shape],
        "input_dtype": loaded.dtype,
        "output_shape": list(shape),
        "activation": activation,
        "appended": appended,
        "scale": request["scale"] if request["scale"] is not None else scale,
        "offset": request["offset"] if request["offset"] is not None else offset,
        "scale_why": why if request["scale"] is None else "as the contract file says",
        "weights": loaded.weights,
        "kernels": loaded.kernels,
        "layers": [str(layer.name) for layer in loaded.layers],
        "notes": loaded.notes + ([f"{activation} appended to the graph"] if appended else []),
        "versions": {"tensorflow": tf.__version__, "keras": keras.__version__},
    }


def choose_activation(what: str, found: str, told: str, classes: int, asked: str | None) -> tuple[str, bool]:
    """Return the output's activation and whether it has to be appended to the graph.

    Raises:
        ModelError: logits or an unknown last operation without a word from the user, or a word that contradicts.
    """
    say = 'or say activation = "sigmoid" (or "softmax") in the --contract file'
    if found == "unknown" and asked is None:
        raise ModelError(
            what, f"its last operation, {told}, is neither a sigmoid nor a softmax", f"end it with one, {say}"
        )
    if found == "linear" and asked is None:
        why = f"its output is no probability (the last operation is {told}: logits?)"
        raise ModelError(what, why, f"end it with a sigmoid, {say} and it is appended")
    if found in ("sigmoid", "softmax") and asked not in (None, found):
        raise ModelError(what, f"its output is a {found}, but the contract file says {asked}")
    activation = asked or found
    if (activation == "sigmoid") != (classes == 1):
        why = f"its output is a {activation} with {classes} channel{'s' * (classes > 1)}"
        raise ModelError(what, why, "sigmoid means one channel (the lesion), softmax two or more (background first)")
    return activation, found == "linear"


def choose_scale(loaded: Loaded) -> tuple[float, float, str]:
    """Return scale and offset of the input, and why: the model's own preprocessing is not to be done twice."""
    if loaded.dtype == "uint8":
        return 1.0, 0.0, "the model eats 0...255 (uint8)"
    if loaded.factor is not None and loaded.factor <= FACTOR_OF_RAW:
        return 1.0, 0.0, f"the model scales 0...255 itself ({loaded.first})"
    if loaded.factor is not None:
        return 1 / 255, 0.0, f"the model's own {loaded.first} takes 0...1"
    arithmetic = loaded.first.split(" ")[0] in ("TrueDivide", "Divide", "Multiply", "Subtract", "Add", "GetItem")
    hint = f"; the model begins with {loaded.first}: check it" if arithmetic else ""
    return 1 / 255, 0.0, "no scaling found in the model, so 0...1" + hint


def write_reference(work: Path, loaded: Loaded, call: Any, facts: dict[str, Any]) -> None:
    """Write drawn inputs and the original model's outputs for them to `checks.npz`."""
    import numpy as np
    import tensorflow as tf

    from edge_runtime.preprocess import to_tensor

    height, width, channels = loaded.shape
    colour = "grey" if channels == 1 else "rgb"
    arrays = {}
    for i, image in enumerate(draw_images(height, width, channels)):
        tensor = to_tensor(image, height, width, colour, facts["scale"], facts["offset"], loaded.dtype)
        arrays[f"input{i}"] = tensor
        arrays[f"output{i}"] = np.asarray(call(tf.constant(tensor)), np.float32)
    (work / "checks.npz").write_bytes(pack(arrays))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
