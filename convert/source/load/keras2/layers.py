"""Which layers of Keras 2 does Keras 3 not have, and what do they compute?

They are written for Keras 3 under their old names: a file's weights are found by the names of classes. Arguments that
count in training alone were dropped from the config before (config.UNUSED).
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

# "RandomHeight" and "RandomWidth" change nothing where a model is not trained.
OLD_LAYERS = (
    "ThresholdedReLU",
    "LocallyConnected1D",
    "LocallyConnected2D",
    "SyncBatchNormalization",
    "RandomHeight",
    "RandomWidth",
)


def make_old_layers() -> dict[str, Any]:
    """Return the classes of OLD_LAYERS by name."""
    import keras

    class SyncBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]
        """Normalizes by kept statistics, whoever gathered them in training."""

    class RandomHeight(keras.layers.Layer):  # type: ignore[misc]
        """Returns its input, as in inference."""

        def call(self, x: Any) -> Any:
            return x

    class RandomWidth(RandomHeight):
        """Returns its input, as in inference."""

    local = make_local()
    classes = [SyncBatchNormalization, RandomHeight, RandomWidth, make_threshold(), *(local(n) for n in (1, 2))]
    return {one.__name__: one for one in classes}


def make_threshold() -> Any:
    """Return the class of the layer that computes x where x > theta, else 0."""
    import keras
    import tensorflow as tf

    class ThresholdedReLU(keras.layers.Layer):  # type: ignore[misc]
        """Returns x where it is larger than theta, else 0."""

        def __init__(self, theta: float = 1.0, **options: Any) -> None:
            super().__init__(**options)
            self.theta = theta

        def call(self, x: Any) -> Any:
            return x * tf.cast(x > self.theta, x.dtype)

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "theta": self.theta}

    return ThresholdedReLU


def make_local() -> Any:
    """Return a function from 1 or 2 dimensions to the class of the locally connected layer of so many.

    It is a convolution with other weights at each position: a matrix product of each position's patch and weights.
    """
    import keras
    import tensorflow as tf

    class Local(keras.layers.Layer):  # type: ignore[misc]
        """Keeps the weights as its file has them; the call brings them to (positions, taps x channels, filters)."""

        sides = 0

        def __init__(
            self, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid", data_format: Any = None,
            activation: Any = None, use_bias: bool = True, implementation: int = 1, **options: Any,
        ) -> None:  # fmt: skip
            super().__init__(**options)
            self.filters, self.padding, self.use_bias, self.implementation = filters, padding, use_bias, implementation
            self.kernel_size, self.strides = self.to_sides(kernel_size), self.to_sides(strides)
            self.data_format, self.activation = data_format or "channels_last", keras.activations.get(activation)

        def to_sides(self, value: Any) -> tuple[int, ...]:
            return (value,) * self.sides if isinstance(value, int) else tuple(int(one) for one in value)

        def build(self, shape: Any) -> None:
            *sides, channels = shape[1:]
            places = place_taps(tuple(sides), self.kernel_size, self.strides, self.padding)
            self.table, kernel_shape = index_weights(places, tuple(sides), channels, self.filters, self.implementation)
            self.kernel = self.add_weight(shape=kernel_shape, name="kernel")
            out = places.shape[: self.sides]
            self.bias = self.add_weight(shape=(*out, self.filters), name="bias") if self.use_bias else None
            self.margins = find_margins(tuple(sides), out, self.kernel_size, self.strides, self.padding)

        def call(self, x: Any) -> Any:
            weights = tf.convert_to_tensor(self.kernel)
            if self.table is not None:  # where a tap is outside the image, the index is that of the zero at the end
                weights = tf.gather(tf.pad(tf.reshape(weights, [-1]), [[0, 1]]), self.table)
            y = tf.matmul(tf.transpose(self.cut_patches(x), (1, 0, 2)), weights)  # (positions, batch, filters)
            out = (-1, *self.compute_output_shape(x.shape)[1:])
            y = tf.reshape(tf.transpose(y, (1, 0, 2)), out)
            return self.activation(y if self.bias is None else y + self.bias)

        def cut_patches(self, x: Any) -> Any:
            """Return each position's patch, (batch, positions, taps x channels)."""
            out = self.compute_output_shape(x.shape)[1:-1]
            x = tf.pad(x, [(0, 0), *self.margins, (0, 0)]) if np.any(self.margins) else x
            taps = []
            for start in product(*(range(size) for size in self.kernel_size)):
                ends = zip(start, out, self.strides, strict=True)
                taps.append(x[(slice(None), *(slice(at, at + (n - 1) * s + 1, s) for at, n, s in ends))])
            return tf.reshape(tf.concat(taps, -1), (-1, int(np.prod(out)), len(taps) * x.shape[-1]))

        def compute_output_shape(self, shape: Any) -> tuple[Any, ...]:
            out = place_taps(tuple(shape[1:-1]), self.kernel_size, self.strides, self.padding).shape[: self.sides]
            return (shape[0], *out, self.filters)

        def get_config(self) -> dict[str, Any]:
            names = ("filters", "kernel_size", "strides", "padding", "data_format", "use_bias", "implementation")
            own = {name: getattr(self, name) for name in names}
            return {**super().get_config(), **own, "activation": keras.activations.serialize(self.activation)}

    return lambda sides: type(f"LocallyConnected{sides}D", (Local,), {"sides": sides, "__module__": __name__})


