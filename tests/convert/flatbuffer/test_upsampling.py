"""The rewritten forms equal the transposed convolution they replace: Keras' and the definition's."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from freezing import freeze, run

from convert.flatbuffer.edit import pack, unpack
from convert.flatbuffer.upsampling import choose_forms, find_transposed, rewrite_upsampling
from convert.quantize.weights import list_weights

Array = npt.NDArray[Any]


def transpose_naively(x: Array, kernel: Array, padding: str, stride: int, output_length: tuple[int, int]) -> Array:
    """Return the transposed convolution of x (H, W, in) by scattering each pixel: the definition."""
    rows, columns, filters, _ = kernel.shape
    top, left = ((max(k - stride, 0) // 2 if padding == "same" else 0) for k in (rows, columns))
    out = np.zeros((*output_length, filters))
    for i, j, a, b in itertools.product(*map(range, (*x.shape[:2], rows, columns))):
        y, z = stride * i + a - top, stride * j + b - left
        if 0 <= y < output_length[0] and 0 <= z < output_length[1]:
            out[y, z] += kernel[a, b] @ x[i, j]
    return out


def rewrite(flatbuffer: bytes, form: str) -> bytes:
    model = unpack(flatbuffer)
    rewrite_upsampling(model, dict.fromkeys((one.name for one in find_transposed(model)), form))
    return pack(model)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("rows", "columns", "stride"), [
    *((rows, columns, 2) for rows in (1, 2, 3, 4, 5, 6) for columns in (1, 2, 3, 5)), (3, 3, 3), (8, 8, 4), (2, 5, 3),
])  # fmt: skip
def test_both_forms_equal_keras_and_the_definition(rows: int, columns: int, stride: int, padding: str) -> None:
    """For every kernel, padding, stride and size both forms give Keras' output to 1e-5, and the definition's."""
    import keras

    rng = np.random.default_rng(rows * 10 + columns)
    bias = rows != columns  # without one, TensorFlow leaves the input out
    for height, width in ((4, 5), (1, 2)):
        layer = keras.layers.Conv2DTranspose(
            3, (rows, columns), stride, padding, use_bias=bias, bias_initializer="normal", activation="relu"
        )
        image = keras.Input((height, width, 2))
        model = keras.Model(image, layer(image))
        x = rng.normal(size=(1, height, width, 2)).astype(np.float32)
        expected = np.asarray(model(x))
        naive = transpose_naively(x[0], np.asarray(layer.kernel), padding, stride, expected.shape[1:3])
        naive = np.maximum(naive + (np.asarray(layer.bias) if bias else 0), 0)
        np.testing.assert_allclose(expected[0], naive, atol=1e-5)
        flatbuffer = freeze(model)
        for form in ("depth-to-space", "phases"):
            rewritten = rewrite(flatbuffer, form)
            assert not find_transposed(unpack(rewritten))
            np.testing.assert_allclose(run(rewritten, x), expected, atol=1e-5)


def build_decoder() -> Any:
    """Return a net with a shared transposed convolution inside a nested model, and two of its own."""
    import keras

    inner = keras.Input((None, None, 8))
    nested = keras.Model(inner, keras.layers.Conv2DTranspose(8, 3, 2, "same", activation="gelu", name="raise")(inner))
    image = keras.Input((6, 8, 8))
    x = nested(nested(image))
    x = keras.layers.Conv2DTranspose(64, 3, 2, "same", output_padding=1, name="large")(x)
    return keras.Model(image, keras.layers.Conv2DTranspose(5, 2, 2, activation="softmax", name="last")(x))


def test_nested_shared_and_activated_layers_survive() -> None:
    """A layer used twice in a nested model, output padding, and activations that do not fuse: the same answers."""
    model = build_decoder()
    x = np.random.default_rng(0).normal(size=(1, 6, 8, 8)).astype(np.float32)
    expected, flatbuffer = np.asarray(model(x)), freeze(model)
    assert len(find_transposed(unpack(flatbuffer))) == 4
    for form in ("depth-to-space", "phases"):
        np.testing.assert_allclose(run(rewrite(flatbuffer, form), x), expected, atol=1e-5)


def test_auto_keeps_to_its_budget_and_phases_add_nothing() -> None:
    """`auto` adds at most 3 % of zero taps, phases add none, and depth-to-space says what it adds."""
    flatbuffer = freeze(build_decoder())
    weights = sum(weight.elements for weight in list_weights(flatbuffer))
    forms = choose_forms(unpack(flatbuffer), "auto", weights)
    assert sorted(forms.values()) == ["depth-to-space", "keep", "keep", "keep"]  # the 2 x 2 kernel costs nothing
    model = unpack(flatbuffer)
    added = rewrite_upsampling(model, dict.fromkeys(forms, "depth-to-space"))
    output_length = sum(weight.elements for weight in list_weights(pack(model))) - weights
    assert output_length == sum(added.values()) > 0.03 * weights
    assert sum(weight.elements for weight in list_weights(rewrite(flatbuffer, "phases"))) == weights


def test_packing_changes_nothing(tmp_path: Path) -> None:
    """A flatbuffer unpacked and packed answers the same, packs to the same bytes again, and aligns its constants."""
    flatbuffer = freeze(build_decoder())
    once = pack(unpack(flatbuffer))
    assert pack(unpack(once)) == once
    x = np.random.default_rng(0).normal(size=(1, 6, 8, 8)).astype(np.float32)
    assert np.array_equal(run(once, x), run(flatbuffer, x))
    from ai_edge_litert import schema_py_generated as schema

    model, start = schema.Model.GetRootAs(once, 0), np.frombuffer(once, np.uint8).__array_interface__["data"][0]
    buffers = [model.Buffers(i) for i in range(model.BuffersLength())]
    offsets = [b.DataAsNumpy().__array_interface__["data"][0] - start for b in buffers if b.DataLength()]
    assert {offset % 16 for offset in offsets} == {0}
