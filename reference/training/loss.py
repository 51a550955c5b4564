"""The training loss: of the mask, and with deep supervision also of the decoder's coarser stages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import layers


def segmentation_loss(masks: Any, probability: Any, dice: float) -> Any:
    """Return binary cross-entropy plus `dice` times the batch's soft Dice loss.

    Dice is taken over the whole batch, because a slice without tumour has none.
    Source: Milletari et al. 2016 (V-Net), equation 3, with plain sums in the denominator.
    """
    p = tf.clip_by_value(probability, 1e-6, 1 - 1e-6)
    entropy = -tf.reduce_mean(masks * tf.math.log(p) + (1 - masks) * tf.math.log(1 - p))
    overlap = (2 * tf.reduce_sum(masks * p) + 1) / (tf.reduce_sum(masks) + tf.reduce_sum(p) + 1)
    return entropy + dice * (1 - overlap)


def add_heads(model: keras.Model) -> keras.Model:
    """Return a net of the model's layers that also predicts masks from the decoder's coarser stages.

    Its outputs are the model's and then (N, h, w, 1) probabilities, finest first, of all stages but the last, which
    gives the model's own mask, and the deepest, where a tumour is a pixel or two. The model is not changed.
    Source: Lee et al. 2015 (Deeply-Supervised Nets); which stages: Isensee et al. 2021 (nnU-Net).
    """
    stages = [layer.name for layer in model.layers if re.fullmatch(r"dec\d_out", layer.name)]  # deepest first
    heads = [
        layers.Conv2D(1, 1, activation="sigmoid", dtype="float32", name=f"{name}_mask")(model.get_layer(name).output)
        for name in reversed(stages[1:-1])
    ]
    return keras.Model(model.input, [model.output, *heads], name=f"{model.name}_deep")


def deep_loss(masks: Any, probabilities: Sequence[Any], dice: float, deep: float) -> Any:
    """Return the loss of the net's mask plus `deep` times the next stage's, a half of that for each coarser one.

    masks: (N, H, W, 1) in [0, 1]; probabilities: (N, h, w, 1), finest first, h and w divisors of H and W. The truth
    of a coarse pixel is its share of tumour. Source of the halving: Isensee et al. 2021 (nnU-Net).
    """
    loss = segmentation_loss(masks, tf.cast(probabilities[0], tf.float32), dice)
    for step, probability in enumerate(probabilities[1:]):
        factor = masks.shape[1] // probability.shape[1]
        shares = tf.nn.avg_pool2d(masks, factor, factor, "VALID")
        loss += deep * 0.5**step * segmentation_loss(shares, tf.cast(probability, tf.float32), dice)
    return loss
