"""A U-Net on EfficientNet-Lite0: the encoder of the embedded model, with the paper's decoder and attention.

The encoder has no squeeze-and-excite and no swish, so it quantizes well. It needs a quarter of the multiplications of a
slim ResNet50V2 with as many weights, and ImageNet weights of this size exist.
Source: Tan and Le 2019 (EfficientNet), table 1; "EfficientNet-Lite" in the TensorFlow TPU models repository: ReLU6, no
SE, stem and head not scaled.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers

from .resunet import decode, upsample_mask

# (kernel, stride, expansion, filters, blocks) of the encoder's stages. The seventh (320 filters) is left out: it
# holds a fifth of the weights and serves classification only.
STAGES = ((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4))
STEM = 32
SKIPS = (4, 2, 1, 0)  # stages whose output is a skip, deepest first: 1/16, 1/8, 1/4, 1/2 of the size
DECODER = (96, 64, 48, 32)  # filters of the decoder's stages; the mask is upsampled from half the size
BN_EPSILON = 1e-3

# The encoder was trained on (intensity - 127) / 128; this net takes intensity / 255.
GAIN, SHIFT = 255 / 128, -127 / 128


def build_liteunet(attention: str = "ag", size: int | None = 224, channels: int = 1) -> keras.Model:
    """Return the untrained net: (N, size, size, channels) in [0, 1] to (N, size, size, 1) probability."""
    image = keras.Input((size, size, channels), name="image")
    x, skips = encode(image)  # (N, 7, 7, 192) at size 224
    for stage, (skip, filters) in enumerate(zip(skips, DECODER, strict=True), 1):
        x = decode(x, skip, filters, attention, f"dec{stage}")
    return keras.Model(image, upsample_mask(x), name=f"liteunet_{attention}")


def encode(image: Any) -> tuple[Any, list[Any]]:
    """Return the deepest features and the four skips, deepest first."""
    x = layers.Conv2D(STEM, 3, strides=2, padding="same", use_bias=False, name="stem_conv")(image)  # (N, 112, 112, 32)
    x = normalise(x, "stem")
    stage_outputs, number = [], 0
    for kernel, stride, expansion, filters, blocks in STAGES:
        for block in range(blocks):
            x = encode_block(x, kernel, 1 if block else stride, expansion, filters, f"block{number}")
            number += 1
        stage_outputs.append(x)
    return x, [stage_outputs[i] for i in SKIPS]


def encode_block(x: Any, kernel: int, stride: int, expansion: int, filters: int, name: str) -> Any:
    """Return x after one inverted bottleneck: expansion, depthwise convolution, projection, sum with x."""
    y = x
    if expansion > 1:
        y = layers.Conv2D(expansion * x.shape[-1], 1, use_bias=False, name=f"{name}_expand_conv")(y)
        y = normalise(y, f"{name}_expand")
    y = layers.DepthwiseConv2D(kernel, stride, "same", use_bias=False, name=f"{name}_depthwise_conv")(y)
    y = normalise(y, f"{name}_depthwise")
    y = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_project_conv")(y)
    y = layers.BatchNormalization(epsilon=BN_EPSILON, name=f"{name}_project_bn")(y)
    return layers.Add(name=f"{name}_add")([x, y]) if stride == 1 and filters == x.shape[-1] else y


def normalise(x: Any, name: str) -> Any:
    """Return ReLU6(BN(x))."""
    x = layers.BatchNormalization(epsilon=BN_EPSILON, name=f"{name}_bn")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x)


def to_layer_weights(tensors: dict[str, npt.NDArray[Any]], channels: int) -> dict[str, list[npt.NDArray[Any]]]:
    """Return the encoder's weights by layer, from a checkpoint of the EfficientNet-Lite port to PyTorch.

    channels: with 1 the stem's filters are summed over its three channels, as for an image of three equal channels.
    The input's range is folded into the stem: exact except at the border, which is padded with black, not mid-grey.
    Raises: KeyError if the checkpoint is of another net.
    """
    weights = {}
    stem = tensors["_conv_stem.weight"].transpose(2, 3, 1, 0)  # (3, 3, 3, 32)
    gamma, beta, mean, variance = get_bn_weights(tensors, "_bn0")
    weights["stem_conv"] = [GAIN * (stem.sum(axis=2, keepdims=True) if channels == 1 else stem)]
    weights["stem_bn"] = [gamma, beta, mean - np.float32(SHIFT) * stem.sum(axis=(0, 1, 2)), variance]
    for number in range(sum(stage[-1] for stage in STAGES)):
        source, target = f"_blocks.{number}.", f"block{number}_"
        if number:  # the first block expands nothing
            weights[f"{target}expand_conv"] = [tensors[f"{source}_expand_conv.weight"].transpose(2, 3, 1, 0)]
            weights[f"{target}expand_bn"] = get_bn_weights(tensors, f"{source}_bn0")
        weights[f"{target}depthwise_conv"] = [tensors[f"{source}_depthwise_conv.weight"].transpose(2, 3, 0, 1)]
        weights[f"{target}depthwise_bn"] = get_bn_weights(tensors, f"{source}_bn1")
        weights[f"{target}project_conv"] = [tensors[f"{source}_project_conv.weight"].transpose(2, 3, 1, 0)]
        weights[f"{target}project_bn"] = get_bn_weights(tensors, f"{source}_bn2")
    return weights


def get_bn_weights(tensors: dict[str, npt.NDArray[Any]], name: str) -> list[npt.NDArray[Any]]:
    """Return a batch normalization's weights in Keras's order."""
    return [tensors[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
