"""What does the child process of a conversion do? Inspect, load, trace and convert one model with TensorFlow.

It reads `request.json` in its folder and leaves `fp32.tflite`, the static float32 file that everything else is made of,
`checks.npz` and `result.json` there.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from convert.source.load.keras_model import find_line, load_model
from convert.source.trace.fitting_sizes import explain_trace
from convert.source.trace.freeze import convert_graph, export_graph
from convert.source.trace.input_scaling import InputScaling, choose_scaling
from convert.source.trace.mask_and_classes import ChosenOutputs, choose_outputs
from convert.source.trace.traced_graph import trace_graph
from edge_runtime.errors import EdgeSegError, ModelError

from .answers import write_drawn_outputs, write_image_outputs, write_trial_outputs
from .loaded_model import LoadedModel
from .process import ConversionRequest, SourceFacts, from_data, to_json
from .reference import ReferenceQuestion, write_question


def main(folder: str, isolation: str = "none") -> int:
    """Do what the request asks; return 0 once `result.json` is written, also where it holds an error.

    isolation: for the report, what this process cannot do.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")  # conversion needs no GPU, and must not depend on one
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ["TF_USE_LEGACY_KERAS"] = "0"  # tf-keras has a process of its own: reference_main
    # The result is compared with this process's outputs; with oneDNN, TensorFlow's were measured to be off by 0.028.
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
    work = Path(folder)
    request = from_data(ConversionRequest, json.loads((work / "request.json").read_text()))
    try:
        result = to_json(replace(convert_here(work, request), isolation=isolation))
    except EdgeSegError as error:
        result = format_error(error)
    except (OSError, MemoryError):  # of this machine, not of the model: the parent tells which
        raise
    except Exception as error:  # TensorFlow and Keras raise any kind
        result = format_error(ModelError(request.model, f"it cannot be converted ({find_line(error)})"))
    (work / "result.json").write_text(result)
    return 0


def format_error(error: EdgeSegError) -> str:
    """Return an error as the parent reads it."""
    said = {"kind": type(error).__name__, "what": error.what, "why": error.why, "fix": error.fix}
    return json.dumps({"error": said})


def convert_here(work: Path, request: ConversionRequest) -> SourceFacts:
    """Return the facts of the model after writing the files made of it."""
    for package in ("tensorflow", "keras", "h5py"):
        if find_spec(package) is None:
            raise ModelError("conversion", f"it needs {package}, which is not installed", "pip install '.[convert]'")
    loaded = load_model(Path(request.model), work, request.input_size, request.trust, request.signature)
    if loaded.dtype not in ("float32", "uint8"):
        raise ModelError(request.model, f"its input is {loaded.dtype}, not float32 or uint8")
    try:
        graph = trace_graph(loaded)
    except Exception as error:  # layers raise any kind
        raise explain_trace(request.model, loaded, error) from error
    chosen = choose_outputs(request, loaded, graph)
    facts = read_facts(request, loaded, chosen, choose_scaling(request, loaded, graph))
    if loaded.keras2:
        write_question(work, ReferenceQuestion(loaded.outputs, *chosen.picked, loaded_by=facts.reference))
    write_drawn_outputs(work, loaded, chosen.run, facts)
    write_image_outputs(work, chosen.run_mask, facts, request.images)
    if request.trial and loaded.dtype == "float32":
        write_trial_outputs(work, chosen.run_mask, facts, request.images)
    export_graph(loaded, chosen.call, work / "static")
    (work / "fp32.tflite").write_bytes(convert_graph(request.model, work / "static", facts.layers))
    return facts


def read_facts(
    request: ConversionRequest, loaded: LoadedModel, chosen: ChosenOutputs, scaling: InputScaling
) -> SourceFacts:
    """Return what the parent needs to know of the model."""
    import keras
    import tensorflow as tf

    return SourceFacts(
        name=loaded.name,
        kind=loaded.kind,
        input_shape=(1, *loaded.shape),
        input_dtype=loaded.dtype,
        output_shape=chosen.shape,
        activation=chosen.activation,
        classes=chosen.classes,
        scale=scaling.scale,
        offset=scaling.offset,
        intensity=request.intensity or "bit-depth",
        scale_from=scaling.source,
        scale_why=scaling.why,
        scale_conflict=scaling.conflict,
        weights=loaded.weights,
        kernels=chosen.kernels,
        layers=tuple(str(layer.name) for layer in loaded.layers),
        notes=(*loaded.notes, *chosen.notes),
        versions={"tensorflow": tf.__version__, "keras": keras.__version__},
        reference=f"TensorFlow {tf.__version__}" if loaded.kind == "saved_model" else f"Keras {keras.__version__}",
    )
