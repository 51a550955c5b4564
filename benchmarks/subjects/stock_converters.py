"""How do other converters convert a model? TensorFlow's converter by default options, and tf2onnx; a child process.

`python -m benchmarks.subjects.stock_converters KIND SOURCE OUT TENSORS TRUST`
KIND is stock-fp32, stock-fp16, stock-drq, stock-int8, onnx-fp32 or onnx-int8; SOURCE a .keras, .h5 or SavedModel, for
onnx-int8 an .onnx; TENSORS an .npy (N, 1, H, W, C) of images, for stock-int8 of calibration; TRUST a module with the
model's own layers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .runtimes import ENVIRONMENT, load_keras, read_keras, read_saved_model


def main(kind: str, source: str, out: str, tensors: str = "", trust: str = "") -> int:
    """Write the converted file."""
    os.environ.update(ENVIRONMENT)
    if kind.startswith("stock"):
        Path(out).write_bytes(convert_stock(kind, Path(source), trust, tensors))
    elif kind == "onnx-fp32":
        convert_onnx(Path(source), Path(out), trust, tensors)
    else:
        quantize_onnx(Path(source), Path(out))
    return 0


def convert_stock(kind: str, source: Path, trust: str, tensors: str) -> bytes:
    """Return the flatbuffer that tf.lite.TFLiteConverter makes by its documented defaults, with a dynamic batch.

    Source: https://www.tensorflow.org/lite/performance/post_training_quantization
    """
    import tensorflow as tf

    lite = tf.lite.TFLiteConverter
    graph = source.is_dir()
    converter = lite.from_saved_model(str(source)) if graph else lite.from_keras_model(load_keras(source, trust))
    if kind != "stock-fp32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "stock-fp16":
        converter.target_spec.supported_types = [tf.float16]
    if kind == "stock-int8":
        converter.representative_dataset = lambda: read_tensors(tensors)
    return bytes(converter.convert())


def read_tensors(path: str) -> Iterator[list[Any]]:
    """Yield the calibration tensors, (1, H, W, C)."""
    yield from ([tensor] for tensor in np.load(path, allow_pickle=False))


def convert_onnx(source: Path, out: Path, trust: str, tensors: str) -> None:
    """Write the .onnx that tf2onnx makes from the model at batch 1."""
    import tensorflow as tf
    import tf2onnx

    sample = np.load(tensors, mmap_mode="r", allow_pickle=False)[0]
    spec = tf.TensorSpec(sample.shape, sample.dtype.name, name="image")
    call, _ = read_saved_model(source) if source.is_dir() else read_keras(source, trust)
    tf2onnx.convert.from_function(tf.function(call, input_signature=[spec]), [spec], output_path=str(out))


def quantize_onnx(source: Path, out: Path) -> None:
    """Write an .onnx with int8 weights, dynamically quantized. Source: onnxruntime, quantize_dynamic."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # Unsigned: ONNX Runtime has no convolution for signed weights on the CPU.
    quantize_dynamic(str(source), str(out), weight_type=QuantType.QUInt8)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
