"""A Keras model as a float32 flatbuffer, and a flatbuffer run: for tests of rewritten flatbuffers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from convert.flatbuffer.edit import name_apart


def freeze(model: Any) -> bytes:
    """Return a Keras model's float32 flatbuffer at batch 1, its tensors named apart."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    function = tf.function(lambda x: model(x, training=False))
    concrete = function.get_concrete_function(tf.TensorSpec((1, *model.inputs[0].shape[1:])))
    frozen = convert_variables_to_constants_v2(concrete)
    return name_apart(bytes(tf.lite.TFLiteConverter.from_concrete_functions([frozen]).convert()))


def run(flatbuffer: bytes, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return what a flatbuffer makes of x, on LiteRT."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=flatbuffer, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return np.array(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))


def list_kinds(flatbuffer: bytes) -> list[str]:
    """Return the names of a flatbuffer's operations."""
    from convert.flatbuffer.read import read_graph

    return [op.name for op in read_graph(flatbuffer).operations]
