"""Nets that must be told apart: what they begin and end with; and those that are refused, each with its reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from zoo import build_unet
from zoo_blocks import convolve, head


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
    ("nothing", 1 / 255, "assumed: nothing in the model says"),
    ("rescaling", 1.0, r"proved: Rescaling layer 'rescaling\w*' takes 0…255"),
    ("rescaling-of-ones", 1 / 255, r"Rescaling layer 'rescaling\w*' takes 0…1$"),
    ("normalization-of-255", 1.0, "Normalization layer .* takes 0…255"),
    ("normalization-of-1", 1 / 255, r"Normalization layer 'normalization\w*' takes 0…1$"),
    ("caffe", 1.0, "proved: BiasAdd .* takes 0…255"),
    ("torch", 1.0, "proved: RealDiv .* takes 0…255"),
    ("tf", 1.0, "proved: RealDiv .* takes 0…255"),
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


NOISY = """
import keras

@keras.saving.register_keras_serializable("noisy")
class Noise(keras.layers.Layer):
    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x))

def build():
    image = keras.Input((16, 16, 1))
    x = Noise(name="my_noise")(image)
    return keras.Model(image, keras.layers.Conv2D(1, 1, activation="sigmoid")(x))
"""


def flatten(shape: tuple[int, ...], classes: int = 1, stride: int = 2) -> Any:
    """Return a net for (32, 48, 1) whose mask is reshaped, as old SegNets do."""
    import keras
    from keras import layers

    image = keras.Input((32, 48, 1))
    x = head(convolve(image, 8, strides=stride), classes, activation="linear")
    x = layers.Reshape(shape)(x) if shape else layers.Flatten()(x)
    return keras.Model(image, layers.Activation("softmax" if classes > 1 else "sigmoid")(x))


FLAT: dict[str, Callable[[], Any]] = {
    "pixels-classes": lambda: flatten((16 * 24, 3), 3),
    "rows-columns": lambda: flatten((16, 24)),
    "pixels": lambda: flatten((), stride=1),
}
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "channels-first": (build_channels_first, "layer 'first_conv' (Conv2D) is channels_first"),
    "four-channels": (lambda: build_unet((16, 16), 4, (8,), settled=False), "4 channels; image files have 1"),
    "channels-in-front": (lambda: build_two_inputs((3, 16, 16), 1), "is it (batch, channels, height, width)?"),
    "two-inputs": (lambda: build_two_inputs((16, 16, 1), 2), "it has 2 inputs (image (batch, 16, 16, 1), "),
    "two-masks": (lambda: build_heads(["sigmoid", "sigmoid"]), "2 could be the mask: 'head_0' (1, 16, 16, 1)"),
    "two-classes": (lambda: build_heads(["sigmoid"], kinds=2), "2 outputs that classify the image: 'kind_0'"),
    "no-mask": (lambda: build_heads([], kinds=1), "none of its outputs is a mask (1, height, width, classes)"),
    "logits": (lambda: build_heads(["linear"]), "no probability (the last operation is"),
    "relu": (lambda: build_heads(["relu"]), "no probability (the last operation is Relu"),
    "labels": (build_labels, "its last operation, ArgMax"),
    "two-sigmoids": (lambda: build_heads(["sigmoid"], channels=2), "a sigmoid with 2 channels: 2 lesions, or a"),
    "one-softmax": (lambda: build_heads(["softmax"]), "a softmax over one channel, which is 1 everywhere"),
    "fewer-slices": (build_shallow_volume, "'head_mask' has 2 slices, its input 4"),
    "bicubic": (build_bicubic, "layer 'finest': TFLite has no ResizeBicubic"),
    "open-size": (lambda: build_unet((None, 16), 1, (8,), settled=False), "height is open; say --input-size"),
    "fixed-batch": (lambda: build_two_inputs((16, 16, 1), 1, batch=4), "batch is fixed at 4"),
}  # fmt: skip
