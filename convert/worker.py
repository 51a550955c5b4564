"""What the child process does: inspect, load, trace and convert one model; the parent never imports TensorFlow.

It reads `request.json` in its folder and leaves `fp32.tflite`, the static float32 file that everything else is made of,
`checks.npz` and `result.json` there.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edge_runtime.errors import EdgeSegError, ModelError

from .freeze import convert_graph, export_graph
from .graph import trace_graph
from .load import load_model
from .loaded import Loaded
from .originals import write_originals
from .outputs import Chosen, choose_outputs
from .scaling import choose_scale
from .verify import draw_images, pack

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(folder: str) -> int:
    """Do what the request asks; return 0 once `result.json` says how it went, a refused model included."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")  # conversion needs none, and it must not depend on one
    os.environ["KERAS_BACKEND"] = "tensorflow"
    # The file is held against the original's answers, and oneDNN's, where TensorFlow takes it, were seen off by 0.028.
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
    work = Path(folder)
    request = json.loads((work / "request.json").read_text())
    die_with(request["parent"])
    try:
        result = convert_here(work, request)
    except EdgeSegError as error:
        result = {"error": {"kind": type(error).__name__, "what": error.what, "why": error.why, "fix": error.fix}}
    (work / "result.json").write_text(json.dumps(result))
    return 0


def die_with(parent: int) -> None:
    """End with the parent, however that ends: gigabytes of a conversion that nobody waits for help nobody."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before this line
            os._exit(1)


def convert_here(work: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of the conversion after writing its files."""
    for package in ("tensorflow", "keras", "h5py"):
        if find_spec(package) is None:
            raise ModelError(
                "conversion", f"it needs {package}, which is not installed", "pip install 'edge-seg[convert]'"
            )
    path, size = Path(request["model"]), request["input_size"]
    loaded = load_model(path, work, tuple(size) if size else None, request["trust"])
    if loaded.dtype not in ("float32", "uint8"):
        raise ModelError(str(path), f"its input is {loaded.dtype}, not float32 or uint8")
    graph = trace_graph(loaded)
    chosen = choose_outputs(str(path), loaded, graph, request)
    facts = read_facts(loaded, chosen, choose_scale(loaded, graph), request)
    write_reference(work, loaded, chosen, facts)
    write_originals(work, loaded, chosen.give_mask, facts, request["images"])
    export_graph(loaded, chosen.call, work / "static")
    (work / "fp32.tflite").write_bytes(convert_graph(str(path), work / "static", facts["layers"]))
    return facts


def read_facts(
    loaded: Loaded, chosen: Chosen, scaling: tuple[float, float, str], request: dict[str, Any]
) -> dict[str, Any]:
    """Return what the parent needs to know of the model: shapes, activation, input scale, names, versions."""
    import keras
    import tensorflow as tf

    scale, offset, why = scaling
    return {
        "name": loaded.name,
        "kind": loaded.kind,
        "input_shape": [1, *loaded.shape],
        "input_dtype": loaded.dtype,
        "output_shape": list(chosen.shape),
        "activation": chosen.activation,
        "classes": chosen.classes,
        "scale": request["scale"] if request["scale"] is not None else scale,
        "offset": request["offset"] if request["offset"] is not None else offset,
        "scale_why": why if request["scale"] is None else "as the contract file says",
        "weights": loaded.weights,
        "kernels": chosen.kernels,
        "layers": [str(layer.name) for layer in loaded.layers],
        "notes": [*loaded.notes, *chosen.notes],
        "versions": {"tensorflow": tf.__version__, "keras": keras.__version__},
    }


def write_reference(work: Path, loaded: Loaded, chosen: Chosen, facts: dict[str, Any]) -> None:
    """Write drawn inputs and the original model's outputs for them to `checks.npz`."""
    import numpy as np
    import tensorflow as tf

    from edge_runtime.preprocess import to_tensor, to_volume

    *depth, height, width, channels = loaded.shape
    colour = "grey" if channels == 1 else "rgb"
    prepare = to_volume if depth else to_tensor
    arrays = {}
    for i, image in enumerate(draw_images(height, width, channels, *depth)):
        tensor = prepare(image, height, width, colour, facts["scale"], facts["offset"], loaded.dtype)
        given = chosen.run(tf.constant(tensor))
        mask, *classes = given if isinstance(given, tuple) else (given,)
        arrays[f"input{i}"] = tensor
        arrays[f"output{i}"] = np.asarray(mask, np.float32)
        arrays |= {f"classes{i}": np.asarray(one, np.float32) for one in classes}
    (work / "checks.npz").write_bytes(pack(arrays))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
