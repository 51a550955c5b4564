"""Tidied graphs answer as before, with fewer operations and nothing outside the delegate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from freezing import freeze, list_kinds, run

from convert.flatbuffer.edit import pack, unpack
from convert.flatbuffer.tidy import tidy


def tidied(flatbuffer: bytes) -> tuple[bytes, dict[str, int]]:
    model = unpack(flatbuffer)
    done = tidy(model)
    return pack(model), done


def check_same(model: Any) -> tuple[dict[str, int], list[str]]:
    """Assert that tidying changes no answer by more than 1e-5; return what was done and the operations left."""
    before = freeze(model)
    after, done = tidied(before)
    x = np.random.default_rng(0).normal(size=(1, *model.inputs[0].shape[1:])).astype(np.float32)
    np.testing.assert_allclose(run(after, x), run(before, x), atol=1e-5)
    return done, list_kinds(after)


def normalize(x: Any, activation: str | None = "relu") -> Any:
    """Return x after a batch normalization with statistics as after training, and an activation."""
    import keras

    rng, layer = np.random.default_rng(1), keras.layers.BatchNormalization()
    out = layer(x)
    layer.set_weights([rng.uniform(low, 2, x.shape[-1]) for low in (-2, -1, -1, 0.5)])
    return keras.layers.Activation(activation)(out) if activation else out


@pytest.mark.parametrize("activation", ["relu", "sigmoid", None])
@pytest.mark.parametrize("channels", [3, 8, 19])
def test_a_normalization_becomes_one_pass(channels: int, activation: str | None) -> None:
    """A batch normalization before an activation is one operation, whatever its signs; of few channels, it is left."""
    import keras

    image = keras.Input((5, 7, channels))
    done, kinds = check_same(keras.Model(image, normalize(image, activation)))
    assert done == ({"scale and shift": 1} if channels >= 8 else {})
    assert ("MUL" in kinds) == (channels < 8)


def test_what_another_operation_needs_too_stays() -> None:
    """A product that is also taken before its shift, or is the graph's own output, is not merged with the shift."""
    import keras

    image = keras.Input((4, 4, 8))
    scaled = image * np.linspace(1, 2, 8, dtype=np.float32)
    shifted = scaled + np.linspace(3, 4, 8, dtype=np.float32)
    check_same(keras.Model(image, keras.layers.Concatenate()([scaled, keras.ops.relu(shifted)])))
    done, kinds = check_same(keras.Model(image, scaled))
    assert not done
    assert kinds == ["MUL"]


@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
def test_pooling_of_one_pixel_is_delegated(size: tuple[int, int]) -> None:
    """ResNetV2's shortcut, a MaxPooling2D(1, strides=2), becomes a convolution, for odd sizes too."""
    import keras

    image = keras.Input((*size, 16))
    done, kinds = check_same(keras.Model(image, keras.layers.MaxPooling2D(1, strides=2)(image)))
    assert done == {"strided pooling": 1}
    assert kinds == ["DEPTHWISE_CONV_2D"]
    assert not check_same(keras.Model(image, keras.layers.MaxPooling2D(2)(image)))[0]


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_nearest_enlarging_is_delegated(factor: int) -> None:
    """UpSampling2D to the nearest, by any whole factor, has no TILE left."""
    import keras

    image = keras.Input((3, 5, 6))
    x = keras.layers.Conv2D(4, 1)(keras.layers.UpSampling2D(factor)(image))
    done, kinds = check_same(keras.Model(image, x))
    assert done == {"nearest enlarging": 1}
    assert kinds == ["CONCATENATION", "DEPTH_TO_SPACE", "CONV_2D"]


def test_tensorflows_own_nearest_resize_is_delegated() -> None:
    """RESIZE_NEAREST_NEIGHBOR by a whole factor is rewritten; by another, or unlike along the axes, it stays."""
    import keras

    image = keras.Input((4, 6, 3))
    for size, rewritten in (((8, 12), True), ((6, 9), False), ((8, 18), False)):
        resized = keras.layers.Resizing(*size, interpolation="nearest")(image)
        done, _ = check_same(keras.Model(image, keras.layers.Conv2D(2, 1)(resized)))
        assert bool(done) == rewritten


def test_tiles_that_only_look_like_enlarging_stay() -> None:
    """A mosaic of whole copies has the shape of an enlarged image; its pixels lie elsewhere, so it stays."""
    import keras

    image = keras.Input((4, 4, 8))
    done, kinds = check_same(keras.Model(image, keras.ops.relu(keras.ops.tile(image, (1, 2, 2, 1)))))
    assert not done
    assert "TILE" in kinds
