"""The paper's Res-UNet: a ResNet50V2 encoder, a residual decoder, attention in between; full size or slim.

Source: Aprianto and Riana 2025, section II.F and figure A1. It does not print the decoder's widths; these
reproduce its file sizes (base, AG and SE within 0.3 %, CBAM within 1.2 %).
Encoder: He et al. 2016 (Identity Mappings in Deep Residual Networks), with the layer names and weight shapes of
keras.applications.ResNet50V2, so ImageNet weights fit at width 1.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from reference.recipe import ATTENTIONS

from .attention import SLOPE, cbam, gate_attention, squeeze_excite

BLOCKS = (3, 4, 6, 3)  # residual blocks of the encoder's four stacks
DECODER = (256, 128, 64, 32, 16)  # filters of the decoder's five stages
SKIPS = ("conv4_block5_out", "conv3_block4_1_conv", "conv2_block3_1_conv", "conv1_conv")
DROPOUT = 0.1
BN_EPSILON = 1.001e-5  # keras.applications' value


def build_resunet(
    attention: str = "none", width: float = 1.0, size: int | None = 224, channels: int = 3, slim: bool | None = None
) -> keras.Model:
    """Return the untrained net: (N, size, size, channels) in [0, 1] to (N, size, size, 1) probability.

    attention: one of ATTENTIONS. width: factor on every filter count (rounded to multiples of 8).
    slim (default: width below 1) ends the decoder at the stride-2 stem's resolution and upsamples the mask's logits
    bilinearly: the last stage would cost a third of the time for a contour that is no sharper than its features.
    """
    if attention not in ATTENTIONS:
        raise ValueError(f"attention {attention!r} is not one of {', '.join(ATTENTIONS)}")
    slim = width < 1 if slim is None else slim
    image = keras.Input((size, size, channels), name="image")
    x, skips = encode(image, width)  # (N, 7, 7, 2048) at size 224 and width 1; the shapes below likewise
    for stage, filters in enumerate(DECODER[:4] if slim else DECODER):
        skip = skips[stage] if stage < len(skips) else None  # the last stage has none
        x = decode(x, skip, scale_filters(filters, width, 16 if slim else 8), attention, f"dec{stage + 1}")
    # (N, 224, 224, 16), or (N, 112, 112, 32) when slim. float32: a sigmoid in bfloat16 has steps of 1/256.
    mask = upsample_mask(x) if slim else layers.Conv2D(1, 1, activation="sigmoid", dtype="float32", name="mask")(x)
    return keras.Model(image, mask, name=f"resunet_{attention}" + ("_slim" if slim else ""))


def upsample_mask(x: Any) -> Any:
    """Return the mask's probability, at twice the size of the features x: the logits upsampled bilinearly."""
    x = layers.Conv2D(1, 1, dtype="float32", name="logits")(x)
    x = layers.UpSampling2D(2, interpolation="bilinear", dtype="float32", name="enlarge")(x)
    return layers.Activation("sigmoid", dtype="float32", name="mask")(x)


def scale_filters(filters: int, width: float, minimum: int = 8) -> int:
    """Return filters * width, rounded to a multiple of 8 (the block size of SIMD kernels), at least `minimum`."""
    return filters if width == 1 else max(minimum, 8 * round(filters * width / 8))


def encode(image: Any, width: float) -> tuple[Any, list[Any]]:
    """Return ResNet50V2's deepest features and the four skips, deepest first."""
    layer_outputs: dict[str, Any] = {}
    x = layers.ZeroPadding2D(3, name="conv1_pad")(image)
    x = layers.Conv2D(scale_filters(64, width), 7, strides=2, name="conv1_conv")(x)  # (N, 112, 112, 64)
    layer_outputs["conv1_conv"] = x
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool1_pool")(x)  # (N, 56, 56, 64)
    for stack, blocks in enumerate(BLOCKS):
        filters = scale_filters(64 * 2**stack, width)
        for block in range(1, blocks + 1):
            stride = 2 if block == blocks and stack < 3 else 1  # V2 strides in a stack's last block
            name = f"conv{stack + 2}_block{block}"
            x = encode_block(x, filters, stride, block == 1, name, layer_outputs)
    x = layers.BatchNormalization(epsilon=BN_EPSILON, name="post_bn")(x)  # (N, 7, 7, 2048)
    return x, [layer_outputs[name] for name in SKIPS]


