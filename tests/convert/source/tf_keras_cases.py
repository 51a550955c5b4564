"""Models that tf-keras itself makes, saves and runs: `python tf_keras_cases.py FOLDER [NAME ...]`, in a process alone.

It writes NAME.h5, NAME.keras and NAME.npz with the input `x` and tf-keras' output `y`. The
tests import the names; nothing here imports Keras before `main`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIDE = 12
Case = Callable[[Any], Any]  # from the module tf_keras to a model


def chain(*make: Callable[[Any], Any]) -> Case:
    """Return a case: the input, a convolution to 4 channels with values of both signs, then layers in a row."""

    def build(keras: Any) -> Any:
        image = keras.Input((SIDE, SIDE, 3), name="image")
        x = keras.layers.Conv2D(4, 3, padding="same", name="first")(image)
        for one in make:
            x = one(keras.layers)(x)
        return keras.Model(image, x)

    return build


def direct(make: Callable[[Any], Any]) -> Case:
    """Return a case of one layer on the image itself."""

    def build(keras: Any) -> Any:
        image = keras.Input((SIDE, SIDE, 3), name="image")
        return keras.Model(image, make(keras.layers)(image))

    return build


def pair(join: Callable[[Any, Any, Any], Any]) -> Case:
    """Return a case that joins two convolutions of the image."""

    def build(keras: Any) -> Any:
        image = keras.Input((SIDE, SIDE, 3), name="image")
        two = [keras.layers.Conv2D(4, 3, padding="same", name=name)(image) for name in ("left", "right")]
        return keras.Model(image, join(keras.layers, *two))

    return build


def rows(*make: Callable[[Any], Any]) -> Case:
    """Return a case on sequences of rows, (batch, 12, 48)."""
    return chain(lambda L: L.Reshape((SIDE, 4 * SIDE)), *make)


def frames(*make: Callable[[Any], Any]) -> Case:
    """Return a case on sequences of small pictures, (batch, 3, 4, 12, 4)."""
    return chain(lambda L: L.Reshape((3, 4, SIDE, 4)), *make)


ACTIVATIONS = "elu exponential gelu linear relu selu sigmoid softmax softplus softsign swish tanh mish leaky_relu"
CASES: dict[str, Case] = {
    **{
        f"activation_{name}": chain(lambda L, name=name: L.Conv2D(4, 1, activation=name))
        for name in ACTIVATIONS.split()
    },
    "activation_hard_sigmoid": chain(lambda L: L.Conv2D(4, 1, activation="hard_sigmoid")),
    "activation_object": chain(lambda L: L.Conv2D(4, 1, activation=L.LeakyReLU(0.1))),
    "activation_object_default": chain(lambda L: L.Conv2D(4, 1, activation=L.LeakyReLU())),
    "activation_object_relu": chain(lambda L: L.Conv2D(4, 1, activation=L.ReLU(max_value=0.7))),
    "activation_layer_hard_sigmoid": chain(lambda L: L.Activation("hard_sigmoid")),
    "dense_hard_sigmoid": chain(lambda L: L.Dense(5, activation="hard_sigmoid")),
    "wrapped_hard_sigmoid": frames(lambda L: L.TimeDistributed(L.Conv2D(2, 3, activation="hard_sigmoid"))),
    "leaky_relu": chain(lambda L: L.LeakyReLU()),
    "leaky_relu_alpha": chain(lambda L: L.LeakyReLU(alpha=0.1)),
    "relu_all": chain(lambda L: L.ReLU(max_value=0.8, negative_slope=0.2, threshold=0.1)),
    "elu_alpha": chain(lambda L: L.ELU(alpha=0.3)),
    "prelu": chain(lambda L: L.PReLU()),
    "prelu_shared": chain(lambda L: L.PReLU(shared_axes=[1, 2], alpha_initializer="random_normal")),
    "thresholded_relu": chain(lambda L: L.ThresholdedReLU(theta=0.4)),
    "softmax_axis": chain(lambda L: L.Softmax(axis=1)),
    "softmax_axes": chain(lambda L: L.Softmax(axis=[1, 2])),
    "batch_normalization": chain(lambda L: L.BatchNormalization()),
    "batch_normalization_plain": chain(lambda L: L.BatchNormalization(scale=False, center=False, epsilon=1e-5)),
    "batch_normalization_renorm": chain(lambda L: L.BatchNormalization(renorm=True)),
    "sync_batch_normalization": chain(lambda L: L.BatchNormalization(synchronized=True)),
    "layer_normalization": chain(lambda L: L.LayerNormalization()),
    "layer_normalization_axes": chain(lambda L: L.LayerNormalization(axis=[1, 2, 3], epsilon=1e-6)),
    "layer_normalization_plain": chain(lambda L: L.LayerNormalization(center=False, scale=False)),
    "group_normalization": chain(lambda L: L.GroupNormalization(groups=2)),
    "group_normalization_instance": chain(lambda L: L.GroupNormalization(groups=-1, epsilon=1e-5)),
    "unit_normalization": chain(lambda L: L.UnitNormalization()),
    "up_nearest": chain(lambda L: L.UpSampling2D(3)),
    "up_bilinear": chain(lambda L: L.UpSampling2D((2, 3), interpolation="bilinear")),
    "up_bicubic": chain(lambda L: L.UpSampling2D(2, interpolation="bicubic")),
    "up_3d": frames(lambda L: L.UpSampling3D((2, 1, 2))),
    **{
        f"resizing_{kind}": direct(lambda L, kind=kind: L.Resizing(9, 20, interpolation=kind))
        for kind in ("bilinear", "nearest", "bicubic", "area", "lanczos3", "lanczos5")
    },
    "resizing_crop": direct(lambda L: L.Resizing(9, 20, crop_to_aspect_ratio=True)),
    "rescaling": direct(lambda L: L.Rescaling(1 / 127.5, offset=-1.0)),
    "normalization_given": direct(lambda L: L.Normalization(mean=[0.1, 0.2, 0.3], variance=[0.5, 0.6, 0.7])),
    "normalization_invert": direct(lambda L: L.Normalization(mean=[0.1, 0.2, 0.3], variance=[2, 3, 4], invert=True)),
    "normalization_weights": direct(lambda L: L.Normalization()),
    "normalization_scalar": direct(lambda L: L.Normalization(axis=None)),
    "center_crop": direct(lambda L: L.CenterCrop(7, 6)),
    "center_crop_up": direct(lambda L: L.CenterCrop(20, 10)),
    "zero_padding": chain(lambda L: L.ZeroPadding2D(((1, 2), (3, 0)))),
    "cropping": chain(lambda L: L.Cropping2D(((1, 2), (3, 0)))),
    "conv_transpose": chain(lambda L: L.Conv2DTranspose(3, 3, strides=2, padding="same")),
    "conv_transpose_output_padding": chain(
        lambda L: L.Conv2DTranspose(3, 3, strides=2, padding="same", output_padding=1)
    ),
    "conv_transpose_output_padding_0": chain(
        lambda L: L.Conv2DTranspose(3, 3, strides=2, padding="same", output_padding=0)
    ),
    "conv_transpose_valid": chain(lambda L: L.Conv2DTranspose(3, 2, strides=3, padding="valid", output_padding=1)),
    "conv_transpose_1": chain(lambda L: L.Conv2DTranspose(3, 5, strides=1, padding="same")),
    "conv_groups": chain(lambda L: L.Conv2D(4, 3, groups=2, dilation_rate=2)),
    "depthwise": chain(lambda L: L.DepthwiseConv2D(3, depth_multiplier=2, padding="same")),
    "separable": chain(lambda L: L.SeparableConv2D(5, 3, depth_multiplier=2, padding="same")),
    "conv3d_transpose": frames(lambda L: L.Conv3DTranspose(2, 3, strides=2, padding="same")),
    "average_pooling_same": chain(lambda L: L.AveragePooling2D(5, strides=3, padding="same")),
    "max_pooling_same": chain(lambda L: L.MaxPooling2D(5, strides=3, padding="same")),
    "global_pooling": chain(lambda L: L.GlobalAveragePooling2D(keepdims=True)),
    "global_pooling_flat": chain(lambda L: L.GlobalMaxPooling2D()),
    "dropout": chain(lambda L: L.Dropout(0.5, seed=3), lambda L: L.SpatialDropout2D(0.5), lambda L: L.GaussianNoise(1)),
    "gaussian_dropout": chain(lambda L: L.GaussianDropout(0.5), lambda L: L.AlphaDropout(0.5)),
    "permute": chain(lambda L: L.Permute((3, 1, 2)), lambda L: L.Reshape((SIDE, -1))),
    "repeat": chain(lambda L: L.Flatten(), lambda L: L.RepeatVector(3)),
    "masking": rows(lambda L: L.Masking(0.0), lambda L: L.LSTM(3, return_sequences=True)),
    "add": pair(lambda L, a, b: L.Add()([a, b])),
    "subtract": pair(lambda L, a, b: L.Subtract()([a, b])),
    "average": pair(lambda L, a, b: L.Maximum()([L.Average()([a, b]), L.Multiply()([a, b])])),
    "concatenate_axis": pair(lambda L, a, b: L.Concatenate(axis=2)([a, b])),
    "dot": pair(lambda L, a, b: L.Dot(axes=(3, 3), normalize=True)([L.Reshape((1, 144, 4))(a)] * 2)),
    "dot_rows": pair(lambda L, a, b: L.Dot(axes=2)([L.Reshape((144, 4))(a), L.Reshape((144, 4))(b)])),
    "dot_normalized": pair(
        lambda L, a, b: L.Dot(axes=(1, 1), normalize=True)([L.Reshape((144, 4))(a), L.Reshape((144, 4))(b)])
    ),
    "lstm": rows(lambda L: L.LSTM(3, return_sequences=True)),
    "lstm_hard": rows(lambda L: L.LSTM(3, return_sequences=True, recurrent_activation="hard_sigmoid")),
    "gru": rows(lambda L: L.GRU(3, return_sequences=True)),
    "gru_reset_before": rows(lambda L: L.GRU(3, return_sequences=True, reset_after=False)),
    "gru_hard": rows(lambda L: L.GRU(3, recurrent_activation="hard_sigmoid", reset_after=False, implementation=1)),
    "rnn_cell_hard": rows(lambda L: L.RNN(L.LSTMCell(3, recurrent_activation="hard_sigmoid"), return_sequences=True)),
    "rnn_cells_hard": rows(
        lambda L: L.RNN([L.GRUCell(3, recurrent_activation="hard_sigmoid"), L.LSTMCell(4, activation="hard_sigmoid")])
    ),
    "rnn_cells": rows(lambda L: L.RNN([L.GRUCell(3), L.LSTMCell(4)], return_sequences=True)),
    "simple_rnn": rows(lambda L: L.SimpleRNN(3, go_backwards=True, return_sequences=True)),
    **{
        f"bidirectional_{mode}": rows(lambda L, mode=mode: L.Bidirectional(L.LSTM(3, return_sequences=True), mode))
        for mode in ("concat", "sum", "ave", "mul")
    },
    "bidirectional_hard": rows(
        lambda L: L.Bidirectional(L.GRU(3, return_sequences=True, recurrent_activation="hard_sigmoid"))
    ),
    "conv_lstm": frames(lambda L: L.ConvLSTM2D(2, 3, padding="same", return_sequences=True)),
    "conv_lstm_sigmoid": frames(lambda L: L.ConvLSTM2D(2, 3, padding="same", recurrent_activation="sigmoid")),
    "conv_lstm_both": frames(lambda L: L.Bidirectional(L.ConvLSTM2D(2, 3, padding="same", return_sequences=True))),
    "conv_lstm_3d": frames(
        lambda L: L.Reshape((3, 4, 3, 4, 4)), lambda L: L.ConvLSTM3D(2, 3, padding="same", return_sequences=True)
    ),
    "time_distributed": frames(lambda L: L.TimeDistributed(L.BatchNormalization())),
    "attention": pair(lambda L, a, b: L.Attention(use_scale=True)([L.Reshape((144, 4))(a), L.Reshape((144, 4))(b)])),
    "attention_concat": pair(
        lambda L, a, b: L.Attention(score_mode="concat")([L.Reshape((144, 4))(a), L.Reshape((144, 4))(b)])
    ),
    "attention_plain": pair(lambda L, a, b: L.Attention(dropout=0.3)([L.Reshape((144, 4))(a), L.Reshape((144, 4))(b)])),
    "additive_attention": pair(lambda L, a, b: L.AdditiveAttention()([L.Reshape((144, 4))(a), L.Reshape((144, 4))(b)])),
    "additive_attention_plain": pair(
        lambda L, a, b: L.AdditiveAttention(use_scale=False)([L.Reshape((144, 4))(a), L.Reshape((144, 4))(b)])
    ),
    "multi_head_attention": pair(
        lambda L, a, b: L.MultiHeadAttention(2, 3)(L.Reshape((144, 4))(a), L.Reshape((144, 4))(b))
    ),
    "multi_head_attention_axes": pair(lambda L, a, b: L.MultiHeadAttention(2, 3, attention_axes=(1, 2))(a, b)),
    "multi_head_attention_values": pair(
        lambda L, a, b: L.MultiHeadAttention(2, 3, value_dim=5, use_bias=False)(
            L.Reshape((144, 4))(a), L.Reshape((144, 4))(b)
        )
    ),
    "locally_connected": chain(lambda L: L.LocallyConnected2D(2, 3)),
    "einsum_dense": chain(lambda L: L.EinsumDense("bhwc,cd->bhwd", output_shape=(None, None, 5), bias_axes="d")),
    "random_flip": chain(lambda L: L.RandomFlip(), lambda L: L.RandomRotation(0.2), lambda L: L.RandomZoom(0.2)),
    "random_contrast": chain(lambda L: L.RandomContrast(0.2), lambda L: L.RandomTranslation(0.2, 0.2)),
    "random_crop": direct(lambda L: L.RandomCrop(8, 9)),
    "random_brightness": direct(lambda L: L.RandomBrightness(0.2)),
}


def blocks(keras: Any, name: str, normalized: bool = True) -> Any:
    """Return a model of four 3x3 convolutions of three channels each, so that every kernel has one shape."""
    layers = keras.layers
    inner = x = keras.Input((None, None, 3), name=f"{name}_in")
    for k in range(4):
        x = layers.Conv2D(3, 3, padding="same", name=f"{name}_c{k}")(x)
        x = layers.BatchNormalization(name=f"{name}_b{k}")(x) if normalized else x
    return keras.Model(inner, x, name=name)


def finish(keras: Any, image: Any, x: Any) -> Any:
    return keras.Model(image, keras.layers.Conv2D(1, 1, activation="sigmoid", name="head")(x))


def nested(freeze: Callable[[Any], None], normalized: bool = True) -> Case:
    """Return a case with a backbone that `freeze` freezes in part before it is saved."""

    def build(keras: Any) -> Any:
        image = keras.Input((SIDE, SIDE, 3), name="image")
        backbone = blocks(keras, "back", normalized)
        model = finish(keras, image, backbone(image))
        freeze(backbone)
        return model

    return build


def freeze_all(model: Any) -> None:
    model.trainable = False


def freeze_first(model: Any) -> None:
    for layer in model.layers[:3]:
        layer.trainable = False


def unfreeze_last(model: Any) -> None:
    model.trainable = False
    for layer in model.layers[-2:]:
        layer.trainable = True


def build_hard_inside(keras: Any) -> Any:
    """hard_sigmoid in a model in a model."""
    layers = keras.layers
    inner = keras.Sequential([layers.Conv2D(3, 3, padding="same", activation="hard_sigmoid", name="hard")], name="gate")
    around = keras.Input((SIDE, SIDE, 3))
    outer = keras.Model(around, layers.Multiply()([around, inner(around)]), name="outer")
    image = keras.Input((SIDE, SIDE, 3), name="image")
    return finish(keras, image, outer(image))


def build_outputs(keras: Any) -> Any:
    """A model of logits as a list of pixels, with a class output and outputs by name."""
    layers = keras.layers
    image = keras.Input((SIDE, SIDE, 3), name="image")
    x = layers.Conv2D(4, 3, padding="same", activation="hard_sigmoid")(image)
    mask = layers.Reshape((SIDE * SIDE, 2))(layers.Conv2D(2, 1)(x))
    kind = layers.Dense(3, activation="softmax", name="kind")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, {"mask": layers.Softmax(name="mask")(mask), "kind": kind})


def build_mixed(keras: Any) -> Any:
    """Computed in 16 bits, but for its end."""
    layers, half = keras.layers, keras.mixed_precision.Policy("mixed_float16")
    image = keras.Input((SIDE, SIDE, 3), name="image")
    x = layers.Conv2D(4, 3, padding="same", dtype=half)(image)
    x = layers.BatchNormalization(dtype=half)(x)
    return keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid", name="head", dtype="float32")(x))


def build_bytes(keras: Any) -> Any:
    """An input of bytes, scaled in the model."""
    image = keras.Input((SIDE, SIDE, 3), name="image", dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(image)
    return finish(keras, image, keras.layers.Conv2D(3, 3, padding="same")(x))


def build_twice(keras: Any) -> Any:
    image = keras.Input((SIDE, SIDE, 3), name="image")
    inner = blocks(keras, "deep", False)
    around = keras.Input((None, None, 3))
    outer = keras.Model(around, keras.layers.Conv2D(3, 3, padding="same", name="mid")(inner(around)), name="outer")
    model = finish(keras, image, outer(image))
    unfreeze_last(inner)
    return model


def build_sequential(keras: Any) -> Any:
    layers = keras.layers
    convs = [layers.Conv2D(3, 3, padding="same", name=f"s{k}") for k in range(3)]
    inner = keras.Sequential([*convs, layers.BatchNormalization(name="sb")], name="stack")
    image = keras.Input((SIDE, SIDE, 3), name="image")
    model = finish(keras, image, inner(image))
    inner.trainable = False
    inner.layers[1].trainable = True
    return model


def build_shared(keras: Any) -> Any:
    image = keras.Input((SIDE, SIDE, 3), name="image")
    backbone, shared = blocks(keras, "back", False), keras.layers.Conv2D(3, 3, padding="same", name="twice")
    model = finish(keras, image, backbone(shared(backbone(shared(image)))))
    unfreeze_last(backbone)
    return model


def build_numbered(keras: Any) -> Any:
    """Layers named by Keras, in the second model of a session: conv2d_7 and so on."""

    def make() -> Any:
        inner = x = keras.Input((None, None, 3))
        for _ in range(12):
            x = keras.layers.Conv2D(3, 3, padding="same")(x)
        return keras.Model(inner, x)

    make()
    image = keras.Input((SIDE, SIDE, 3), name="image")
    backbone = make()
    model = finish(keras, image, backbone(image))
    unfreeze_last(backbone)
    return model


def build_slashed(keras: Any) -> Any:
    """Layers with slashes in their names, as in DenseNet and MobileNetV3."""
    layers = keras.layers
    inner = x = keras.Input((None, None, 3))
    for k in range(3):
        x = layers.Conv2D(3, 3, padding="same", name=f"conv{k}")(x)
        x = layers.BatchNormalization(name=f"conv{k}/bn")(x)
        x = layers.Conv2D(3, 3, padding="same", name=f"conv{k}/conv")(x)
    backbone = keras.Model(inner, x, name="back")
    image = keras.Input((SIDE, SIDE, 3), name="image")
    model = finish(keras, image, layers.Conv2D(3, 1, name="head/conv")(backbone(image)))
    unfreeze_last(backbone)
    return model


def build_wrapped(keras: Any) -> Any:
    """Layers that hold layers, and a Normalization with weights, inside a frozen model."""
    layers = keras.layers
    inner = keras.Input((SIDE, SIDE, 3))
    x = layers.Normalization(name="norm")(inner)
    x = layers.Reshape((SIDE, 3 * SIDE))(x)
    x = layers.Bidirectional(layers.LSTM(2, return_sequences=True), name="both")(x)
    x = layers.MultiHeadAttention(2, 3, name="heads")(x, x)
    x = layers.TimeDistributed(layers.Dense(3 * SIDE), name="each")(x)
    x = layers.Reshape((SIDE, SIDE, 3))(x)
    x = layers.Conv2D(3, 3, padding="same", name="after")(x)
    around = keras.Model(inner, x, name="around")
    image = keras.Input((SIDE, SIDE, 3), name="image")
    model = finish(keras, image, around(image))
    unfreeze_last(around)
    return model


NESTED: dict[str, Case] = {
    "nested_frozen": nested(freeze_all),
    "nested_first_frozen": nested(freeze_first),
    "nested_last_unfrozen": nested(unfreeze_last),
    "nested_last_unfrozen_alike": nested(unfreeze_last, normalized=False),
    "nested_twice": build_twice,
    "nested_sequential": build_sequential,
    "nested_shared": build_shared,
    "nested_numbered": build_numbered,
    "nested_slashed": build_slashed,
    "nested_wrapped": build_wrapped,
}
REFUSED: dict[str, Case] = {
    f"resizing_{kind}": direct(lambda L, kind=kind: L.Resizing(9, 20, interpolation=kind))
    for kind in ("gaussian", "mitchellcubic")
}
OTHERS: dict[str, Case] = {"hard_inside": build_hard_inside, "outputs": build_outputs}
# What the reference has to get right beside the function: a rebuilt model, another type of input.
KINDS: dict[str, Case] = {"mixed": build_mixed, "bytes": build_bytes}
ALL = CASES | NESTED | REFUSED | OTHERS | KINDS


def main(folder: str, *names: str) -> None:
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "TF_ENABLE_ONEDNN_OPTS": "0"}
    import numpy as np
    import tf_keras

    for seed, name in enumerate(names or ALL):
        tf_keras.backend.clear_session()
        rng = np.random.default_rng(seed)
        model = ALL[name](tf_keras)
        draw_weights(model, rng)
        x = rng.random((1, SIDE, SIDE, 3), np.float32)
        x = np.rint(x * 255).astype(np.uint8) if name == "bytes" else x
        y = model(x, training=False)
        np.savez(Path(folder) / f"{name}.npz", x=x, y=np.asarray(y["mask"] if isinstance(y, dict) else y))
        for suffix in ("h5", "keras"):
            model.save(Path(folder) / f"{name}.{suffix}")


def draw_weights(model: Any, rng: Any) -> None:
    """Set every weight to random numbers: positive ones for variances, counts as they are."""
    import numpy as np

    for weight in model.weights:
        if not weight.dtype.is_floating:
            continue
        values = rng.normal(0, 0.5, weight.shape)
        weight.assign(np.abs(values) + 0.5 if "variance" in weight.name else values)
    for layer in model._flatten_layers():
        layer.finalize_state() if hasattr(layer, "finalize_state") else None


if __name__ == "__main__":
    main(*sys.argv[1:])
