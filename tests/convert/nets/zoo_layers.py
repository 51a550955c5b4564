"""Small nets that hold many kinds of layers each, and nets of other types than float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zoo import normalize
from zoo_blocks import convolve, head, settle

Size = tuple[int, int]


def build_chain(
    body: Callable[[Any], Any], size: Size = (32, 32), classes: int = 1, activation: str | None = None
) -> Any:
    """Return a small net around `body`, which takes and gives features (N, H, W, 8)."""
    import keras

    keras.utils.set_random_seed(7)
    image = keras.Input((*size, 1))
    return settle(keras.Model(image, head(body(convolve(image, 8)), classes, activation=activation), name="chain"))


def try_activations(x: Any) -> Any:
    """Every activation of Keras that segmentation nets use, a convolution before each."""
    from keras import activations, layers

    for name in ("swish", "gelu", "hard_swish", "hard_sigmoid", "mish", "elu", "selu", "softplus", "relu6", "tanh",
                 "softsign", "leaky_relu"):  # fmt: skip
        x = layers.Conv2D(8, 3, padding="same", activation=name)(x)
    for layer in (layers.LeakyReLU(0.1), layers.PReLU(shared_axes=[1, 2]), layers.PReLU(), layers.ELU(),
                  layers.ReLU(6.0, negative_slope=0.1)):  # fmt: skip
        x = layer(layers.Conv2D(8, 3, padding="same")(x))
    return activations.gelu(x, approximate=True)


def try_norms(x: Any) -> Any:
    """Every normalization, and the layers that do nothing after training."""
    from keras import layers

    for layer in (layers.GroupNormalization(4), layers.GroupNormalization(-1), layers.LayerNormalization(),
                  layers.BatchNormalization(center=False, scale=False), layers.UnitNormalization(),
                  layers.RMSNormalization(), layers.SpatialDropout2D(0.5), layers.GaussianNoise(0.1)):  # fmt: skip
        x = layer(layers.Conv2D(8, 3, padding="same")(x))
    return layers.SpectralNormalization(layers.Conv2D(8, 3, padding="same"))(x)


def try_convolutions(x: Any) -> Any:
    """Separable, depthwise, dilated, grouped, strided and transposed convolutions of all kinds."""
    from keras import layers

    x = layers.SeparableConv2D(16, 3, padding="same")(x)
    x = layers.DepthwiseConv2D(5, padding="same", depth_multiplier=2)(x)
    x = layers.Conv2D(16, 3, dilation_rate=4, padding="same", groups=4)(x)
    x = layers.DepthwiseConv2D(3, dilation_rate=2, padding="same")(x)
    skip, x = x, layers.ZeroPadding2D(((0, 1), (0, 1)))(x)
    x = layers.Conv2DTranspose(8, 2, strides=2)(layers.Conv2D(16, 3, strides=2)(x))
    x = layers.Add()([layers.Conv2D(8, 1)(skip), x])
    x = layers.Conv2DTranspose(8, 4, strides=2, padding="same")(layers.AveragePooling2D(3, 2, padding="same")(x))
    x = layers.Conv2DTranspose(8, 3, strides=2)(layers.MaxPooling2D(3, 2, padding="same")(x))
    x = layers.Conv2DTranspose(8, 3, padding="same")(layers.Cropping2D(((0, 1), (1, 0)))(x))
    x = layers.Conv2DTranspose(8, 5, strides=4, padding="same", activation="relu")(layers.MaxPooling2D(4)(x))
    x = layers.SeparableConv2D(8, 3, strides=2, padding="same")(x)
    return layers.Conv2DTranspose(8, 3, strides=2, padding="same", output_padding=1)(x)


def try_resizing(x: Any) -> Any:
    """Every way to another size, and back."""
    from keras import layers, ops

    height, width = x.shape[1:3]
    wide = layers.AveragePooling2D((2, 4))(layers.UpSampling2D((2, 4))(x))
    odd = layers.Resizing(height, width, interpolation="nearest")(layers.Resizing(20, 24)(x))
    small = ops.image.resize(ops.image.resize(x, (16, 16)), (height, width), interpolation="nearest")
    pooled = layers.UpSampling2D(2, interpolation="bilinear")(layers.MaxPooling2D()(x))
    return layers.Concatenate()([wide, odd, small, pooled])


def try_operations(x: Any) -> Any:
    """keras.ops in the place of layers."""
    from keras import ops

    mean, most = ops.mean(x, axis=-1, keepdims=True), ops.max(x, axis=[1, 2], keepdims=True)
    spread = ops.std(x, axis=[1, 2], keepdims=True)
    x = ops.concatenate([x * ops.sigmoid(mean), ops.relu(x - most), x / (spread + 1e-3)], -1)
    x = ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="reflect")[:, 1:-1, 1:-1, :]
    x = ops.where(x > 0, x, 0.1 * x)
    one, other = ops.split(ops.transpose(ops.transpose(x, (0, 3, 1, 2)), (0, 2, 3, 1)), 2, axis=-1)
    x = ops.sqrt(ops.abs(one * other) + 1e-3)
    x = ops.flip(ops.roll(ops.clip(ops.einsum("bhwc,cd->bhwd", x, ops.ones((12, 8))), -5.0, 5.0), 1, axis=1), axis=2)
    return ops.softmax(x) / ops.sum(x, axis=-1, keepdims=True)


def try_attention(x: Any) -> Any:
    """Attention layers over places, dense layers over channels and over places."""
    from keras import layers

    places = layers.Reshape((256, 8))(layers.MaxPooling2D()(x))
    y = layers.Add()([layers.Attention()([places, places]), layers.MultiHeadAttention(2, 4)(places, places)])
    y = layers.Permute((2, 1))(layers.Dense(256)(layers.Permute((2, 1))(y)))
    return layers.UpSampling2D()(layers.Reshape((16, 16, 8))(layers.Dense(8, activation="gelu")(y)))


def with_policy(policy: str, build: Callable[[], Any]) -> Any:
    """Return what `build` makes under a dtype policy."""
    import keras

    keras.config.set_dtype_policy(policy)
    try:
        return build()
    finally:
        keras.config.set_dtype_policy("float32")


def build_nested() -> Any:
    """Return a Sequential encoder and a functional decoder of open size, nested in one model."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(7)
    image = keras.Input((32, 32, 1))
    parts = [layers.Rescaling(1 / 255), layers.Conv2D(8, 3, padding="same"), layers.ReLU()]
    features = keras.Input((None, None, 8))
    x = layers.Conv2DTranspose(8, 3, strides=2, padding="same")(layers.MaxPooling2D()(features))
    decoder = keras.Model(features, head(x), name="decoder")
    return keras.Model(image, decoder(keras.Sequential(parts, name="encoder")(image)), name="nested")


FEATURES = {
    "activations": lambda: build_chain(try_activations),
    "norms": lambda: build_chain(try_norms),
    "convolutions": lambda: build_chain(try_convolutions),
    "resizing": lambda: build_chain(try_resizing),
    "operations": lambda: build_chain(try_operations),
    "attention": lambda: build_chain(try_attention),
    "nested": build_nested,
    "float16": lambda: with_policy("float16", lambda: build_chain(lambda x: normalize(x, 8))),
    "mixed_bfloat16": lambda: with_policy("mixed_bfloat16", build_nested),
    "float64": lambda: with_policy("float64", lambda: build_chain(lambda x: x)),
}
