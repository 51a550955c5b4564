"""The audit finds what a converter's success hides; each trap here was seen in the wild."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras_nets import build_unet
from messages import make_facts

from convert.flatbuffer.read import Graph, Operation, Tensor, read_graph
from convert.quantize.recipes import RECIPES
from convert.source.answers import draw_images
from convert.source.process import SourceFacts
from convert.verify.audit import audit_model, count_partitions, find_differences, find_size
from convert.verify.drawn_images import compare_outputs
from edge_runtime.contract.findings import FINDINGS
from edge_runtime.errors import ModelError


@pytest.fixture(scope="module")
def net() -> Any:
    return build_unet((16, 16), filters=(16,))


def facts_of(model: Any) -> SourceFacts:
    kernels = sum(int(np.prod(w.shape)) for w in model.weights if len(w.shape) > 1)
    return make_facts(layers=tuple(layer.name for layer in model._flatten_layers()), kernels=kernels)


def audit_bytes(data: bytes, folder: Path, model: Any, recipe: str = "fp32", target: str = "litert") -> dict[str, str]:
    """Return {finding: where} of a flatbuffer."""
    path = folder / "m.tflite"
    path.write_bytes(data)
    audit = audit_model(path, 10**6, facts_of(model), RECIPES[recipe], target)
    return {finding.name: finding.where for finding in audit.findings}


def test_weights_left_behind_are_found(tmp_path: Path, net: Any) -> None:
    """A bare concrete function converts into a file without weights; the audit says so."""
    import tensorflow as tf

    function = tf.function(net).get_concrete_function(tf.TensorSpec((1, 16, 16, 3)))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], net)
    found = audit_bytes(converter.convert(), tmp_path, net)
    assert "VAR_HANDLE" in found["variables"] or "READ_VARIABLE" in found["variables"]
    assert "some are missing" in found["size"]


def test_an_open_batch_is_found(tmp_path: Path, net: Any) -> None:
    """The stock conversion leaves the batch open; the audit names an operation and its layer."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(net)
    found = audit_bytes(converter.convert(), tmp_path, net)
    assert "of layer" in found["dynamic-shape"]


def test_quantization_asked_for_and_not_done_is_found(tmp_path: Path, net: Any) -> None:
    """A float file under the drq recipe is found, with the largest float tensor's layer."""
    import tensorflow as tf

    data = tf.lite.TFLiteConverter.from_keras_model(net).convert()
    assert "layer 'conv2d" in audit_bytes(data, tmp_path, net, "drq")["float-weights"]


def test_what_an_old_runtime_refuses_is_found(tmp_path: Path, net: Any) -> None:
    """A quantized Conv2DTranspose is refused for tflite-runtime 2.14, and for that target only."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(net)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    data = converter.convert()
    assert "raise_16" in audit_bytes(data, tmp_path, net, "drq", "tflite-runtime")["runtime-2.14"]
    assert "runtime-2.14" not in audit_bytes(data, tmp_path, net, "drq")


def test_sizes_must_fit_the_weights() -> None:
    """Too small for its weights, or too large for its recipe: both are findings; what fits is none."""
    assert not find_size(1_050_000, 4_100_000, 10**6, 0, RECIPES["drq"], 100)
    assert not find_size(4_100_000, 4_100_000, 10**6, 0, RECIPES["fp32"], 100)
    large = (33_000_000, 57_344)  # a Res-UNet of 200 operations, each with its names
    assert not find_size(133_470_112, 133_102_416, *large, RECIPES["fp32"], 200)
    assert find_size(134_000_000, 133_102_416, *large, RECIPES["fp32"], 200)
    assert find_size(500_000, 4_100_000, 10**6, 0, RECIPES["drq"], 100)
    assert find_size(1_050_000, 1_000_000, 10**6, 0, RECIPES["drq"], 100)
    assert find_size(2_000_000, 4_100_000, 10**6, 0, RECIPES["drq"], 100)


def test_nan_is_never_laundered() -> None:
    """One NaN among the outputs makes the differences NaN and the file refused."""
    good = [np.full((1, 4, 4, 1), 0.3, np.float32)]
    bad = [good[0].copy()]
    bad[0][0, 2, 2, 0] = np.nan
    checks = compare_outputs(good, bad, 0.5)
    assert not checks.finite
    assert np.isnan(checks.largest_difference)
    assert [finding.name for finding in find_differences(checks, RECIPES["drq"])] == ["not-finite"]
    unknown = dataclasses.replace(checks, finite=True, probability=True)
    assert [finding.name for finding in find_differences(unknown, RECIPES["fp32"])] == ["unfaithful"]


def test_differences_are_counted_by_hand() -> None:
    """Largest and mean difference and changed labels agree with a hand count."""
    a = np.array([[[[0.4], [0.6]], [[0.2], [0.9]]]], np.float32)
    b = np.array([[[[0.6], [0.6]], [[0.2], [1.3]]]], np.float32)
    checks = compare_outputs([a], [b], 0.5)
    assert (checks.changed_pixels, checks.finite, checks.probability) == (0.25, True, False)
    assert checks.largest_difference == pytest.approx(0.4)
    assert checks.mean_difference == pytest.approx(0.15)
    with pytest.raises(ModelError, match="shape"):
        compare_outputs([a], [b[:, :1]], 0.5)


def test_partitions_and_what_lies_outside() -> None:
    """A piece holds what lies between its inputs and outputs; the rest is outside."""
    tensors = tuple(Tensor(f"net/l{i}_1/x", (1,), "FLOAT32", False, 0, 0) for i in range(5))
    graph = Graph(tuple(Operation(f"OP{i}", 1, (i,), (i + 1,)) for i in range(4)), tensors, 1)
    pieces = [{"inputs": [0], "outputs": [2]}, {"inputs": [3], "outputs": [4]}]
    assert count_partitions(pieces, graph, ["l3"]) == (2, ("OP2 of layer 'l3'",))
    assert count_partitions([], graph, [])[0] == 0
    assert count_partitions(None, graph, []) == (None, ())


def test_no_flatbuffer_is_an_error_and_every_finding_is_explained() -> None:
    """Rubbish is a ModelError; each finding that `--allow` takes has a sentence."""
    with pytest.raises(ModelError):
        read_graph(b"\0" * 64)
    assert all(len(text) > 20 for text in FINDINGS.values())


def test_drawn_images_are_the_same_every_time() -> None:
    """The images that a model is checked on never change, and use the whole range."""
    one, two = draw_images(20, 30, 3), draw_images(20, 30, 3)
    assert all((a == b).all() for a, b in zip(one, two, strict=True))
    assert {image.shape for image in one} == {(20, 30, 3)}
    assert {image.shape for image in draw_images(8, 9, 1)} == {(8, 9)}
    assert max(int(image.max()) for image in one) == 255