def place_taps(
    sides: tuple[int, ...], kernel: tuple[int, ...], strides: tuple[int, ...], padding: str
) -> npt.NDArray[np.int64]:
    """Return the flat index in the input of each tap of each position, -1 outside: (*outputs, *kernel).

    "same" begins kernel // 2 before each multiple of the stride, which is not TensorFlow's rule for convolutions.
    Source: Keras 2, conv_utils.conv_connected_inputs.
    """
    flat = np.zeros((1,) * 2 * len(sides), np.int64)
    valid = np.ones_like(flat, bool)
    for axis, (side, size, stride) in enumerate(zip(sides, kernel, strides, strict=True)):
        count = -(-side // stride) if padding == "same" else -(-(side - size + 1) // stride)
        before = size // 2 if padding == "same" else 0
        at = np.arange(count)[:, None] * stride - before + np.arange(size)  # (outputs, taps)
        at = at.reshape([n for i in range(len(sides)) for n in ((count,) if i == axis else (1,))]
                        + [n for i in range(len(sides)) for n in ((size,) if i == axis else (1,))])  # fmt: skip
        flat, valid = flat * side + at, valid & (at >= 0) & (at < side)
    return np.where(valid, flat, -1)


def index_weights(
    places: npt.NDArray[np.int64], sides: tuple[int, ...], channels: int, filters: int, implementation: int
) -> tuple[npt.NDArray[np.int64] | None, tuple[int, ...]]:
    """Return where in a file's flat weights those of (positions, taps x channels, filters) are, and the file's shape.

    Source: Keras 2, locally_connected2d.py. Implementation 1 stores just these (None), 2 a matrix of all inputs and
    outputs, 3 the used entries of its transpose in their order. Taps outside the image have the index behind the last.
    """
    outputs = places.shape[: len(sides)]
    taps = places.reshape(int(np.prod(outputs)), -1)  # (positions, taps)
    positions, count = taps.shape
    if implementation == 1:
        return None, (positions, count * channels, filters)
    inputs = (taps[:, :, None] * channels + np.arange(channels)).reshape(positions, -1)
    used = np.repeat(taps >= 0, channels, axis=1)  # (positions, taps x channels)
    each = np.arange(positions)[:, None, None], np.arange(filters)
    if implementation == 2:
        table = inputs[:, :, None] * (positions * filters) + each[0] * filters + each[1]
        shape: tuple[int, ...] = (*sides, channels, *outputs, filters)
    else:
        many = used.sum(axis=1)
        first = (np.cumsum(many) - many) * filters
        rank = np.cumsum(used, axis=1) - 1
        table = first[:, None, None] + each[1] * many[:, None, None] + rank[:, :, None]
        shape = (int(many.sum()) * filters,)
    return np.where(used[:, :, None], table, int(np.prod(shape))), shape


def find_margins(
    sides: tuple[int, ...], outputs: tuple[int, ...], kernel: tuple[int, ...], strides: tuple[int, ...], padding: str
) -> list[tuple[int, int]]:
    """Return how many zeros each side of the input needs before and behind it."""
    before = [size // 2 if padding == "same" else 0 for size in kernel]
    ends = [(n - 1) * s + k - b for n, s, k, b in zip(outputs, strides, kernel, before, strict=True)]
    return [(b, max(end - side, 0)) for b, end, side in zip(before, ends, sides, strict=True)]
