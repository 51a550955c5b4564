"""The three attention blocks of the paper, composed of built-in Keras layers.

They use no custom class, so a saved model loads with plain Keras in safe mode, without this package.

Source: Aprianto and Riana 2025, equations 1 to 13 (section II.C).
"""

from __future__ import annotations

from typing import Any

from keras import layers, ops

SLOPE = 0.1  # of every LeakyReLU in the paper


def gate_attention(x: Any, g: Any, inner: int, name: str) -> Any:
    """Weight the skip features x by a map computed from x and the decoder's features g; same size as x.

    x (N, H, W, Cx) and g (N, H, W, Cg); `inner`: channels of both projections.
    Source: equations 1-4; Oktay et al. 2018 (Attention U-Net).
    """
    theta = layers.Conv2D(inner, 1, name=f"{name}_theta")(x)  # (N, H, W, inner)
    phi = layers.Conv2D(inner, 1, name=f"{name}_phi")(g)  # (N, H, W, inner)
    f = layers.LeakyReLU(negative_slope=SLOPE, name=f"{name}_relu")(layers.Add(name=f"{name}_add")([theta, phi]))
    alpha = layers.Conv2D(1, 1, activation="sigmoid", name=f"{name}_alpha")(f)  # (N, H, W, 1)
    return layers.Multiply(name=f"{name}_out")([x, alpha])


def squeeze_excite(x: Any, name: str, ratio: int = 16) -> Any:
    """Weight each channel of x (N, H, W, C) by a factor computed from all channels' means; same size as x.

    Source: equations 5-8; Hu et al. 2018 (Squeeze-and-Excitation), ratio 16.
    """
    channels = x.shape[-1]
    z = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(x)  # (N, 1, 1, C)
    y = layers.Dense(max(1, channels // ratio), activation="relu", name=f"{name}_reduce")(z)
    s = layers.Dense(channels, activation="sigmoid", name=f"{name}_excite")(y)  # (N, 1, 1, C)
    return layers.Multiply(name=f"{name}_out")([x, s])


def cbam(x: Any, name: str, ratio: int = 8) -> Any:
    """Weight x (N, H, W, C) by channel, then by position; same size as x.

    Source: equations 9-13; Woo et al. 2018 (CBAM), ratio 8, kernel 7.
    """
    channels = x.shape[-1]
    reduce = layers.Dense(max(1, channels // ratio), activation="relu", name=f"{name}_reduce")
    expand = layers.Dense(channels, name=f"{name}_expand")
    mean = expand(reduce(layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(x)))  # (N, 1, 1, C)
    peak = expand(reduce(layers.GlobalMaxPooling2D(keepdims=True, name=f"{name}_max")(x)))  # (N, 1, 1, C)
    weight = layers.Activation("sigmoid", name=f"{name}_channel")(layers.Add(name=f"{name}_sum")([mean, peak]))
    x = layers.Multiply(name=f"{name}_channelled")([x, weight])
    pooled = layers.Concatenate(name=f"{name}_pooled")(
        [ops.mean(x, axis=-1, keepdims=True), ops.max(x, axis=-1, keepdims=True)]
    )  # (N, H, W, 2)
    spatial = layers.Conv2D(1, 7, padding="same", activation="sigmoid", name=f"{name}_place")(pooled)
    return layers.Multiply(name=f"{name}_out")([x, spatial])
