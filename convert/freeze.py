"""A loaded model → a static batch-1 graph of TFLite builtins; runs in the child process.

The batch is fixed because everything hangs on it: with an open batch each Conv2DTranspose gets its shape at run time,
the delegate refuses it, and a quantized file runs ten times slower than its float original.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from edge_runtime.errors import ModelError

from .archive import first_line
from .loaded import Call, Loaded

# Ops that hand a probability on as one, and ops whose result is no probability.
PASSING = {"Identity", "StopGradient", "Reshape", "Squeeze", "ExpandDims", "ResizeBilinear", "ResizeNearestNeighbor"}
PASSING |= {"DepthToSpace", "Transpose", "Pad", "PadV2", "StridedSlice", "Slice", "Cast", "Tile", "ClipByValue"}
LINEAR = {"BiasAdd", "AddV2", "Add", "Conv2D", "Conv2DBackpropInput", "MatMul", "BatchMatMulV2", "Relu", "LeakyRelu"}
LINEAR |= {"Relu6", "Elu", "Selu", "Tanh", "FusedBatchNormV3", "Softplus", "LogSoftmax", "ConcatV2", "MaxPool"}


def find_activation(loaded: Loaded) -> tuple[str, str, tuple[int, ...]]:
    """Return how the output is activated, the op it was told by, and the output's shape.

    "sigmoid" or "softmax"; "linear" for logits; "unknown" where the last operation is none of the common ones.
    """
    graph = trace_graph(loaded)
    tensor = graph.outputs[0]
    shape = tuple(tensor.shape.as_list()) if tensor.shape.rank is not None else ()
    operation = tensor.op
    while operation.type in PASSING:
        operation = operation.inputs[0].op
    told = f"{operation.type} {operation.name!r}"
    if operation.type == "Softmax":
        return ("sigmoid" if shape[-1:] == (1,) and operation.outputs[0].shape[-1] != 1 else "softmax"), told, shape
    if operation.type == "Sigmoid":
        return "sigmoid", told, shape
    return ("linear" if operation.type in LINEAR else "unknown"), told, shape


def trace_graph(loaded: Loaded) -> Any:
    """Return an object with the `.inputs` and `.outputs` of the model's flat graph at its static shape."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    spec = tf.TensorSpec((1, *loaded.shape), loaded.dtype)
    concrete = tf.function(loaded.call, input_signature=[spec]).get_concrete_function()
    # A SavedModel's signature is a call of a call of a function; freezing is TensorFlow's way to flatten it.
    return convert_variables_to_constants_v2(concrete) if loaded.kind == "saved_model" else concrete


def append_activation(call: Call, activation: str) -> Call:
    """Return `call` followed by a sigmoid or a softmax over the channels."""
    import tensorflow as tf

    apply = tf.nn.sigmoid if activation == "sigmoid" else tf.nn.softmax
    return lambda x: apply(call(x))


def export_graph(loaded: Loaded, call: Call, folder: Path) -> None:
    """Write a SavedModel whose one signature is `call` at batch 1.

    Keras models go through ExportArchive: a bare concrete function leaves all weights behind, and the file that comes
    out answers NaN everywhere, without complaint.
    """
    import keras
    import tensorflow as tf

    spec = tf.TensorSpec((1, *loaded.shape), loaded.dtype, name="image")
    if loaded.kind != "saved_model":
        archive = keras.export.ExportArchive()
        archive.track(loaded.root)
        archive.add_endpoint("serve", call, input_signature=[spec])
        archive.write_out(str(folder), verbose=False)
        return
    module = tf.Module()
    module.root = loaded.root
    module.serve = tf.function(call, input_signature=[spec])
    tf.saved_model.save(module, str(folder), signatures=module.serve.get_concrete_function())


def convert_graph(what: str, folder: Path) -> bytes:
    """Return the float32 flatbuffer of a SavedModel, TFLite builtins only.

    Raises:
        ModelError: TensorFlow's converter cannot express the model in builtins.
    """
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    try:
        return bytes(converter.convert())
    except Exception as error:  # the converter raises kinds of its own for each of its stages
        ops = sorted(set(re.findall(r"'(tf\.\w+)' op is neither a custom op nor a flex op", str(error))))
        places = sorted(set(re.findall(r'callsite\("([^"]+)"|loc\("([^"]+)"', str(error))))
        why = (
            f"TFLite has no builtin for {', '.join(ops)}"
            if ops
            else f"TensorFlow's converter failed ({first_line(error)})"
        )
        where = next((name for pair in places for name in pair if name), "")
        raise ModelError(what, why + (f" (at {where[:120]!r})" if where else ""), "replace that layer") from error
