"""Layers left float: the file answers as before, stays within its budget, and only cheap convolutions change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from convert import convert_model, flatbuffer
from convert.balance import MOST_OF_FP32, float_variants, leave_float
from convert.verify import open_engine, run_model
from edge_runtime.contract import split_tail


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, int, Path]:
    """A U-Net with 16 to 64 filters and a depthwise layer as a dynamic-range file, and its float size."""
    import keras
    from keras import layers

    folder = tmp_path_factory.mktemp("balance")
    image = x = keras.Input((64, 64, 1))
    for filters in (16, 48, 64):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D()(x)
    x = layers.DepthwiseConv2D(5, padding="same", activation="relu")(x)
    for filters in (48, 16):
        x = layers.UpSampling2D(interpolation="bilinear")(x)
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
    x = layers.UpSampling2D(interpolation="bilinear")(x)
    keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid")(x)).save(folder / "net.keras")
    done = convert_model(folder / "net.keras", keep_float=0)
    fp32 = convert_model(folder / "net.keras", "fp32")
    return split_tail(done.path.read_bytes())[0], fp32.audit.fp32_bytes, folder


def read_types(data: bytes) -> dict[tuple[int, ...], str]:
    graph = flatbuffer.read_graph(data)
    found = {}
    for op in graph.operations:
        if op.name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            tensor = graph.tensors[op.inputs[1]]
            found[tensor.shape] = tensor.dtype
    return found


def test_only_cheap_convolutions_become_float(quantized: tuple[bytes, int, Path]) -> None:
    """Below the limit of filters times taps weights are float; above it they stay int8; the rest is untouched."""
    data = leave_float(quantized[0], 300)
    assert data is not None
    types = read_types(data)
    assert types[(16, 3, 3, 16)] == "FLOAT32"  # 144
    assert types[(1, 5, 5, 64)] == "FLOAT32"  # depthwise: 25
    assert types[(48, 3, 3, 48)] == types[(64, 3, 3, 64)] == "INT8"  # 432, 576
    assert leave_float(data, 300) is None


def test_answers_stay_those_of_the_quantized_file(quantized: tuple[bytes, int, Path]) -> None:
    """The weights are the int8 ones times their scales, so outputs move only by the input's rounding."""
    data, _, folder = quantized
    x = np.random.default_rng(0).random((1, 64, 64, 1), np.float32)
    answers = []
    for name, content in (("int8", data), ("float", leave_float(data, 600))):
        assert content is not None
        (folder / f"{name}.tflite").write_bytes(content)
        answers.append(run_model(open_engine(folder / f"{name}.tflite"), x))
    assert np.abs(answers[0] - answers[1]).max() < 0.02
    assert not np.array_equal(answers[0], answers[1])


def test_variants_keep_to_the_budget(quantized: tuple[bytes, int, Path]) -> None:
    """Each variant is larger than the one before, and none weighs more than its share of the float file."""
    data, fp32_bytes, _ = quantized
    sizes = [len(variant) for _, variant in float_variants(data, fp32_bytes)]
    assert sizes == sorted(set(sizes))
    assert all(len(data) < size <= MOST_OF_FP32 * fp32_bytes for size in sizes)
    assert list(float_variants(data, 10**9))[-1][0] == 600
