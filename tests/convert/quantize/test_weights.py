"""Weights are stored as planned: the integers by the equations, the answers those of the weights as stored."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from freezing import freeze, list_kinds, run
from keras_nets import build_unet, spread

from convert.flatbuffer.edit import pack, read_constant, scales_of, unpack
from convert.flatbuffer.read import read_graph
from convert.flatbuffer.tidy import zero_tiny
from convert.quantize.activation_ranges import Range
from convert.quantize.scales import to_params
from convert.quantize.weights import list_weights, plan_weights, quantize_weights, to_integers
from convert.report.json_report import to_json_value


@pytest.fixture(scope="module")
def net() -> Any:
    return spread(build_unet((32, 32), filters=(16, 32)))


@pytest.fixture(scope="module")
def original(net: Any) -> bytes:
    return freeze(net)


def read_weight(flatbuffer: bytes, name: str) -> tuple[Any, Any]:
    """Return a tensor's values and quantization."""
    model = unpack(flatbuffer)
    place = next(i for i, t in enumerate(model.subgraphs[0].tensors) if t.name == name.encode())
    return read_constant(model, place), model.subgraphs[0].tensors[place].quantization


def test_integers_follow_the_equations(original: bytes) -> None:
    """s = max |w| / 127 and q = round(w / s) for each filter, in plain loops; never -128."""
    quantized = quantize_weights(original, plan_weights(original, "int8"))
    checked = 0
    for weight in list_weights(original):
        if weight.elements < 1024:
            continue
        floats, _ = read_weight(original, weight.name)
        integers, quantization = read_weight(quantized, weight.name)
        assert integers.dtype == np.int8
        assert len(quantization.scale) == weight.shape[weight.axis]
        assert quantization.quantizedDimension == weight.axis
        for i, scale in enumerate(quantization.scale):
            of_floats, of_integers = np.take(floats, i, weight.axis), np.take(integers, i, weight.axis)
            assert scale == pytest.approx(float(np.abs(of_floats).max()) / 127, rel=1e-6)
            assert of_integers.min() >= -127
            assert np.abs(of_floats - of_integers * np.float64(scale)).max() <= scale / 2 * (1 + 1e-5)
        checked += 1
    assert checked == len(plan_weights(original, "int8")) == 6


def test_zeros_and_outliers_are_stored() -> None:
    """A filter of zeros has integers of zero; one of a single huge weight keeps it exactly."""
    values = np.zeros((2, 3), np.float32)
    values[1] = 0.001, 1000, -1000
    integers, scales = to_integers(values, 0)
    assert integers.tolist() == [[0, 0, 0], [0, 127, -127]]
    assert np.isfinite(scales).all()
    assert scales[1] * 127 == pytest.approx(1000)


@pytest.mark.parametrize("size", [1e-31, 1e-36, 1e-38, 1e-40, 1e-42, 1e-44, 1.5e-45])
@pytest.mark.parametrize("axis", [0, 1, None])
def test_dead_filters_are_zeros(size: float, axis: int | None) -> None:
    """A filter of weights that no product can be computed with is zeros, with a scale that is a normal number."""
    values = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    dead = (slice(None), 2) if axis == 1 else (2,)
    values[dead if axis is not None else ...] *= np.float32(size)
    integers, scales = to_integers(values, axis)
    assert np.isfinite(scales).all()
    assert (scales >= np.finfo(np.float32).tiny).all()
    assert not integers[dead].any()
    shape = (-1, 1) if axis == 0 else (1, -1)
    wanted = np.where(np.abs(values) > 1e-30, values, 0)
    assert np.abs(integers * scales.astype(np.float64).reshape(shape) - wanted).max() <= scales.max() / 2 * (1 + 1e-6)
    assert np.isfinite(1 / scales).all()


def test_dead_layers_are_zeros_in_every_file(net: Any) -> None:
    """The float32 file answers within 1e-30 of NumPy's zeros, and no weight, bias or scale in any file is subnormal."""
    import keras

    copy = keras.models.clone_model(net)
    copy.set_weights(net.get_weights())
    zeroed = keras.models.clone_model(net)
    zeroed.set_weights(net.get_weights())
    for layer, other in zip(copy.layers, zeroed.layers, strict=True):
        if isinstance(layer, keras.layers.Conv2D) and layer.kernel.shape[-1] > 8:
            for one, sizes in ((layer, (1e-36, 1e-39, 1e-42, 1e-44)), (other, (0, 0, 0, 0))):
                kernel, *rest = one.get_weights()
                for i, size in enumerate(sizes):
                    kernel[..., i] *= np.float32(size)
                one.set_weights([kernel, *rest])
    model = unpack(freeze(copy))
    assert zero_tiny(model) > 1000
    flushed = pack(model)
    x = np.random.default_rng(0).uniform(size=(1, 32, 32, 3)).astype(np.float32)
    assert np.abs(run(flushed, x) - run(freeze(zeroed), x)).max() <= 1e-30
    for kind in ("float32", "int8", "weight-only", "float16"):
        stored = unpack(quantize_weights(flushed, plan_weights(flushed, kind) if kind != "float32" else {}))
        for i in range(len(stored.subgraphs[0].tensors)):
            values = read_constant(stored, i)
            if values is not None and values.dtype == np.float32:
                assert not ((values != 0) & (np.abs(values) < np.finfo(np.float32).tiny)).any()
            assert all(scale >= np.finfo(np.float32).tiny for scale in scales_of(stored, i))


