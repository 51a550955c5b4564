"""How does a loaded model become a static batch-1 graph of TFLite builtins? Runs in the child process.

The batch is fixed, because with an open batch each Conv2DTranspose gets its shape at run time, the delegate does not
support that, and a quantized file runs ten times slower than the float one.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from convert.flatbuffer.edit import pack, to_list, unpack
from convert.source.load.archive import first_line
from convert.source.loaded_model import Call, LoadedModel
from edge_runtime.errors import ModelError

from .traced_graph import find_layer


def export_graph(loaded: LoadedModel, call: Call, folder: Path) -> None:
    """Write a SavedModel whose one signature is `call`, which returns the mask or (mask, classes), at batch 1.

    Keras models go through ExportArchive: a bare concrete function leaves out all weights, and the file made of it
    returns NaN everywhere, without an error.
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


def convert_graph(what: str, folder: Path, layers: Collection[str] = ()) -> bytes:
    """Return the float32 flatbuffer of a SavedModel, TFLite builtins only; `layers` are its Keras layers' names.

    Raises:
        ModelError: TensorFlow's converter cannot express the model in builtins.
    """
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    try:
        return order_outputs(bytes(converter.convert()))
    except Exception as error:  # the converter raises different kinds in its stages
        raise explain_failure(what, str(error), layers) from error


def explain_failure(what: str, text: str, layers: Collection[str]) -> ModelError:
    """Return the error for the converter's long message: the operation, and its layer or scope."""
    if re.search(r"xb?f16\b|f16 tensor|\bhalf\b", text):
        return ModelError(what, "it computes in 16 bits, which TFLite does not", "give the .keras file: it is rebuilt")
    if "Pool3D" in text:
        why = "TFLite pools no volumes"
        return ModelError(what, why, "give the .keras file: its 3-D layers are rewritten")
    ops = sorted(set(re.findall(r"'(?:tf|tfl)\.(\w+)' op is neither a custom op nor a flex op", text)))
    why = f"TFLite has no {', '.join(ops)}" if ops else f"TensorFlow's converter failed ({explain_line(text)})"
    scopes = re.findall(r'"([^"@]+/[^"@]+)@', text) or re.findall(r'(?:callsite|loc)\("([^"]+)"', text)
    names = [name for scope in scopes if (name := find_layer(scope, layers))]
    if names:
        return ModelError(what, f"layer {names[0]!r}: {why}", "replace that layer")
    where = f" (at {scopes[0][:120]!r})" if scopes else ""
    return ModelError(what, why + where, "replace that operation")


def explain_line(text: str) -> str:
    """Return the converter's message without the source locations."""
    found = re.search(r"error: ('[^\n]+|failed[^\n]+)", text)
    return found.group(1)[:300] if found else first_line(text)


def order_outputs(flatbuffer: bytes) -> bytes:
    """Return the file with its outputs in the order of their signature's names; the converter changes the order."""
    model = unpack(flatbuffer)
    graph, signatures = model.subgraphs[0], to_list(model.signatureDefs)
    if len(graph.outputs) < 2 or not signatures:
        return flatbuffer
    named = sorted(signatures[0].outputs, key=lambda output: output.name)  # output_0, output_1
    graph.outputs = [output.tensorIndex for output in named]
    return pack(model)