def encode_block(x: Any, filters: int, stride: int, project: bool, name: str, layer_outputs: dict[str, Any]) -> Any:
    """Return x after one pre-activation bottleneck of ResNet V2; add what may serve as a skip to `layer_outputs`."""
    active = normalise(x, f"{name}_preact", activation="relu")
    if project:
        shortcut = layers.Conv2D(4 * filters, 1, strides=stride, name=f"{name}_0_conv")(active)
    else:
        shortcut = layers.MaxPooling2D(1, strides=stride, name=f"{name}_skip")(x) if stride > 1 else x
    y = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_1_conv")(active)
    layer_outputs[f"{name}_1_conv"] = y
    y = normalise(y, f"{name}_1", activation="relu")
    y = layers.ZeroPadding2D(1, name=f"{name}_2_pad")(y)
    y = layers.Conv2D(filters, 3, strides=stride, use_bias=False, name=f"{name}_2_conv")(y)
    y = normalise(y, f"{name}_2", activation="relu")
    y = layers.Conv2D(4 * filters, 1, name=f"{name}_3_conv")(y)
    layer_outputs[f"{name}_out"] = out = layers.Add(name=f"{name}_out")([shortcut, y])
    return out


def normalise(x: Any, name: str, activation: str) -> Any:
    """Return x after batch normalization and an activation."""
    x = layers.BatchNormalization(epsilon=BN_EPSILON, name=f"{name}_bn")(x)
    return layers.Activation(activation, name=f"{name}_{activation}")(x)


def decode(x: Any, skip: Any, filters: int, attention: str, name: str) -> Any:
    """Return one decoder stage: twice the size, concatenated with its skip, residual block, dropout."""
    x = layers.Conv2DTranspose(filters, 3, strides=2, padding="same", name=f"{name}_up")(x)
    if skip is not None:
        if attention == "ag":
            skip = gate_attention(skip, x, filters // 2, f"{name}_ag")
        else:
            skip = apply_attention(skip, attention, f"{name}_skip")
        x = layers.Concatenate(name=f"{name}_concat")([x, skip])
    x = residual_block(x, filters, attention, name)
    return layers.Dropout(DROPOUT, name=f"{name}_dropout")(x)


def residual_block(x: Any, filters: int, attention: str, name: str) -> Any:
    """Return two 3x3 convolutions of x plus its 1x1 projection: (N, H, W, filters)."""
    shortcut = layers.Conv2D(filters, 1, name=f"{name}_shortcut")(x)
    shortcut = layers.BatchNormalization(name=f"{name}_shortcut_bn")(shortcut)
    y = conv_block(conv_block(x, filters, f"{name}_a"), filters, f"{name}_b")
    return layers.Add(name=f"{name}_out")([apply_attention(y, attention, f"{name}_res"), shortcut])


def conv_block(x: Any, filters: int, name: str) -> Any:
    """Return LeakyReLU(BN(conv 3x3)) of x."""
    x = layers.Conv2D(filters, 3, padding="same", name=f"{name}_conv")(x)
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    return layers.LeakyReLU(negative_slope=SLOPE, name=f"{name}_relu")(x)


def apply_attention(x: Any, attention: str, name: str) -> Any:
    """Return x weighted by SE or CBAM; unchanged for the variants without attention at this point."""
    if attention == "se":
        return squeeze_excite(x, f"{name}_se")
    if attention == "cbam":
        return cbam(x, f"{name}_cbam")
    return x
