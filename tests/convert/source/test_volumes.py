"""3-D layers on slices equal Keras' own, for every kernel, stride and padding."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from keras import layers

from convert.source.load.volumes import find_reach, interleave, rewrite_volumes

SHAPE = (1, 5, 6, 7, 2)  # (batch, D, H, W, C): no two sides alike


def compare(layer: Any, shape: tuple[int, ...] = SHAPE) -> None:
    """Hold the rewritten layer to its own earlier answer."""
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = np.asarray(layer(x))
    assert rewrite_volumes([layer]) or type(layer).__name__ not in ("Conv3D", "MaxPooling3D")
    found = np.asarray(layer(x))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [*itertools.product((1, 2, 3, (3, 1, 5)), (1, 2, (2, 1, 1), (3, 2, 1)), ("same", "valid"))],
)
def test_convolutions(kernel: Any, stride: Any, padding: str) -> None:
    """Any kernel and stride along each axis, with bias and activation."""
    compare(layers.Conv3D(4, kernel, stride, padding, activation="relu", bias_initializer="normal"))


@pytest.mark.parametrize("dilation", [2, (2, 1, 1), (1, 2, 3)])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_dilated_convolutions(dilation: Any, padding: str) -> None:
    """Holes between the taps, along depth too."""
    compare(layers.Conv3D(3, (2, 2, 2), padding=padding, dilation_rate=dilation, use_bias=False))


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [*itertools.product((1, 2, 3, 4, (2, 3, 3)), (1, 2, (1, 2, 2), (2, 1, 1), (3, 2, 2)), ("same", "valid"))],
)
def test_transposed_convolutions(kernel: Any, stride: Any, padding: str) -> None:
    """Any kernel and stride along each axis, kernels shorter than the stride included."""
    compare(layers.Conv3DTranspose(3, kernel, stride, padding, bias_initializer="normal", activation="elu"))


@pytest.mark.parametrize("kind", [layers.MaxPooling3D, layers.AveragePooling3D])
@pytest.mark.parametrize(
    ("pool", "stride", "padding"),
    [*itertools.product((2, 3, (1, 2, 2), (3, 1, 2)), (None, 1, 2, (2, 1, 1)), ("same", "valid"))],
)
def test_pooling(kind: Any, pool: Any, stride: Any, padding: str) -> None:
    """Maxima and means, of which padding is no part."""
    compare(kind(pool, stride, padding))


@pytest.mark.parametrize("size", [2, (1, 2, 2), (3, 1, 2)])
def test_upsampling(size: Any) -> None:
    """Each value repeated along each axis."""
    compare(layers.UpSampling3D(size))


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.BatchNormalization(gamma_initializer="normal", moving_mean_initializer="normal"),
        lambda: layers.LayerNormalization(),
        lambda: layers.Activation("softmax"),
        lambda: layers.PReLU(alpha_initializer="normal", shared_axes=[1, 2, 3]),
        lambda: layers.LeakyReLU(0.1),
        lambda: layers.Softmax(),
        lambda: layers.BatchNormalization(axis=1, gamma_initializer="normal"),  # not over channels: left as it is
        lambda: layers.BatchNormalization(axis=4, gamma_initializer="normal"),
    ],
)
def test_pointwise_layers(make: Any) -> None:
    """What works on each value, or along the channels, gives the same on slices; on images it is untouched."""
    compare(make())
    layer = make()
    if getattr(layer, "axis", -1) == -1:
        flat = np.random.default_rng(1).normal(size=(2, 4, 4, 3)).astype(np.float32)
        if not isinstance(layer, layers.PReLU):
            expected = np.asarray(layer(flat))
            rewrite_volumes([layer])
            np.testing.assert_allclose(np.asarray(layer(flat)), expected, atol=1e-6)


def test_what_is_not_covered_is_left() -> None:
    """Grouped 3-D convolutions keep their own call, and the notes count what was changed."""
    grouped = layers.Conv3D(4, 3, groups=2)
    plain = layers.Conv3D(4, 3)
    for layer in (grouped, plain):
        layer.build((None, 4, 4, 4, 4))
    assert rewrite_volumes([grouped, plain, layers.ReLU()]) == [
        "slices of volumes as a batch of 2-D operations: 1 Conv3D"
    ]
    assert "call" not in vars(grouped)


def test_reach_and_weaving_by_hand() -> None:
    """TensorFlow's padding rule, and the order of woven slices."""
    assert find_reach(5, 3, 1, 1, "same") == (5, 1)
    assert find_reach(6, 3, 2, 1, "same") == (3, 0)
    assert find_reach(5, 3, 2, 1, "valid") == (2, 0)
    first, second = np.zeros((2, 1, 1, 1), np.float32), np.ones((2, 1, 1, 1), np.float32)
    assert np.asarray(interleave([first, second], 0)).ravel().tolist() == [0, 1, 0, 1]
