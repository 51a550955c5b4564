"""The depth-to-space rewrite equals the transposed convolution it replaces."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from convert.upsample import can_rewrite, choose_layers, extra_weights, grown, rewrite_layer

Array = npt.NDArray[Any]


def transpose_naively(x: Array, kernel: Array, padding: str) -> Array:
    """Return the stride-2 transposed convolution of x (H, W, in) by scattering each pixel: the definition."""
    rows, columns, filters, _ = kernel.shape
    height, width = grown(x.shape[0], rows, padding), grown(x.shape[1], columns, padding)
    top, left = ((max(k - 2, 0) // 2 if padding == "same" else 0) for k in (rows, columns))
    out = np.zeros((height, width, filters))
    for i, j, a, b in itertools.product(*map(range, (*x.shape[:2], rows, columns))):
        if 0 <= 2 * i + a - top < height and 0 <= 2 * j + b - left < width:
            out[2 * i + a - top, 2 * j + b - left] += kernel[a, b] @ x[i, j]
    return out


@pytest.mark.parametrize(
    ("rows", "columns", "padding", "bias"),
    [*itertools.product((1, 2, 3, 4, 5, 6), (1, 2, 3, 5), ("same", "valid"), (True,)), (3, 3, "same", False)],
)
def test_the_rewrite_equals_keras_and_the_definition(rows: int, columns: int, padding: str, bias: bool) -> None:
    """For every kernel, padding and size, the rewritten layer gives Keras' output to 1e-5, and the definition's."""
    import keras

    rng = np.random.default_rng(rows * 10 + columns)
    for height, width in ((4, 5), (1, 2)):
        layer = keras.layers.Conv2DTranspose(
            3,
            (rows, columns),
            2,
            padding,
            use_bias=bias,
            bias_initializer="normal",
            activation="relu" if bias else None,
        )
        x = rng.normal(size=(1, height, width, 2)).astype(np.float32)
        expected = np.asarray(layer(x))
        naive = transpose_naively(x[0], np.asarray(layer.kernel), padding) + (np.asarray(layer.bias) if bias else 0)
        rewrite_layer(layer)
        found = np.asarray(layer(x))
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=1e-5)
        np.testing.assert_allclose(found[0], np.maximum(naive, 0) if bias else naive, atol=1e-5)


def test_softmax_and_shared_layers_survive() -> None:
    """An activation over the channels stays after the shuffle, and a layer used twice in nested models stays one."""
    import keras

    raise_up = keras.layers.Conv2DTranspose(4, 3, 2, "same", activation="softmax")
    inner = keras.Input((None, None, 4))
    nested = keras.Model(inner, raise_up(inner))
    image = keras.Input((3, 5, 4))
    model = keras.Model(image, raise_up(nested(image)))
    x = np.random.default_rng(0).normal(size=(1, 3, 5, 4)).astype(np.float32)
    expected = np.asarray(model(x))
    rewrite_layer(raise_up)
    np.testing.assert_allclose(np.asarray(model(x)), expected, atol=1e-5)


def make(filters: int, **options: Any) -> Any:
    import keras

    layer = keras.layers.Conv2DTranspose(filters, 3, **{"strides": 2, "padding": "same", **options})
    layer.build((None, 4, 4, 8))
    return layer


def test_only_what_is_covered_is_rewritten() -> None:
    """Other strides, dilations and layers are left as they are."""
    import keras

    assert can_rewrite(make(4))
    assert not can_rewrite(make(4, strides=1))
    assert not can_rewrite(make(4, strides=(2, 1)))
    assert not can_rewrite(make(4, strides=1, dilation_rate=2))
    assert not can_rewrite(keras.layers.Conv2D(4, 3))


def test_auto_stays_within_its_budget() -> None:
    """`auto` takes the cheapest layers first and stops before they add 3 % to the weights."""
    layers = [make(16), make(4), make(8)]
    costs = [extra_weights(layer) for layer in layers]
    assert costs == [7 * 8 * f for f in (16, 4, 8)]  # 16 taps for 9
    assert choose_layers(layers, "keep", 10**6) == []
    assert choose_layers(layers, "auto", 10**6) == [layers[1], layers[2], layers[0]]
    assert choose_layers(layers, "auto", int((costs[1] + costs[2]) / 0.03) + 1) == [layers[1], layers[2]]
    assert choose_layers(layers, "auto", 100) == []
    assert len(choose_layers(layers, "depth-to-space", 100)) == 3
