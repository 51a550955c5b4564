"""The segmentation models of the field, with random weights: what must convert and run.

Encoders come from keras.applications at their true widths; everything else is written here the way papers and
tutorials write it. Batch statistics are set from drawn slices (`settle`), so that a net of random weights neither
explodes nor saturates and its rounding errors mean something.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from zoo_blocks import attend, convolve, decode, double, gate, head, raise_up, residual, settle, squeeze

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
    "unet-plus-plus": Family("U-Net++", build_unet_plus_plus, lambda: build_unet_plus_plus((16, 16), (4, 8, 12))),
    "attention-unet": Family(
        "Attention U-Net", lambda: build_unet(gated=True)
    ),
    "se-unet": Family("U-Net with Squeeze-and-Excitation", lambda: build_unet(after=squeeze)),
    "cbam-unet": Family(
        "U-Net with CBAM", lambda: build_unet(after=attend), lambda: build_unet((16, 16), filters=(8, 16), after=attend)
    ),
    "guided": Family(
        "Residual U-Net with a guided decoder, four masks",
        build_guided,
        lambda: build_guided((16, 16), (4, 8)),
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
        lambda: build_unet((16, 16), filters=(8, 16), middle=lambda x: transform(x, 2, 1)),
    ),
    "normalizations": Family(
        "U-Net with GroupNormalization, LayerNormalization, GELU, SiLU",
        lambda: build_unet(filters=(32, 64, 128, 256), block=normalize),
    ),
    "separable": Family(
        "U-Net of separable convolutions with PReLU", lambda: build_unet(block=separate),
    ),
    "bcdu": Family(
        "U-Net with convolutional LSTMs (BCDU-Net)",
        lambda: build_unet((128, 128), filters=(16, 32, 64, 128), block=remember),
        lambda: build_unet((16, 16), filters=(4, 8), block=remember),
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
        input_size=(160, 224),
    ),
    "keras2": Family(
        "U-Net in an .h5 file of Keras 2", lambda: build_unet(filters=(32, 64, 128, 256)),
        lambda: build_unet((32, 32), filters=(8, 16)), suffix=".h5",
    ),
}  # fmt: skip
