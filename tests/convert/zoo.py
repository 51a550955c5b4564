"""The segmentation models of the field, with random weights: what must convert and run.

Encoders come from keras.applications at their true widths; everything else is written here the way papers and
tutorials write it. Batch statistics are set from drawn slices (`settle`), so that a net of random weights neither
explodes nor saturates and its rounding errors mean something.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Size = tuple[int | None, int | None]


@dataclass(frozen=True)
class Family:
    """One kind of net: `build` makes it as the docs table measures it, `small` as the tests can afford it."""

    says: str
    build: Callable[[], Any]
    small: Callable[[], Any] | None = None
    contract: str = ""  # TOML, put beside the model
    input_size: tuple[int, int] | None = None  # for a model of open size
    suffix: str = ".keras"


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
    from reference.phantom import KINDS, draw_phantom

    rng = np.random.default_rng(5)
    *depth, height, width, channels = shape
    side = max(64, height, width)
    count = depth[0] if depth else 6
    slices = [draw_phantom(rng, KINDS[i % len(KINDS)], side).image[:height, :width] for i in range(count)]
    drawn = np.stack(slices).astype(np.float32)[..., None].repeat(channels, -1).reshape(-1, *shape)
    others = [np.full((1, *shape), 255, np.float32), rng.uniform(0, 255, (1, *shape)).astype(np.float32)]
    return np.concatenate([drawn, *others]) * np.float32(scale)


# --- blocks ------------------------------------------------------------------------------------------------------


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


# --- encoders of keras.applications ------------------------------------------------------------------------------


def build_encoder(name: str, size: Size = (224, 224), **options: Any) -> tuple[Any, list[Any]]:
    """Return the input image and the features at 1/2, 1/4 ... of its size, the last of each."""
    import keras

    keras.utils.set_random_seed(7)
    image = keras.Input((*size, 3))
    if name == "plain":
        return image, build_plain_encoder(image, options["width"])
    encoder = getattr(keras.applications, name)(include_top=False, weights=None, input_tensor=image, **options)
    last: dict[int, Any] = {}
    for layer in encoder.layers[1:]:
        if len(layer.output.shape) == 4 and layer.output.shape[1] < size[0]:
            last[layer.output.shape[1]] = layer.output
    halves = [size[0] // 2**k for k in range(1, 6)]
    return image, [last[side] for side in halves if side in last]


def build_plain_encoder(image: Any, width: int) -> list[Any]:
    """Return features at 1/2, 1/4, 1/8 and 1/16 of an image's size, for nets that tests can afford."""
    x, features = image, []
    for _ in range(4):
        x = convolve(x, width, strides=2)
        features.append(x)
    return features