def test_it_is_what_tensorflows_converter_makes(net: Any, original: bytes) -> None:
    """TensorFlow's own dynamic-range file has the same integers, but for ties, and the same operations."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    concrete = tf.function(lambda x: net(x, training=False)).get_concrete_function(tf.TensorSpec((1, 32, 32, 3)))
    frozen = convert_variables_to_constants_v2(concrete)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    theirs = bytes(converter.convert())
    ours = quantize_weights(original, plan_weights(original, "int8"))
    assert list_kinds(ours) == list_kinds(theirs)
    versions = [{(op.name, op.version) for op in read_graph(data).operations} for data in (ours, theirs)]
    assert {name: max(v for n, v in versions[0] if n == name) for name, _ in versions[0]} == dict(versions[1])
    stored = [
        sorted(int(t.shape[0] * t.elements) for t in read_graph(d).tensors if t.dtype == "INT8") for d in (ours, theirs)
    ]
    assert stored[0] == stored[1]
    x = np.random.default_rng(0).uniform(size=(1, 32, 32, 3)).astype(np.float32)
    assert np.abs(run(ours, x) - run(theirs, x)).max() < 1e-3


@pytest.mark.parametrize(("kind", "most"), [("float16", 0.55), ("weight-only", 0.32)])
def test_unpacked_weights_give_the_answers_of_floats(original: bytes, kind: str, most: float) -> None:
    """A float16 or weight-only file answers exactly as a float32 file with the rounded weights would."""
    plan = plan_weights(original, kind)
    stored = quantize_weights(original, plan)
    assert len(stored) < most * len(original)
    assert list_kinds(stored).count("DEQUANTIZE") == len(plan)
    rounded = unpack(original)
    for weight in list_weights(original):
        if weight.name not in plan:
            continue
        place = next(i for i, t in enumerate(rounded.subgraphs[0].tensors) if t.name == weight.name.encode())
        values = read_constant(rounded, place)
        if kind == "float16":
            values = values.astype(np.float16).astype(np.float32)
        else:
            integers, scales = to_integers(values, weight.axis)
            sides = [-1 if i == weight.axis else 1 for i in range(4)]
            values = integers * scales.reshape(sides)
        buffer = rounded.buffers[rounded.subgraphs[0].tensors[place].buffer]
        buffer.data = np.frombuffer(values.astype(np.float32).tobytes(), np.uint8)
    x = np.random.default_rng(0).uniform(size=(1, 32, 32, 3)).astype(np.float32)
    np.testing.assert_allclose(run(stored, x), run(pack(rounded), x), atol=1e-6)


def test_a_layer_left_out_of_the_plan_stays_float(original: bytes) -> None:
    """Weights that the plan does not name are bit for bit those of the original."""
    plan = plan_weights(original, "int8")
    name = sorted(plan)[0]
    mixed = quantize_weights(original, {key: kind for key, kind in plan.items() if key != name})
    assert np.array_equal(read_weight(mixed, name)[0], read_weight(original, name)[0])
    assert sum(t.dtype == "INT8" for t in read_graph(mixed).tensors) == len(plan) - 1


def test_shared_and_dense_weights() -> None:
    """A layer used twice is stored once; dense weights have one scale each filter, or one in all for old runtimes."""
    import keras

    image = keras.Input((8, 8, 16))
    shared = keras.layers.Conv2D(16, 3, padding="same", name="shared")
    pooled = keras.layers.GlobalAveragePooling2D()(shared(shared(image)))
    out = keras.layers.Dense(128, name="dense")(pooled)
    original = freeze(keras.Model(image, out))
    plan = plan_weights(original, "int8")
    assert len(plan) == 2
    dense = next(w for w in list_weights(original) if w.operation == "FULLY_CONNECTED")
    x = np.random.default_rng(0).normal(size=(1, 8, 8, 16)).astype(np.float32)
    for whole, scales in ((False, 128), (True, 1)):
        quantized = quantize_weights(original, plan, per_tensor_dense=whole)
        assert len(read_weight(quantized, dense.name)[1].scale) == scales
        assert np.abs(run(quantized, x) - run(original, x)).max() < 0.05


def test_tiny_ranges_have_normal_scales() -> None:
    """Activations that are all but zero have a scale that is a normal number, and are zeros in it."""
    for size in (0.0, 1e-32, 1e-36, 1e-40, 1e-44):
        params = to_params(Range(-size, size / 2))
        assert np.finfo(np.float32).tiny <= params.scale < np.inf
        assert np.rint(size / params.scale) == 0


def test_no_number_is_too_odd_for_the_report() -> None:
    """NaN and infinities are text at any depth, and JSON's strict writer takes the result."""
    odd = {"a": [float("nan"), (1.0, {"b": float("inf")})], "c": np.float64("-inf"), "d": 1e-45}
    assert json.loads(json.dumps(to_json_value(odd), allow_nan=False)) == {
        "a": ["nan", [1.0, {"b": "inf"}]], "c": "-inf", "d": 1e-45,
    }  # fmt: skip
