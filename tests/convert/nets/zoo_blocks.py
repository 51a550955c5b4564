"""What the zoo's nets are made of, and how random weights are made to behave like trained ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def settle(model: Any, size: tuple[int, ...] | None = None, raw: bool = False, spread: float = 2.0) -> Any:
    """Return the model with batch statistics and last biases as drawn slices give them; `raw`: it eats 0...255.

    Batch normalization gets the statistics of drawn slices. `size` stands in for open sides.
    """
    import keras

    keras.utils.set_random_seed(11)
    shape = tuple(model.inputs[0].shape)[1:]
    shape = shape if size is None else (*size, shape[-1])
    images = draw_tensor(shape, 1.0 if raw else 1 / 255)
    norms = [
        layer
        for layer in model._flatten_layers(include_self=False, recursive=True)
        if type(layer).__name__ == "BatchNormalization"
    ]
    kept = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    if norms:
        model([images], training=True)
    for layer, momentum in zip(norms, kept, strict=True):
        layer.momentum = momentum
        variance = np.asarray(layer.moving_variance)  # of few values it may be 0, which would blow up rounding errors
        layer.moving_variance.assign(np.maximum(variance, 0.3 * variance.mean()))
    for layer in model._flatten_layers(include_self=False, recursive=True):
        if is_head(layer):
            widen_head(model, layer, images, spread)
    return model


def is_head(layer: Any) -> bool:
    """Tell whether a layer ends in a probability: its logits should be neither all 0 nor huge."""
    kind = getattr(getattr(layer, "activation", None), "__name__", "")
    return kind in ("sigmoid", "softmax") and getattr(layer, "name", "").startswith("head")


def widen_head(model: Any, head: Any, images: Any, spread: float) -> None:
    """Scale a head's kernel and shift its bias so that its logits on `images` have mean 0 and deviation `spread`."""
    import keras

    activation, head.activation = head.activation, keras.activations.linear
    try:
        logits = np.asarray(keras.Model(model.inputs, head.output)([images]), np.float32)
    finally:
        head.activation = activation
    axes = tuple(range(logits.ndim - 1))
    scale = spread / np.maximum(logits.std(axes), 1e-6)
    kernel, bias = (np.asarray(weight) for weight in head.get_weights())
    head.set_weights([kernel * scale, (bias - logits.mean(axes)) * scale])


def draw_tensor(shape: tuple[int, ...], scale: float) -> Any:
    """Return a float32 batch (8, *shape): six drawn slices, white and noise, which conversions are checked on too.

    Of volumes (3, *shape): one of slices, white and noise.
    """
    from reference.data.phantom import KINDS, draw_phantom

    rng = np.random.default_rng(5)
    *depth, height, width, channels = shape
    side = max(64, height, width)
    count = depth[0] if depth else 6
    slices = [draw_phantom(rng, KINDS[i % len(KINDS)], side).image[:height, :width] for i in range(count)]
    drawn = np.stack(slices).astype(np.float32)[..., None].repeat(channels, -1).reshape(-1, *shape)
    others = [np.full((1, *shape), 255, np.float32), rng.uniform(0, 255, (1, *shape)).astype(np.float32)]
    return np.concatenate([drawn, *others]) * np.float32(scale)


def convolve(x: Any, filters: int, kernel: int = 3, activation: str = "relu", **options: Any) -> Any:
    """Return x (N, H, W, C) after convolution, batch normalization and activation: (N, H, W, filters)."""
    from keras import layers

    x = layers.Conv2D(filters, kernel, padding="same", use_bias=False, **options)(x)
    return layers.Activation(activation)(layers.BatchNormalization()(x))


def double(x: Any, filters: int) -> Any:
    """Return x after two convolutions, as every U-Net has them."""
    return convolve(convolve(x, filters), filters)


def raise_up(x: Any, filters: int, how: str) -> Any:
    """Return x (N, H, W, C) at (N, 2 H, 2 W, filters or C)."""
    from keras import layers

    if how in ("nearest", "bilinear"):
        return layers.UpSampling2D(interpolation=how)(x)
    kernel = int(how.removeprefix("transpose") or 3)
    return layers.Conv2DTranspose(filters, kernel, strides=2, padding="same")(x)


def decode(x: Any, skips: Sequence[Any], filters: Sequence[int], how: str, block: Callable[..., Any] = double) -> Any:
    """Return the decoder's last features: x raised and joined with each of `skips`, deepest first."""
    from keras import layers

    for skip, count in zip(skips, filters, strict=True):
        x = block(layers.Concatenate()([raise_up(x, count, how), skip]), count)
    return x


def head(x: Any, classes: int = 1, name: str = "head_mask", activation: str | None = None) -> Any:
    """Return the mask (N, H, W, classes) from features."""
    from keras import layers

    default = "sigmoid" if classes == 1 else "softmax"
    return layers.Conv2D(classes, 1, activation=activation or default, name=name, dtype="float32")(x)


def squeeze(x: Any, ratio: int = 4) -> Any:
    """Squeeze-and-Excitation over x (N, H, W, C)."""
    from keras import layers

    channels = x.shape[-1]
    y = layers.Dense(max(channels // ratio, 1), activation="relu")(layers.GlobalAveragePooling2D()(x))
    y = layers.Reshape((1, 1, channels))(layers.Dense(channels, activation="sigmoid")(y))
    return layers.Multiply()([x, y])


def attend(x: Any, ratio: int = 4) -> Any:
    """CBAM over x (N, H, W, C): channels, then places."""
    from keras import layers, ops

    channels = x.shape[-1]
    reduce, expand = layers.Dense(max(channels // ratio, 1), activation="relu"), layers.Dense(channels)
    mean = expand(reduce(layers.GlobalAveragePooling2D(keepdims=True)(x)))
    peak = expand(reduce(layers.GlobalMaxPooling2D(keepdims=True)(x)))
    x = layers.Multiply()([x, layers.Activation("sigmoid")(layers.Add()([mean, peak]))])
    pooled = layers.Concatenate()([ops.mean(x, axis=-1, keepdims=True), ops.max(x, axis=-1, keepdims=True)])
    return layers.Multiply()([x, layers.Conv2D(1, 7, padding="same", activation="sigmoid")(pooled)])


def gate(skip: Any, coarse: Any, inner: int) -> Any:
    """Oktay's gate: skip (N, 2 H, 2 W, C) weighed by coarse (N, H, W, D) at half its size."""
    from keras import layers

    theta = layers.Conv2D(inner, 2, strides=2)(skip)
    phi = layers.Conv2D(inner, 1)(coarse)
    alpha = layers.Conv2D(1, 1, activation="sigmoid")(layers.ReLU()(layers.Add()([theta, phi])))
    return layers.Multiply()([skip, layers.UpSampling2D(interpolation="bilinear")(alpha)])


def residual(x: Any, filters: int) -> Any:
    """Return a residual block of x with LeakyReLU."""
    from keras import layers

    y = layers.LeakyReLU(negative_slope=0.1)(layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same")(x)))
    y = layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same")(y))
    return layers.LeakyReLU(negative_slope=0.1)(layers.Add()([y, layers.Conv2D(filters, 1)(x)]))