def build_encoder_unet(
    name: str,
    size: Size = (224, 224),
    how: str = "transpose",
    filters: Sequence[int] = (256, 128, 64, 32),
    raw: bool = False,
    **options: Any,
) -> Any:
    """Return a U-Net on an encoder of keras.applications; `raw`: it scales 0...255 itself."""
    import keras

    image, features = build_encoder(name, size, **options)
    x = decode(features[-1], features[-2::-1], filters, how)
    x = double(raise_up(x, filters[-1], how), filters[-1] // 2)
    return settle(keras.Model(image, head(x), name=name.lower()), raw=raw)


def build_deeplab(name: str = "ResNet50", size: Size = (256, 256), width: int = 256, **options: Any) -> Any:
    """Return DeepLabV3+: atrous spatial pyramid pooling at 1/16 with image pooling, joined at 1/4."""
    import keras
    from keras import layers

    image, features = build_encoder(name, size, **({"width": width} if name == "plain" else options))
    x, low = features[3], features[1]
    side = x.shape[1], x.shape[2]
    pooled = convolve(layers.AveragePooling2D(side)(x), width, 1)
    branches = [layers.UpSampling2D(side, interpolation="bilinear")(pooled), convolve(x, width, 1)]
    branches += [convolve(x, width, 3, dilation_rate=rate) for rate in (6, 12, 18)]
    x = convolve(layers.Concatenate()(branches), width, 1)
    x = layers.Resizing(low.shape[1], low.shape[2], interpolation="bilinear")(x)
    x = layers.Concatenate()([x, convolve(low, 48, 1)])
    x = convolve(convolve(x, width), width)
    x = layers.UpSampling2D(4, interpolation="bilinear")(x)
    return settle(keras.Model(image, head(x, 3), name="deeplab"))


def build_fpn(name: str = "ResNet50", size: Size = (224, 224), width: int = 128, **options: Any) -> Any:
    """Return a feature pyramid network: lateral sums from 1/32 to 1/4, each level raised to 1/4, summed."""
    import keras
    from keras import layers

    image, features = build_encoder(name, size, **options)
    x = layers.Conv2D(width, 1)(features[4])
    levels = [x]
    for feature in features[3:0:-1]:
        x = layers.Add()([layers.UpSampling2D()(x), layers.Conv2D(width, 1)(feature)])
        levels.append(x)
    parts = []
    for above, level in enumerate(reversed(levels)):
        part = double(level, width // 2)
        parts.append(layers.UpSampling2D(2**above, interpolation="bilinear")(part) if above else part)
    x = convolve(layers.Add()(parts), width // 2)
    x = layers.SpatialDropout2D(0.2)(x)
    return settle(keras.Model(image, head(layers.UpSampling2D(4, interpolation="bilinear")(x)), name="fpn"))


def build_pspnet(name: str = "MobileNetV2", size: Size = (192, 192), width: int = 64, **options: Any) -> Any:
    """Return PSPNet: means over grids of 1, 2, 3 and 6 cells, raised again and joined, at 1/8."""
    import keras
    from keras import layers

    image, features = build_encoder(name, size, **options)
    x = features[2]
    parts = [x]
    for cells in (1, 2, 3, 6):
        pooled = layers.AveragePooling2D((x.shape[1] // cells, x.shape[2] // cells))(x)
        pooled = convolve(pooled, width, 1)
        parts.append(layers.Resizing(x.shape[1], x.shape[2], interpolation="bilinear")(pooled))
    x = convolve(layers.Concatenate()(parts), width, 1)
    return settle(keras.Model(image, head(layers.UpSampling2D(8, interpolation="bilinear")(x)), name="pspnet"))


# --- U-Nets and their kin ----------------------------------------------------------------------------------------


def build_unet(
    size: Size = (224, 224),
    channels: int = 1,
    filters: Sequence[int] = (32, 64, 128, 256, 512),
    how: str = "transpose",
    block: Callable[..., Any] = double,
    classes: int = 1,
    activation: str | None = None,
    first: Callable[[Any], Any] = lambda x: x,
    after: Callable[[Any], Any] = lambda x: x,
    gated: bool = False,
    raw: bool = False,
    settled: bool = True,
    middle: Callable[[Any], Any] = lambda x: x,
) -> Any:
    """Return a U-Net; `first` is preprocessing, `after` follows each block, `middle` stands in the bottleneck."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(7)
    image = keras.Input((*size, channels))
    x, skips = first(image), []
    for count in filters[:-1]:
        x = after(block(x, count))
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    x = middle(after(block(x, filters[-1])))
    for count, skip in zip(filters[-2::-1], reversed(skips), strict=True):
        skip = gate(skip, x, max(count // 2, 1)) if gated else skip
        x = after(block(layers.Concatenate()([raise_up(x, count, how), skip]), count))
    model = keras.Model(image, head(x, classes, activation=activation), name="unet")
    return settle(model, None if size[0] else (64, 64), raw) if settled else model


def build_unet_plus_plus(
    size: Size = (224, 224), filters: Sequence[int] = (32, 64, 128, 256), deep: bool = False
) -> Any:
    """Return U-Net++ (Zhou et al. 2018): a grid of nodes, each joined with all before it; `deep`: a head at each."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(7)
    image = keras.Input((*size, 1))
    nodes: dict[tuple[int, int], Any] = {}
    for j in range(len(filters)):
        for i in range(len(filters) - j):
            if j == 0:
                x = image if i == 0 else layers.MaxPooling2D()(nodes[i - 1, 0])
            else:
                raised = raise_up(nodes[i + 1, j - 1], filters[i], "transpose2")
                x = layers.Concatenate()([*(nodes[i, k] for k in range(j)), raised])
            nodes[i, j] = double(x, filters[i])
    last = len(filters) - 1
    heads = [head(nodes[0, j], name=f"head_{j}") for j in range(1, last + 1)] if deep else head(nodes[0, last])
    return settle(keras.Model(image, heads, name="unetpp"))


def build_guided(size: Size = (224, 224), filters: Sequence[int] = (32, 64, 128, 256)) -> Any:
    """Return a residual U-Net with a guided decoder: each level's own mask, raised to full size, is an output too."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(7)
    image = keras.Input((*size, 1))
    x, skips = image, []
    for count in filters:
        x = residual(x, count)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    x, outputs = residual(x, 2 * filters[-1]), []
    for level, (count, skip) in enumerate(zip(reversed(filters), reversed(skips), strict=True)):
        x = residual(layers.Concatenate()([raise_up(x, count, "transpose"), gate(skip, x, count // 2)]), count)
        if level < len(filters) - 1:
            side = layers.Conv2D(1, 1, activation="sigmoid")(x)
            factor = 2 ** (len(filters) - 1 - level)
            outputs.append(layers.UpSampling2D(factor, interpolation="bilinear", name=f"guide_{level}")(side))
    return settle(keras.Model(image, [*outputs, head(x)], name="guided"))


def residual(x: Any, filters: int) -> Any:
    """Return a residual block of x with LeakyReLU."""
    from keras import layers

    y = layers.LeakyReLU(negative_slope=0.1)(layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same")(x)))
    y = layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same")(y))
    return layers.LeakyReLU(negative_slope=0.1)(layers.Add()([y, layers.Conv2D(filters, 1)(x)]))


def transform(x: Any, heads: int = 4, blocks: int = 2) -> Any:
    """Return x (N, H, W, C) after transformer blocks over its H W places, with learned positions."""
    from keras import layers

    height, width, channels = x.shape[1:]
    x = layers.Reshape((height * width, channels))(x)
    places = layers.Embedding(height * width, channels)
    x = x + places(np.arange(height * width)[None])
    for _ in range(blocks):
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        x = x + layers.MultiHeadAttention(heads, channels // heads)(y, y)
        y = layers.Dense(2 * channels, activation="gelu")(layers.LayerNormalization(epsilon=1e-6)(x))
        x = x + layers.Dense(channels)(y)
    return layers.Reshape((height, width, channels))(x)


def separate(x: Any, filters: int) -> Any:
    """Return x after two separable convolutions with PReLU."""
    from keras import layers

    for _ in range(2):
        x = layers.SeparableConv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.PReLU(shared_axes=[1, 2])(layers.BatchNormalization()(x))
    return x


def normalize(x: Any, filters: int) -> Any:
    """Return x after two convolutions, one with group normalization and GELU, one with layer normalization and SiLU."""
    from keras import layers

    x = layers.Conv2D(filters, 3, padding="same")(x)
    x = layers.Activation("gelu")(layers.GroupNormalization(4)(x))
    x = layers.Conv2D(filters, 3, padding="same")(x)
    return layers.Activation("silu")(layers.LayerNormalization()(x))


def remember(x: Any, filters: int) -> Any:
    """Return x after a convolutional LSTM over its two halves, as in BCDU-Net."""
    from keras import layers

    x = double(x, filters)
    halves = layers.Reshape((2, x.shape[1], x.shape[2], filters // 2))(layers.Permute((1, 2, 3))(x))
    return layers.ConvLSTM2D(filters, 3, padding="same")(halves)


def build_two_headed(
    size: Size = (224, 224), filters: Sequence[int] = (32, 64, 128, 256), kinds: int = 4, **options: Any
) -> Any:
    """Return a U-Net that gives a mask and, from its bottleneck, the kind of tumour."""
    import keras
    from keras import layers

    model = build_unet(size, filters=filters, settled=False, **options)
    middle = max((layer for layer in model.layers if len(layer.output.shape) == 4), key=lambda it: it.output.shape[-1])
    features = [it.output for it in model.layers if it.output.shape == middle.output.shape][-1]
    x = layers.Dense(64, activation="relu")(layers.GlobalAveragePooling2D()(features))
    kind = layers.Dense(kinds, activation="softmax" if kinds > 1 else "sigmoid", name="head_kind")(x)
    return settle(keras.Model(model.inputs, [kind, *model.outputs], name="two_headed"))


def build_deep_supervision(size: Size = (224, 224), filters: Sequence[int] = (32, 64, 128, 256)) -> Any:
    """Return a U-Net with a mask at every level of its decoder, each at its own size."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(7)
    image = keras.Input((*size, 1))
    x, skips, outputs = image, [], []
    for count in filters[:-1]:
        x = double(x, count)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    x = double(x, filters[-1])
    for level, (count, skip) in enumerate(zip(filters[-2::-1], reversed(skips), strict=True)):
        x = double(layers.Concatenate()([raise_up(x, count, "transpose2"), skip]), count)
        outputs.append(head(x, name=f"head_{level}"))
    return settle(keras.Model(image, outputs, name="deeply_supervised"))


def build_volume_unet(
    shape: tuple[int | None, ...] = (32, 96, 96), filters: Sequence[int] = (16, 32, 64), classes: int = 1,
    how: str = "transpose", channels: int = 1, norm: str = "batch",
) -> Any:  # fmt: skip
    """Return a 3-D U-Net (Çiçek et al. 2016) over (D, H, W, channels)."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(7)

    def block(x: Any, count: int) -> Any:
        for _ in range(2):
            x = layers.Conv3D(count, 3, padding="same")(x)
            x = layers.ReLU()(layers.BatchNormalization()(x) if norm == "batch" else layers.GroupNormalization(4)(x))
        return x

    image = keras.Input((*shape, channels))
    x, skips = image, []
    for count in filters[:-1]:
        x = block(x, count)
        skips.append(x)
        x = layers.MaxPooling3D()(x)
    x = block(x, filters[-1])
    for count, skip in zip(filters[-2::-1], reversed(skips), strict=True):
        if how == "transpose":
            x = layers.Conv3DTranspose(count, 2, strides=2, padding="same")(x)
        else:
            x = layers.UpSampling3D()(x)
        x = block(layers.Concatenate()([x, skip]), count)
    kind = "sigmoid" if classes == 1 else "softmax"
    mask = layers.Conv3D(classes, 1, activation=kind, name="head_mask")(x)
    return settle(keras.Model(image, mask, name="unet3d"), None if shape[0] else (4, 16, 16))


# --- single layers, many in one net --------------------------------------------------------------------------------


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


FAMILIES = {
    "vgg19": Family("U-Net on VGG-19", lambda: build_encoder_unet("VGG19", how="transpose2")),
    "resnet50": Family("U-Net on ResNet50, nearest upsampling", lambda: build_encoder_unet("ResNet50", how="nearest")),
    "resnet50v2": Family("U-Net on ResNet50V2", lambda: build_encoder_unet("ResNet50V2")),
    "densenet121": Family(
        "U-Net on DenseNet121, bilinear upsampling", lambda: build_encoder_unet("DenseNet121", how="bilinear")
    ),
    "mobilenetv2": Family(
        "U-Net on MobileNetV2", lambda: build_encoder_unet("MobileNetV2", filters=(128, 96, 64, 32))
    ),
    "mobilenetv3": Family(
        "U-Net on MobileNetV3Large: hard-swish, SE, Rescaling inside",
        lambda: build_encoder_unet("MobileNetV3Large", how="bilinear", filters=(128, 96, 64, 32), raw=True),
    ),
    "efficientnetb0": Family(
        "U-Net on EfficientNetB0: swish, SE, Rescaling and Normalization inside",
        lambda: build_encoder_unet("EfficientNetB0", how="nearest", filters=(128, 96, 64, 32), raw=True),
    ),
    "unet": Family("U-Net", build_unet),
    "unet-plus-plus": Family("U-Net++", build_unet_plus_plus, lambda: build_unet_plus_plus((32, 32), (8, 16, 24))),
    "attention-unet": Family(
        "Attention U-Net", lambda: build_unet(gated=True), lambda: build_unet((32, 32), filters=(8, 16), gated=True)
    ),
    "se-unet": Family("U-Net with Squeeze-and-Excitation", lambda: build_unet(after=squeeze)),
    "cbam-unet": Family(
        "U-Net with CBAM", lambda: build_unet(after=attend), lambda: build_unet((32, 32), filters=(8, 16), after=attend)
    ),
    "guided": Family(
        "Residual U-Net with a guided decoder, four masks",
        build_guided,
        lambda: build_guided((32, 32), (8, 16)),
        'mask = "head_mask"\n',
    ),
    "deeplabv3-plus": Family(
        "DeepLabV3+ on ResNet50: dilated convolutions, image pooling, three classes",
        build_deeplab,
        lambda: build_deeplab("plain", (64, 64), width=16),
    ),
    "fpn": Family("Feature pyramid on ResNet50", build_fpn),
    "pspnet": Family("PSPNet on MobileNetV2", build_pspnet),
    "transformer": Family(
        "U-Net with two transformer blocks in the bottleneck",
        lambda: build_unet(filters=(32, 64, 128, 256), middle=transform),
        lambda: build_unet((32, 32), filters=(8, 16), middle=transform),
    ),
    "normalizations": Family(
        "U-Net with GroupNormalization, LayerNormalization, GELU, SiLU",
        lambda: build_unet(filters=(32, 64, 128, 256), block=normalize),
        lambda: build_unet((32, 32), filters=(8, 16), block=normalize),
    ),
    "separable": Family(
        "U-Net of separable convolutions with PReLU", lambda: build_unet(block=separate),
        lambda: build_unet((32, 32), filters=(8, 16), block=separate),
    ),
    "bcdu": Family(
        "U-Net with convolutional LSTMs (BCDU-Net)",
        lambda: build_unet((128, 128), filters=(16, 32, 64, 128), block=remember),
        lambda: build_unet((32, 32), filters=(8, 16), block=remember),
    ),
    "softmax": Family(
        "U-Net, softmax over four classes", lambda: build_unet(classes=4),
        lambda: build_unet((48, 32), 3, (8, 16), classes=4),
    ),
    "sigmoids": Family(
        "U-Net, three overlapping sigmoids",
        lambda: build_unet(classes=3, activation="sigmoid"),
        lambda: build_unet((32, 32), filters=(8, 16), classes=3, activation="sigmoid"),
        "labels = [" + ", ".join(f'{{name = "{x}", colour = [9, 9, 9]}}' for x in ("whole", "core", "active")) + "]\n",
    ),
    "mask-and-class": Family(
        "U-Net with a mask and a class", build_two_headed, lambda: build_two_headed((32, 32), (8, 16)),
        'classes = ["none", "glioma", "meningioma", "pituitary"]\n',
    ),
    "deep-supervision": Family(
        "U-Net with a mask at every level", build_deep_supervision,
        lambda: build_deep_supervision((32, 32), (8, 16, 24)),
    ),
    "3d": Family("3-D U-Net", build_volume_unet, lambda: build_volume_unet((6, 16, 32), (8, 16), 2, "nearest")),
    "open-size": Family(
        "U-Net of open size, 3 channels", lambda: build_unet((None, None), 3, (32, 64, 128, 256)),
        lambda: build_unet((None, None), 3, (8, 16)), input_size=(160, 224),
    ),
    "keras2": Family(
        "U-Net in an .h5 file of Keras 2", lambda: build_unet(filters=(32, 64, 128, 256)),
        lambda: build_unet((32, 32), filters=(8, 16)), suffix=".h5",
    ),
}  # fmt: skip
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


# --- what is told apart, and what is refused -----------------------------------------------------------------------


def build_heads(activations: Sequence[str], channels: int = 1, kinds: int = 0) -> Any:
    """Return a net with a map for each of `activations`, head_0 ..., and `kinds` outputs of three classes."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(7)
    image = keras.Input((16, 16, 1))
    x = convolve(image, 8)
    outputs = [head(x, channels, f"head_{i}", activation) for i, activation in enumerate(activations)]
    pooled = layers.GlobalAveragePooling2D()(x)
    outputs += [layers.Dense(3, activation="softmax", name=f"kind_{i}")(pooled) for i in range(kinds)]
    return keras.Model(image, outputs)


def build_two_inputs(shape: tuple[int, ...], inputs: int, batch: int | None = None) -> Any:
    """Return a net of that many inputs of one shape."""
    import keras
    from keras import layers

    names = ("image", "other")[:inputs]
    images = [keras.Input(batch_shape=(batch, *shape), name=name) for name in names]
    return keras.Model(images, head(layers.Add()(images) if inputs > 1 else images[0]))


def build_channels_first() -> Any:
    """Return a net that works on (batch, channels, height, width) inside."""
    import keras
    from keras import layers

    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 1, data_format="channels_first", name="first_conv")(layers.Permute((3, 1, 2))(image))
    return keras.Model(image, head(layers.Permute((2, 3, 1))(x)))


def build_labels() -> Any:
    """Return a net that ends in label numbers instead of probabilities."""
    import keras
    from keras import ops

    image = keras.Input((16, 16, 1))
    return keras.Model(image, ops.argmax(head(image, 3), axis=-1, keepdims=True))


def build_shallow_volume() -> Any:
    """Return a net whose mask has half the slices of its volume."""
    import keras
    from keras import layers

    image = keras.Input((4, 8, 8, 1))
    x = layers.MaxPooling3D((2, 1, 1))(image)
    return keras.Model(image, layers.Conv3D(1, 1, activation="sigmoid", name="head_mask")(x))


def build_bicubic() -> Any:
    """Return a net with an interpolation that TFLite has not."""
    import keras
    from keras import layers

    image = keras.Input((16, 16, 1))
    return keras.Model(image, head(layers.UpSampling2D(interpolation="bicubic", name="finest")(image)))


SCALES = [  # the preprocessing, the contract's scale, and the words for it
    ("nothing", 1 / 255, "no scaling found"),
    ("rescaling", 1.0, r"scales 0\.\.\.255 itself \(Rescaling layer 'rescaling\w*'\)"),
    ("rescaling-of-ones", 1 / 255, r"own Rescaling layer 'rescaling\w*' takes 0\.\.\.1"),
    ("normalization-of-255", 1.0, "itself .Normalization layer"),
    ("normalization-of-1", 1 / 255, r"own Normalization layer 'normalization\w*' takes"),
    ("caffe", 1.0, "itself .BiasAdd"),
    ("torch", 1.0, "itself .RealDiv"),
    ("tf", 1.0, "itself .RealDiv"),
    ("uint8", 1.0, "uint8"),
]


def build_scaled(name: str) -> Any:
    """Return a net that begins with one of SCALES' preprocessings."""
    import keras
    from keras import layers

    image = keras.Input((16, 16, 3), dtype="uint8" if name == "uint8" else "float32")
    values = np.random.default_rng(0).uniform(0, 255, (4, 8, 8, 3))
    starts: dict[str, Callable[[Any], Any]] = {
        "nothing": lambda x: x,
        "rescaling": layers.Rescaling(1 / 127.5, -1),
        "rescaling-of-ones": layers.Rescaling(2.0, -1),
        "normalization-of-255": adapt(values),
        "normalization-of-1": adapt(values / 255),
        "caffe": keras.applications.resnet50.preprocess_input,
        "torch": keras.applications.densenet.preprocess_input,
        "tf": keras.applications.mobilenet_v2.preprocess_input,
        "uint8": layers.Rescaling(1 / 255),
    }
    return keras.Model(image, head(convolve(starts[name](image), 8)))


def adapt(values: Any) -> Any:
    """Return a Normalization layer for such values."""
    from keras import layers

    layer = layers.Normalization()
    layer.adapt(values)
    return layer


def start_raw(x: Any) -> Any:
    """Return 0...255 brought to mean 0 and deviation 1, channel by channel."""
    from keras import layers

    return layers.Normalization(mean=90.0, variance=3000.0)(x)


SUBCLASSED = """
import keras
from keras import layers, ops

@keras.saving.register_keras_serializable("theirs")
class Net(keras.Model):
    def __init__(self, width=8, **options):
        super().__init__(**options)
        self.width = width
        self.first = layers.Conv2D(width, 3, padding="same", activation="relu")
        self.norm = layers.BatchNormalization()
        self.up = layers.Conv2DTranspose(width, 2, strides=2)
        self.last = layers.Conv2D(1, 1, activation="sigmoid")
        self.kind = layers.Dense(3, activation="softmax")

    def call(self, x, training=False):
        x = self.norm(self.first(x), training=training)
        y = self.up(ops.max_pool(x, 2, 2))
        return {"mask": self.last(ops.concatenate([x, y], -1)), "kind": self.kind(ops.mean(y, axis=[1, 2]))}

    def get_config(self):
        return {**super().get_config(), "width": self.width}
"""


# --- files of Keras 2 ----------------------------------------------------------------------------------------------


def write_keras2(model: Any, path: Path) -> None:
    """Write a functional model as Keras 2.15 would have: an .h5 file with that version's config."""
    import h5py

    model.save(path)
    with h5py.File(path, "r+") as file:
        config = age(json.loads(file.attrs["model_config"]))
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = "2.15.0"


def age(node: Any) -> Any:
    """Return a config of Keras 3 in Keras 2's words."""
    if isinstance(node, list):
        return [age(inner) for inner in node]
    if not isinstance(node, dict):
        return node
    if node.get("class_name") == "DTypePolicy":
        return node["config"]["name"]
    if node.get("class_name") == "__keras_tensor__":
        return [*node["config"]["keras_history"], {}]
    node = {key: age(value) for key, value in node.items()}
    name, config = node.get("class_name"), node.get("config")
    if "inbound_nodes" in node:
        args = [call["args"] for call in node["inbound_nodes"]]
        node["inbound_nodes"] = [call[0] if isinstance(call[0][0], list) else call for call in args]
    if name == "InputLayer" and "batch_shape" in config:
        config["batch_input_shape"] = config.pop("batch_shape")
    if name == "BatchNormalization":
        config["axis"] = [3]
        config = {key: value for key, value in config.items() if not key.startswith(("renorm", "synchronized"))}
    if name in ("Conv2DTranspose", "DepthwiseConv2D", "SeparableConv2D"):
        config["groups"] = 1
    if name in ("DepthwiseConv2D", "SeparableConv2D"):
        config |= {"kernel_initializer": None, "kernel_regularizer": None, "kernel_constraint": None}
    return {**node, "config": config} if config is not None else node
